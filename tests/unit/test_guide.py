"""Each block of commands in docs/install.md and docs/pipeline.md is run by a test, or stands here with the reason why not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.documents import scripts
from tests.support.guide import GUIDE, PIPELINE, filled_in, run

TESTS = Path(__file__).resolve().parents[1]
NOT_RUN = {
    (GUIDE, "The image", 0): "needs Docker and a registry; the tests build the same Dockerfile by other means",
    (GUIDE, "The image", 1): "needs Docker and a registry that knows the base image",
    (GUIDE, "kind, and other clusters on your own machine", 0): "needs kind",
    (GUIDE, "kind, and other clusters on your own machine", 1): "needs the port that only kind's configuration opens",
    (PIPELINE, "Digests", 0): "needs a registry that knows the digests; the tests pin made-up ones by the same script",
}


@pytest.mark.parametrize("document", [GUIDE, PIPELINE], ids=lambda document: document.name)
def test_every_block_of_commands_is_run_by_a_test_or_has_a_reason_why_not(document: Path) -> None:
    blocks = Counter(script.heading for script in scripts(document))
    written = {(heading, number) for heading, count in blocks.items() for number in range(count)}
    sources = [
        path.read_text()
        for name in ("e2e", "e2e_receiver", "controlplane_suite")
        for path in (TESTS / name).glob("*.py")
    ]
    other = "" if document == GUIDE else ", PIPELINE"
    taken = {
        (heading, int(number))
        for text in sources
        for heading, number in re.findall(rf'\bstep\("(.+?)", (\d){other}\)', text)
    }
    not_run = {(heading, number) for where, heading, number in NOT_RUN if where == document}

    assert taken | not_run == written
    assert not taken & not_run


def test_an_example_that_the_document_lost_is_noticed() -> None:
    assert filled_in("send push.json to URL", {"URL": "here"}) == "send push.json to here"
    with pytest.raises(AssertionError, match="does not say 'ADDRESS'"):
        filled_in("send push.json to URL", {"ADDRESS": "here"})


@pytest.mark.parametrize("failing", ["false; true", "false | cat", 'echo "$NEVER_SET"'])
def test_a_command_that_fails_amid_others_is_noticed(failing: str, tmp_path: Path) -> None:
    assert run("echo $PWD", folder=tmp_path) == f"{tmp_path}\n"
    with pytest.raises(AssertionError):
        run(failing, folder=tmp_path)
