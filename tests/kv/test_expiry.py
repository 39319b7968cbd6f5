"""When keys expire: by the time that the log tells, and by no clock. The replies are those of Redis 7.0."""

from __future__ import annotations

import pytest

from raft_io.kv import keyspace
from raft_io.kv.batch import encode_batch, encode_transaction
from raft_io.kv.commands import LOCAL, execute, kind_of, refusal
from raft_io.kv.keyspace import Keyspace
from raft_io.kv.slots import slot_of
from raft_io.kv.store import CLOCK, KeyValueStore

NOW = 1_700_000_000_000
MAX = 2**63 - 1
NIL = b"$-1\r\n"
OK = b"+OK\r\n"
SYNTAX = b"-ERR syntax error\r\n"
INTEGER = b"-ERR value is not an integer or out of range\r\n"
NX_ALONE = b"-ERR NX and XX, GT or LT options at the same time are not compatible\r\n"
GT_OR_LT = b"-ERR GT and LT options at the same time are not compatible\r\n"


def invalid(name: str) -> bytes:
    return f"-ERR invalid expire time in '{name}' command\r\n".encode()


def at(now: int) -> Keyspace:
    space = Keyspace()
    space.advance(now)
    return space


def run(space: Keyspace, *lines: str, protocol: int = 2) -> list[bytes]:
    return [execute(space, [line.encode().split()], protocol) for line in lines]


def replies(*lines: str) -> list[bytes]:
    """The reply to each line, run one after the other at `NOW` on a store that holds `a`, `1`, for 100 s."""
    space = at(NOW)
    run(space, "SET a 1 EX 100")
    return run(space, *lines)


def number(value: int) -> bytes:
    return b":%d\r\n" % value


# What is refused, whatever the keys: it does not come into the log.


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("SET a 2 EX 0", invalid("set")),
        ("SET a 2 PX -1", invalid("set")),
        ("SET a 2 EXAT -1", invalid("set")),
        ("set a 2 pxat 0", invalid("set")),
        ("SET a 2 EX 9223372036854776", invalid("set")),
        ("SET a 2 EX x", INTEGER),
        ("SET a 2 PX 1.5", INTEGER),
        ("SET a 2 EX 9223372036854775808", INTEGER),
        ("SET a 2 EX", SYNTAX),
        ("SET a 2 EX 10 PX 10", SYNTAX),
        ("SET a 2 EXAT 10 KEEPTTL", SYNTAX),
        ("SET a 2 KEEPTTL PX 10", SYNTAX),
        ("SET a 2 PERSIST", SYNTAX),
        ("SET a 2 EX x NX XX", SYNTAX),
        ("SETEX a 0 2", invalid("setex")),
        ("SETEX a x 2", INTEGER),
        ("PSETEX a -1 2", invalid("psetex")),
        ("PSETEX a x 2", INTEGER),
        ("GETEX a EX", SYNTAX),
        ("GETEX a EX 10 PERSIST", SYNTAX),
        ("GETEX a PERSIST PX 10", SYNTAX),
        ("GETEX a NX", SYNTAX),
        ("GETEX a KEEPTTL", SYNTAX),
        ("EXPIRE a x", INTEGER),
        ("EXPIRE a 10 FOO", b"-ERR Unsupported option FOO\r\n"),
        ("EXPIRE a x FOO", b"-ERR Unsupported option FOO\r\n"),
        ("EXPIRE a 10 NX XX", NX_ALONE),
        ("EXPIRE a 10 GT NX", NX_ALONE),
        ("PEXPIRE a 10 NX LT", NX_ALONE),
        ("EXPIREAT a 10 GT LT", GT_OR_LT),
        ("PEXPIREAT a 10 XX GT LT", GT_OR_LT),
        ("EXPIRE a 9223372036854776", invalid("expire")),
        ("EXPIRE a -9223372036854776", invalid("expire")),
        ("EXPIREAT a 9223372036854776", invalid("expireat")),
        ("EXPIRE none 9223372036854776", invalid("expire")),
    ],
)
def test_faulty_arguments_stay_out_of_the_log_and_change_nothing(line: str, reply: bytes) -> None:
    args = line.encode().split()
    assert refusal(args) == reply
    assert kind_of(args) is LOCAL
    assert replies(line, "GET a", "PTTL a") == [reply, b"$1\r\n1\r\n", number(100_000)]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("SET a 2 PX 9223372036854775807", invalid("set")),
        ("SET a 2 EX 9223372036854775", invalid("set")),
        ("PSETEX a 9223372036854775807 2", invalid("psetex")),
        ("PEXPIRE a 9223372036854775807", invalid("pexpire")),
        ("EXPIRE a 9223372036854775", invalid("expire")),
        ("GETEX a EX 0", invalid("getex")),
        ("GETEX a PX x", INTEGER),
        ("GETEX a PX 9223372036854775807", invalid("getex")),
        ("GETEX none EX 0", NIL),
        ("EXPIRE none 10", b":0\r\n"),
        ("PERSIST none", b":0\r\n"),
    ],
)
def test_what_depends_on_the_key_or_the_time_is_refused_by_the_store(line: str, reply: bytes) -> None:
    assert replies(line, "GET a", "PTTL a") == [reply, b"$1\r\n1\r\n", number(100_000)]


# Setting.


@pytest.mark.parametrize(
    ("line", "when"),
    [
        ("SET a 2", None),
        ("SET a 2 EX 10", NOW + 10_000),
        ("SET a 2 px 10", NOW + 10),
        ("SET a 2 EXAT 1700000009", NOW + 9000),
        ("SET a 2 PXAT 1700000000009", NOW + 9),
        ("SET a 2 KEEPTTL", NOW + 100_000),
        ("SET a 2 KEEPTTL KEEPTTL", NOW + 100_000),
        ("SET a 2 XX EX 7", NOW + 7000),
        ("SET a 2 EX 7 EX 8", NOW + 8000),
        ("SET a 2 PXAT 9223372036854775807", MAX),
        ("SETEX a 10 2", NOW + 10_000),
        ("PSETEX a 10 2", NOW + 10),
        ("MSET a 2", None),
        ("EXPIRE a 20", NOW + 20_000),
        ("PEXPIRE a 20", NOW + 20),
        ("EXPIREAT a 1700000020", NOW + 20_000),
        ("PEXPIREAT a 1700000000020", NOW + 20),
        ("PERSIST a", None),
    ],
)
def test_when_a_key_expires_then(line: str, when: int | None) -> None:
    expected = [number(-1)] * 4
    if when is not None:
        left = when - NOW
        expected = [
            number((left + 500) // 1000),
            number(left),
            number((when + 500) // 1000),
            number(when),
        ]
    reply, *times = replies(line, "TTL a", "PTTL a", "EXPIRETIME a", "PEXPIRETIME a")
    assert reply in (OK, b":1\r\n")
    assert times == expected


def test_what_takes_a_value_away_or_keeps_it() -> None:
    assert replies("GETSET a 2", "PTTL a") == [b"$1\r\n1\r\n", number(-1)]
    assert replies("GETDEL a", "PTTL a") == [b"$1\r\n1\r\n", number(-2)]
    assert replies("INCR a", "APPEND a 0", "PTTL a") == [number(2), number(2), number(100_000)]
    assert replies("SETNX a 2", "SET a 2 NX EX 1", "PTTL a") == [number(0), NIL, number(100_000)]
    assert replies("SET a 2 GET PX 5", "PTTL a") == [b"$1\r\n1\r\n", number(5)]
    assert replies("SET b 2 KEEPTTL", "PTTL b") == [OK, number(-1)]


def test_getex() -> None:
    assert replies("GETEX a", "PTTL a") == [b"$1\r\n1\r\n", number(100_000)]
    assert replies("GETEX a PX 5", "PTTL a") == [b"$1\r\n1\r\n", number(5)]
    assert replies("GETEX a EX 5 EX 6", "PTTL a") == [b"$1\r\n1\r\n", number(6000)]
    assert replies("GETEX a EXAT 1700000005", "PTTL a") == [b"$1\r\n1\r\n", number(5000)]
    assert replies("GETEX a persist", "PTTL a") == [b"$1\r\n1\r\n", number(-1)]
    assert replies("GETEX a PXAT 1", "EXISTS a") == [b"$1\r\n1\r\n", number(0)]
    assert run(at(NOW), "GETEX none PERSIST", protocol=3) == [b"_\r\n"]


@pytest.mark.parametrize(
    ("option", "before", "seconds", "reply"),
    [
        ("NX", None, 10, 1),
        ("NX", 50, 10, 0),
        ("XX", None, 10, 0),
        ("XX", 50, 10, 1),
        ("GT", None, 10, 0),
        ("GT", 50, 50, 0),
        ("gt", 50, 51, 1),
        ("LT", None, 10, 1),
        ("LT", 50, 50, 0),
        ("lt", 50, 49, 1),
        ("XX GT", 50, 51, 1),
        ("XX LT", None, 10, 0),
        ("XX XX", 50, 10, 1),
    ],
)
def test_conditions_on_an_expiry(option: str, before: int | None, seconds: int, reply: int) -> None:
    space = at(NOW)
    run(space, "SET a 1" if before is None else f"SET a 1 EX {before}")
    assert run(space, f"EXPIRE a {seconds} {option}") == [number(reply)]
    left = seconds if reply else before
    assert run(space, "TTL a") == [number(-1 if left is None else left)]


@pytest.mark.parametrize(
    "line", ["EXPIRE a 0", "EXPIRE a -5", "PEXPIREAT a 1", f"PEXPIRE a {-MAX - 1}", "EXPIREAT a -1"]
)
def test_a_time_that_has_passed_removes_the_key(line: str) -> None:
    assert replies(line, "EXISTS a", "DBSIZE", "TTL a") == [number(1), number(0), number(0), number(-2)]


def test_a_set_with_a_time_that_has_passed_leaves_no_key() -> None:
    assert replies("SET a 2 PXAT 1", "GET a", "DBSIZE", "KEYS *") == [OK, NIL, number(0), b"*0\r\n"]


def test_what_is_left_is_rounded_as_redis_does() -> None:
    assert replies("PEXPIRE a 1499", "TTL a", "PEXPIRE a 1500", "TTL a") == [
        number(1),
        number(1),
        number(1),
        number(2),
    ]
    assert replies("PEXPIREAT a 1700000001500", "EXPIRETIME a")[1] == number(1_700_000_002)


# Time passing.


def test_a_key_is_gone_at_its_time_for_every_command() -> None:
    gone = {
        "GET a": NIL,
        "GETDEL a": NIL,
        "GETEX a PERSIST": NIL,
        "MGET a": b"*1\r\n" + NIL,
        "EXISTS a": number(0),
        "STRLEN a": number(0),
        "GETRANGE a 0 -1": b"$0\r\n\r\n",
        "TYPE a": b"+none\r\n",
        "TTL a": number(-2),
        "PEXPIRETIME a": number(-2),
        "EXPIRE a 10": number(0),
        "PERSIST a": number(0),
        "KEYS *": b"*0\r\n",
        "SCAN 0": b"*2\r\n$1\r\n0\r\n*0\r\n",
        "DBSIZE": number(0),
        "DEL a": number(0),
        "UNLINK a": number(0),
        "SET a 2 XX": NIL,
        "SET a 2 GET": NIL,
        "SET a 2 NX": OK,
        "SETNX a 2": number(1),
        "GETSET a 2": NIL,
        "MSETNX a 2 b 2": number(1),
        "INCR a": number(1),
        "APPEND a xy": number(2),
    }
    for line, reply in gone.items():
        for swept in (True, False):
            space = at(NOW)
            run(space, "SET a 1 PX 5")
            space.advance(NOW + 4)
            assert run(space, "GET a") == [b"$1\r\n1\r\n"]
            if swept:
                space.advance(NOW + 5)
            else:
                space.now = NOW + 5
            assert run(space, line) == [reply], (line, swept)
            assert run(space, "TTL a")[0] in (number(-2), number(-1)), line


def test_time_never_goes_back() -> None:
    store = KeyValueStore()
    store.advance(NOW + 10)
    store.advance(NOW)
    assert store.apply(encode_batch([[b"SET", b"a", b"1", b"PX", b"5"], [b"PEXPIRETIME", b"a"]], 2)) == (
        OK + number(NOW + 15)
    )


def test_without_a_time_what_is_relative_begins_at_the_epoch() -> None:
    assert run(Keyspace(), "SET a 1 EX 10", "PEXPIRETIME a", "GET a") == [OK, number(10_000), b"$1\r\n1\r\n"]


# Removing.


def test_one_step_of_time_removes_a_bounded_number_the_earliest_first() -> None:
    space = at(NOW)
    count = 3 * keyspace.SWEEP + 10
    for place in range(count):
        run(space, f"SET k{place} 1 PX {1 + place * 7919 % count}")
    left = count
    for step in range(4):
        space.advance(NOW + count + step)
        left = max(left - keyspace.SWEEP, 0)
        assert space.count == left
        assert space.expiring() == left
        assert len(space) == 0
        assert run(space, "DBSIZE", "KEYS *") == [number(0), b"*0\r\n"]
        first = space.next_expiry()
        assert first is None or first == NOW + 1 + count - left


def test_what_was_removed_in_one_step_is_decided_by_time_and_key_alone() -> None:
    one, other = at(NOW), at(NOW)
    keys = [f"k{place}" for place in range(2 * keyspace.SWEEP)]
    for space, order in ((one, keys), (other, keys[::-1])):
        for key in order:
            run(space, f"SET {key} 1 PX 5")
        space.advance(NOW + 5)
    kept = [
        {key for key in keys if space.holds(slot_of(key.encode()), key.encode())} for space in (one, other)
    ]
    assert kept[0] == kept[1] == set(sorted(keys)[keyspace.SWEEP :])


def test_a_key_that_is_set_anew_is_not_removed_at_its_old_time() -> None:
    for line in ("SET a 2", "PERSIST a", "EXPIRE a 1000", "GETSET a 2", "MSET a 2"):
        space = at(NOW)
        run(space, "SET a 1 PX 5", line)
        space.advance(NOW + 10)
        assert run(space, "EXISTS a") == [number(1)], line


def test_flushing_forgets_all_times() -> None:
    space = at(NOW)
    run(space, "SET a 1 PX 5", "FLUSHALL", "SET a 2")
    space.advance(NOW + 10)
    assert run(space, "GET a") == [b"$1\r\n2\r\n"]
    assert space.next_expiry() is None


# When the time is wanted.


def test_the_time_is_wanted_only_while_keys_expire() -> None:
    store = KeyValueStore()
    store.advance(NOW)
    assert store.due() is None
    store.apply(encode_batch([[b"SET", b"a", b"1"]], 2))
    assert store.due() is None
    store.apply(encode_batch([[b"SET", b"b", b"1", b"EX", b"100"]], 2))
    assert store.due() == NOW + CLOCK
    store.apply(encode_batch([[b"SET", b"c", b"1", b"PX", b"70"]], 2))
    assert store.due() == NOW + 70
    store.advance(NOW + 70)
    assert store.due() == NOW + 70 + CLOCK
    store.apply(encode_batch([[b"DEL", b"b"]], 2))
    assert store.due() is None


def test_the_time_is_wanted_at_once_while_there_is_more_to_remove() -> None:
    store = KeyValueStore()
    store.advance(NOW)
    keys = [b"%d" % place for place in range(2 * keyspace.SWEEP)]
    store.apply(encode_batch([[b"SET", key, b"1", b"PX", b"5"] for key in keys], 2))
    store.advance(NOW + 5)
    assert store.due() == NOW + 6
    store.advance(NOW + 6)
    assert store.due() is None


def test_what_was_flushed_is_freed_step_by_step() -> None:
    store = KeyValueStore()
    store.advance(NOW)
    store.apply(encode_batch([[b"SET", b"%d" % place, b"1", b"EX", b"9"] for place in range(1000)], 2))
    used = sum(slot_of(b"%d" % place) != slot_of(b"%d" % (place - 1)) for place in range(1000))
    assert used > 2 * keyspace.FREED
    store.apply(encode_batch([[b"FLUSHALL"], [b"SET", b"a", b"2"]], 2))
    steps = 0
    while (due := store.due()) is not None:
        assert due == NOW + steps + 1
        steps += 1
        store.advance(due)
    assert 2 < steps <= 1000 // keyspace.FREED + 1
    assert store.query([[b"DBSIZE"], [b"GET", b"a"]], 2) == number(1) + b"$1\r\n2\r\n"


# Watching.


def watched(*lines: str, passed: int = 0, key: bytes = b"a") -> bool:
    """Whether a transaction that watched `key` before these commands is still carried out."""
    store = KeyValueStore()
    store.advance(NOW)
    store.apply(encode_batch([[b"SET", b"a", b"1", b"EX", b"10"], [b"SET", b"other", b"1"]], 2))
    revision = store.revision()
    store.apply(encode_batch([line.encode().split() for line in lines], 2))
    if passed:
        store.advance(NOW + passed)
    reply = store.apply(
        encode_transaction([[b"SET", b"done", b"1"]], [(b"other", revision), (key, revision)], 2)
    )
    done = store.query([[b"EXISTS", b"done"]], 2) == number(1)
    assert reply == (b"*1\r\n+OK\r\n" if done else b"*-1\r\n")
    return done


@pytest.mark.parametrize(
    "line",
    [
        *(
            "SET a 1",
            "SET a 2 KEEPTTL",
            "DEL a",
            "GETDEL a",
            "APPEND a x",
            "INCR a",
            "MSET b 1 a 1",
            "SETEX a 9 1",
        ),
        *(
            "EXPIRE a 10",
            "PERSIST a",
            "GETEX a PERSIST",
            "GETEX a EX 5",
            "EXPIRE a -1",
            "FLUSHDB",
            "FLUSHALL",
        ),
        *("GETSET a 1", "UNLINK a", "SET a 1 PXAT 1"),
    ],
)
def test_what_changes_a_watched_key(line: str) -> None:
    assert not watched(line)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "SETNX a 1",
            "SET a 1 NX",
            "SET a 1 EX 0",
            "GETEX a",
            "EXPIRE a 100 NX",
            "EXPIRE a 5 GT",
            "MSETNX a 1 b 1",
        ),
        *("SET b 1", "DEL b", "GET a", "TTL a", "INCR other2", "INCRBY a x", "APPEND b x", "PERSIST other"),
    ],
)
def test_what_does_not(line: str) -> None:
    assert watched(line)


def test_a_watched_key_that_expires_has_changed() -> None:
    assert watched(passed=9_999)
    assert not watched(passed=10_000)


def test_a_watched_key_that_was_absent() -> None:
    assert watched(key=b"b")
    assert watched("DEL b", "GETDEL b", "EXPIRE b 10", "PERSIST b", "DEL a", key=b"b")
    assert not watched("SET b 1", key=b"b")
    assert not watched("SET b 1", "DEL b", key=b"b")
    assert not watched("SET b 1 PX 5", passed=5, key=b"b")
    assert not watched("FLUSHDB", key=b"b")


def test_other_keys_by_the_hundred_thousand_do_not_matter() -> None:
    store = KeyValueStore()
    store.apply(encode_batch([[b"SET", b"a", b"1"]], 2))
    revision = store.revision()
    for start in range(0, 100_000, 1000):
        store.apply(encode_batch([[b"SET", b"k%d" % n, b"1"] for n in range(start, start + 1000)], 2))
    transaction = encode_transaction([[b"INCR", b"a"]], [(b"a", revision), (b"absent", revision)], 2)
    assert store.apply(transaction) == b"*1\r\n:2\r\n"
    assert store.apply(transaction) == b"*-1\r\n"


def test_many_removals_rarely_matter_to_a_key_that_is_absent() -> None:
    store = KeyValueStore()
    revision = store.revision()
    for start in range(0, 10_000, 1000):
        names = [b"k%d" % place for place in range(start, start + 1000)]
        store.apply(
            encode_batch([[b"MSET", *[word for name in names for word in (name, b"1")]], [b"DEL", *names]], 2)
        )
    transaction = encode_transaction(
        [[b"PING"]], [(b"absent%d" % place, revision) for place in range(500)], 2
    )
    assert store.apply(transaction).startswith(b"*1\r\n")
