"""`receiver explain`: what would happen, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.folders import trigger, write_folder
from tests.support.pushes import commit, encoded, object_id, ping_payload, push_payload
from tests.unit.cli.conftest import Done, Run

GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two triggers, of which one wants main only."""
    return write_folder(
        tmp_path / "config",
        triggers=[trigger(), trigger("main", on={"push": {"branches": ["main"], "paths": ["src/**"]}})],
    )


def explain(run: Run, config: Path, payload: dict[str, Any] | bytes, *options: str) -> Done:
    file = config.parent / "push.json"
    file.write_bytes(payload if isinstance(payload, bytes) else encoded(payload))
    return run("--config", config, "explain", file, *options)


def test_each_trigger_says_whether_it_matches_and_why(run: Run, config: Path) -> None:
    payload = push_payload(ref="refs/heads/x")
    done = explain(run, config, payload)
    assert (done.code, done.err) == (0, "")
    head, striv, *manifest, main = done.out.splitlines()
    assert head == f"push to bittrance/striv, refs/heads/x, commit {payload['after']}"
    assert striv == "trigger striv matches (matched): branch 'x' matches '**' in branches"
    assert main.startswith("trigger main does not match (branch-filtered): branch 'x' matches no pattern")
    shown = yaml.safe_load("\n".join(manifest))
    assert shown["kind"] == "PipelineRun"
    assert shown["spec"]["params"][1] == {"name": "revision", "value": payload["after"]}


def test_json_is_for_programs(run: Run, config: Path) -> None:
    payload = push_payload(ref="refs/heads/main", commits=[commit(object_id(), modified=["docs/x"])])
    done = explain(run, config, payload, "-o", "json", "--delivery", GUID)
    striv, main = json.loads(done.out)
    assert (striv["trigger"], striv["matched"], striv["reason"]) == ("striv", True, "matched")
    assert striv["manifest"]["metadata"]["labels"]["striv-receiver.dev/delivery"] == GUID
    assert (main["matched"], main["reason"], main["manifest"]) == (False, "path-filtered", None)


def test_the_name_is_the_one_that_the_run_will_have(run: Run, config: Path) -> None:
    payload = push_payload()
    one, two = (json.loads(explain(run, config, payload, "-o", "json").out)[0]["manifest"] for _ in "ab")
    assert one == two


def test_a_payload_comes_from_standard_input_too(run: Run, config: Path) -> None:
    done = run("--config", config, "explain", "-", stdin=encoded(push_payload()))
    assert (done.code, "trigger striv matches" in done.out) == (0, True)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"x", "would answer 400 json: the payload is not valid JSON"),
        (b"\xff", "would answer 400 encoding"),
        (encoded(ping_payload()), "would answer 400 payload"),
        (encoded(push_payload(ref="refs/heads/a..b")), "would answer 400 ref"),
    ],
    ids=["no JSON", "no UTF-8", "ping", "bad ref"],
)
def test_a_payload_that_would_be_refused_ends_with_1_and_the_answer(
    run: Run, config: Path, payload: bytes, words: str
) -> None:
    done = explain(run, config, payload)
    assert (done.code, done.out) == (1, "")
    assert words in done.err


def test_a_param_that_would_be_refused_ends_with_1(run: Run, tmp_path: Path) -> None:
    config = write_folder(tmp_path / "x", triggers=[trigger(params={"title": "title"})])
    done = explain(run, config, push_payload(message="$(x)"))
    assert (done.code, "400 param: the value of the parameter `title` holds `$(`" in done.err) == (1, True)


def test_a_guid_that_is_none_is_refused(run: Run, config: Path) -> None:
    done = explain(run, config, push_payload(), "--delivery", "nonsense")
    assert (done.code, "GUID" in done.err) == (1, True)


def test_what_a_terminal_would_obey_is_not_shown(run: Run, config: Path) -> None:
    done = explain(run, config, push_payload(ref="refs/heads/\x9b31m\u202e", message="\x9b31m"))
    assert done.code == 0
    assert [line for line in done.out.splitlines() if not line.isprintable()] == []
