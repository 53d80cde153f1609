"""Long bodies, signed or not: they cost little memory and time, and drive no genuine push out.

STRIV_FULL=1 holds the goals themselves against what is measured; they are meant for a machine that does nothing else.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.hostile_clients.attacked import FORGED, FULL, answered, pid, push, signed
from tests.fuzz.tally import Size
from tests.support.deliveries import LIMIT
from tests.support.http import Delivery, connect, read_answer
from tests.support.planes import Planes
from tests.support.pushes import as_form, commit, encoded, object_id, push_payload
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance


def big_push(size: int, *, ref: str = "refs/heads/master") -> bytes:
    """Return a push of about so many bytes, as many commits make it."""
    one = commit(object_id(), modified=[f"src/some/folder/file-{number}.py" for number in range(50)])
    body = encoded(push_payload(ref=ref, commits=[one] * ((size - 5_000) // (len(encoded(one)) + 1))))
    assert size * 0.9 < len(body) <= size
    return body


def peak(process: int) -> float:
    """Return the most memory that a process ever had, in MB."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+)", text)
    assert found
    return int(found[1]) / 1_024


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
@pytest.mark.parametrize("megabytes", [25, 300])
def test_a_refused_client_reads_its_whole_answer_however_much_it_sends(
    planes: Planes, megabytes: int, chunked: bool
) -> None:
    piece = b"x" * 2**20
    answered(planes, Delivery(piece * 5))
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {megabytes * len(piece)}"
    with connect(planes.port, timeout_seconds=60) as connection:
        connection.sendall(f"POST /webhook HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        before = Size.of(pid(planes)).memory
        for _ in range(megabytes):
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        grown = Size.of(pid(planes)).memory - before
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        answer = read_answer(connection)
        assert (answer.status, connection.recv(1)) == (413 if megabytes > 25 and not chunked else 401, b"")
        assert answer.json["error"]
    print(f"\n{megabytes} MB unsigned: +{grown:.2f} MB")  # noqa: T201 - a figure for docs/servers.md
    assert grown < 1.0


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    """Bodies just below the limit."""
    return {"json": big_push(LIMIT), "form": as_form(big_push(LIMIT // 2))}


@pytest.mark.parametrize("kind", ["json", "form"])
def test_a_signed_push_of_25_megabytes_costs_little_memory_and_time(
    planes: Planes, bodies: dict[str, bytes], kind: str
) -> None:
    content = {"json": "application/json", "form": "application/x-www-form-urlencoded"}[kind]
    delivery = signed(bodies[kind], ("Content-Type", content))
    answered(planes, push())
    before = Size.of(pid(planes)).memory
    times = []
    for _ in range(5):
        status, seconds = answered(planes, delivery)
        assert status == 202
        times.append(seconds)
    high = peak(pid(planes))
    took = f"{min(times) * 1e3:.0f} to {max(times) * 1e3:.0f} ms"
    print(f"\n{kind} of {len(delivery.body) / 1e6:.0f} MB: +{high - before:.0f} MB, {took}")  # noqa: T201 - for whoever reads the run
    assert high - before < 60
    # The goal is 250 ms, each time, on a quiet machine.
    assert max(times) < 0.25 if FULL else min(times) < 1.0


def test_refused_bodies_leave_nothing_behind(planes: Planes) -> None:
    forged = Delivery(b"x" * 8_000_000, push().headers)
    answered(planes, forged)
    before = Size.of(pid(planes)).memory
    for _ in range(30):
        assert answered(planes, forged)[0] == 401
    assert Size.of(pid(planes)).memory - before < 20


def test_bodies_that_stall_share_a_bounded_room_and_leave_it_to_those_that_flow(planes: Planes) -> None:
    head = f"POST /webhook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: {FORGED}\r\nContent-Length: {LIMIT}\r\n\r\n"
    piece = b"x" * (20 * 2**20)
    answered(planes, push())
    before = Size.of(pid(planes)).memory
    with ExitStack() as stack:
        for _ in range(15):
            connection = stack.enter_context(connect(planes.port))
            connection.sendall(head.encode() + piece)
        assert answered(planes, push())[0] == 202
        assert answered(planes, signed(big_push(LIMIT)))[0] == 202
        # 64 MB is the room of all bodies; what is not read yet waits in the kernel.
        assert peak(pid(planes)) - before < 64 + 40
        # The one that waited longest was told so.
        assert b'"crowded"' in connection_text(stack, planes, head.encode() + piece)


def test_big_forged_bodies_that_end_together_drive_no_genuine_push_out(planes: Planes) -> None:
    """All but their last bytes can be sent at leisure, so this costs nothing to try again and again."""
    answered(planes, push())
    before = Size.of(pid(planes)).memory
    with ExitStack() as stack:
        genuine = [(stack.enter_context(connect(planes.port)), push().raw()) for _ in range(40)]
        forged = [stack.enter_context(connect(planes.port)) for _ in range(3)]
        for connection, size in zip(forged, (LIMIT, LIMIT, 64 * 2**20 - 2 * LIMIT - 1_000), strict=True):
            connection.sendall(Delivery(headers=push().headers, length=str(size)).head() + bytes(size - 1))
        wait_until(lambda: Size.of(pid(planes)).memory - before > 55, what="all of the room to be taken")
        for connection in forged:
            connection.sendall(b"x")
        for connection, content in genuine:
            connection.sendall(content)
        assert {read_answer(connection).status for connection, _ in genuine} == {202}
        assert {read_answer(connection).status for connection in forged} == {401}


def connection_text(stack: ExitStack, planes: Planes, content: bytes) -> bytes:
    """Send the same thing until the first of them has to give way; return what that one is told."""
    first = stack.enter_context(connect(planes.port))
    first.sendall(content)
    for _ in range(4):
        stack.enter_context(connect(planes.port)).sendall(content)
    first.settimeout(10)
    return first.recv(65_536)
