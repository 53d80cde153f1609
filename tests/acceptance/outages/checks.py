"""What is pushed during an outage, and what has to hold after it."""

from __future__ import annotations

from tests.controlplane.api import Api
from tests.support.load import Pushed, names_of, new_push, send_all
from tests.support.planes import Planes
from tests.support.seen import job_rows, run_names, states
from tests.support.waiting import wait_until

PROMPT_SECONDS = 1.0
"""No acknowledgement may take longer, on a machine that is busy with other things too."""


def pushes(number: int) -> list[Pushed]:
    """Return so many pushes, to five branches."""
    return [new_push(str(each), branch=f"branch-{each % 5}") for each in range(number)]


def assert_acknowledged(sent: list[Pushed], *, within: float = PROMPT_SECONDS) -> None:
    """Every push was answered 202 the first time, and promptly."""
    assert {tuple(pushed.statuses) for pushed in sent} == {(202,)}
    assert max(seconds for pushed in sent for seconds in pushed.seconds) < within


def wait_created(planes: Planes, sent: list[Pushed], *, seconds: float) -> None:
    """Wait until the journal says of all jobs that their runs exist."""

    def are_created() -> bool:
        # One look: a job that ends between two of them would be counted twice.
        seen = states(planes)
        return seen["started"] + seen["finished"] == len(sent)

    wait_until(are_created, what=f"{len(sent)} runs", seconds=seconds, every=0.1)


def sent_and_started(planes: Planes, number: int) -> list[Pushed]:
    """Return so many pushes that were sent and whose runs exist."""
    sent = pushes(number)
    send_all(planes, sent)
    wait_created(planes, sent, seconds=30)
    return sent


def assert_one_run_each(planes: Planes, api: Api, namespace: str, sent: list[Pushed]) -> None:
    """Compare runs, journal and answers; an outage has used up nobody's patience."""
    assert run_names(api, namespace) == names_of(sent)
    assert {job["run_name"] for job in job_rows(planes)} == names_of(sent)
    assert {job["attempts"] for job in job_rows(planes)} == {0}
