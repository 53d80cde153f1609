"""`receiver serve` whose commits do not wait for the disk: the counter-proof of the durability test, and nothing else."""

from __future__ import annotations

import sys

from sqlalchemy import URL, Engine

from receiver.cli import database, main
from receiver.journal.engine import open_engine


def _open_volatile(url: URL, *, durable: bool = True) -> Engine:  # noqa: ARG001 - that is the point
    return open_engine(url, durable=False)


if __name__ == "__main__":
    setattr(database, "open_engine", _open_volatile)  # noqa: B010 - mypy knows the name as imported, not as ours to set
    sys.argv[1:] = ["serve"]
    main()
