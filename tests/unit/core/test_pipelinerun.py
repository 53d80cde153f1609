"""Manifests, whole: what the template says, and what a push adds."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.core.events import Push, decode_push
from receiver.core.identity import job_key, push_keys
from receiver.core.params import PushContext
from receiver.core.pipelinerun import KEY, PREFIX, RunIdentity, build_manifest, clean_label, ref_hash
from receiver.core.triggers import Trigger, compile_triggers, decide
from receiver.settings import load_settings
from tests.support.folders import TEMPLATE, settings_in, trigger
from tests.support.pushes import commit, encoded, object_id, push_payload, tag_payload
from tests.support.refs import LEGAL_REFS

CHECKOUT = Path(__file__).resolve().parents[3]
GOLDEN = CHECKOUT / "tests" / "golden"
GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
AT = 1_790_000_000


def manifests(triggers: tuple[Trigger, ...], payload: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the private plane would create for a push, from its body on."""
    body = encoded(payload)
    push = decode_push(body, with_files=True)
    found = []
    for decision in decide(triggers, push):
        if decision.matched:
            name = decision.trigger.name
            params = decision.trigger.reader.read(push, PushContext(delivery_id=GUID, trigger=name), body)
            key = job_key(push_keys(push, GUID).by_time, name, 1)
            found.append(build_manifest(decision.trigger, push, params, RunIdentity(key, 1, GUID)))
    return found


@pytest.fixture(scope="module")
def striv() -> tuple[Trigger, ...]:
    """The triggers of the documented example."""
    return compile_triggers(load_settings(CHECKOUT / "config" / "receiver.yaml", {}))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trigger, ...]:
    """Two triggers for one push, with params of every kind."""
    params = {
        "branch": "branch",
        "title": {"from": "title", "default": "none"},
        "files": {"from": "head_commit.modified", "default": []},
    }
    settings = settings_in(
        tmp_path_factory.mktemp("two"), triggers=[trigger("first"), trigger("second", namespace="other", params=params)]
    )
    return compile_triggers(settings)


def golden_branch() -> dict[str, Any]:
    head = commit(object_id("after"), "Ünïcode — 🚀 title\n\nThe rest is not told.")
    return push_payload(
        ref="refs/heads/Feature/ü/add_task",
        before=object_id("before"),
        after=object_id("after"),
        head_commit=head,
        pushed_at=AT,
    )


def golden_tag() -> dict[str, Any]:
    return tag_payload("v1.2.3", after=object_id("tag object"), head_commit=commit(object_id("commit")), pushed_at=AT)


CASES = {
    "branch-push": ("striv", golden_branch),
    "annotated-tag": ("tags", golden_tag),
    "two-triggers": ("two", golden_branch),
}


@pytest.mark.parametrize(("which", "payload"), CASES.values(), ids=CASES.keys())
def test_a_push_becomes_exactly_the_golden_manifests(which: str, payload: Any, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    expected = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")))
    assert manifests(request.getfixturevalue(which), payload()) == expected


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trigger, ...]:
    """The trigger of the example, but for tags."""
    folder = tmp_path_factory.mktemp("tags")
    template = yaml.safe_load((CHECKOUT / "config" / "pipelineruns" / "striv.yaml").read_text(encoding="utf-8"))
    params = {"revision": "head_sha", "branch": {"from": "branch", "default": ""}}
    wanted = trigger("release", on={"push": {"tags": ["v*"]}}, params=params)
    return compile_triggers(settings_in(folder, triggers=[wanted], template=template))


def made(triggers: tuple[Trigger, ...], **push: Any) -> dict[str, Any]:
    (manifest,) = manifests(triggers, push_payload(pushed_at=AT, **push))
    return manifest


@given(ref=LEGAL_REFS)
@example(ref="refs/tags/" + "ü" * 80)
@example(ref="refs/heads/$(x)/-")
def test_any_branch_or_tag_makes_valid_labels_and_its_annotation_is_the_true_ref(
    one: tuple[Trigger, ...], ref: str
) -> None:
    metadata = made(one, ref=ref)["metadata"]
    assert metadata["annotations"][PREFIX + "ref"] == ref
    _, kind, name = ref.split("/", 2)
    own, other = ("branch", "tag") if kind == "heads" else ("tag", "branch")
    assert metadata["labels"][PREFIX + own] == clean_label(name)
    assert PREFIX + other not in metadata["labels"]
    for key, value in metadata["labels"].items():
        assert LABEL_KEY.fullmatch(key), key
        assert len(value) <= 63
        assert LABEL.fullmatch(value), (key, value)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trigger, ...]:
    """One plain trigger for whatever is pushed."""
    settings = settings_in(tmp_path_factory.mktemp("one"), triggers=[trigger(on={"push": None})])
    return compile_triggers(settings)


@given(text=st.text(max_size=200))
def test_any_text_becomes_a_valid_label(text: str) -> None:
    cleaned = clean_label(text)
    assert len(cleaned) <= 63
    assert LABEL.fullmatch(cleaned)
    assert clean_label(cleaned) == cleaned


@given(one_ref=LEGAL_REFS, other=LEGAL_REFS)
def test_refs_that_clean_to_the_same_label_differ_in_their_hash(one_ref: str, other: str) -> None:
    assert (ref_hash(one_ref) == ref_hash(other)) == (one_ref == other)
    assert clean_label("a/b") == clean_label("a-b")
    assert ref_hash("refs/heads/a/b") != ref_hash("refs/heads/a-b")


@given(
    title=st.text(st.characters(codec="utf-8"), max_size=50),
    pusher=st.text(st.characters(codec="utf-8"), max_size=2_000),
)
def test_annotations_hold_any_text_within_bounds(one: tuple[Trigger, ...], title: str, pusher: str) -> None:
    manifest = made(one, message=title, pusher={"name": pusher})
    annotations = manifest["metadata"]["annotations"]
    assert annotations.get(PREFIX + "title", "") == title.split("\n", 1)[0].strip()
    assert annotations.get(PREFIX + "pusher", "") == pusher[:1_000]
    assert json.loads(json.dumps(manifest, ensure_ascii=False).encode()) == manifest


def test_the_template_is_never_changed(one: tuple[Trigger, ...]) -> None:
    before = copy.deepcopy(one[0].template)
    manifest = made(one)
    manifest["spec"]["pipelineRef"]["name"] = "changed"
    manifest["metadata"]["labels"]["changed"] = "x"
    assert one[0].template == before == TEMPLATE


def test_what_the_template_says_stays_and_ours_wins(tmp_path: Path) -> None:
    template = copy.deepcopy(TEMPLATE)
    template["metadata"] |= {
        "namespace": "ignored",
        "annotations": {"theirs": "stays", KEY: "forged"},
        "labels": {"theirs": "stays", PREFIX + "trigger": "forged"},
        "finalizers": ["example.org/x"],
    }
    triggers = compile_triggers(settings_in(tmp_path, template=template))
    metadata = made(triggers)["metadata"]
    assert metadata["namespace"] == "striv-ci"
    assert metadata["finalizers"] == ["example.org/x"]
    assert (metadata["labels"]["theirs"], metadata["labels"][PREFIX + "trigger"]) == ("stays", "striv")
    assert metadata["annotations"]["theirs"] == "stays"
    assert re.fullmatch("[0-9a-f]{64}", metadata["annotations"][KEY])
    assert "generateName" not in metadata


def test_params_that_no_rule_fills_keep_the_value_of_the_template(one: tuple[Trigger, ...]) -> None:
    manifest = made(one, after=object_id("x"))
    values = {param["name"]: param["value"] for param in manifest["spec"]["params"]}
    assert values["revision"] == object_id("x")
    assert values["repo-url"] == "https://github.com/bittrance/striv"
    assert [param["name"] for param in manifest["spec"]["params"]] == [
        param["name"] for param in TEMPLATE["spec"]["params"]
    ]


def test_a_template_without_params_labels_or_annotations_is_enough(tmp_path: Path) -> None:
    template = {
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": {"generateName": "a-", "labels": None},
        "spec": {"pipelineRef": {"name": "x"}},
    }
    triggers = compile_triggers(settings_in(tmp_path, template=template, triggers=[trigger(params={})]))
    manifest = made(triggers)
    assert manifest["spec"] == {"pipelineRef": {"name": "x"}}
    assert manifest["metadata"]["labels"][PREFIX + "branch"] == "master"


def test_the_same_push_makes_the_same_manifest_and_a_salt_only_another_name(one: tuple[Trigger, ...]) -> None:
    body = encoded(push_payload(pushed_at=AT))
    push: Push = decode_push(body, with_files=False)
    key = job_key(push_keys(push, GUID).by_time, "striv", 1)
    plain, again, salted = (
        build_manifest(one[0], push, {}, RunIdentity(key, 1, GUID, salt=salt)) for salt in (0, 0, 1)
    )
    assert plain == again
    assert plain["metadata"].pop("name") != salted["metadata"].pop("name")
    assert plain == salted
