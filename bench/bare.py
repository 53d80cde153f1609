"""The HTTP server alone: it reads a delivery, thinks nothing of it, and answers as many bytes as the receiver would.

`python -m bench.bare PORT`. What `receiver serve` answers per second is a share of what this does on the same machine.
"""

from __future__ import annotations

import sys
from typing import Any

import uvloop

from receiver.serve.answers import Answer
from receiver.serve.server import serve

DETAIL = "branch 'gh-readonly-queue/main/pr-1' is excluded by '!gh-readonly-queue/**' in branches"
SAID = {"delivery": "0" * 36, "result": "ignored", "reason": "branch-filtered", "detail": DETAIL}


class Bare:
    """Stands where the front stands."""

    active = 0

    def __init__(self) -> None:
        self._answer = Answer(200, "bare", SAID).written()

    async def __rsgi__(self, _scope: Any, proto: Any) -> None:
        """Answer one request."""
        await proto()
        proto.response_bytes(*self._answer)


def main() -> None:
    """Serve on the loopback until SIGTERM."""
    uvloop.run(serve(Bare(), host="127.0.0.1", port=int(sys.argv[1]), shutdown_seconds=1.0, ready=lambda: None))


if __name__ == "__main__":
    main()
