"""A test that cannot run says so: skipped with its reason, and in CI failed."""

from __future__ import annotations

import os

import pytest

from tests.support.needs import lacking, left_out, left_to_root, need_root


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_what_a_machine_lacks_is_a_skip_with_its_reason_and_in_ci_a_failure(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="install strace"):
        lacking("install strace")


@pytest.mark.parametrize("ci", ["", "true"])
def test_what_only_root_can_do_is_a_skip_for_others_everywhere(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    with pytest.raises(pytest.skip.Exception, match="only root can mount a disk"):
        need_root("mount a disk")


def test_root_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    try:
        need_root("mount a disk")
    except pytest.skip.Exception:
        # Let through, it would only skip this test.
        pytest.fail("root was turned away")


def test_what_was_left_to_root_is_counted_for_the_last_lines_of_the_session() -> None:
    reasons = ["Skipped: only root can mount a disk", "Skipped: install strace", "Skipped: only root can mount a disk"]
    assert left_to_root(reasons) == {"mount a disk": 2}


def test_a_kind_of_tests_that_was_left_out_is_named_once_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception) as skipped:
        lacking("there is no Go: install it", untested="on a real API server")

    assert left_out(["Skipped: install strace", *[f"Skipped: {skipped.value}"] * 3]) == {
        "on a real API server": "there is no Go: install it"
    }
