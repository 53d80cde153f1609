"""The two forms of the public plane, once for all tests of this folder: no two push the same. PostgreSQL as each plane has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.support.folders import trigger, write_folder
from tests.support.postgres import SERVE, WORK, Database
from tests.support.public import FlaskPlane, FrontPlane, PublicPlane
from tests.support.signing import SECRET

OTHER_SECRET = "signs for example/other only"
OLD_SECRET = "the one before the last rotation"

TRIGGERS: list[dict[str, Any]] = [
    trigger(
        on={"push": {"branches": ["**", "!private/**"], "tags": ["v*"]}},
        params={
            "revision": "head_sha",
            "branch": {"from": "branch", "default": ""},
            "title": {"from": "title", "default": ""},
        },
    ),
    trigger("docs", on={"push": {"branches": ["docs/**"]}}),
    trigger("other", repository="example/other", secrets=["other"]),
    trigger(
        "paths",
        repository="example/paths",
        on={"push": {"paths": ["src/**"]}},
        params={"files": {"from": "head_commit.added"}},
    ),
]


def _folder(folder: Path) -> Path:
    return write_folder(
        folder,
        triggers=TRIGGERS,
        secrets={"github": SECRET + "\n", "old": OLD_SECRET, "other": OTHER_SECRET},
        serve={"secrets": ["github", "old"], "body_timeout_seconds": 2},
        log={"format": "json"},
    )


@pytest.fixture(scope="session")
def flask_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskPlane]:
    """The Flask application in this process."""
    plane = FlaskPlane(_folder(tmp_path_factory.mktemp("flask")))
    yield plane
    plane.close()


@pytest.fixture(scope="session")
def front_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontPlane]:
    """`receiver serve`. Whatever the tests sent, it ends orderly, and it never met anything unforeseen."""
    plane = FrontPlane(_folder(tmp_path_factory.mktemp("front")), {})
    yield plane
    assert plane.close() == 0
    lines = plane.log()
    assert [line for line in lines if "exception" in line] == []
    text = plane.log_file.read_text(encoding="utf-8")
    assert not [secret for secret in (SECRET, OLD_SECRET, OTHER_SECRET) if secret in text]


@pytest.fixture(params=["flask", "front"])
def plane(request: pytest.FixtureRequest) -> PublicPlane:
    """Each form in turn."""
    found: PublicPlane = request.getfixturevalue(f"{request.param}_plane")
    return found


@pytest.fixture
def serve(database: Database) -> Iterator[Engine]:
    """PostgreSQL as the public plane has it."""
    with database.engine(SERVE) as engine:
        yield engine


@pytest.fixture
def work(database: Database) -> Iterator[Engine]:
    """PostgreSQL as the private plane has it."""
    with database.engine(WORK) as engine:
        yield engine
