"""A folder with the files of a Secret, as the kubelet mounts and updates it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_DATA = "..data"


class SecretVolume:
    """A mounted Secret: links to files below `..data`, itself a link to the version that holds.

    Steps and order are those of AtomicWriter.Write (pkg/volume/util/atomic_writer.go of Kubernetes 1.36).
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Make the folder and mount the first version."""
        self.folder = folder
        self._version = 0
        folder.mkdir(parents=True)
        self.write(files)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace all files in one step, as an update of the Secret does."""
        with self.replacing(files):
            pass

    @contextmanager
    def replacing(self, files: Mapping[str, bytes]) -> Iterator[None]:
        """Do what `write` does, and pause where the new version holds but the names are still those of the old one."""
        data = self.folder / _DATA
        old = data.readlink() if data.is_symlink() else None
        self._version += 1
        version = self.folder / f"..2026_11_23_18_00_00.{self._version:010}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
        (self.folder / "..data_tmp").symlink_to(version.name)
        (self.folder / "..data_tmp").rename(data)
        yield
        shown = {link.name for link in self.folder.iterdir() if not link.name.startswith("..")}
        for name in files.keys() - shown:
            (self.folder / name).symlink_to(f"{_DATA}/{name}")
        for name in shown - files.keys():
            (self.folder / name).unlink()
        if old is not None:
            shutil.rmtree(self.folder / old)
