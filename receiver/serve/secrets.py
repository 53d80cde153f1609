"""Webhook secrets in files, re-read when they change, so that a rotation needs no restart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from receiver.core.signature import Secret, Verifier
from receiver.errors import SettingsError
from receiver.serve.secret_entry import Entry, Reading
from receiver.settings import Settings

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


class SecretFiles:
    """The secrets of all entries. `verifier` is current to within a second, and at once when asked to look."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float]) -> None:
        """Read every entry.

        Raises SettingsError for a missing, unreadable or empty file, for a folder without files or with the configuration
        in it, and when there is no entry at all.
        """
        self._clock = clock
        self._bound = _bindings(settings)
        if not self._bound:
            raise settings.document.error(
                "$.serve", "no secret is configured; name a file or folder under `serve.secrets` or in a trigger"
            )
        # The stamps first: a file that changes in between is then read again, not overlooked.
        self._stamps = {entry: entry.stamps() for entry in self._bound}
        self._keys = {entry: _configured(settings, entry) for entry in self._bound}
        self._looked_at = clock()
        self.verifier = self._build()

    def look(self, *, at_once: bool = False) -> bool:
        """Re-read the entries that changed; return whether the verifier is a new one.

        A file that is taken out of a folder takes its secret with it. What is gone or empty otherwise may be in the middle
        of a rotation: it keeps its last secret, and the log says so.
        """
        now = self._clock()
        if not at_once and now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        fresh = False
        for entry, known in self._stamps.items():
            stamps = entry.stamps()
            if stamps == known:
                continue
            self._stamps[entry] = stamps
            try:
                reading = entry.read()
            except SettingsError as error:
                _log.error("secret kept as it was", extra={"file": str(entry.path), "problem": error.problem})
            else:
                fresh = self._take(entry, reading) or fresh
        if fresh:
            self.verifier = self._build()
        return fresh

    def _take(self, entry: Entry, reading: Reading) -> bool:
        """Replace what is known of an entry; tell whether anything in it was fresh."""
        last = self._keys[entry]
        kept = {name: last[name] for name in reading.problems if name in last}
        for name, error in reading.problems.items():
            said = "secret kept as it was" if name in last else "secret left out"
            _log.error(said, extra={"file": str(entry.file(name)), "problem": error.problem})
        if not reading.keys and not kept:
            # None but files that never held one: to believe that would lock everybody out.
            _log.error("secret kept as it was", extra={"file": str(entry.path), "problem": "no file holds a secret"})
            return False
        for name in reading.keys:
            _log.info("secret re-read", extra={"file": str(entry.file(name))})
        gone = last.keys() - reading.keys.keys() - kept.keys()
        for name in sorted(gone):
            _log.info("secret taken away", extra={"file": str(entry.file(name))})
        self._keys[entry] = {**reading.keys, **kept}
        return bool(reading.keys or gone)

    def _build(self) -> Verifier:
        return Verifier(Secret(key, self._bound[entry]) for entry, keys in self._keys.items() for key in keys.values())


def _bindings(settings: Settings) -> dict[Entry, frozenset[str] | None]:
    """Return which repositories each entry signs for; None: for any."""
    paths: dict[Path, frozenset[str] | None] = {settings.path(name): None for name in settings.serve.secrets}
    for index, trigger in enumerate(settings.triggers):
        for name in trigger.secrets:
            path = settings.path(name)
            known = paths.get(path, frozenset())
            if known is None:
                raise settings.document.error(
                    f"$.triggers[{index}].secrets",
                    f"{path} is named under `serve.secrets`, where it signs for every repository, and in the trigger "
                    f"`{trigger.name}`, where it is to sign for {trigger.repository} alone; leave it in one of the two",
                )
            paths[path] = known | {trigger.repository.lower()}
    return {_entry(path, list(paths)): repositories for path, repositories in paths.items()}


def _entry(path: Path, paths: list[Path]) -> Entry:
    # A folder for all repositories must not free a file in it that is bound to one.
    own = frozenset(other.name for other in paths if other != path and other.parent.resolve() == path.resolve())
    return Entry(path, own)


def _configured(settings: Settings, entry: Entry) -> dict[str, bytes]:
    """Return the keys; an error names the line of the configuration that wants the entry."""
    place = _place(settings, entry.path)
    if entry.path.resolve() in _folders_of_configuration(settings):
        raise settings.document.error(
            place,
            f"{entry.path}: the secret folder holds the configuration too, and whoever knows that could sign; "
            "name a folder with nothing but secrets",
        )
    try:
        reading = entry.read()
    except SettingsError as error:
        raise settings.document.error(place, f"{error.file}: {error.problem}") from error
    if problem := next(iter(reading.problems.values()), None):
        raise settings.document.error(place, f"{problem.file}: {problem.problem}")
    return dict(reading.keys)


def _folders_of_configuration(settings: Settings) -> set[Path]:
    def folders() -> Iterator[Path]:
        for file in (Path(settings.document.file), *(template.file for template in settings.templates.values())):
            yield from (file.parent.resolve(), file.resolve().parent)

    return set(folders())


def _place(settings: Settings, path: Path) -> str:
    listed = [("$.serve", settings.serve.secrets)]
    listed += [(f"$.triggers[{index}]", trigger.secrets) for index, trigger in enumerate(settings.triggers)]
    found = (
        f"{section}.secrets[{index}]"
        for section, names in listed
        for index, name in enumerate(names)
        if settings.path(name) == path
    )
    return next(found, "$")
