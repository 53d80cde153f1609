"""Webhook secrets in files, re-read when they change, so that a rotation needs no restart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from receiver.core.signature import Secret, Verifier
from receiver.errors import SettingsError
from receiver.settings import Settings

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_Stamp = tuple[int, int, int]


class SecretFiles:
    """The secrets of all configured files. `verifier` is current to within a second, and at once when asked to look."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float]) -> None:
        """Read every file; raises SettingsError for a missing, unreadable or empty one, and when there is none at all."""
        self._clock = clock
        self._bound = _bindings(settings)
        if not self._bound:
            raise settings.document.error(
                "$.serve", "no secret is configured; name a file under `serve.secrets` or in a trigger"
            )
        # The stamps first: a file that changes in between is then read again, not overlooked.
        self._stamps = {file: _stamp(file) for file in self._bound}
        self._keys = {file: _configured(settings, file) for file in self._bound}
        self._looked_at = clock()
        self.verifier = self._build()

    def look(self, *, at_once: bool = False) -> bool:
        """Re-read the files that changed; return whether the verifier is a new one.

        A file that is gone or empty in the middle of a rotation keeps its last secret, and says so in the log.
        """
        now = self._clock()
        if not at_once and now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        changed = [file for file, stamp in self._stamps.items() if _stamp(file) != stamp]
        fresh = False
        for file in changed:
            stamp = _stamp(file)
            try:
                self._keys[file] = _read(file)
            except SettingsError as error:
                _log.error("secret kept as it was", extra={"file": str(file), "problem": error.problem})
            else:
                fresh = True
                _log.info("secret re-read", extra={"file": str(file)})
            self._stamps[file] = stamp
        if fresh:
            self.verifier = self._build()
        return fresh

    def _build(self) -> Verifier:
        return Verifier(Secret(key, self._bound[file]) for file, key in self._keys.items())


def _bindings(settings: Settings) -> dict[Path, frozenset[str] | None]:
    bound: dict[Path, frozenset[str] | None] = {settings.path(name): None for name in settings.serve.secrets}
    for trigger in settings.triggers:
        for name in trigger.secrets:
            file = settings.path(name)
            known = bound.get(file, frozenset())
            bound[file] = None if known is None else known | {trigger.repository.lower()}
    return bound


def _configured(settings: Settings, file: Path) -> bytes:
    """Return the key; an error names the line of the configuration that wants the file."""
    try:
        return _read(file)
    except SettingsError as error:
        raise settings.document.error(_place(settings, file), f"{error.file}: {error.problem}") from error


def _place(settings: Settings, file: Path) -> str:
    listed = [("$.serve", settings.serve.secrets)]
    listed += [(f"$.triggers[{index}]", trigger.secrets) for index, trigger in enumerate(settings.triggers)]
    found = (
        f"{section}.secrets[{index}]"
        for section, names in listed
        for index, name in enumerate(names)
        if settings.path(name) == file
    )
    return next(found, "$")


def _read(file: Path) -> bytes:
    try:
        # kubectl create secret --from-file keeps the newline that an editor adds; GitHub's form cannot hold one.
        key = file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        problem = f"the secret file cannot be read ({error.strerror or error}); create it, or correct `secrets`"
        raise SettingsError(problem, file=str(file)) from error
    if not key.strip():
        raise SettingsError(
            "the secret file is empty: anyone could sign with that; put the webhook's secret into it", file=str(file)
        )
    return key


def _stamp(file: Path) -> _Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
