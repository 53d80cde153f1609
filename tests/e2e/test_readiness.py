"""Tests begin when both databases answer, and no earlier."""

from datetime import datetime, timedelta

import pytest

from tests.e2e.support.cluster import Cluster, Object, eventually
from tests.e2e.support.repository import Repository
from tests.e2e.support.runs import BATCH, CORE, RUN_LABEL, Run, Runs

pytestmark = pytest.mark.e2e_full

SLOW = timedelta(seconds=25)
# Without a command of its own by the name that the image gives its start: docker-entrypoint.sh, or that of a stand-in.
STARTS_LATE = f"""
sleep {SLOW.seconds}
if [ "$1" = sh ]; then exec "$@"; fi
for program in docker-entrypoint.sh mysql-entrypoint postgres-entrypoint; do
  if command -v "$program" > /dev/null; then exec "$program" "$@"; fi
done
exit 1
"""


def start_late(template: Object) -> None:
    """Delay a database in its container, which runs meanwhile: a probe that asks for less than an answer is content."""
    (container,) = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    container["command"] = ["sh", "-c", STARTS_LATE, "sh", *container.get("command", [])]


def container_started_at(cluster: Cluster, run: Run, kind: str) -> datetime | None:
    """Return when the container of a run's database was started; None before."""
    for pod in cluster.items(f"{CORE}/pods", selector=f"{RUN_LABEL}={run.uid},app.kubernetes.io/name={kind}"):
        for container in pod["status"].get("containerStatuses", []):
            if "running" in container["state"]:
                return datetime.fromisoformat(container["state"]["running"]["startedAt"])
    return None


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_tests_begin_after_a_slow_database_answers(
    kind: str, cluster: Cluster, runs: Runs, repository: Repository
) -> None:
    commit = repository.push_commit("kubernetes")
    with cluster.changed(f"{BATCH}/cronjobs/{kind}", start_late):
        run = runs.start(revision=commit, branch="kubernetes", repository_id="1")
        started_at = eventually(
            lambda: container_started_at(cluster, run, kind), what=f"the container of {kind} runs", seconds=120
        )
        run.expect("True")

    begun_at = datetime.fromisoformat(run.taskruns()["test-backend"]["metadata"]["creationTimestamp"])
    assert begun_at >= started_at + SLOW
    assert run.backend_report()[kind]["passed"] == 4
    run.expect_clean()
