"""Somebody who pushes all the time."""

import secrets
import threading
import time
from types import TracebackType
from typing import Self

from receiver.core.pipelinerun import KEY
from tests.e2e.support.cluster import eventually
from tests.e2e_receiver.installation import Answer, Installation
from tests.support.pushes import encoded, seeded_push


def new_push(branch: str = "held/one") -> bytes:
    """Return a push that there never was before; by default one whose run Tekton holds."""
    return encoded(seeded_push(secrets.token_hex(8), branch=branch))


PAUSE_SECONDS = 0.25


class Sender:
    """Sends one push after the other in a thread, for the length of a with block."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._answers: list[tuple[float, Answer]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_accepted(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._stopping.is_set():
            sent_at = time.monotonic()
            answer = self._installation.deliver(new_push())
            self._answers.append((sent_at, answer))
            # Each push leaves a PipelineRun behind, and the node may take its time to start a pod.
            self._stopping.wait(PAUSE_SECONDS)

    def wait_accepted(self, count: int, *, since: float = 0.0, seconds: float = 120) -> None:
        """Return when so many pushes have been accepted that were sent after a time (of time.monotonic)."""

        def enough() -> bool:
            assert self._thread.is_alive()
            return sum(at > since and answer.status == 202 for at, answer in self._answers) >= count

        eventually(enough, what=f"{count} accepted pushes", seconds=seconds)

    def refused(self) -> list[float]:
        """Return when the pushes were sent that were not accepted."""
        return [at for at, answer in self._answers if answer.status != 202]

    def refused_seconds(self) -> float:
        """Return the time from the first refused push to the next accepted one, hanging connections included."""
        first = min(self.refused())
        return min(at for at, answer in self._answers if answer.status == 202 and at > first) - first

    def check_promises(self) -> int:
        """Check that each accepted push has the one run that its answer named; return how many there are."""
        promised = [name for _, answer in self._answers if answer.status == 202 for name in answer.runs]
        assert len(promised) == len(set(promised))
        for name in promised:
            run = self._installation.wait_for_run(name, seconds=60)
            assert self._installation.runs_of(run["metadata"]["annotations"][KEY]) == [name]
        return len(promised)
