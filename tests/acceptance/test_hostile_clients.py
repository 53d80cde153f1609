"""Clients that mean no good, against the real `receiver serve`, with no proxy in front of it.

STRIV_FULL=1 holds the goals themselves against what is measured; they are meant for a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import uvloop

from bench.load import Result, load, request
from tests.fuzz.tally import Size
from tests.support.crowd import ATTACKS, MIXED, Attack, crowd
from tests.support.http import Delivery, connect, read_answer
from tests.support.planes import Planes, delivery_headers
from tests.support.pushes import as_form, commit, encoded, object_id, push_payload
from tests.support.signing import new_guid
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance
FULL = os.environ.get("STRIV_FULL") == "1"
CROWD = 300
BODY_TIMEOUT = 3.0
HEAD_TIMEOUT = 5.0
LIMIT = 25 * 1024 * 1024
LIMITED = "import os, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)); "
LIMITED += "os.execv(sys.executable, [sys.executable, '-m', 'receiver', 'serve'])"
FORGED = "sha256=" + "0" * 64


def prepared(folder: Path) -> Planes:
    changes = {"serve": {"metrics_listen": None, "body_timeout_seconds": BODY_TIMEOUT}}
    return Planes.prepare(folder / "receiver", kubeconfig=folder / "none", namespace="none", changes=changes)


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[Planes]:
    """A running public plane; whatever a test did to it, its log holds no failure."""
    planes = prepared(tmp_path)
    planes.start("serve")
    yield planes
    if planes.processes:
        assert planes.stop() == {"serve": 0}
    log = planes.log("serve")
    assert not re.search(r'Traceback|request failed|"level": "error"', log), log[-3_000:]


def pid(planes: Planes) -> int:
    return planes.processes["serve"].pid


def signed(body: bytes, *headers: tuple[str, str]) -> Delivery:
    return Delivery(body, tuple(delivery_headers(body, new_guid()).items())).with_headers(*headers)


def push() -> Delivery:
    return signed(encoded(push_payload()))


def raw_pushes(planes: Planes, number: int) -> list[bytes]:
    bodies = [encoded(push_payload(message="x" * 2_000)) for _ in range(number)]
    return [request(planes.url, delivery_headers(body, new_guid()), body) for body in bodies]


def answered(planes: Planes, delivery: Delivery) -> tuple[int, float]:
    """Send a request that has to be answered at once; return its status and the seconds that it took."""
    began = time.perf_counter()
    with connect(planes.port) as connection:
        connection.sendall(delivery.raw())
        status = read_answer(connection).status
    return status, time.perf_counter() - began


def big_push(size: int, *, ref: str = "refs/heads/master") -> bytes:
    """Return a push of about so many bytes, as many commits make it."""
    one = commit(object_id(), modified=[f"src/some/folder/file-{number}.py" for number in range(50)])
    body = encoded(push_payload(ref=ref, commits=[one] * ((size - 5_000) // (len(encoded(one)) + 1))))
    assert size * 0.9 < len(body) <= size
    return body


# -- slow ones, many ---------------------------------------------------------------------------------------------------


async def _beside(planes: Planes, attacks: tuple[Attack, ...], *, seconds: float) -> tuple[Result, Result]:
    alone = await load(planes.url, raw_pushes(planes, 100), connections=2)
    async with crowd(planes.port, attacks, size=CROWD):
        # So that those who are to be sent away for being slow are, and come back.
        await asyncio.sleep(seconds)
        beside = await load(planes.url, raw_pushes(planes, 200), connections=2)
    return alone, beside


@pytest.mark.parametrize("attacks", [*ATTACKS.values(), MIXED], ids=[*ATTACKS, "all of it"])
def test_pushes_are_answered_quickly_beside_300_clients_that(planes: Planes, attacks: tuple[Attack, ...]) -> None:
    alone, beside = uvloop.run(_beside(planes, attacks, seconds=1.0))
    print(f"\nalone:  {alone}\nbeside: {beside}\n{Size.of(pid(planes))}")  # noqa: T201 - figures for docs/servers.md
    assert alone.statuses == {202: 100}
    assert beside.statuses == {202: 200}
    # The goal is 50 ms on a quiet machine; one that is busy with other things is measured by itself.
    assert beside.p99 < (0.05 if FULL else max(0.25, 5 * alone.p99))


@contextmanager
def many_open(port: int, number: int) -> Iterator[list[socket.socket]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(number + 500, hard)), hard))
    with ExitStack() as stack:
        yield [stack.enter_context(connect(port)) for _ in range(number)]


def test_two_thousand_idle_connections_are_held_though_the_soft_limit_of_files_is_256(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    planes = prepared(tmp_path)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        planes.start("serve")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with many_open(planes.port, 2_000):
        status, seconds = answered(planes, push())
    assert status == 202
    assert seconds < HEAD_TIMEOUT / 2
    assert planes.stop() == {"serve": 0}


def test_where_files_run_short_pushes_wait_for_idle_connections_to_time_out_and_the_processor_rests(
    tmp_path: Path,
) -> None:
    planes = prepared(tmp_path)
    assert planes.command("journal", "migrate").returncode == 0
    with (planes.folder / "serve.log").open("ab") as log:
        command = [sys.executable, "-c", LIMITED, "512"]
        planes.processes["serve"] = subprocess.Popen(command, env=planes.environment, stdout=log, stderr=log)
    planes.wait_ready("serve")
    before = cpu_seconds(pid(planes))
    with many_open(planes.port, 1_000):
        # Twice as long as it should take: two waves of idle ones may have to go first on a busy machine.
        status, seconds = answered(planes, push())
        assert status == 202
        assert seconds < 4 * HEAD_TIMEOUT
    assert cpu_seconds(pid(planes)) - before < 1.0
    assert answered(planes, push())[0] == 202
    assert planes.stop() == {"serve": 0}


def cpu_seconds(process: int) -> float:
    """Return how much processor time a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.parametrize(
    "beginning",
    [b"", b"POST /webhook HTTP/1.1\r\nHost: a\r\nX-A", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"],
    ids=["says nothing", "stops in its head", "keeps its connection after an answer"],
)
def test_the_connection_is_closed_of_a_client_that(planes: Planes, beginning: bytes) -> None:
    with connect(planes.port) as connection:
        connection.sendall(beginning)
        began = time.monotonic()
        while connection.recv(65_536):
            pass
    assert HEAD_TIMEOUT - 1 < time.monotonic() - began < HEAD_TIMEOUT + 5


def drip_small(connection: socket.socket) -> None:
    connection.sendall(b"a")


def drip_crumbs(connection: socket.socket) -> None:
    connection.sendall(b"1\r\na\r\n" * 10)


@pytest.mark.parametrize(
    ("framing", "drip"),
    [
        ("Content-Length: 5000", drip_small),
        (f"Content-Length: {LIMIT}", drip_small),
        ("Transfer-Encoding: chunked", drip_crumbs),
    ],
    ids=["small", "big", "in chunks"],
)
def test_a_body_that_drips_is_answered_408_in_the_end(
    planes: Planes, framing: str, drip: Callable[[socket.socket], None]
) -> None:
    head = f"POST /webhook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: {FORGED}\r\n{framing}\r\n\r\n"
    with connect(planes.port) as connection:
        connection.sendall(head.encode())
        began = time.monotonic()
        connection.settimeout(0.02)
        while (got := _received(connection)) is None:
            drip(connection)
        seconds = time.monotonic() - began
    assert got.startswith(b"HTTP/1.1 408 "), got
    assert BODY_TIMEOUT - 0.1 < seconds < BODY_TIMEOUT + 3


def _received(connection: socket.socket) -> bytes | None:
    try:
        return connection.recv(65_536)
    except TimeoutError:
        return None


# -- long ones ---------------------------------------------------------------------------------------------------------


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


def peak(process: int) -> float:
    """Return the most memory that a process ever had, in MB."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+)", text)
    assert found
    return int(found[1]) / 1_024


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
        eventually(lambda: Size.of(pid(planes)).memory - before > 55, what="all of the room to be taken")
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


# -- odd ones ----------------------------------------------------------------------------------------------------------

HEAD = b"POST /webhook HTTP/1.1\r\nHost: a\r\n"
UNREADABLE = {
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a folded header": HEAD + b"X-A: a\r\n b\r\n\r\n",
    "a blank before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "chunked, then more": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "something like chunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "hidden chunked": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /webhook HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n",
    "a zero byte": HEAD + b"X-A: a\0b\r\n\r\n",
    "a path that is no text": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_could_be_read_in_two_ways_is_answered_400_and_ends_the_connection(planes: Planes, content: bytes) -> None:
    with connect(planes.port) as connection:
        connection.sendall(content + push().raw())
        answer = everything(connection)
    assert re.findall(rb"HTTP/1\.[01] (\d+)", answer) == [b"400"]


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes or resets the connection."""
    got = b""
    try:
        while part := connection.recv(65_536):
            got += part
    except ConnectionResetError:
        pass
    return got


def test_chunks_win_over_a_length_and_what_follows_is_not_read(planes: Planes) -> None:
    delivery = push()
    head = delivery.without("Connection").head().replace(b"Connection: close\r\n", b"")
    head = head.replace(b"Content-Length: %d" % len(delivery.body), b"Content-Length: 3\r\nTransfer-Encoding: chunked")
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(delivery.body), delivery.body)
    with connect(planes.port) as connection:
        connection.sendall(head + chunk + push().raw())
        answer = everything(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"202"]


BAD_CHUNKS = {
    "no size": b"zz\r\nabc\r\n",
    "a negative size": b"-1\r\nabc\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n",
    "a size beyond all": b"F" * 20 + b"\r\nabc\r\n",
    "an endless extension": b"3;" + b"a" * 100_000 + b"\r\nabc\r\n",
    "more than its size": b"3\r\nabcdef\r\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_bad_chunk_is_a_body_that_nobody_signed(planes: Planes, chunks: bytes) -> None:
    head = HEAD + f"X-Hub-Signature-256: {FORGED}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with connect(planes.port) as connection:
        connection.sendall(head + chunks + b"0\r\n\r\n" + push().raw())
        answer = everything(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"401"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("//webhook", 202),
        ("/%77ebhook", 202),
        ("http://other.example/webhook", 202),
        ("/webhook?x=1", 202),
        ("/webhook/", 404),
        ("/webhook%2f", 404),
        ("/WEBHOOK", 404),
        ("/./webhook", 404),
        ("/%ff%00", 404),
        ("*", 404),
    ],
)
def test_the_path_is_taken_as_it_is_written_in_all_its_forms(planes: Planes, target: str, status: int) -> None:
    delivery = push()
    delivery = Delivery(delivery.body, delivery.headers, path=target)
    assert answered(planes, delivery)[0] == status


@pytest.mark.parametrize(
    ("headers", "status"), [((("X-Long", "a" * 20_000),), 202), ((("X-Long", "a" * 100_000),), 431)]
)
def test_a_head_of_more_than_32_kilobytes_is_answered_431(
    planes: Planes, headers: tuple[tuple[str, str], ...], status: int
) -> None:
    with connect(planes.port) as connection:
        connection.sendall(push().with_headers(*headers).raw())
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_pipelined_pushes_are_answered_one_by_one_in_their_order(planes: Planes) -> None:
    deliveries = [push() for _ in range(20)]
    content = b"".join(delivery.raw().replace(b"Connection: close\r\n", b"") for delivery in deliveries[:-1])
    with connect(planes.port) as connection:
        connection.sendall(content + deliveries[-1].raw())
        answer = everything(connection).decode()
    asked = [dict(delivery.headers)["X-GitHub-Delivery"] for delivery in deliveries]
    assert re.findall(r'"delivery":"([^"]+)"', answer) == asked


# -- and the end -------------------------------------------------------------------------------------------------------


async def _stop_amid(planes: Planes) -> tuple[int, float]:
    async with crowd(planes.port, MIXED, size=CROWD):
        # The times themselves: nothing outside shows how far a server has read, or that it has heard of its end.
        await asyncio.sleep(0.5)
        delivery = push()
        reader, writer = await asyncio.open_connection("127.0.0.1", planes.port)
        raw = delivery.raw()
        writer.write(raw[:-1])
        await asyncio.sleep(0.5)
        began = time.monotonic()
        planes.signal("serve", signal.SIGTERM)
        await asyncio.sleep(0.2)
        writer.write(raw[-1:])
        status = int((await reader.read()).split(b" ", 2)[1])
        writer.close()
        code = await asyncio.to_thread(planes.processes["serve"].wait, 20)
        assert code == 0
        return status, time.monotonic() - began


def test_sigterm_amid_300_hostile_clients_answers_what_was_begun_and_ends_within_10_seconds(planes: Planes) -> None:
    status, seconds = uvloop.run(_stop_amid(planes))
    planes.processes.clear()
    assert status == 202
    assert seconds < 10
    eventually(lambda: "stopped" in planes.log("serve"), what="the last line of the log")
