"""Pushes from several senders at once, and a ledger of what each was told."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import requests

from tests.support.planes import Planes
from tests.support.pushes import encoded, seeded_push
from tests.support.signing import new_guid

STORED = (200, 202)


@dataclass
class Pushed:
    """One push: what is sent, and what came back; a status of 0 is no answer."""

    body: bytes
    guid: str
    statuses: list[int] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    @property
    def acknowledged(self) -> bool:
        """Whether an answer took the push over."""
        return any(status in STORED for status in self.statuses)


def new_push(seed: str, *, branch: str = "main") -> Pushed:
    """Return a push that has not been sent yet."""
    return Pushed(encoded(seeded_push(seed, branch=branch)), new_guid())


def send(planes: Planes, pushed: Pushed, *, anew: bool = False, timeout: float = 10) -> int:
    """Deliver a push, `anew` under another delivery id; note and return the status."""
    began = time.monotonic()
    try:
        answer = planes.push(pushed.body, new_guid() if anew else pushed.guid, timeout=timeout)
    except requests.RequestException:
        pushed.statuses.append(0)
        return 0
    pushed.seconds.append(time.monotonic() - began)
    pushed.statuses.append(answer.status_code)
    if answer.status_code in STORED:
        pushed.runs |= {run["run"] for run in answer.json()["runs"]}
    return answer.status_code


def send_all(planes: Planes, pushes: Iterable[Pushed], *, senders: int = 4) -> None:
    """Deliver pushes from several senders."""
    with ThreadPoolExecutor(senders) as pool:
        for each in [pool.submit(send, planes, pushed) for pushed in pushes]:
            each.result()


def names_of(pushes: Collection[Pushed]) -> set[str]:
    """Return the names of the runs that were promised: one for each push."""
    names = {name for pushed in pushes for name in pushed.runs}
    assert len(names) == len(pushes)
    return names


def is_listening(planes: Planes) -> bool:
    """Tell whether somebody takes connections at the public port."""
    try:
        socket.create_connection(("127.0.0.1", planes.port), timeout=1).close()
    except OSError:
        return False
    return True


class Senders:
    """Threads that push new things and redeliver old ones, as many as they are allowed; a context manager."""

    def __init__(self, planes: Planes, *, senders: int, branches: Sequence[str], seed: int) -> None:
        self._planes = planes
        self._branches = branches
        self._seed = seed
        self._allowed = threading.Semaphore(0)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"sender-{number}") for number in range(senders)
        ]
        self.pushes: list[Pushed] = []
        self.redeliveries = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._allowed.release(len(self._threads))
        for thread in self._threads:
            thread.join()

    def allow(self, deliveries: int) -> None:
        """Let the senders deliver so many times more."""
        self._allowed.release(deliveries)

    def _run(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        while True:
            self._allowed.acquire()
            while not is_listening(self._planes) and not self._stopping.wait(0.02):
                pass
            if self._stopping.is_set():
                return
            send(self._planes, self._next(number, chance), anew=chance.random() < 0.2)
            # The time itself: spread over the lives of the processes, instead of all at their beginnings.
            self._stopping.wait(chance.uniform(0.0, 0.2))

    def _next(self, number: int, chance: random.Random) -> Pushed:
        with self._lock:
            if self.pushes and chance.random() < 0.3:
                self.redeliveries += 1
                return chance.choice(self.pushes)
            seed = f"{self._seed}/{number}/{len(self.pushes)}"
            self.pushes.append(new_push(seed, branch=chance.choice(self._branches)))
            return self.pushes[-1]
