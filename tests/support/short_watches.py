"""`receiver` whose watches end after three seconds instead of twenty, so that a test sees the next one begin."""

from __future__ import annotations

from receiver.cli.main import main
from receiver.clients import cluster

if __name__ == "__main__":
    setattr(cluster, "_WATCH_SECONDS", 3)  # noqa: B010 - no setting: nobody needs another length
    main()
