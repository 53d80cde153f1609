import collections
import json

import pytest

from striv.store import Store

from .rdbm_support import configurations

outcomes = collections.defaultdict(collections.Counter)
servers = {}


@pytest.fixture(params=configurations, ids=[driver for driver, _ in configurations])
def store(request):
    driver, arguments = request.param
    store = Store(driver, arguments)
    servers[driver] = {"version": store.version(), "host": arguments.get("host", "")}
    yield store
    store.close()


def pytest_runtest_logreport(report):
    if report.when == "call" or report.failed:
        driver = report.nodeid.partition("[")[2].partition("]")[0]
        outcomes[driver][report.outcome] += 1


def pytest_terminal_summary(terminalreporter):
    report = {driver: {**counts, **servers.get(driver, {})} for driver, counts in outcomes.items()}
    terminalreporter.write_line("STRIV-REPORT " + json.dumps(report))
