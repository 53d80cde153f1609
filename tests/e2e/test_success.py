"""Both kinds of Striv's branches, tested truly."""

import pytest

from tests.e2e.support.repository import Repository
from tests.e2e.support.runs import Runs

pytestmark = pytest.mark.e2e

TESTS_PER_DATABASE = 4
DRIVERS = {"sqlite", "mysql", "postgres"}


@pytest.mark.parametrize("flavour", ["kubernetes", "master"])
def test_a_commit_is_tested_against_every_database(flavour: str, runs: Runs, repository: Repository) -> None:
    commit = repository.push_commit(flavour, flavour=flavour)

    run = runs.start(revision=commit, branch=flavour, repository_id="1")

    run.expect("True")
    report = run.backend_report()
    assert {driver: tests.get("passed") for driver, tests in report.items()} == dict.fromkeys(
        DRIVERS, TESTS_PER_DATABASE
    )
    assert report["postgres"]["version"].startswith("PostgreSQL")
    assert report["mysql"]["version"][0].isdigit()
    hosts = {report["mysql"]["host"], report["postgres"]["host"]}
    services = {f"mysql-{run.uid}", f"postgres-{run.uid}"}
    assert hosts == (services if flavour == "kubernetes" else {"127.0.0.1"})
    assert run.frontend_passed() == 2
    assert run.result("checkout", "commit") == commit
    run.expect_clean()
