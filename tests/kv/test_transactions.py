"""Transactions over real sockets: one request each, all or nothing, on whichever node a client is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import redis
from tests.kv.clients import MEBIBYTE, Client, Door, StandIn, bulk, encode, node, pipeline, run, served
from tests.server.hosts import TICK, eventually, free_ports

from raft_io import NotLeaderError, OverloadedError
from raft_io.kv.batch import decode_batch
from raft_io.kv.store import KeyValueStore
from raft_io.server import RaftServer

ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
NONE = b"*-1\r\n"


# What is refused.


def test_a_transaction_of_which_a_command_was_refused_is_not_carried_out() -> None:
    async def test() -> None:
        server = StandIn()
        async with served(server) as door:
            client = await door.connect()
            client.send("MULTI", "SET a 1", "FOO", "EXEC", "GET a")
            unknown = b"-ERR unknown command 'FOO', with args beginning with: \r\n"
            await client.expect(OK, QUEUED, unknown, ABORTED, b"$-1\r\n")
            client.send("MULTI", "SET a 1", "GET", "EXEC", "EXEC", "MULTI", "SET a 2", "EXEC")
            arity = b"-ERR wrong number of arguments for 'get' command\r\n"
            await client.expect(OK, QUEUED, arity, ABORTED, b"-ERR EXEC without MULTI\r\n", OK, QUEUED)
            await client.expect(b"*1\r\n+OK\r\n")
            assert server.taken == 2

    run(test)


def test_a_transaction_longer_than_a_command_may_be_is_refused() -> None:
    async def test() -> None:
        server = StandIn(max_command_bytes=1000)
        async with served(server) as door:
            client = await door.connect()
            client.send("MULTI", *[f"SET a {'v' * 400}"] * 3, "EXEC", "EXISTS a")
            too_long = b"-ERR a transaction is longer than 993 bytes\r\n"
            await client.expect(OK, QUEUED, QUEUED, too_long, ABORTED, b":0\r\n")
            client.send("WATCH " + "k" * 600, "MULTI", f"SET a {'v' * 400}", "EXEC", "EXISTS a")
            refused = b"-EXECABORT Transaction discarded because it is longer, with the watched keys, "
            await client.expect(OK, OK, QUEUED, refused + b"than a command may be\r\n", b":0\r\n")
            assert server.largest <= 1000

    run(test)


def test_what_a_connection_watches_is_bounded_and_what_is_not_watched_guards_nothing() -> None:
    async def test() -> None:
        server = StandIn(max_command_bytes=1000)
        async with served(server) as door:
            client = await door.connect()
            client.send(*[f"WATCH {n}{'k' * 400}" for n in range(3)], "MULTI", "SET a 1", "EXEC", "EXISTS a")
            refused = b"-ERR the watched keys are longer than a command may be\r\n"
            await client.expect(OK, OK, refused, OK, QUEUED, ABORTED, b":0\r\n")
            client.send("MULTI", "SET a 1", "EXEC")
            await client.expect(OK, QUEUED, b"*1\r\n+OK\r\n")

    run(test)


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (TimeoutError(), b"-CLUSTERDOWN no quorum answered in time\r\n"),
        (NotLeaderError(None), b"-CLUSTERDOWN no leader\r\n"),
        (OverloadedError("too much"), b"-BUSY too much\r\n"),
    ],
)
def test_after_a_watch_that_failed_no_transaction_is_carried_out(error: Exception, reply: bytes) -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            for refused in (False, True):
                client = await door.connect()
                server.refusal = error if refused else None
                client.send("WATCH a")
                if not refused:
                    await server.asked()
                    server.fail(error)
                await client.expect(reply)
                server.refusal = None
                client.send("MULTI", "SET a 1", "EXEC")
                await client.expect(OK, QUEUED, ABORTED)
                server.held = False
                for line in ("UNWATCH", "DISCARD"):
                    client.send("MULTI", line, "DISCARD", "UNWATCH", "MULTI", "GET a", "EXEC")
                    await client.expect(OK, QUEUED if line == "UNWATCH" else OK)
                    await client.expect(OK if line == "UNWATCH" else b"-ERR DISCARD without MULTI\r\n")
                    await client.expect(OK, OK, QUEUED, b"*1\r\n$-1\r\n")
                server.held = True

    run(test)


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (TimeoutError(), b"-TIMEOUT no answer in time: whether this was written is unknown\r\n"),
        (OverloadedError("too much"), b"-BUSY too much\r\n"),
    ],
)
def test_a_transaction_that_fails_has_one_reply_and_is_over(error: Exception, reply: bytes) -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client = await door.connect()
            client.send("MULTI", "SET a 1", "PING", "SET b 1", "EXEC", "EXEC", "PING")
            await client.expect(OK, QUEUED * 3)
            await server.asked()
            server.fail(error)
            await client.expect(reply, b"-ERR EXEC without MULTI\r\n+PONG\r\n")
            server.refusal = error
            client.send("MULTI", "SET a 1", "EXEC", "PING")
            await client.expect(OK, QUEUED, reply, b"+PONG\r\n")

    run(test)


def test_a_client_that_goes_away_within_a_transaction_has_done_nothing() -> None:
    async def test() -> None:
        server = StandIn()
        async with served(server) as door:
            client, other = await door.connect(), await door.connect()
            client.send("WATCH a", "MULTI", "SET a 1")
            await client.expect(OK, OK, QUEUED)
            client.vanish()
            other.send("EXISTS a")
            await other.expect(b":0\r\n")

    run(test)


# What is carried out.


def test_a_transaction_is_one_request_with_nothing_in_between() -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client, other = await door.connect(), await door.connect()
            client.send("MULTI", "SET a 1", "GET a", "INCR b", "MGET a b", "GET none", "EXEC")
            await client.expect(OK, QUEUED * 5)
            await server.asked()
            other.send("SET a 9")
            assert server.requests[0].data is not None
            assert len(decode_batch(server.requests[0].data).commands) == 5
            await eventually(lambda: len(server.requests) == 2)
            server.answer()
            await client.expect(b"*5\r\n+OK\r\n$1\r\n1\r\n:1\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n$-1\r\n")
            server.answer()
            await other.expect(OK)

    run(test)


def test_a_transaction_that_only_reads_is_a_request_for_the_log_too() -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client = await door.connect()
            client.send("MULTI", "GET a", "EXEC")
            await server.asked()
            assert server.requests[0].data is not None
            server.answer()
            await client.expect(OK, QUEUED, b"*1\r\n$-1\r\n")

    run(test)


def test_an_error_in_a_transaction_keeps_none_of_the_others_from_running() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            client = await door.connect()
            client.send("MULTI", "SET a x", "INCR a", "SET a 1 EX", "MSET b", "EXEC")
            wrong = b"-ERR wrong number of arguments for 'mset' command\r\n"
            await client.expect(OK, QUEUED * 3, wrong, ABORTED)
            client.send("MULTI", "SET a x", "INCR a", "SET a 1 EX", "MSET a b c", "SET b 1", "EXEC", "GET a")
            not_integer = b"-ERR value is not an integer or out of range\r\n"
            replies = OK + not_integer + b"-ERR syntax error\r\n" + wrong + OK
            await client.expect(OK, QUEUED * 5, b"*5\r\n", replies, b"$1\r\nx\r\n")

    run(test)


def test_commands_of_the_connection_are_answered_in_their_places() -> None:
    async def test() -> None:
        server = StandIn()
        async with served(server) as door:
            client = await door.connect()
            client.send("MULTI", "PING", "SET a 1", "ECHO hi", "MGET a b", "SELECT 0", "SELECT 5", "EXEC")
            await client.expect(OK, QUEUED * 6)
            await client.expect(b"*6\r\n+PONG\r\n+OK\r\n$2\r\nhi\r\n*2\r\n$1\r\n1\r\n$-1\r\n+OK\r\n")
            await client.expect(b"-ERR DB index is out of range\r\n")
            client.send("MULTI", "CLIENT SETNAME me", "CLIENT GETNAME", "UNWATCH", "INFO raft", "EXEC")
            await client.expect(OK, QUEUED * 4, b"*4\r\n+OK\r\n$2\r\nme\r\n+OK\r\n")
            assert (await client.reader.readline()).startswith(b"$")
            client.writer.close()
            assert server.taken == 1

    run(test)


def test_an_aborted_transaction_leaves_the_connection_as_it_was() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            client, other = await door.connect(), await door.connect()
            client.send("WATCH a")
            await client.expect(OK)
            other.send("SET a 1")
            await other.expect(OK)
            client.send("MULTI", "CLIENT SETNAME me", "SET a 2", "EXEC", "CLIENT GETNAME", "GET a")
            await client.expect(OK, QUEUED * 2, NONE, b"$-1\r\n$1\r\n1\r\n")

    run(test)


def test_an_empty_transaction() -> None:
    async def test() -> None:
        server = StandIn()
        async with served(server) as door:
            client, other = await door.connect(), await door.connect()
            client.send("MULTI", "EXEC", "MULTI", "PING", "EXEC")
            await client.expect(OK, b"*0\r\n", OK, QUEUED, b"*1\r\n+PONG\r\n")
            assert server.taken == 0
            client.send("WATCH a")
            await client.expect(OK)
            other.send("SET a 1")
            await other.expect(OK)
            client.send("MULTI", "PING", "EXEC")
            await client.expect(OK, QUEUED, NONE)

    run(test)


@pytest.mark.parametrize("end", ["DISCARD", "RESET", "QUIT"])
def test_what_ends_a_transaction_discards_it(end: str) -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            client, other = await door.connect(), await door.connect()
            client.send("WATCH a", "MULTI", "SET a 1", end)
            await client.expect(OK, OK, QUEUED, b"+RESET\r\n" if end == "RESET" else OK)
            other.send("EXISTS a", "SET a 2")
            await other.expect(b":0\r\n", OK)
            if end == "QUIT":
                assert await client.rest() == b""
                return
            client.send("EXEC", "MULTI", "GET a", "EXEC")  # what was watched no longer is
            await client.expect(b"-ERR EXEC without MULTI\r\n", OK, QUEUED, b"*1\r\n$1\r\n2\r\n")

    run(test)


def test_resp3() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            client, other = await door.connect(), await door.connect()
            client.send("HELLO 3")
            await client.expect(b"%7\r\n")
            for _ in range(25):
                await client.reader.readline()
            client.send("MULTI", "GET a", "PING", "EXEC", "WATCH a")
            await client.expect(OK, QUEUED * 2, b"*2\r\n_\r\n+PONG\r\n", OK)
            other.send("SET a 1")
            await other.expect(OK)
            client.send("MULTI", "GET a", "EXEC")
            await client.expect(OK, QUEUED, b"_\r\n")

    run(test)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_pieces_make_no_difference(size: int) -> None:
    lines = ["WATCH a", "MULTI", "SET a 1", "ECHO hi", "EXEC", "GET a", "MULTI", "FOO", "EXEC", "UNWATCH"]
    unknown = b"-ERR unknown command 'FOO', with args beginning with: \r\n"
    replies = OK * 2 + QUEUED * 2 + b"*2\r\n+OK\r\n" + bulk(b"hi") + bulk(b"1") + OK + unknown + ABORTED + OK

    async def test() -> None:
        async with served(StandIn()) as door:
            client = await door.connect()
            data = pipeline(*lines) * 2
            for place in range(0, len(data), size):
                client.writer.write(data[place : place + size])
                await asyncio.sleep(0)
            await client.expect(replies * 2)

    run(test)


def test_watching_a_key_twice_keeps_the_first_time() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            client, other = await door.connect(), await door.connect()
            for lines, reply in (([], NONE), (["UNWATCH", "WATCH a"], b"*1\r\n+OK\r\n")):
                client.send("WATCH a b")
                await client.expect(OK)
                other.send("INCR a")
                await other.reader.readline()
                client.send("WATCH a", *lines, "MULTI", "SET c 1", "EXEC")
                await client.expect(OK, *[OK] * len(lines), OK, QUEUED, reply)

    run(test)


def test_a_faulty_exec_ends_watching_too() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            client, other = await door.connect(), await door.connect()
            arity = b"wrong number of arguments for 'exec' command\r\n"
            refused = b"-EXECABORT Transaction discarded because of: " + arity
            for begin, end in ((["MULTI"], OK + refused), ([], refused)):
                client.send("WATCH a", *begin, "EXEC x")
                await client.expect(OK, end)
                other.send("SET a 1")
                await other.expect(OK)
                client.send("MULTI", "GET a", "EXEC")
                await client.expect(OK, QUEUED, b"*1\r\n$1\r\n1\r\n")

    run(test)


def test_what_is_queued_costs_bounded_memory() -> None:
    async def test() -> None:
        server = StandIn(max_command_bytes=MEBIBYTE)
        async with served(server) as door:
            client = await door.connect()
            value = b"v" * 100_000
            client.send("MULTI")
            for _ in range(100):
                client.writer.write(encode(b"SET", b"a", value))
                await client.writer.drain()
            too_long = b"-ERR a transaction is longer than %d bytes\r\n" % (MEBIBYTE - 7)
            await client.expect(OK, QUEUED * 10, too_long * 90)
            client.send("EXEC", "EXISTS a")
            await client.expect(ABORTED, b":0\r\n")

    run(test)


# Clusters.


@asynccontextmanager
async def trio(path: Path) -> AsyncIterator[list[Door]]:
    """A `RespServer` before each node of a cluster of three."""
    ports = free_ports(3)
    peers = {place: f"127.0.0.1:{port}" for place, port in enumerate(ports, 1)}
    async with AsyncExitStack() as stack:
        servers = []
        for place, address in peers.items():
            server = RaftServer(
                place,
                KeyValueStore(),
                listen=address,
                peers=peers,
                data_dir=path / str(place),
                tick_interval=TICK,
            )
            servers.append(await stack.enter_async_context(server))
        for server in servers:
            await server.wait_for_leader()
        yield [await stack.enter_async_context(served(server)) for server in servers]


def test_a_watch_on_any_node_sees_a_change_on_any_other(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as doors:
            for watcher in doors:
                for writer in doors:
                    client, other = await watcher.connect(), await writer.connect()
                    client.send("WATCH a", "GET a")
                    await client.expect(OK)
                    await client.reader.readline()
                    other.send("SET b 1", "SET a x")
                    await other.expect(OK, OK)
                    client.send("PING", "MULTI", "SET a y", "EXEC", "DEL a", "WATCH a")
                    await client.expect(b"+PONG\r\n", OK, QUEUED, NONE, b":1\r\n", OK)
                    other.send("SET b 1")
                    await other.expect(OK)
                    client.send("MULTI", "GET a", "EXEC")
                    await client.expect(OK, QUEUED, b"*1\r\n$-1\r\n")

    run(test)


def test_counting_under_contention_loses_nothing(tmp_path: Path) -> None:
    """Each client reads, adds and writes under WATCH, on all three nodes at once."""

    async def count(client: Client, times: int) -> None:
        done = 0
        while done < times:
            client.send("WATCH n")
            await client.expect(OK)
            client.send("GET n")
            head = await client.reader.readline()
            value = 0 if head == b"$-1\r\n" else int(await client.reader.readline())
            client.send("MULTI", f"SET n {value + 1}", "EXEC")
            await client.expect(OK, QUEUED)
            reply = await client.reader.readline()
            if reply == b"*1\r\n":
                await client.expect(OK)
                done += 1
            else:
                assert reply == NONE

    async def test() -> None:
        async with trio(tmp_path) as doors:
            clients = [await door.connect() for door in doors for _ in range(2)]
            await asyncio.gather(*[count(client, 10) for client in clients])
            clients[0].send("GET n")
            await clients[0].expect(b"$2\r\n60\r\n")

    run(test, seconds=60)


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_redis_package_uses_transactions_and_expiry(tmp_path: Path, protocol: int) -> None:
    def use(port: int) -> None:
        with redis.Redis(port=port, protocol=protocol, socket_timeout=10) as client:
            with client.pipeline() as pipe:
                pipe.set("a", "1").incr("a").get("none").mget("a", "none")
                assert pipe.execute() == [True, 2, None, [b"2", None]]
            with client.pipeline() as pipe:
                pipe.watch("a")
                value = int(pipe.get("a") or 0)
                client.set("a", "7")
                pipe.multi()
                pipe.set("a", value + 1)
                with pytest.raises(redis.WatchError):
                    pipe.execute()
            assert client.transaction(lambda pipe: pipe.multi() or pipe.incr("a"), "a") == [8]
            assert client.set("b", "1", ex=100) is True
            assert 90 <= client.ttl("b") <= 100
            assert client.expire("b", 200, gt=True) == 1
            assert client.getex("b", persist=True) == b"1"
            assert client.pttl("b") == -1
            assert client.set("c", "1", px=100_000) is True
            assert client.persist("c") == 1
            assert client.set("c", "2", get=True, keepttl=True) == b"1"

    async def test() -> None:
        async with node(tmp_path) as door:
            await asyncio.to_thread(use, door.address.port)

    run(test)
