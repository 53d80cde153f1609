"""Some who push all the time."""

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.e2e.support.cluster import eventually
from tests.e2e_receiver.installation import Answer, Installation
from tests.support.pushes import encoded, seeded_push

SENDERS = 4
PAUSE_SECONDS = 0.25
"""Between the pushes of one sender: each push leaves a PipelineRun behind, and the node has other things to do."""


def new_push(branch: str = "held/one") -> bytes:
    """Return a push that there never was before; by default one whose run Tekton holds."""
    return encoded(seeded_push(secrets.token_hex(8), branch=branch))


@dataclass(frozen=True)
class Sent:
    """One push and its answer, with times of time.monotonic."""

    sent_at: float
    answered_at: float
    answer: Answer

    @property
    def is_accepted(self) -> bool:
        """Tell whether the push was acknowledged; a new one is by 202 alone."""
        return self.answer.status == 202


def refused_seconds(sent: Sequence[Sent]) -> float:
    """Return how long one sender was refused, all gaps together, connections that hang included.

    A gap goes from the first refused push to the next accepted one, or to the last answer if there is none.
    """
    total, begun_at = 0.0, None
    for push in sent:
        if not push.is_accepted:
            begun_at = push.sent_at if begun_at is None else begun_at
        elif begun_at is not None:
            total, begun_at = total + push.sent_at - begun_at, None
    return total if begun_at is None else total + sent[-1].answered_at - begun_at


class Sender:
    """Sends pushes for the length of a with block: several senders, each one push after the other."""

    def __init__(self, installation: Installation, *, senders: int = SENDERS) -> None:
        self._installation = installation
        self._stopping = threading.Event()
        self._sent: list[list[Sent]] = [[] for _ in range(senders)]
        self._threads = [threading.Thread(target=self._send, args=(sent,), daemon=True) for sent in self._sent]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_accepted(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sent: list[Sent]) -> None:
        while not self._stopping.is_set():
            sent_at = time.monotonic()
            answer = self._installation.deliver(new_push())
            sent.append(Sent(sent_at, time.monotonic(), answer))
            self._stopping.wait(PAUSE_SECONDS)

    def wait_accepted(self, count: int, *, seconds: float = 120) -> None:
        """Return when each sender has had so many pushes accepted that it sent after this call."""
        since = time.monotonic()

        def enough() -> bool:
            assert all(thread.is_alive() for thread in self._threads)
            return all(sum(p.sent_at > since and p.is_accepted for p in sent) >= count for sent in self._sent)

        eventually(enough, what=f"{count} accepted pushes of each sender", seconds=seconds)

    def refused(self) -> list[Answer]:
        """Return the answers to the pushes that were not accepted; status 0 means none."""
        return [push.answer for sent in self._sent for push in sent if not push.is_accepted]

    def refused_seconds(self) -> float:
        """Return how long the sender was refused that was refused the longest."""
        return max(map(refused_seconds, self._sent))

    def summary(self) -> str:
        """Tell how much was sent and refused."""
        pushes = [push for sent in self._sent for push in sent]
        seconds = max(p.answered_at for p in pushes) - min(p.sent_at for p in pushes)
        refused = f"{len(self.refused())} refused, for {self.refused_seconds():.1f} s"
        return f"{refused}; {len(pushes)} pushes in {seconds:.0f} s by {len(self._sent)} senders"

    def check_promises(self) -> int:
        """Check that each accepted push has the one run that its answer named; return how many there are."""
        promised = [name for sent in self._sent for push in sent if push.is_accepted for name in push.answer.runs]
        assert len(promised) == len(set(promised))
        twins: list[list[str]] = []

        def all_there() -> bool:
            twins[:] = self._installation.runs().values()
            return set(promised) <= {name for names in twins for name in names}

        eventually(all_there, what=f"all {len(promised)} promised runs", seconds=120, every=2)
        assert [names for names in twins if len(names) > 1] == []
        return len(promised)
