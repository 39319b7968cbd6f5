"""`RespServer` over real sockets: what it answers, in which order, and how it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest
import redis
from tests.kv.clients import VALUE, Client, Deaf, StandIn, both_loops, encode, node, pipeline, run, served

from raft_io.kv.batch import encode_batch
from raft_io.kv.server import RespServer
from raft_io.server import RaftServer

# Order.

MIXED = pipeline(
    "PING", "SET a 1", "GET a", "INCR a", "NONSENSE x", "GET a", "GET", "ECHO hi", "DEL a", "EXISTS a", "PING"
)
MIXED_REPLIES = (
    b"+PONG\r\n+OK\r\n$1\r\n1\r\n:2\r\n-ERR unknown command 'NONSENSE', with args beginning with: 'x' \r\n"
    b"$1\r\n2\r\n-ERR wrong number of arguments for 'get' command\r\n$2\r\nhi\r\n:1\r\n:0\r\n+PONG\r\n"
)


@both_loops
def test_what_is_pipelined_is_answered_in_order(tmp_path: Path, loop: str) -> None:
    async def test() -> None:
        async with node(tmp_path) as door:
            client = await door.connect()
            client.writer.write(MIXED * 3)
            await client.expect(MIXED_REPLIES * 3)

    run(test, loop)


def test_pieces_make_no_difference(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as door:
            client = await door.connect()
            for place in range(len(MIXED)):
                client.writer.write(MIXED[place : place + 1])
                await asyncio.sleep(0)
            await client.expect(MIXED_REPLIES)

    run(test)


def test_what_comes_while_a_request_is_under_way_waits_its_turn() -> None:
    async def test() -> None:
        server = StandIn(held=True)
        async with served(server) as door:
            client = await door.connect()
            client.send("SET a 1")
            await server.asked()
            client.send("PING", "SET a 2", "GET a")
            other = await door.connect()
            other.send("PING")
            await other.expect(b"+PONG\r\n")
            assert server.taken == 1
            server.answer()
            await client.expect(b"+OK\r\n", b"+PONG\r\n")
            assert server.taken == 2
            server.answer()
            await client.expect(b"+OK\r\n", b"$1\r\n2\r\n")

    run(test)


def test_what_a_client_sends_together_is_one_request() -> None:
    async def test() -> None:
        server = StandIn()
        async with served(server) as door:
            client = await door.connect()
            client.send("SET a 1", "GET a", *["INCR a"] * 100)
            await client.expect(b"+OK\r\n$1\r\n1\r\n", *[b":%d\r\n" % n for n in range(2, 102)])
            assert server.taken == 1

    run(test)


def test_clients_are_served_side_by_side(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as door:
            clients = [await door.connect() for _ in range(50)]

            async def count(client: Client) -> list[int]:
                seen = []
                for _ in range(4):
                    client.send(*["INCR n"] * 5)
                    for _ in range(5):
                        seen.append(int((await client.reader.readline())[1:]))
                return seen

            seen = await asyncio.gather(*[count(client) for client in clients])
            assert all(each == sorted(each) for each in seen)
            assert sorted(number for each in seen for number in each) == list(range(1, 1001))

    run(test)


# Local commands.


def test_hello_changes_what_comes_after_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as door:
            client, other = await door.connect(), await door.connect()
            client.send("GET none", "HELLO 3", "GET none", "SET a 1 GET", "HELLO 2", "GET none")
            await client.expect(b"$-1\r\n%7\r\n")
            fields = [await client.reader.readline() for _ in range(25)]
            assert b":3\r\n" in fields
            await client.expect(b"_\r\n_\r\n*14\r\n")
            fields = [await client.reader.readline() for _ in range(25)]
            assert b":2\r\n" in fields
            await client.expect(b"$-1\r\n")
            other.send("GET none")
            await other.expect(b"$-1\r\n")

    run(test)


@both_loops
def test_quit_ends_the_connection_and_what_follows_it_is_ignored(tmp_path: Path, loop: str) -> None:
    async def test() -> None:
        async with node(tmp_path) as door:
            client, other = await door.connect(), await door.connect()
            client.send("SET a 1", "QUIT", "SET a 2", "PING")
            assert await client.rest() == b"+OK\r\n+OK\r\n"
            other.send("GET a")
            await other.expect(b"$1\r\n1\r\n")

    run(test, loop)


def test_info_tells_of_the_node(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as door:
            client, _ = await door.connect(), await door.connect()
            client.send("SET a 1")
            await client.expect(b"+OK\r\n")
            lines = (await client.ask("INFO")).decode().splitlines()
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
            assert int(fields.pop("raft_commit_index")) >= int(fields.pop("raft_last_applied")) >= 2
            assert int(fields.pop("raft_term")) >= 1
            assert fields == {
                "redis_version": "7.0.0",
                "redis_mode": "standalone",
                "server_name": "raft-io",
                "connected_clients": "2",
                "maxclients": "10000",
                "role": "master",
                "connected_slaves": "0",
                "raft_id": "1",
                "raft_role": "leader",
                "raft_leader": "1",
            }

    run(test)


def test_client_list_shows_those_that_are_connected() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            clients = [await door.connect() for _ in range(3)]
            for place, client in enumerate(clients):
                client.send(f"CLIENT SETNAME c{place}")
                await client.expect(b"+OK\r\n")
            clients[1].send("QUIT")
            assert await clients[1].rest() == b"+OK\r\n"
            lines = (await clients[0].ask("CLIENT LIST")).decode().splitlines()
            rows = [dict(field.split("=", 1) for field in line.split()) for line in lines]
            assert [row["name"] for row in rows] == ["c0", "c2"]
            assert len({row["id"] for row in rows}) == 2
            for row, client in zip(rows, (clients[0], clients[2]), strict=True):
                assert row["addr"] == "{}:{}".format(*client.writer.get_extra_info("sockname"))
                assert row["laddr"] == str(door.address)

    run(test)


# Life.


@both_loops
def test_stop_ends_every_connection(loop: str) -> None:
    async def test() -> None:
        server = StandIn(held=True)
        server.machine.apply(encode_batch([[b"SET", b"big", VALUE]], 2))
        async with served(server) as door:
            idle, waiting, half = [await door.connect() for _ in range(3)]
            waiting.send("SET a 1")
            half.writer.write(b"PING\r\n*2\r\n$3\r\nG")
            await half.expect(b"+PONG\r\n")
            await server.asked()
            async with asyncio.timeout(5):
                await door.resp.stop()
            assert [await client.rest() for client in (idle, waiting, half)] == [b"", b"", b""]
            server.answer()
            assert server.requests == []
            with pytest.raises(OSError):
                await door.connect()
            await door.resp.stop()

    run(test, loop)


@both_loops
def test_stop_does_not_wait_for_those_who_do_not_read(loop: str) -> None:
    async def test() -> None:
        server = StandIn()
        async with served(server) as door:
            client = Deaf()
            await client.connect(door.address)
            await client.stalls(memoryview(encode(b"ECHO", VALUE) * 500))
            async with asyncio.timeout(5):
                await door.resp.stop()
            assert door.resp.node.info()["Clients"]["connected_clients"] == 0
            client.socket.close()

    run(test, loop)


def test_a_port_in_use() -> None:
    async def test() -> None:
        async with served(StandIn()) as door:
            second = RespServer(cast(RaftServer, StandIn()), listen=str(door.address))
            with pytest.raises(OSError):
                await second.start()
            await second.stop()
            client = await door.connect()
            client.send("PING")
            await client.expect(b"+PONG\r\n")

    run(test)


@pytest.mark.parametrize("timeout", [0, -1.0])
def test_a_timeout_that_cannot_be(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be above 0"):
        RespServer(cast(RaftServer, StandIn()), listen=0, timeout=timeout)


# A client that others wrote.


@both_loops
@pytest.mark.parametrize("protocol", [2, 3])
def test_the_redis_package_is_a_client(tmp_path: Path, protocol: int, loop: str) -> None:
    def use(port: int) -> None:
        with redis.Redis(port=port, protocol=protocol, client_name="me", socket_timeout=10) as client:
            assert client.ping()
            assert client.set("a", "1") is True
            assert client.set("a", "2", nx=True) is None
            assert client.incr("a", 4) == 5
            assert client.get("a") == b"5"
            assert client.get("none") is None
            assert client.mset({"b": b"\r\n\0", "c": ""}) is True
            assert client.mget("a", "b", "c", "d") == [b"5", b"\r\n\0", b"", None]
            assert sorted(client.scan_iter("?")) == [b"a", b"b", b"c"]
            assert client.client_getname() in ("me", b"me")  # it decodes only RESP2
            assert [each["name"] for each in client.client_list()] == ["me"]
            assert client.info("raft")["raft_role"] == "leader"
            with pytest.raises(redis.ResponseError, match="not an integer"):
                client.incr("b")
            with client.pipeline(transaction=False) as many:
                for n in range(1000):
                    many.set(f"k{n}", n).get(f"k{n}")
                many.append("b", "x").incr("b").delete("a", "none")
                results = many.execute(raise_on_error=False)
            assert results[:-3] == [result for n in range(1000) for result in (True, b"%d" % n)]
            assert results[-3] == 4 and isinstance(results[-2], redis.ResponseError) and results[-1] == 1
            assert client.dbsize() == 1002

    async def test() -> None:
        async with node(tmp_path) as door:
            await asyncio.to_thread(use, door.address.port)

    run(test, loop)
