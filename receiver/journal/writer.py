"""Group commit: items that arrive while a transaction runs share the next one, and with it one fsync."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from receiver.errors import ConflictError, JournalError

Item = TypeVar("Item")
Result = TypeVar("Result")
_log = logging.getLogger(__name__)
_MAX_BATCH = 256
_PATIENCE_SECONDS = 0.05
_HEALTHY_SECONDS = 0.25


class Completions(Protocol):
    """How results reach whoever waits for them: a kind of future, and a way to resolve many at once."""

    def create(self) -> Any:
        """Return a new future."""

    def resolve(self, results: Sequence[tuple[Any, Any, BaseException | None]]) -> None:
        """Give each future its result or its error; called from the writer's thread."""


class ThreadCompletions:
    """Futures for threads: `submit(...).result()` waits."""

    def create(self) -> Future[Any]:
        """Return a concurrent.futures.Future."""
        return Future()

    def resolve(self, results: Sequence[tuple[Future[Any], Any, BaseException | None]]) -> None:
        """Resolve right here, in the writer's thread."""
        for future, result, error in results:
            if future.set_running_or_notify_cancel():
                _settle(future, result, error)


class LoopCompletions:
    """Futures of an event loop; a whole batch costs the loop one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def create(self) -> asyncio.Future[Any]:
        """Return a future of the loop."""
        return self._loop.create_future()

    def resolve(self, results: Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        """Resolve in the loop's thread."""
        # A batch can outlast `close`, and with it the loop; then nobody waits any more.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle_all, results)

    @staticmethod
    def _settle_all(results: Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        for future, result, error in results:
            if not future.done():
                _settle(future, result, error)


def _settle(future: Any, result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class BatchWriter(Generic[Item, Result]):
    """A thread that hands batches of items to `process` and their results back.

    `process` gets a list and returns as many results, or raises for all of them. After a JournalError the journal counts as
    away until a batch succeeds: what waited behind the failed one fails with it, and while another tries for longer than a
    healthy journal would take, `submit` refuses at once. A ConflictError fails its batch alone. More than `capacity` items
    waiting means that the journal is stuck: `submit` then raises JournalError too rather than let memory grow.
    """

    def __init__(
        self,
        process: Callable[[list[Item]], list[Result]],
        *,
        completions: Completions | None = None,
        capacity: int = 4_096,
        name: str = "journal-writer",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._completions = completions or ThreadCompletions()
        self._capacity = capacity
        self._clock = clock
        self._items: deque[tuple[Item, Any]] = deque()
        self._changed = threading.Condition()
        self._awaited = 0
        self._busy_since: float | None = None
        self._why_away = ""
        self._closed = False
        self.failing = False
        """Whether the last item was not written: refused, or its batch not committed."""
        self.written_at = -math.inf
        """When a batch was last written, by the clock."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item, *, wait: bool = True) -> Any:
        """Queue an item and return a future of its result; raises JournalError when it would not be written soon.

        With `wait=False` nobody will ask, None is returned, and the item may wait a moment for others to share its commit.
        """
        with self._changed:
            if self._closed:
                raise JournalError("the journal is closed: this process is stopping")
            if self._why_away and self._is_stuck():
                raise JournalError(self._why_away)
            if len(self._items) >= self._capacity:
                self.failing = True
                raise JournalError("the journal cannot keep up")
            future = self._completions.create() if wait else None
            self._items.append((item, future))
            self._awaited += int(wait)
            # The thread is woken for the first item, and from its patience for the first that somebody waits for.
            if len(self._items) in (1, _MAX_BATCH) or (wait and self._awaited == 1):
                self._changed.notify()
            return future

    def close(self, seconds: float | None = None) -> bool:
        """Write what is queued, then end the thread; return whether that was done within `seconds` (None: however long).

        What was not written by then fails, but for the batch in hand, of which nobody can tell. Safe to call twice.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        if not self._thread.is_alive():
            return True
        with self._changed:
            left = self._take(len(self._items))
        self._fail(left, JournalError("the journal did not answer before this process stopped"))
        return False

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                answers = self._process([item for item, _ in batch])
                results = [(future, answer, None) for (_, future), answer in zip(batch, answers, strict=True)]
            except Exception as error:  # noqa: BLE001 - whoever waits must learn of any failure; the thread has to live on
                self._fail(batch + self._failed(error), error)
            else:
                with self._changed:
                    self._busy_since = None
                    self._why_away = ""
                    self.failing = False
                    self.written_at = self._clock()
                self._resolve(results)

    def _failed(self, error: Exception) -> list[tuple[Item, Any]]:
        """Note that a batch failed; return what fails with it."""
        with self._changed:
            self._busy_since = None
            self.failing = True
            if not isinstance(error, JournalError) or isinstance(error, ConflictError):
                return []
            self._why_away = str(error)
            return self._take(len(self._items))

    def _fail(self, items: list[tuple[Item, Any]], error: Exception) -> None:
        if unasked := sum(future is None for _, future in items):
            # Nobody waits for these, so nobody else would ever say why.
            _log.warning("not written", extra={"count": unasked, "problem": str(error)})
        self._resolve([(future, None, error) for _, future in items])

    def _resolve(self, results: Sequence[tuple[Any, Any, BaseException | None]]) -> None:
        waiting = [each for each in results if each[0] is not None]
        if waiting:
            self._completions.resolve(waiting)

    def _next_batch(self) -> list[tuple[Item, Any]]:
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            self._changed.wait_for(self._is_urgent, timeout=_PATIENCE_SECONDS)
            batch = self._take(_MAX_BATCH)
            self._busy_since = self._clock()
            return batch

    def _take(self, most: int) -> list[tuple[Item, Any]]:
        """Take items from the queue; the lock has to be held."""
        taken = [self._items.popleft() for _ in range(min(len(self._items), most))]
        self._awaited -= sum(future is not None for _, future in taken)
        return taken

    def _is_stuck(self) -> bool:
        # Those who come right behind the one that finds the journal well again would be refused for nothing.
        return self._busy_since is not None and self._clock() - self._busy_since > _HEALTHY_SECONDS

    def _is_urgent(self) -> bool:
        return self._awaited > 0 or self._closed or len(self._items) >= _MAX_BATCH
