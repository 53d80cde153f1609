"""What triggers say about a push."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.events import decode_push
from receiver.core.triggers import Decision, Trigger, compile_triggers, decide, skips, why_ignored
from tests.support.folders import settings_in, trigger
from tests.support.pushes import commit, deletion_payload, encoded, object_id, push_payload, tag_payload


def compiled(folder: Path, *triggers: dict[str, Any]) -> tuple[Trigger, ...]:
    return compile_triggers(settings_in(folder, triggers=list(triggers) or None))


def decided(triggers: tuple[Trigger, ...], payload: dict[str, Any]) -> tuple[Decision, ...]:
    with_files = any(each.reads_files for each in triggers)
    return decide(triggers, decode_push(encoded(payload), with_files=with_files))


def reasons(triggers: tuple[Trigger, ...], payload: dict[str, Any]) -> list[str]:
    return [decision.reason for decision in decided(triggers, payload)]


def test_each_trigger_is_asked_in_its_order(tmp_path: Path) -> None:
    triggers = compiled(
        tmp_path,
        trigger("main", on={"push": {"branches": ["main"]}}),
        trigger("all"),
        trigger("other", repository="example/other"),
    )
    found = decided(triggers, push_payload(ref="refs/heads/main"))
    assert [(each.trigger.name, each.matched, each.reason) for each in found] == [
        ("main", True, "matched"),
        ("all", True, "matched"),
        ("other", False, "repository"),
    ]
    assert reasons(triggers, push_payload(ref="refs/heads/x")) == ["branch-filtered", "matched", "repository"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (push_payload(), "matched"),
        (push_payload(repository="BITTRANCE/Striv"), "matched"),
        (push_payload(repository="bittrance/striv2"), "repository"),
        (deletion_payload(), "deleted"),
        ({**deletion_payload(), "head_commit": commit(object_id(), "[skip ci]")}, "deleted"),
        (push_payload(message="[skip ci]"), "skip-ci"),
        (tag_payload(), "tag-filtered"),
        ({**tag_payload(), "head_commit": None}, "no-commit"),
        (push_payload(repository="a/b", message="[skip ci]"), "repository"),
    ],
)
def test_the_first_thing_that_speaks_against_it_is_the_reason(
    tmp_path: Path, payload: dict[str, Any], reason: str
) -> None:
    (decision,) = decided(compiled(tmp_path), payload)
    assert (decision.reason, decision.matched) == (reason, reason == "matched")
    assert decision.detail


def test_skip_markers_can_be_left_unheeded(tmp_path: Path) -> None:
    triggers = compiled(tmp_path, trigger(skip_markers=False))
    assert reasons(triggers, push_payload(message="[skip ci]")) == ["matched"]


def test_only_a_trigger_with_path_filters_reads_files(tmp_path: Path) -> None:
    triggers = compiled(
        tmp_path,
        trigger("a"),
        trigger("b", on={"push": {"paths": ["src/**"]}}),
        trigger("c", on={"push": {"paths-ignore": "docs/**"}}),
    )
    assert [each.reads_files for each in triggers] == [False, True, True]
    payload = push_payload(commits=[commit(object_id(), modified=["docs/a"])])
    assert reasons(triggers, payload) == ["matched", "path-filtered", "path-filtered"]


def test_a_trigger_names_its_namespace_or_takes_that_of_the_cluster(tmp_path: Path) -> None:
    triggers = compiled(tmp_path, trigger("a"), trigger("b", namespace="elsewhere", max_active=3))
    assert [(each.namespace, each.max_active) for each in triggers] == [("striv-ci", None), ("elsewhere", 3)]


@pytest.mark.parametrize(
    "message",
    [
        "[skip ci]",
        "Fix [ci skip] it",
        "Fix\n\n[no ci]",
        "[Skip CI]",
        "x [skip actions] y",
        "[actions skip]",
        "Fix\n\nskip-checks: true",
        "Fix\n\nskip-checks:true",
        "Fix\n\n\nSkip-Checks: TRUE\n",
        "Fix\n\nSigned-off-by: A <a@b>\nskip-checks: true",
    ],
)
def test_a_skip_marker_is_found(message: str) -> None:
    assert skips(message)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "skip ci",
        "[skip  ci]",
        "[skip ci",
        "[skipci]",
        "(skip ci)",
        "[skip\nci]",
        "skip-checks: true",
        "Fix\nskip-checks: true",
        "Fix\n\nskip-checks: false",
        "Fix\n\nskip-checks: true\n\nMore text",
        "Fix\n\nskip-checks: truely",
        "Fix\n\nabout skip-checks: true",
        "Fix\n\nskip-checks: true\nSigned-off-by: A <a@b>",
    ],
)
def test_what_only_looks_like_a_skip_marker_is_none(message: str) -> None:
    assert not skips(message)


@given(st.text("\n :abkips-chetru[]", max_size=200), st.sampled_from(["[skip ci]", "[no ci]", "[actions skip]"]))
def test_a_marker_is_found_wherever_it_stands(text: str, marker: str) -> None:
    assert skips(text + marker + text)


@pytest.mark.parametrize("line", ["a:b\n", "a:b:c:d\n", "Link: https://a:1/b:2\n", "\n \n", ":\n", "\n\na:", " \t"])
def test_a_long_message_of_near_trailers_is_read_in_no_time(line: str) -> None:
    for tail in ("skip-checks: no", "skip-checks: true" + " " * 200_000 + "no", "skip-checks:" + "\t" * 200_000):
        message = "Fix\n\n" + line * 4_000 + tail
        # Of the processor's, since other programs may be at work. A reader that goes back costs minutes.
        began = time.process_time()
        assert not skips(message)
        assert time.process_time() - began < 2.0


def test_what_is_answered_prefers_a_reason_of_the_right_repository(tmp_path: Path) -> None:
    triggers = compiled(tmp_path, trigger("a", repository="x/y"), trigger("b", on={"push": {"branches": ["main"]}}))
    reason, detail = why_ignored(decided(triggers, push_payload()))
    assert (reason, "'master'" in detail) == ("branch-filtered", True)
    assert why_ignored(decided(triggers, push_payload(repository="q/q")))[0] == "repository"
    assert why_ignored(()) == ("no-trigger", "no trigger is configured")
