"""The public plane that hostile clients meet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.hostile_clients.attacked import prepared
from tests.support.planes import Planes


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[Planes]:
    """A running public plane; whatever a test did to it, its log holds no failure."""
    planes = prepared(tmp_path)
    planes.start("serve")
    yield planes
    if planes.processes:
        assert planes.stop() == {"serve": 0}
    log = planes.log("serve")
    assert not re.search(r'Traceback|request failed|"level": "error"', log), log[-3_000:]
