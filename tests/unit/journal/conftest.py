from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.support.journals import opened


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty journal in a file."""
    with opened(tmp_path) as engine:
        yield engine
