"""Secrets in single files: rotation as Kubernetes does it, and nothing that shows a secret."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from receiver.core.signature import parse_signature, sign
from receiver.errors import SettingsError
from receiver.serve.gate import Gate
from receiver.serve.secrets import SecretFiles
from receiver.settings import load_settings
from tests.support.folders import settings_in, trigger, write_folder
from tests.support.secret_volume import SecretVolume

BODY = b"body"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of one's own."""
    return Clock()


def secrets(folder: Path, clock: Clock, **what: Any) -> SecretFiles:
    return SecretFiles(settings_in(folder, **what), clock=clock)


def mounted(tmp_path: Path, clock: Clock, content: bytes = b"first") -> tuple[SecretVolume, SecretFiles]:
    volume = SecretVolume(tmp_path / "volume", {"github": content})
    file = write_folder(tmp_path / "config", serve={"secrets": [str(volume.folder / "github")]})
    return volume, SecretFiles(load_settings(file, {}), clock=clock)


def signs(files: SecretFiles, key: bytes) -> bool:
    return bool(files.verifier.signers(BODY, parse_signature(sign(key, BODY))))


def test_a_rotation_is_seen_within_a_second_and_at_once_when_asked(tmp_path: Path, clock: Clock) -> None:
    volume, files = mounted(tmp_path, clock)
    volume.write({"github": b"second"})
    assert not files.look()
    assert signs(files, b"first")
    clock.now += 1.0
    assert files.look()
    assert (signs(files, b"first"), signs(files, b"second")) == (False, True)
    volume.write({"github": b"third"})
    assert files.look(at_once=True)
    assert signs(files, b"third")
    assert not files.look(at_once=True)


def test_a_delivery_that_is_signed_with_the_newest_secret_is_never_refused(tmp_path: Path, clock: Clock) -> None:
    volume, files = mounted(tmp_path, clock)
    gate = Gate(files, max_body_bytes=1_024)
    for number in range(20):
        key = b"secret %d" % number
        volume.write({"github": key})
        assert gate.body(BODY, parse_signature(sign(key, BODY))).signers


def test_a_file_that_is_overwritten_in_place_is_read_again(tmp_path: Path, clock: Clock) -> None:
    files = secrets(tmp_path, clock, secrets={"github": "first"})
    file = tmp_path / "github"
    file.write_text("later", encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert files.look(at_once=True)
    assert signs(files, b"later")


def test_a_file_that_changes_while_it_is_first_read_is_not_overlooked(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = Path.read_bytes

    def overtaken(self: Path) -> bytes:
        content = read_bytes(self)
        if content == b"first":
            (self.parent / "new").write_bytes(b"second")
            (self.parent / "new").rename(self)
        return content

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", overtaken)
        files = secrets(tmp_path, clock, secrets={"github": "first"})
    assert signs(files, b"first")
    assert files.look(at_once=True)
    assert signs(files, b"second")


@pytest.mark.parametrize("content", [None, b"", b"\n", b"  \n"])
def test_a_file_that_is_gone_or_empty_keeps_its_last_secret_and_says_so_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    volume, files = mounted(tmp_path, clock, b"hunter2")
    volume.write({} if content is None else {"github": content})
    for _ in range(3):
        assert not files.look(at_once=True)
    assert signs(files, b"hunter2")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "secret kept as it was")
    assert record.__dict__["file"].endswith("/github")
    volume.write({"github": b"back"})
    assert files.look(at_once=True)
    assert (signs(files, b"hunter2"), signs(files, b"back")) == (False, True)


def test_the_same_file_that_comes_back_is_read_again(tmp_path: Path, clock: Clock) -> None:
    files = secrets(tmp_path, clock, secrets={"github": "first"})
    (tmp_path / "github").rename(tmp_path / "away")
    assert not files.look(at_once=True)
    (tmp_path / "away").rename(tmp_path / "github")
    assert files.look(at_once=True)
    assert signs(files, b"first")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"key\n", b"key"),
        (b"key\r\n", b"key"),
        (b"key\n\n", b"key"),
        (b" key \n", b" key "),
        (b"ke\ny", b"ke\ny"),
        ("schlüssel\n".encode(), "schlüssel".encode()),
        (b"\xff\x00\n", b"\xff\x00"),
    ],
)
def test_a_newline_at_the_end_is_no_part_of_the_secret_and_nothing_else_is_touched(
    tmp_path: Path, clock: Clock, content: bytes, key: bytes
) -> None:
    _, files = mounted(tmp_path, clock, content)
    assert signs(files, key)
    assert signs(files, content) == (content == key)


def test_each_of_several_files_may_sign_and_bound_ones_for_their_repositories_only(
    tmp_path: Path, clock: Clock
) -> None:
    files = secrets(
        tmp_path,
        clock,
        secrets={"github": "new", "old": "old", "bound": "bound"},
        serve={"secrets": ["github", "old"]},
        triggers=[
            trigger("a", secrets=["bound"]),
            trigger("b", repository="Example/Other", secrets=["bound"]),
        ],
    )
    digest = parse_signature(sign(b"bound", BODY))
    (secret,) = files.verifier.signers(BODY, digest)
    assert secret.repositories == frozenset({"bittrance/striv", "example/other"})
    (unbound,) = files.verifier.signers(BODY, parse_signature(sign(b"new", BODY)))
    assert unbound.repositories is None
    assert signs(files, b"old")


def test_a_secret_for_one_repository_that_is_also_one_for_all_is_refused(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(SettingsError, match=r"receiver\.yaml:\d+: .*github is named under .* alone; leave it in one"):
        secrets(
            tmp_path,
            clock,
            secrets={"github": "both"},
            serve={"secrets": ["github"]},
            triggers=[trigger("a", secrets=["github"])],
        )


def test_one_file_that_fails_does_not_keep_another_from_rotating(tmp_path: Path, clock: Clock) -> None:
    files = secrets(tmp_path, clock, secrets={"github": "a", "old": "b"}, serve={"secrets": ["github", "old"]})
    (tmp_path / "github").unlink()
    (tmp_path / "old").write_text("rotated", encoding="utf-8")
    assert files.look(at_once=True)
    assert (signs(files, b"a"), signs(files, b"rotated"), signs(files, b"b")) == (True, True, False)


def test_no_secret_at_all_is_refused(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(SettingsError, match=r"receiver.yaml:1: no secret is configured"):
        secrets(tmp_path, clock, serve={"secrets": []})


def test_no_secret_shows_in_a_repr_an_error_or_the_log(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    volume, files = mounted(tmp_path, clock, b"hunter2\n")
    gate = Gate(files, max_body_bytes=1_024)
    verified = gate.body(BODY, parse_signature(sign(b"hunter2", BODY)))
    shown = repr(files) + repr(files.verifier) + repr(verified) + repr(vars(gate))
    volume.write({"github": b"hunter3"})
    files.look(at_once=True)
    volume.write({"github": b""})
    files.look(at_once=True)
    assert [record.getMessage() for record in caplog.records] == ["secret re-read", "secret kept as it was"]
    everything = shown + "".join(str(vars(record)) for record in caplog.records)
    assert "hunter" not in everything


def test_a_verified_body_does_not_show_the_secret_of_its_signers(tmp_path: Path, clock: Clock) -> None:
    files = secrets(tmp_path, clock, secrets={"github": "hunter2"})
    (secret,) = files.verifier.signers(BODY, parse_signature(sign(b"hunter2", BODY)))
    assert secret.key == b"hunter2"
    assert "hunter2" not in repr(secret)
