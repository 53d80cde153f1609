"""A connection to PostgreSQL that waits for no answer for long.

The server ends its own statements, and the kernel notices a host that is gone. But what answers TCP and never the question (a
proxy whose server is gone, a server that hangs) would keep a plane waiting for ever: libpq has no time-out for that.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import waiting

SILENCE_SECONDS = 6.0
"""Longer than `statement_timeout`, so that a server that lives can say itself what took so long."""


class ImpatientConnection(psycopg.Connection[Any]):
    """Closes itself and raises OperationalError when nothing comes for SILENCE_SECONDS."""

    def wait(self, gen: Any, *arguments: Any, **named: Any) -> Any:
        """Wait as psycopg does, for so long only."""
        return super().wait(self._impatient(gen), *arguments, **named)

    def _impatient(self, gen: Any) -> Generator[Any, Any, Any]:
        last_word = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                # psycopg looks up now and then, and says so with READY_NONE.
                ready = yield wanted
                now = time.monotonic()
                if ready != waiting.READY_NONE:
                    last_word = now
                elif now - last_word > SILENCE_SECONDS:
                    self.close()
                    raise psycopg.OperationalError(f"the server has said nothing for {SILENCE_SECONDS:g} seconds")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value
