"""One entry of `secrets`: a file with a webhook secret, or a folder of such files as Kubernetes mounts a Secret."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from receiver.errors import SettingsError

_TRIES = 10
_VERSION = "..data"
"""The link to the version that holds, in a volume that the kubelet writes (pkg/volume/util/atomic_writer.go of Kubernetes)."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_Stamp = tuple[int, int, int]
Stamps = Mapping[str, _Stamp]


@dataclass(frozen=True)
class Reading:
    """What an entry holds: name -> key, `problems` for each name that is there and holds none.

    A file by itself has the empty name.
    """

    keys: Mapping[str, bytes]
    problems: Mapping[str, SettingsError]


@dataclass(frozen=True)
class Entry:
    """A path under `secrets`; of a folder, the files of the names `without` belong to entries of their own."""

    path: Path
    without: frozenset[str] = frozenset()

    def file(self, name: str) -> Path:
        """Return the path of what has this name in the entry."""
        return self.path / name if name else self.path

    def stamps(self) -> Stamps | None:
        """Return what changes when a file does, name by name; None when nothing can be found out."""
        try:
            found = self.path.stat()
            if not stat.S_ISDIR(found.st_mode):
                return {"": _stamp(found)}
            if version := _version(self.path):
                return version
            with _opened(self.path) as folder:
                return {item.name: _stamp(item.stat()) for item in self._items(folder)}
        except OSError:
            return None

    def read(self) -> Reading:
        """Read all keys of one version of the entry.

        Raises SettingsError when the entry itself cannot be read, and for a folder without a single file.
        """
        try:
            if not self.path.is_dir():
                return _sorted_out({"": self._read_file()})
            found = self._read_folder()
        except OSError as error:
            problem = f"the secret folder cannot be read ({error.strerror or error}); create it, or correct `secrets`"
            raise SettingsError(problem, file=str(self.path)) from error
        if not found:
            problem = "the secret folder holds no file; put the webhook's secret into a file there"
            raise SettingsError(problem, file=str(self.path))
        return _sorted_out(found)

    def _read_file(self) -> bytes | SettingsError:
        try:
            return _key(self.path, self.path.read_bytes())
        except OSError as error:
            return _unreadable(self.path, error)

    def _read_folder(self) -> dict[str, bytes | SettingsError]:
        found: dict[str, bytes | SettingsError] = {}
        for _ in range(_TRIES):
            with _opened(self.path) as folder:
                names = sorted(item.name for item in self._items(folder))
                found = {}
                for name in names:
                    try:
                        found[name] = _key(self.file(name), _content(name, folder))
                    except FileNotFoundError:
                        # Taken away meanwhile.
                        continue
                    except OSError as error:
                        found[name] = _unreadable(self.file(name), error)
                # The kubelet removes a version, file by file, only after another has taken its place.
                if _leads_to(self.path, folder):
                    break
        return found

    def _items(self, folder: int) -> Iterator[os.DirEntry[str]]:
        with os.scandir(folder) as items:
            for item in items:
                if not item.name.startswith(".") and item.name not in self.without and item.is_file():
                    yield item


def _version(folder: Path) -> Stamps | None:
    """Return name and stamp of the version that holds, None for a plain folder: in a version no file ever changes."""
    link = folder / _VERSION
    try:
        return {str(link.readlink()): _stamp(link.stat())}
    except OSError:
        return None


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open the folder of the version that holds, and keep hold of it whatever is renamed meanwhile."""
    try:
        descriptor = os.open(folder / _VERSION, _DIRECTORY)
    except FileNotFoundError:
        descriptor = os.open(folder, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _leads_to(folder: Path, descriptor: int) -> bool:
    with _opened(folder) as now:
        return os.path.samestat(os.fstat(now), os.fstat(descriptor))


def _content(name: str, folder: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _key(file: Path, content: bytes) -> bytes | SettingsError:
    # kubectl create secret --from-file keeps the newline that an editor adds; GitHub's form cannot hold one.
    key = content.rstrip(b"\r\n")
    if key.strip():
        return key
    return SettingsError(
        "the secret file is empty: anyone could sign with that; put the webhook's secret into it", file=str(file)
    )


def _unreadable(file: Path, error: OSError) -> SettingsError:
    problem = f"the secret file cannot be read ({error.strerror or error}); create it, or correct `secrets`"
    return SettingsError(problem, file=str(file))


def _sorted_out(found: Mapping[str, bytes | SettingsError]) -> Reading:
    return Reading(
        keys={name: value for name, value in found.items() if isinstance(value, bytes)},
        problems={name: value for name, value in found.items() if isinstance(value, SettingsError)},
    )


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino
