"""A folder of secrets: each file in it is one, and a rotation only changes what lies there."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.core.signature import parse_signature, sign
from receiver.errors import RejectedError, SettingsError
from receiver.serve.gate import Gate
from receiver.serve.secrets import SecretFiles
from receiver.settings import load_settings
from tests.support.folders import settings_in, trigger, write_folder
from tests.support.secret_volume import SecretVolume

BODY = b"body"


def of(folder: Path, **what: Any) -> SecretFiles:
    """The secrets of a configuration whose clock stands still: nothing is re-read unless it has to be."""
    return SecretFiles(settings_in(folder, secrets={}, **what), clock=lambda: 0.0)


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def folder_of(tmp_path: Path, files: Mapping[str, bytes]) -> tuple[Path, SecretFiles]:
    """A plain folder with these files, and the secrets in it."""
    folder = write(tmp_path / "secrets", files)
    return folder, of(tmp_path, serve={"secrets": ["secrets"]})


def mounted(tmp_path: Path, files: Mapping[str, bytes]) -> tuple[SecretVolume, SecretFiles]:
    """A mounted Secret with these keys, and the secrets in it."""
    volume = SecretVolume(tmp_path / "mount", files)
    return volume, of(tmp_path, serve={"secrets": [str(volume.folder)]})


def signs(files: SecretFiles, key: bytes) -> bool:
    return bool(files.verifier.signers(BODY, parse_signature(sign(key, BODY))))


def valid(files: SecretFiles, *keys: bytes) -> list[bytes]:
    """Those of `keys` that sign now."""
    return [key for key in keys if signs(files, key)]


def deliver(gate: Gate, key: bytes) -> None:
    """Deliver a body signed with `key`; raises RejectedError when it is refused."""
    gate.body(BODY, parse_signature(sign(key, BODY)))


# ---------------------------------------------------------------- what is a secret
def test_every_file_of_a_folder_is_a_secret_and_nothing_else_there_is(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "secrets", {"github": b"one\n", "next": b"two", ".hidden": b"three", "..data_tmp": b"four"}
    )
    write(folder / "below", {"github": b"five"})
    (folder / "dangling").symlink_to("nowhere")
    (folder / "linked").symlink_to(write(tmp_path / "far", {"away": b"six"}) / "away")
    os.mkfifo(folder / "pipe")
    files = of(tmp_path, serve={"secrets": ["secrets"]})
    assert valid(files, b"one", b"two", b"three", b"four", b"five", b"six") == [b"one", b"two", b"six"]


def test_every_key_of_a_mounted_secret_is_one(tmp_path: Path) -> None:
    _, files = mounted(tmp_path, {"github": b"one", "next": b"two"})
    assert (valid(files, b"one", b"two"), repr(files.verifier)) == ([b"one", b"two"], "<Verifier with 2 secrets>")


def test_files_and_folders_stand_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "secrets", {"github": b"one"})
    write(tmp_path, {"single": b"two"})
    files = of(tmp_path, serve={"secrets": ["single", "secrets"]})
    assert valid(files, b"one", b"two") == [b"one", b"two"]


def test_a_folder_of_a_trigger_signs_for_its_repository_alone(tmp_path: Path) -> None:
    write(tmp_path / "mine", {"github": b"one"})
    files = of(tmp_path, serve={"secrets": []}, triggers=[trigger(secrets=["mine"])])
    (secret,) = files.verifier.signers(BODY, parse_signature(sign(b"one", BODY)))
    assert secret.repositories == frozenset({"bittrance/striv"})


@pytest.mark.parametrize("spelt", ["secrets/bound", "./secrets/bound", "secrets/../secrets/bound", "also/bound"])
def test_a_file_that_is_bound_to_a_repository_is_not_freed_by_the_folder_around_it(tmp_path: Path, spelt: str) -> None:
    write(tmp_path / "secrets", {"github": b"one", "bound": b"two"})
    (tmp_path / "also").symlink_to("secrets")
    files = of(tmp_path, serve={"secrets": ["secrets"]}, triggers=[trigger(secrets=[spelt])])
    (secret,) = files.verifier.signers(BODY, parse_signature(sign(b"two", BODY)))
    assert secret.repositories == frozenset({"bittrance/striv"})
    assert signs(files, b"one")


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize("mount", [False, True], ids=["plain", "mounted"])
def test_a_folder_without_a_file_is_refused_with_the_line_that_names_it(tmp_path: Path, mount: bool) -> None:
    with pytest.raises(SettingsError, match=r"receiver.yaml:3: .*: the secret folder holds no file; put") as caught:
        mounted(tmp_path, {}) if mount else folder_of(tmp_path, {".keep": b""})
    assert str(tmp_path / ("mount" if mount else "secrets")) in caught.value.problem


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n"])
def test_an_empty_file_beside_a_good_one_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SettingsError, match=r"receiver.yaml:3: .*/secrets/next: the secret file is empty"):
        folder_of(tmp_path, {"github": b"one", "next": content})


def test_a_folder_that_does_not_exist_is_refused_as_a_file_would_be(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"receiver.yaml:3: .*/none: the secret file cannot be read"):
        of(tmp_path, serve={"secrets": ["none"]})


@pytest.mark.parametrize("how", ["itself", "link", "templates"])
def test_a_folder_with_the_configuration_in_it_is_refused(tmp_path: Path, how: str) -> None:
    """Whoever has read the repository knows that, and could sign with it."""
    folder = tmp_path / "config"
    (tmp_path / "link").symlink_to(folder)
    (folder / "runs").mkdir(parents=True)
    named = {"itself": "../config", "link": "../link", "templates": "runs"}[how]
    file = write_folder(folder, serve={"secrets": [named]}, triggers=[trigger(template="runs/run.yaml")])
    (folder / "run.yaml").rename(folder / "runs" / "run.yaml")
    with pytest.raises(SettingsError, match=r"receiver.yaml:3: .*: the secret folder holds the configuration too"):
        SecretFiles(load_settings(file, {}), clock=lambda: 0.0)


# ---------------------------------------------------------------- rotation
@pytest.mark.parametrize("mount", [False, True], ids=["plain", "mounted"])
def test_a_rotation_only_changes_what_lies_there(tmp_path: Path, caplog: pytest.LogCaptureFixture, mount: bool) -> None:
    caplog.set_level(logging.INFO)
    if mount:
        volume, files = mounted(tmp_path, {"github": b"old"})
        volume.write({"github": b"old", "next": b"new"})
    else:
        folder, files = folder_of(tmp_path, {"github": b"old"})
        write(folder, {"next": b"new"})
    gate = Gate(files, max_body_bytes=1_024)
    deliver(gate, b"new")
    deliver(gate, b"old")
    if mount:
        volume.write({"next": b"new"})
    else:
        (folder / "github").unlink()
    assert files.look(at_once=True)
    deliver(gate, b"new")
    with pytest.raises(RejectedError):
        deliver(gate, b"old")
    said = [(record.getMessage(), Path(record.__dict__["file"]).name) for record in caplog.records]
    assert said[-2 if mount else -1 :] == [("secret re-read", "next")] * mount + [("secret taken away", "github")]
    assert not files.look(at_once=True)


def test_what_is_taken_away_signs_for_at_most_a_second(tmp_path: Path) -> None:
    now = [100.0]
    volume = SecretVolume(tmp_path / "mount", {"github": b"old", "next": b"new"})
    settings = settings_in(tmp_path, secrets={}, serve={"secrets": [str(volume.folder)]})
    gate = Gate(SecretFiles(settings, clock=lambda: now[0]), max_body_bytes=1_024)
    volume.write({"next": b"new"})
    now[0] += 1.0
    with pytest.raises(RejectedError):
        deliver(gate, b"old")


def test_between_two_versions_the_new_one_is_read_whatever_names_are_shown(tmp_path: Path) -> None:
    """For a moment the kubelet's folder shows the names of the old version, all of them dangling."""
    volume, files = mounted(tmp_path, {"github": b"old"})
    with volume.replacing({"next": b"new"}):
        assert files.look(at_once=True)
        assert valid(files, b"old", b"new") == [b"new"]
    assert valid(files, b"old", b"new") == [b"new"]


def test_a_version_that_is_removed_while_it_is_read_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, files = mounted(tmp_path, {"github": b"first"})
    volume.write({"github": b"second", "next": b"third"})
    scandir = os.scandir
    versions = iter([{"github": b"third", "next": b"fourth"}])

    def overtaken(folder: Any) -> Any:
        if isinstance(folder, int) and (files_now := next(versions, None)):
            volume.write(files_now)
        return scandir(folder)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", overtaken)
        assert files.look(at_once=True)
    assert valid(files, b"first", b"second", b"third", b"fourth") == [b"third", b"fourth"]


@contextmanager
def rotating_all_the_time(volume: SecretVolume, always: bytes) -> Iterator[None]:
    """Put one version after another in place, each with `always` under another name among other secrets."""
    stop = threading.Event()

    def rotate() -> None:
        for number in itertools.count(1):
            if stop.is_set():
                return
            others = {f"other-{index}": b"other %d" % number for index in range(number % 4)}
            volume.write({f"a{number % 3}": always, **others})

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_no_delivery_is_refused_however_often_the_folder_changes_meanwhile(tmp_path: Path) -> None:
    volume, files = mounted(tmp_path, {"a0": b"always"})
    gate = Gate(files, max_body_bytes=1_024)
    versions_seen, end = 0, time.monotonic() + 30
    with rotating_all_the_time(volume, b"always"):
        while versions_seen < 200:
            versions_seen += files.look(at_once=True)
            deliver(gate, b"always")
            assert time.monotonic() < end, versions_seen


def test_a_file_that_is_emptied_keeps_its_secret_and_one_that_never_held_any_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, files = folder_of(tmp_path, {"github": b"hunter2", "next": b"hunter3"})
    write(folder, {"github": b"\n", "later": b""})
    assert files.look(at_once=True)
    assert valid(files, b"hunter2", b"hunter3", b"", b"\n") == [b"hunter2", b"hunter3"]
    errors = {(r.getMessage(), Path(r.__dict__["file"]).name) for r in caplog.records if r.levelno == logging.ERROR}
    assert errors == {("secret kept as it was", "github"), ("secret left out", "later")}
    assert "hunter" not in "".join(str(vars(record)) for record in caplog.records)
    write(folder, {"later": b"filled"})
    assert files.look(at_once=True)
    assert signs(files, b"filled")
    (folder / "github").unlink()
    assert files.look(at_once=True)
    assert not signs(files, b"hunter2")


@pytest.mark.parametrize("left", [{}, {"next": b""}], ids=["nothing", "an empty file"])
def test_a_folder_that_loses_its_last_secret_keeps_it_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: dict[str, bytes]
) -> None:
    volume, files = mounted(tmp_path, {"github": b"one"})
    volume.write(left)
    assert not files.look(at_once=True)
    assert signs(files, b"one")
    assert "secret kept as it was" in [record.getMessage() for record in caplog.records]
    assert not files.look(at_once=True)


def test_a_folder_that_is_away_keeps_its_secrets_until_it_is_back(tmp_path: Path) -> None:
    folder, files = folder_of(tmp_path, {"github": b"one"})
    folder.rename(tmp_path / "away")
    assert not files.look(at_once=True)
    assert signs(files, b"one")
    write(tmp_path / "away", {"github": b"two"})
    (tmp_path / "away").rename(folder)
    assert files.look(at_once=True)
    assert valid(files, b"one", b"two") == [b"two"]
