"""`RespServer` when things go wrong: clients that break the protocol, leave or do not read, lost requests."""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.kv.clients import (
    MEBIBYTE,
    VALUE,
    Client,
    Deaf,
    StandIn,
    both_loops,
    bulk,
    encode,
    node,
    pipeline,
    run,
    served,
)
from tests.server.hosts import eventually, free_ports

from raft_io import (
    CommandError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    SessionExpiredError,
    TransferInProgressError,
)
from raft_io.kv.batch import decode_batch, encode_batch
from raft_io.kv.store import KeyValueStore
from raft_io.server import RaftServer

NO_LEADER = b"-CLUSTERDOWN no leader\r\n"
NO_QUORUM = b"-CLUSTERDOWN no quorum answered in time\r\n"
UNKNOWN = b"-TIMEOUT no answer in time: whether this was written is unknown\r\n"
TOO_LONG = b"-ERR Protocol error: a command of more than %d bytes, the most that max_command_bytes allows\r\n"


# Clients that misbehave, or leave.


@both_loops
def test_a_client_that_sends_no_more_still_gets_all_its_answers(loop: str) -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client = await door.connect()
            client.send("SET a 1")
            await server.asked()
            client.send("PING", "GET a", "NONSENSE", "INCR a", "PING")
            client.writer.write_eof()
            await asyncio.sleep(0.05)
            server.held = False
            server.answer()
            answers = await client.rest()
            assert answers.startswith(b"+OK\r\n+PONG\r\n$1\r\n1\r\n-ERR unknown command")
            assert answers.endswith(b"\r\n:2\r\n+PONG\r\n")

    run(test, loop)


def test_a_client_that_sends_no_more_and_waits_for_nothing_is_let_go() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            for sent in (b"", b"PING\r\n", b"PING\r\n*2\r\n$3\r\nGET"):
                client = await door.connect()
                client.writer.write(sent)
                client.writer.write_eof()
                assert await client.rest() == (b"+PONG\r\n" if sent else b"")

    run(test)


def test_a_half_sent_command_costs_nobody_else_anything() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            silent = [await door.connect() for _ in range(20)]
            for client in silent:
                client.writer.write(b"PING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nh")
                await client.expect(b"+PONG\r\n")
            other = await door.connect()
            for n in range(1, 21):
                other.send("INCR a")
                await other.expect(b":%d\r\n" % n)
            for client in silent:
                client.writer.write(b"i\r\n")
                await client.expect(b"$2\r\nhi\r\n")

    run(test)


@both_loops
def test_a_client_that_sends_a_value_that_is_too_long_sees_why(loop: str) -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            for size in (MEBIBYTE + 1, 20 * MEBIBYTE):
                client = await door.connect()
                client.send("SET a 1")
                client.writer.write(encode(b"SET", b"a", b"x" * size))
                await client.writer.drain()  # all of it is taken before anything is read
                assert await client.rest() == b"+OK\r\n" + TOO_LONG % (MEBIBYTE - 3)
                client.send("SET a 2")
                client.writer.close()
            other = await door.connect()
            other.send("GET a", "CLIENT LIST")
            await other.expect(b"$1\r\n1\r\n")

    run(test, loop)


def test_what_is_read_for_nothing_is_bounded() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            silent, busy = await door.connect(), await door.connect()
            for client in (silent, busy):
                client.writer.write(b"*1\r\n$99999999\r\n")
                assert await client.rest() == TOO_LONG % (MEBIBYTE - 3)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                for _ in range(200):
                    busy.writer.write(b"x" * MEBIBYTE)
                    await busy.writer.drain()
            other = await door.connect()  # the silent one still has its time

            async def connected() -> int:
                return (await other.ask("CLIENT LIST")).count(b"\n")

            assert await connected() == 2
            await asyncio.sleep(6)
            assert await connected() == 1

    run(test)


@both_loops
@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (b"*1\r\n:5\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$10000000000\r\n", TOO_LONG % (MEBIBYTE - 3)),
        (b"*99999999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"GET / HTTP/1.1\r\nHost: me\r\n\r\n", b"-ERR Protocol error: HTTP is not spoken here\r\n"),
        (b"x" * 70_000, b"-ERR Protocol error: too big inline request\r\n"),
    ],
    ids=["type", "count", "10 GB", "arguments", "http", "endless line"],
)
def test_what_is_not_resp_gets_one_error_after_the_answers(sent: bytes, refused: bytes, loop: str) -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client, other = await door.connect(), await door.connect()
            client.writer.write(pipeline("SET a 1", "PING", "GET a") + sent)
            await server.asked()
            client.writer.write(pipeline("SET a 2") * 10)  # no longer heard
            await asyncio.sleep(0.01)
            server.held = False
            server.answer()
            received = await client.rest()
            http = b"-ERR wrong number of arguments for 'get' command\r\n" if b"HTTP" in sent else b""
            assert received == b"+OK\r\n+PONG\r\n$1\r\n1\r\n" + http + refused
            other.send("GET a")
            await other.expect(b"$1\r\n1\r\n")

    run(test, loop)


@pytest.mark.parametrize(
    "leave", [Client.vanish, lambda client: client.writer.close()], ids=["reset", "close"]
)
@both_loops
def test_a_client_that_is_gone_before_its_answer(leave: Callable[[Client], None], loop: str) -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client, other = await door.connect(), await door.connect()
            client.send("SET a 1")
            await server.asked()
            client.send("SET a 2", "PING")
            await client.writer.drain()
            leave(client)
            await asyncio.sleep(0.05)
            server.held = False
            server.answer()
            other.send("STRLEN a")
            await other.expect(b":1\r\n")
            await eventually(lambda: door.resp.node.info()["Clients"]["connected_clients"] == 1)

    run(test, loop)


def test_one_client_too_many_is_told_so() -> None:
    async def test() -> None:
        async with served(StandIn(), max_clients=2) as door:
            first, second = await door.connect(), await door.connect()
            for client in (first, second):
                client.send("PING")
                await client.expect(b"+PONG\r\n")
            third = await door.connect()
            assert await third.rest() == b"-ERR max number of clients reached\r\n"
            second.send("QUIT")
            assert await second.rest() == b"+OK\r\n"
            fourth = await door.connect()
            fourth.send("PING")
            await fourth.expect(b"+PONG\r\n")

    run(test)


# Clients that do not read.


@contextlib.contextmanager
def memory_stays_below(limit: int) -> Iterator[None]:
    """What is allocated within, at its peak."""
    tracemalloc.start(1)
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


NAME = b"n" * 60_000

# What is asked again and again, and its answer. All answers together are far more than may be kept.
UNREAD = {
    "echo": (encode(b"ECHO", VALUE), bulk(VALUE)),
    "reads between local commands": (pipeline("GET big", "PING"), bulk(VALUE) + b"+PONG\r\n"),
    "local commands": (pipeline("CLIENT GETNAME"), bulk(NAME)),
}


@both_loops
@pytest.mark.parametrize("case", UNREAD)
def test_a_client_that_does_not_read_costs_bounded_memory(case: str, loop: str) -> None:
    command, reply = UNREAD[case]
    times = 500

    async def test() -> None:
        server = StandIn()
        server.machine.apply(encode_batch([[b"SET", b"big", VALUE]], 2))
        async with served(server) as door:
            other = await door.connect()
            client = Deaf()
            await client.connect(door.address)
            await client.loop.sock_sendall(client.socket, encode(b"CLIENT", b"SETNAME", NAME))
            assert await client.loop.sock_recv(client.socket, 5) == b"+OK\r\n"
            data = memoryview(command * times)
            with memory_stays_below(8 * MEBIBYTE):
                sent = await client.stalls(data)
                await asyncio.sleep(0.2)  # what was taken is carried out, or should not be
                other.send("PING")
                await other.expect(b"+PONG\r\n")
            if case == "echo":
                assert sent < len(data), "the server should have stopped reading"
            await asyncio.gather(client.finish(data[sent:]), client.check(reply, times))
            client.socket.close()

    run(test, loop)


@both_loops
def test_a_client_that_is_far_ahead_of_its_answers_is_not_read_from(loop: str) -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client = Deaf()
            await client.connect(door.address)
            times = 400
            data = memoryview(encode(b"SET", b"a", VALUE) * times)
            with memory_stays_below(8 * MEBIBYTE):
                sent = await client.stalls(data)
            assert MEBIBYTE < sent < len(data)
            server.held = False
            server.answer()
            await asyncio.gather(client.finish(data[sent:]), client.check(b"+OK\r\n", times))
            assert server.largest <= server.max_command_bytes
            client.socket.close()

    run(test, loop)


def test_what_was_not_read_yet_is_followed_by_the_error_and_the_end() -> None:
    async def test() -> None:
        server = StandIn()
        server.machine.apply(encode_batch([[b"SET", b"big", VALUE]], 2))
        async with served(server) as door:
            client = Deaf()
            await client.connect(door.address)
            await client.loop.sock_sendall(client.socket, pipeline(*["GET big", "PING"] * 200) + b"*x\r\n")
            await asyncio.sleep(0.1)
            answers = (bulk(VALUE) + b"+PONG\r\n") * 200
            await client.check(answers + b"-ERR Protocol error: invalid multibulk length\r\n", 1)
            client.socket.close()

    run(test)


# Sizes.


def test_what_is_too_long_for_one_request_is_split() -> None:
    async def test() -> None:
        server = StandIn(max_command_bytes=1000)
        async with served(server) as door:
            client = await door.connect()
            commands = [
                line for n in range(100) for line in (f"SET k{n} {'v' * n * 5}x", "INCR n", f"STRLEN k{n}")
            ]
            client.send("PING", *commands, "ECHO end")
            replies = [b"+OK\r\n:%d\r\n:%d\r\n" % (n + 1, n * 5 + 1) for n in range(100)]
            await client.expect(b"+PONG\r\n", *replies, b"$3\r\nend\r\n")
            assert server.taken > 30
            assert server.largest <= 1000

    run(test)


def test_the_longest_command_is_taken_and_a_longer_one_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path, max_command_bytes=1000) as door:
            longest = 1000 - len(encode_batch([[b"SET", b"a", b""]], 2))
            client, other = await door.connect(), await door.connect()
            client.send(
                "SET b 1", b"SET a " + b"v" * longest, "STRLEN a", b"SET a " + b"v" * (longest + 1), "PING"
            )
            answers = b"+OK\r\n+OK\r\n:%d\r\n" % longest
            assert await client.rest() == answers + TOO_LONG % (1000 - 3)
            other.send("STRLEN a", b"ECHO " + b"v" * 1001)
            assert await other.rest() == b":%d\r\n" % longest + TOO_LONG % (1000 - 3)

    run(test)


# Requests that fail.


def test_without_a_leader_the_wait_is_bounded(tmp_path: Path) -> None:
    async def test() -> None:
        peers = {2: f"127.0.0.1:{free_ports(1)[0]}"}
        server = RaftServer(
            1, KeyValueStore(), listen="127.0.0.1:0", peers=peers, data_dir=tmp_path, tick_interval=0.005
        )
        async with server, served(server, timeout=0.2) as door:
            client = await door.connect()
            for commands in (["SET a 1", "INCR a"], ["GET a"]):
                begin = time.monotonic()
                client.send(*commands)
                await client.expect(NO_LEADER * len(commands))
                assert 0.15 < time.monotonic() - begin < 5
            client.send("PING")
            await client.expect(b"+PONG\r\n")

    run(test)


def test_the_request_is_given_the_time_that_was_asked_for() -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server, timeout=2.5) as door:
            client = await door.connect()
            client.send("SET a 1")
            await server.asked()
            assert server.requests[0].deadline == 2.5

    run(test)


FAILURES = [
    (NotLeaderError(2), NO_LEADER, NO_LEADER),
    (TransferInProgressError(), NO_LEADER, NO_LEADER),
    (TimeoutError("the outcome is unknown"), UNKNOWN, NO_QUORUM),
    (OverloadedError("too much waits"), b"-BUSY too much waits\r\n", b"-BUSY too much waits\r\n"),
    (SessionExpiredError("forgotten"), b"-TIMEOUT forgotten\r\n", b"-TIMEOUT forgotten\r\n"),
    (CommandError("no\r\n+OK"), b"-ERR no  +OK\r\n", b"-ERR no  +OK\r\n"),
    (RaftError("the server stops"), b"-ERR the server stops\r\n", b"-ERR the server stops\r\n"),
]
failures = pytest.mark.parametrize(
    ("error", "write", "read"), FAILURES, ids=[type(error).__name__ for error, _, _ in FAILURES]
)


@failures
def test_each_command_of_a_request_that_fails_is_told(error: Exception, write: bytes, read: bytes) -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client = await door.connect()
            client.send("INCR a", "GET a", "SET a 1", "PING", "GET a", "GET b", "PING", "INCR a")
            await server.asked()
            server.fail(error)
            await client.expect(write * 3, b"+PONG\r\n")
            await server.asked()
            server.fail(error)
            await client.expect(read * 2, b"+PONG\r\n")
            await server.asked()
            server.answer()
            await client.expect(b":1\r\n")

    run(test)


@failures
def test_a_request_that_is_refused_at_once(error: Exception, write: bytes, read: bytes) -> None:
    async def test() -> None:
        server = StandIn()
        async with served(server) as door:
            client = await door.connect()
            server.refusal = error
            client.send("INCR a", "SET a 1", "PING", "GET a")
            await client.expect(write * 2, b"+PONG\r\n", read)
            server.refusal = None
            client.send("INCR a")
            await client.expect(b":1\r\n")

    run(test)


def test_a_part_that_fails_leaves_the_other_parts_alone() -> None:
    async def test() -> None:
        server = StandIn(held=True, max_command_bytes=1000)
        async with served(server) as door:
            client = await door.connect()
            client.send(*[f"APPEND a {'v' * 300}"] * 8)
            received = []
            for fails in (False, True, False, True):
                await server.asked()
                data = server.requests[0].data
                assert data is not None
                count = len(decode_batch(data).commands)
                before = server.machine.query([[b"STRLEN", b"a"]], 2)
                if fails:
                    server.fail(TimeoutError())
                    received += [UNKNOWN] * count
                else:
                    server.answer()
                    received += [b":%d\r\n" % (int(before[1:]) + 300 * (n + 1)) for n in range(count)]
            await client.expect(*received)
            assert len(received) == 8

    run(test)
