"""`receiver send`: a delivery as GitHub makes it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import requests
import responses

from tests.support.pushes import encoded, push_payload
from tests.support.signing import signature
from tests.unit.cli.conftest import Done, Run

URL = "https://receiver.example/webhook"
GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A payload and a secret."""
    (tmp_path / "push 1.json").write_bytes(encoded(push_payload(message="ü")))
    (tmp_path / "secret").write_text("hunter2\n", encoding="utf-8")
    return tmp_path / "push 1.json", tmp_path / "secret"


def send(run: Run, files: tuple[Path, Path], *options: str) -> Done:
    payload, secret = files
    return run("send", payload, "--url", URL, "--secret-file", secret, *options)


@responses.activate
def test_the_delivery_is_signed_and_the_answer_printed(run: Run, files: tuple[Path, Path]) -> None:
    responses.post(URL, json={"result": "accepted"}, status=202)
    done = send(run, files, "--delivery", GUID)
    assert (done.code, json.loads(done.out), done.err) == (0, {"result": "accepted"}, "202 Accepted\n")
    (call,) = responses.calls
    body = files[0].read_bytes()
    assert call.request.body == body
    assert call.request.headers["X-Hub-Signature-256"] == signature(body, "hunter2")
    assert call.request.headers["X-GitHub-Delivery"] == GUID
    assert call.request.headers["X-GitHub-Event"] == "push"
    assert call.request.headers["Content-Type"] == "application/json"


@responses.activate
def test_each_delivery_has_a_guid_of_its_own_and_any_event(run: Run, files: tuple[Path, Path]) -> None:
    responses.post(URL, json={})
    for _ in range(2):
        assert send(run, files, "--event", "ping").code == 0
    assert len({call.request.headers["X-GitHub-Delivery"] for call in responses.calls}) == 2
    assert {call.request.headers["X-GitHub-Event"] for call in responses.calls} == {"ping"}


@responses.activate
def test_a_payload_comes_from_standard_input_too(run: Run, files: tuple[Path, Path]) -> None:
    responses.post(URL, json={})
    assert run("send", "-", "--url", URL, "--secret-file", files[1], stdin=b"{}").code == 0
    assert responses.calls[0].request.body == b"{}"


@pytest.mark.parametrize("status", [301, 308, 400, 401, 503])
@responses.activate
def test_whatever_github_would_call_a_failure_ends_with_3(run: Run, files: tuple[Path, Path], status: int) -> None:
    responses.post(URL, json={"error": "x"}, status=status, headers={"Location": "https://receiver.example/other"})
    done = send(run, files)
    assert (done.code, json.loads(done.out)) == (3, {"error": "x"})
    assert done.err.startswith(f"{status} ")


@responses.activate
def test_no_answer_ends_with_1(run: Run, files: tuple[Path, Path]) -> None:
    responses.post(URL, body=requests.ConnectionError("refused"))
    done = send(run, files)
    assert (done.code, done.out, done.err) == (1, "", f"receiver: {URL} did not answer: refused\n")


def test_an_address_that_is_none_ends_with_1(run: Run, files: tuple[Path, Path]) -> None:
    payload, secret = files
    done = run("send", payload, "--url", "receiver.example", "--secret-file", secret)
    assert (done.code, "did not answer" in done.err) == (1, True)


def test_an_empty_secret_is_refused(run: Run, files: tuple[Path, Path]) -> None:
    files[1].write_text("\n", encoding="utf-8")
    done = send(run, files)
    assert (done.code, "is empty" in done.err) == (2, True)


def test_curl_prints_a_command_that_a_shell_takes_and_no_secret(run: Run, files: tuple[Path, Path]) -> None:
    done = send(run, files, "--curl", "--delivery", GUID)
    words = shlex.split(done.out)
    assert (done.code, words[0]) == (0, "curl")
    assert URL in words
    assert words[-2:] == ["--data-binary", f"@{files[0]}"]
    assert f"X-Hub-Signature-256: {signature(files[0].read_bytes(), 'hunter2')}" in words
    assert "hunter2" not in done.out


def test_curl_needs_a_file(run: Run, files: tuple[Path, Path]) -> None:
    done = run("send", "-", "--url", URL, "--secret-file", files[1], "--curl")
    assert (done.code, "--curl needs PAYLOAD as a file" in done.err) == (2, True)
