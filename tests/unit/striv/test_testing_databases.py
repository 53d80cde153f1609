"""When databases count as ready, when waiting for them ends, and what is said then."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scripts import load_script

databases = load_script("testing_databases")
conf = load_script("testing_databases_conf")
STRIV = Path(__file__).resolve().parents[3] / "k8s" / "striv"
TEMPLATES = {d["metadata"]["name"]: d for d in yaml.safe_load_all((STRIV / "databases.yaml").read_text()) if d}
UID = "0a000000-0000-0000-0000-000000000001"

Pod = dict[str, Any]


def pod(kind: str, *, node: str = "node1", ready: bool = False, phase: str = "Running", **state: Any) -> Pod:
    """Return a database's pod as the API server would."""
    conditions = [
        {"type": "Ready", "status": str(ready)},
        {"type": "PodScheduled", "status": str(bool(node)), "message": "0/1 nodes"},
    ]
    status: dict[str, Any] = {"phase": phase, "conditions": conditions}
    if state:
        status["containerStatuses"] = [{"state": state}]
    return {
        "metadata": {"name": kind, "labels": {"app.kubernetes.io/name": kind}},
        "spec": {"nodeName": node},
        "status": status,
    }


def wait(snapshots: Iterable[list[Pod]], *, seconds_between: float = 1.0) -> None:
    """Wait for both databases, by snapshots that are so many seconds apart."""
    now = [0.0]

    def ticking() -> Iterator[list[Pod]]:
        for snapshot in snapshots:
            yield snapshot
            now[0] += seconds_between

    databases.wait_until_ready(ticking(), kinds=["mysql", "postgres"], ready_seconds=20, clock=lambda: now[0])


def problem(snapshots: Iterable[list[Pod]]) -> str:
    """Return why waiting ended."""
    with pytest.raises(databases.ProblemError) as raised:
        wait(snapshots)
    return str(raised.value)


def test_waiting_ends_when_both_are_ready() -> None:
    seen = []

    def snapshots() -> Iterator[list[Pod]]:
        for mysql, postgres in [(False, False), (False, True), (True, True), (True, True)]:
            seen.append((mysql, postgres))
            yield [pod("mysql", ready=mysql), pod("postgres", ready=postgres)]

    wait(snapshots())

    assert seen[-1] == (True, True)
    assert len(seen) == 3


def test_the_one_that_does_not_answer_is_named() -> None:
    stuck = [[pod("mysql", running={}), pod("postgres", ready=True)]] * 40

    assert problem(stuck) == "mysql is not ready after 20 s: it runs and does not answer a query"


def test_time_without_a_node_does_not_count() -> None:
    waiting = [[pod("mysql", node=""), pod("postgres", ready=True)]] * 100
    starting = [[pod("mysql"), pod("postgres", ready=True)]] * 15

    wait([*waiting, *starting, [pod("mysql", ready=True), pod("postgres", ready=True)]])


def test_a_database_without_a_node_or_pod_is_told_when_time_is_up() -> None:
    assert "mysql: no node has room for it: 0/1 nodes" in problem([[pod("mysql", node="")]])
    assert "postgres: it has no pod: the namespace's quota may be used up" in problem([[pod("mysql", node="")]])


def test_an_ended_database_ends_the_waiting_at_once() -> None:
    killed = pod("postgres", phase="Failed", terminated={"exitCode": 137, "reason": "OOMKilled"})
    evicted = pod("postgres", phase="Failed")
    evicted["status"]["reason"] = "Evicted"

    assert problem([[pod("mysql"), killed]]) == "postgres failed: it ended with exit code 137 (OOMKilled)"
    assert problem([[pod("mysql"), evicted]]).startswith("postgres failed: Evicted, ")


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_can_never_work_ends_the_waiting_at_once(reason: str) -> None:
    broken = pod("mysql", phase="Pending", waiting={"reason": reason, "message": "why"})

    assert problem([[broken]]) == f"mysql failed: {reason}: why"


def test_an_image_that_cannot_be_pulled_may_come_later() -> None:
    pulling = pod("mysql", phase="Pending", waiting={"reason": "ImagePullBackOff", "message": "back-off"})
    both = [pod("mysql", ready=True), pod("postgres", ready=True)]

    wait([[pulling]] * 10 + [both])
    assert problem([[pulling]] * 40) == "mysql is not ready after 20 s: ImagePullBackOff: back-off"


def ask(kind: str, folder: Path, *, answer: int = 0) -> tuple[int, list[str], str]:
    """Run a template's startup probe with a client that notes its arguments and its password, and exits with the answer."""
    for program, text in {
        "mysql": f'printf "%s\\n" "$MYSQL_PWD" "$@" > {folder}/asked; exit {answer}',
        "psql": f'printf "%s\\n" "$PGPASSWORD" "$@" > {folder}/asked; exit {answer}',
        "hostname": "[ $1 = -i ] && echo 10.1.0.9",
    }.items():
        (folder / program).write_text(f"#!/bin/sh\n{text}\n")
        (folder / program).chmod(0o755)
    (container,) = TEMPLATES[kind]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (secret, *_) = databases.dependents(kind, {"metadata": {"uid": "job-uid"}}, uid=UID, password="the password")
    environment = {variable["name"]: variable["value"] for variable in container["env"]} | secret[2]["stringData"]
    done = subprocess.run(
        container["startupProbe"]["exec"]["command"],
        env={"PATH": f"{folder}:{os.environ['PATH']}", **environment},
        check=False,
    )
    password, *arguments = (folder / "asked").read_text().splitlines()
    return done.returncode, arguments, password


def test_mysql_counts_as_ready_when_root_gets_an_answer_from_its_database_over_tcp(tmp_path: Path) -> None:
    ready, arguments, password = ask("mysql", tmp_path)

    assert (ready, password) == (0, "the password")
    assert arguments == ["--protocol=tcp", "-h", "127.0.0.1", "-u", "root", "-N", "-e", "SELECT 1", "striv_test"]
    assert ask("mysql", tmp_path, answer=1)[0] != 0


def test_postgres_counts_as_ready_when_striv_gets_an_answer_from_its_database_over_tcp(tmp_path: Path) -> None:
    ready, arguments, password = ask("postgres", tmp_path)

    # An address, since without one psql takes the socket; the pod's, since the image asks no password of 127.0.0.1.
    assert (ready, password) == (0, "the password")
    assert arguments == ["-w", "-h", "10.1.0.9", "-U", "striv", "-d", "striv", "-tAc", "SELECT 1"]
    assert ask("postgres", tmp_path, answer=2)[0] != 0


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_a_database_is_ready_when_it_has_answered_and_by_nothing_else(kind: str) -> None:
    (container,) = TEMPLATES[kind]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]

    assert [name for name in container if name.endswith("Probe")] == ["startupProbe"]
    assert list(container["startupProbe"]["exec"]) == ["command"]
    assert container["startupProbe"].get("successThreshold", 1) == 1


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_a_job_is_its_template_with_name_owner_label_and_secret(kind: str) -> None:
    template = TEMPLATES[kind]
    before = json.dumps(template)

    job = databases.job_manifest(kind, template, run="striv-1", uid=UID)

    assert job["metadata"]["name"] == f"{kind}-{UID}"
    assert [owner["kind"] for owner in job["metadata"]["ownerReferences"]] == ["PipelineRun"]
    assert job["spec"]["template"]["metadata"]["labels"]["striv-receiver.dev/pipeline-run-uid"] == UID
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container.pop("envFrom") == [{"secretRef": {"name": f"{kind}-{UID}"}}]
    job["spec"]["template"]["metadata"]["labels"].pop("striv-receiver.dev/pipeline-run-uid")
    assert job["spec"] == template["spec"]["jobTemplate"]["spec"]
    assert json.dumps(template) == before


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_all_that_belongs_to_a_job_goes_with_it(kind: str) -> None:
    made = databases.dependents(kind, {"metadata": {"uid": "job-uid"}}, uid=UID, password="x")

    assert [resource for _, resource, _ in made] == [
        "secrets",
        "services",
        "networkpolicies",
        "networkpolicies",
    ]
    for _, _, manifest in made:
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": f"{kind}-{UID}", "uid": "job-uid"}
        assert manifest["metadata"]["ownerReferences"] == [owner]
        assert len(manifest["metadata"]["name"]) <= 63
        assert manifest["metadata"]["labels"]["striv-receiver.dev/pipeline-run-uid"] == UID


def test_the_configuration_has_strivs_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_RUN_UID", UID)
    monkeypatch.setenv("DATABASE_PASSWORD", 'quote " and \\ and $(id)')
    path = tmp_path / "testing-databases.json"
    path.symlink_to(tmp_path / "elsewhere")

    conf.main(path)

    written = dict(json.loads(path.read_text()))
    assert set(written) == {"sqlite", "mysql", "postgres"}
    assert written["mysql"]["database"] == written["postgres"]["dbname"] == "striv_test"
    assert written["mysql"]["password"] == 'quote " and \\ and $(id)'
    assert written["mysql"]["host"] == f"mysql-{UID}"
    assert not (tmp_path / "elsewhere").exists()


@settings(max_examples=50, deadline=None)
@given(password=st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1))
def test_mysql_takes_any_password_for_a_string_and_nothing_else(password: str) -> None:
    (container,) = TEMPLATES["mysql"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    *shell, script, name = container["command"]
    with tempfile.TemporaryDirectory() as folder:
        script = script.replace("/var/run/mysqld/", f"{folder}/")
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "MYSQL_DATABASE": "striv_test"}
        started = Path(folder, "mysqld")
        started.write_text('#!/bin/sh\necho "$@"\n')
        started.chmod(0o755)
        done = subprocess.run(
            [*shell, script, name, *container["args"]],
            env={**environment, "MYSQL_ROOT_PASSWORD": password},
            capture_output=True,
            text=True,
            check=True,
        )
        statements = Path(folder, "init.sql").read_bytes().decode().split("\n")
    first, second = done.stdout.splitlines()
    assert first.endswith("--initialize-insecure")
    assert second.endswith(f"--init-file={folder}/init.sql")
    assert all(flag in first.split() and flag in second.split() for flag in container["args"])
    # MySQL 8.4 reference, 11.1.1: within quotes, \\ is \ and \' is '.
    quoted = re.fullmatch(r"ALTER USER 'root'@'localhost' IDENTIFIED BY '((?:[^\\']|\\.)*)';", statements[1], re.DOTALL)
    assert quoted
    assert re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL) == password


def taken_by(existing: Pod, *, status: int = 409) -> Any:
    """Return the cluster where each name is taken already, and a Job's owner can be read."""
    cluster = databases.Cluster.__new__(databases.Cluster)

    def call(method: str, _api: str, resource: str, _body: Pod | None = None) -> Pod:
        if method == "POST":
            raise databases.ApiError(status, "no")
        # All that the token may read of what a run has.
        assert resource.startswith("jobs/")
        return existing

    cluster.call = call
    return cluster


def owned_by(uid: str) -> Pod:
    """Return an object that belongs to this run, or to this Job."""
    return {"metadata": {"name": "mysql-x", "ownerReferences": [{"uid": uid}]}}


def test_a_job_that_an_earlier_attempt_made_is_used_and_another_runs_is_not() -> None:
    mine = {**owned_by("mine"), "status": {}}

    assert taken_by(mine).create("apis/batch/v1", "jobs", owned_by("mine")) is mine
    with pytest.raises(databases.ProblemError, match="mysql-x exists already and belongs to something else"):
        taken_by(owned_by("other")).create("apis/batch/v1", "jobs", owned_by("mine"))


@pytest.mark.parametrize("resource", ["secrets", "services", "networkpolicies"])
def test_what_a_job_owns_and_an_earlier_attempt_made_is_not_read(resource: str) -> None:
    wanted = owned_by("job")

    assert taken_by(owned_by("job")).create("api/v1", resource, wanted) is wanted


@pytest.mark.parametrize("resource", ["jobs", "secrets"])
def test_a_refusal_to_create_is_no_sign_of_an_earlier_attempt(resource: str) -> None:
    with pytest.raises(databases.ApiError, match="403 no"):
        taken_by(owned_by("mine"), status=403).create("api/v1", resource, owned_by("mine"))
