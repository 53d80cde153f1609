"""Log lines: one for each decision, and nobody outside can forge one."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.logs import set_up_logging
from receiver.settings import LogSettings
from tests.support.waiting import wait_until

_log = logging.getLogger("receiver.test")
ANY_TEXT = st.text(st.characters(exclude_categories=()))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def own_root() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for handler in handlers:
        root.removeHandler(handler)
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def logged(form: str = "json", *, stream: io.StringIO | None = None, level: str = "info", **extra: Any) -> str:
    """Return what one line of level info looks like."""
    stream = io.StringIO() if stream is None else stream
    set_up_logging(LogSettings(format=form, level=level), stream=stream)
    _log.info("run created", extra=extra)
    return written(stream)


def written(stream: io.StringIO) -> str:
    """Return what has been logged; lines may wait for each other, but not here."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return stream.getvalue()


def test_a_json_line_holds_time_level_event_and_facts() -> None:
    line = json.loads(logged(delivery="72d3", sha="abc", attempts=0, matched=False, empty="", none=None))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "event": "run created",
        "delivery": "72d3",
        "sha": "abc",
        "attempts": 0,
        "matched": False,
    }


def test_what_json_does_not_know_is_logged_as_text() -> None:
    assert json.loads(logged(where=io.BytesIO, keys={"a": b"x"}))["keys"] == {"a": "b'x'"}


def test_auto_is_json_where_nobody_looks_and_text_on_a_terminal() -> None:
    assert json.loads(logged("auto"))
    shown = logged("auto", stream=Terminal(), delivery="72d3")
    assert shown.endswith("info    run created  delivery=72d3\n")


def test_text_is_coloured_on_a_terminal_only() -> None:
    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        set_up_logging(LogSettings(format="text"), stream=stream)
        _log.warning("cluster away")
        assert ("\x1b[33m" in written(stream)) == coloured


def test_lines_below_the_level_are_left_out() -> None:
    assert logged(level="warning") == ""


@given(text=ANY_TEXT)
def test_no_text_from_outside_forges_a_json_line(text: str) -> None:
    (line,) = logged(ref=text).splitlines()
    assert line.isascii()
    assert json.loads(line).get("ref", "") == text


@given(text=ANY_TEXT)
def test_no_text_from_outside_forges_a_text_line_or_commands_a_terminal(text: str) -> None:
    written = logged("text", ref=text, end="x")
    assert written.endswith(" end=x\n")
    assert written[:-1].isprintable()


@pytest.mark.parametrize(
    "ref", ["refs/heads/a sha=0", 'refs/heads/"a"', "a=b", "refs/heads/\x9b31m", "\u2028", "\udc80"]
)
def test_a_text_that_could_be_taken_for_more_is_quoted(ref: str) -> None:
    written = logged("text", ref=ref)
    assert 'ref="' in written
    assert written[:-1].isprintable()


def test_an_ordinary_ref_and_german_stand_as_they_are() -> None:
    written = logged("text", ref="refs/heads/feature/a-b", title="für alle")
    assert written.endswith('  ref=refs/heads/feature/a-b title="für alle"\n')


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_text_of_an_exception_forges_no_line(form: str) -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(format=form), stream=stream)
    try:
        fail("bad\n12:00:00 info    run created\x1b[2J\x85more")
    except ValueError:
        _log.exception("request failed")
    first, *rest = written(stream).removesuffix("\n").splitlines()
    assert "request failed" in first
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert (rest == []) == (form == "json")
    assert "ValueError" in written(stream)


def test_setting_up_twice_does_not_log_twice() -> None:
    logged()
    assert logged().count("\n") == 1


def test_libraries_that_chatter_are_kept_quiet() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(), stream=stream)
    logging.getLogger("urllib3.connectionpool").warning("Retrying")
    assert written(stream) == ""
    assert sys.stderr is not stream


def test_lines_that_nobody_flushes_are_written_all_the_same() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(format="json"), stream=stream)
    _log.info("delivery")
    wait_until(lambda: "delivery" in stream.getvalue(), what="the line", seconds=5)


def test_an_error_waits_for_nobody() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(format="json"), stream=stream)
    _log.info("delivery")
    _log.error("job dead")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["delivery", "job dead"]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    set_up_logging(LogSettings(format="json"), stream=Full())
    _log.error("delivery")
    set_up_logging(LogSettings(format="json"), stream=io.StringIO())


class FullDisk(io.StringIO):
    """A stream that cannot be written for a while."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_log_that_cannot_be_written_stops_nobody_and_goes_on_when_it_can() -> None:
    stream = FullDisk()
    set_up_logging(LogSettings(format="json"), stream=stream)
    _log.error("job dead")
    _log.info("delivery")
    assert written(stream) == ""
    stream.full = False
    _log.info("later")
    wait_until(lambda: "later" in stream.getvalue(), what="the line of the thread that lives on", seconds=5)


def test_a_log_whose_reader_is_gone_stops_nobody() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(format="json"), stream=stream)
    stream.close()
    _log.error("job dead")
    assert stream.closed
