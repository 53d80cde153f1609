"""docs/operations.md as whoever is on call uses it: there is a page for what went wrong, and what it says to type exists."""

from __future__ import annotations

import re
import shlex

import click
import pytest
import yaml

from receiver.cli.main import receiver
from tests.support.documents import ROOT
from tests.support.operations import IN_WORK, NOT_TYPED, PAGES, TEXT, WITHIN_SENTENCES, commands, within_sentences

SOURCE = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "receiver").rglob("*.py")))
MANIFESTS = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "k8s").rglob("*.yaml")))

OUTAGES = {
    "the API server away": "The cluster does not answer",
    "Tekton's webhook down": "Tekton's webhook is down",
    "the API server slow, half-open, TLS, token": "The API server is slow or refuses us",
    "a permanent refusal, dead jobs": "A job is dead",
    "a pod restarted while they are away": "The pod was restarted meanwhile",
    "the journal's disk full": "The journal's disk is full",
    "the journal read-only": "The journal is read-only",
    "the journal locked": "The journal is locked",
    "PostgreSQL restarted or failed over": "PostgreSQL is away",
    "the watch gone, jobs stuck in started": "Outcomes are not seen",
    "a flood of valid pushes": "Valid pushes flood in",
    "slow bodies, floods of connections": "Slow clients and connections flood in",
    "floods of forged deliveries": "Deliveries are answered 401",
    "jobs wait": "Jobs wait",
    "the journal refuses": "Deliveries are answered 503",
}
# Of Debian's slim image: coreutils, grep, dash.
IN_THE_IMAGE = {"df", "ls", "id", "grep", "sh", "receiver"}
ON_A_NODE = {"fuser", "lsof", "psql"}
VERBS = {"auth", "create", "delete", "describe", "exec", "get", "logs", "patch", "rollout", "top", "apply", "wait"}
FLAGS = {
    *(
        "--as",
        "--containers",
        "--for",
        "--from",
        "--patch",
        "--previous",
        "--raw",
        "--server-side",
        "--show-labels",
        "--since",
    ),
    *("--tail", "--timeout", "--type", "-c", "-k", "-l", "-n", "-o"),
}


@pytest.mark.parametrize("page", OUTAGES.values(), ids=OUTAGES.keys())
def test_there_is_a_page_with_commands_for(page: str) -> None:
    for part in ("*Seen:*", "*Means:*", "*Do"):
        assert part in PAGES[page]
    assert commands(page)


@pytest.mark.parametrize("page", OUTAGES.values(), ids=OUTAGES.keys())
def test_the_table_at_the_top_or_a_page_leads_to(page: str) -> None:
    anchor = re.sub(r"[^a-z0-9 -]", "", page.lower()).replace(" ", "-")
    assert TEXT.count(f"](#{anchor})") >= 1


def test_every_link_within_the_page_leads_to_a_heading() -> None:
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in PAGES}
    linked = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert len(linked) > 8
    assert linked <= anchors


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_every_command_in_the_page_exists(page: str) -> None:
    for command in commands(page):
        words = shlex.split(command)
        if words[0] == "kubectl":
            check_kubectl(words[1:])
        elif words[0] == "receiver":
            check_receiver(words[1:])
        else:
            assert words[0] in ON_A_NODE, command


def test_every_command_of_the_document_is_typed_into_a_cluster_or_has_a_reason_why_not() -> None:
    """tests/e2e_receiver/test_documents.py types each page's commands and WITHIN_SENTENCES."""
    in_pages = {command for page in PAGES for command in commands(page)}
    in_sentences = within_sentences()

    assert in_sentences - in_pages - set(NOT_TYPED) == set(WITHIN_SENTENCES) - in_pages
    assert set(NOT_TYPED) <= in_pages | in_sentences


def test_the_first_sentence_says_where_the_commands_run() -> None:
    assert f"`{IN_WORK}…`" in TEXT.partition("## ")[0]


def check_kubectl(words: list[str]) -> None:
    own, inner = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    assert own[0] in VERBS, own
    flags = {word.split("=")[0] for word in own if word.startswith("-")}
    assert flags <= FLAGS, flags
    for flag, kind in (("-n", "namespace"), ("-c", "container")):
        if flag in own:
            name = own[own.index(flag) + 1]
            assert name in ("default", "tekton-pipelines") or re.search(rf"name: {name}\b", MANIFESTS), f"{kind} {name}"
    for name in re.findall(r"(?:deploy|cronjob)/(\S+)", " ".join(own)):
        assert name == "tekton-pipelines-webhook" or re.search(rf"name: {name}\b", MANIFESTS), name
    for kind, name in re.findall(r"(pvc|networkpolicy|secret) ([a-z][a-z-]+)", " ".join(own)):
        assert re.search(rf"name: {name}\b", MANIFESTS) or f"secretName: {name}" in MANIFESTS, f"{kind} {name}"
    if own[0] == "exec":
        assert inner[0] in IN_THE_IMAGE, inner
        if inner[0] == "receiver":
            check_receiver(inner[1:])


def check_receiver(words: list[str]) -> None:
    command: click.Command = receiver
    rest = list(words)
    while rest and isinstance(command, click.Group):
        found = command.commands.get(rest.pop(0))
        assert found is not None, words
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in rest if word.startswith("-") and word not in known] == []


def test_what_the_log_is_said_to_hold_is_what_is_logged() -> None:
    said = re.findall(r"((?:`[^`]+`(?:, | or )?)+) in the log(?! of a task)", TEXT)
    phrases = [phrase for group in said for phrase in re.findall(r"`([^`]+)`", group)]
    assert len(phrases) > 8
    assert [phrase for phrase in phrases if f'"{phrase}"' not in SOURCE] == []


def test_every_metric_and_every_alert_that_is_named_exists() -> None:
    rules = yaml.safe_load((ROOT / "k8s/monitoring/rules.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
    named = set(re.findall(r"`(Receiver[A-Z]\w+)`", TEXT))
    assert named == alerts
    roles = {"receiver_owner", "receiver_serve", "receiver_work"}
    metrics = set(re.findall(r"`(receiver_[a-z_]+)", TEXT)) - roles
    assert len(metrics) > 8
    assert [metric for metric in metrics if metric not in SOURCE] == []
