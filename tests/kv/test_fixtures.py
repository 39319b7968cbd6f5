"""What releases wrote, as bytes: batches, with the replies that they had, and saved states. A log or a
state that holds them must mean today what it meant then."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from raft_io.kv.batch import decode_batch, encode_batch
from raft_io.kv.commands import TABLE, execute, transact
from raft_io.kv.keyspace import Keyspace
from raft_io.kv.store import KeyValueStore

FIXTURES = Path(__file__).parent / "fixtures"


def state(name: str) -> bytes:
    return bytes.fromhex((FIXTURES / name).read_text())


def replayed(name: str) -> KeyValueStore:
    """The store after all batches of a fixture, each of which had to answer as it did then.

    A line is `time batch replies`; what `advance` was told before, `-` for nothing, and both others in hex.
    """
    store = KeyValueStore()
    for number, line in enumerate((FIXTURES / name).read_text().splitlines()):
        time, batch, replies = line.split(" ")
        if time != "-":
            store.advance(int(time))
        assert store.apply(bytes.fromhex(batch)) == bytes.fromhex(replies), f"line {number + 1}"
    return store


def contents(store: KeyValueStore) -> bytes:
    keys = [b"last", b"a", b"b", b"c", b"none"]
    return store.query([[b"DBSIZE"], [b"KEYS", b"*"], [b"MGET", *keys], *[[b"PTTL", key] for key in keys]], 3)


STATES = {1: "state-v1.hex", 2: "state-v2.hex", 3: "state-v2.hex"}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_batches_mean_what_they_meant(version: int) -> None:
    lines = (FIXTURES / f"batches-v{version}.txt").read_text().splitlines()
    batches = [decode_batch(bytes.fromhex(line.split(" ")[1])) for line in lines]
    assert {batch.version for batch in batches} == {version}
    assert contents(replayed(f"batches-v{version}.txt")) == contents(restored(STATES[version]))


def restored(name: str) -> KeyValueStore:
    store = KeyValueStore()
    store.restore(io.BytesIO(state(name)))
    return store


def test_a_state_of_version_1_is_read() -> None:
    store = restored("state-v1.hex")
    assert store.query([[b"GET", b"last"], [b"DBSIZE"], [b"TTL", b"last"]], 2) == b"$1\r\n1\r\n:1\r\n:-1\r\n"


def test_a_state_of_version_2_is_read_and_written_alike() -> None:
    store = restored("state-v2.hex")
    stream = io.BytesIO()
    store.capture()(stream)
    assert stream.getvalue() == state("state-v2.hex")


NEW = ["expire", "pexpire", "expireat", "pexpireat", "ttl", "pttl", "expiretime", "pexpiretime", "persist"]


@pytest.mark.parametrize(
    ("names", "reply"),
    [
        (["multi", "exec", "discard", "watch", "unwatch"], b"-ERR transactions are not supported yet\r\n"),
        ([*NEW, "setex", "psetex", "getex"], b"-ERR expiry is not supported yet\r\n"),
    ],
)
def test_what_version_1_refused_it_refuses_still(names: list[str], reply: bytes) -> None:
    for name in names:
        for args in ([name.encode()], [name.upper().encode(), b"a", b"1"]):
            assert execute(Keyspace(), [args], 2, 1) == reply


def test_what_version_1_did_not_know_it_does_not_know_still() -> None:
    for name in ("getset", "unlink", "flushall"):
        assert name.encode() in TABLE
        unknown = f"-ERR unknown command '{name}', with args beginning with: 'a' \r\n".encode()
        assert execute(Keyspace(), [[name.encode(), b"a"]], 2, 1) == unknown


def test_a_transaction_of_version_2_that_was_too_much_is_half_of_it_still() -> None:
    space = Keyspace()
    commands = [[b"SET", b"a", b"1"], *[[b"FLUSHDB"]] * 100, [b"SET", b"b", b"1"]]
    refused = b"-ERR too much at a time; nothing was done, send fewer commands together\r\n"
    reply = transact(space, commands, [], 2, 2)
    assert reply.startswith(b"*102\r\n+OK\r\n+OK\r\n")
    assert reply.endswith(refused)
    assert space.names() == []


def test_a_write_of_version_1_ends_the_expiry_of_its_key() -> None:
    store = KeyValueStore()
    store.advance(1000)
    store.apply(encode_batch([[b"SET", b"a", b"1", b"EX", b"10"]], 2))
    one = encode_batch([[b"SET", b"a", b"2"]], 2)
    assert store.apply(b"\x01\x02" + one[3:]) == b"+OK\r\n"
    assert store.query([[b"TTL", b"a"]], 2) == b":-1\r\n"
