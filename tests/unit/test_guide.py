"""Every block of commands in docs/install.md is run by a test, or stands here with the reason why it is not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.documents import scripts
from tests.support.guide import GUIDE, filled_in, run

TESTS = Path(__file__).resolve().parents[1]
NOT_RUN = {
    ("The image", 0): "needs Docker and a registry; the tests build the same Dockerfile by other means",
    ("The image", 1): "needs Docker and a registry that knows the base image",
    ("kind, and other clusters on your own machine", 0): "needs kind",
    ("kind, and other clusters on your own machine", 1): "needs the port that only kind's configuration opens",
}


def test_every_block_of_commands_is_run_by_a_test_or_has_a_reason_why_not() -> None:
    blocks = Counter(script.heading for script in scripts(GUIDE))
    written = {(heading, number) for heading, count in blocks.items() for number in range(count)}
    sources = [
        path.read_text() for name in ("e2e_receiver", "controlplane_suite") for path in (TESTS / name).glob("*.py")
    ]
    taken = {
        (heading, int(number)) for text in sources for heading, number in re.findall(r'\bstep\("(.+?)", (\d)\)', text)
    }

    assert taken | set(NOT_RUN) == written
    assert not taken & set(NOT_RUN)


def test_an_example_that_the_document_lost_is_noticed() -> None:
    assert filled_in("send push.json to URL", {"URL": "here"}) == "send push.json to here"
    with pytest.raises(AssertionError, match="does not say 'ADDRESS'"):
        filled_in("send push.json to URL", {"ADDRESS": "here"})


@pytest.mark.parametrize("failing", ["false; true", "false | cat", 'echo "$NEVER_SET"'])
def test_a_command_that_fails_amid_others_is_noticed(failing: str, tmp_path: Path) -> None:
    assert run("echo $PWD", folder=tmp_path) == f"{tmp_path}\n"
    with pytest.raises(AssertionError):
        run(failing, folder=tmp_path)
