"""What each command answers. The replies are those of Redis 7.0 to the same commands."""

from __future__ import annotations

import shlex

import pytest

from raft_io.kv.commands import CONTROL, LOCAL, READ, TABLE, WRITE, Kind, execute, kind_of, refusal
from raft_io.kv.keyspace import Keyspace
from raft_io.kv.strings import MAX_REPLY, MAX_VALUE

NIL = b"$-1\r\n"
INTEGER = b"-ERR value is not an integer or out of range\r\n"
SYNTAX = b"-ERR syntax error\r\n"
OVERFLOW = b"-ERR increment or decrement would overflow\r\n"

MAX = "9223372036854775807"
MIN = "-9223372036854775808"


def words(line: str) -> list[bytes]:
    return [word.encode() for word in shlex.split(line)]


def run(space: Keyspace, line: str, protocol: int = 2) -> bytes:
    return execute(space, [words(line)], protocol)


def contents(space: Keyspace) -> dict[bytes, bytes | None]:
    return {key: space.get(key) for key in space.names()}


def replies(*lines: str, protocol: int = 2) -> list[bytes]:
    """The reply to each line, run one after the other on an empty store."""
    space = Keyspace()
    return [run(space, line, protocol) for line in lines]


def last(*lines: str) -> bytes:
    return replies(*lines)[-1]


# Refused commands change nothing


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_wrong_number_of_arguments_is_refused_by_name(name: bytes) -> None:
    command = TABLE[name]
    text = b"-ERR wrong number of arguments for '%b' command\r\n" % name
    if name == b"exec":
        text = b"-EXECABORT Transaction discarded because of: " + text[5:]
    wrong = [abs(command.arity) - 1] + ([command.arity + 1] if command.arity > 0 else [])
    for count in wrong:
        if count > 0:
            args = [name.upper()] + [b"1"] * (count - 1)
            assert refusal(args) == text
            assert kind_of(args) is LOCAL


@pytest.mark.parametrize(
    ("args", "reply"),
    [
        ([b"FOO"], b"-ERR unknown command 'FOO', with args beginning with: \r\n"),
        ([b"foo", b"a", b"b c"], b"-ERR unknown command 'foo', with args beginning with: 'a' 'b c' \r\n"),
        ([b""], b"-ERR unknown command '', with args beginning with: \r\n"),
        ([b"F\r\nO", b"\r\n"], b"-ERR unknown command 'F  O', with args beginning with: '  ' \r\n"),
        ([b"F\0O", b"z\0z"], b"-ERR unknown command 'F', with args beginning with: 'z' \r\n"),
        ([b"\xc3\xa9"], b"-ERR unknown command '\xc3\xa9', with args beginning with: \r\n"),
        (
            [b"x" * 300, b"y" * 100, b"z" * 100, b"last"],
            b"-ERR unknown command '%b', with args beginning with: '%b' '%b' \r\n"
            % (b"x" * 128, b"y" * 100, b"z" * 25),
        ),
        (
            [b"FOO", b"y" * 300, b"b"],
            b"-ERR unknown command 'FOO', with args beginning with: '%b' \r\n" % (b"y" * 128),
        ),
    ],
)
def test_an_unknown_command_is_quoted_within_bounds(args: list[bytes], reply: bytes) -> None:
    assert refusal(args) == reply
    assert kind_of(args) is LOCAL
    assert execute(Keyspace(), [args], 2) == reply


@pytest.mark.parametrize("name", [name for name, command in TABLE.items() if command.handler is None])
def test_the_store_carries_out_none_but_its_own_commands(name: bytes) -> None:
    command = TABLE[name]
    reply = execute(Keyspace(), [[name] + [b"0"] * (abs(command.arity) - 1)], 2)
    assert reply == b"-ERR '%b' is no command of the store\r\n" % name


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("SET a 2 FOO", SYNTAX),
        ("SET a 2 NX XX", SYNTAX),
        ("SET a 2 XX NX", SYNTAX),
        ("SET a 2 EX", SYNTAX),
        ("SET a 2 EX 10 PX 10", SYNTAX),
        ("SET a 2 KEEPTTL EX 10", SYNTAX),
        ("SET a 2 EXAT 10 KEEPTTL", SYNTAX),
        ("SET a 2 EX 10 FOO", SYNTAX),
        ("SET a 2 PERSIST", SYNTAX),
        ("MSET a 2 b", b"-ERR wrong number of arguments for 'mset' command\r\n"),
        ("msetnx b 2 c", b"-ERR wrong number of arguments for 'msetnx' command\r\n"),
        ("FLUSHDB now", SYNTAX),
        ("FLUSHDB SYNC ASYNC", SYNTAX),
    ],
)
def test_faulty_arguments_are_refused_without_the_log_and_change_nothing(line: str, reply: bytes) -> None:
    assert refusal(words(line)) == reply
    assert kind_of(words(line)) is LOCAL
    space = Keyspace()
    run(space, "SET a 1")
    assert run(space, line) == reply
    assert contents(space) == {b"a": b"1"}


@pytest.mark.parametrize(
    ("value", "line", "reply"),
    [
        ("abc", "INCR a", INTEGER),
        ("1.5", "DECR a", INTEGER),
        (" 1", "INCRBY a 1", INTEGER),
        ("007", "DECRBY a 1", INTEGER),
        ("", "INCR a", INTEGER),
        ("9223372036854775808", "INCR a", INTEGER),
        ("1", "INCRBY a abc", INTEGER),
        ("1", "INCRBY a 1.0", INTEGER),
        ("1", "INCRBY a +1", INTEGER),
        ("1", "DECRBY a 9223372036854775808", INTEGER),
        (MAX, "INCR a", OVERFLOW),
        (MIN, "DECR a", OVERFLOW),
        ("1", f"INCRBY a {MAX}", OVERFLOW),
        ("-2", f"DECRBY a {MAX}", OVERFLOW),
        ("-1", f"INCRBY a {MIN}", OVERFLOW),
        ("1", f"DECRBY a {MIN}", b"-ERR decrement would overflow\r\n"),
        ("abc", "GETRANGE a x 1", INTEGER),
        ("abc", "GETRANGE a 0 y", INTEGER),
    ],
)
def test_numbers_that_are_none_or_too_large_change_nothing(value: str, line: str, reply: bytes) -> None:
    space = Keyspace()
    run(space, f"SET a '{value}'")
    assert run(space, line) == reply
    assert run(space, "GET a") == b"$%d\r\n%b\r\n" % (len(value), value.encode())


def test_append_refuses_a_value_over_the_limit() -> None:
    space = Keyspace()
    space.put(b"a", bytes(MAX_VALUE))  # never written to, so it takes no memory
    refused = b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
    assert run(space, "APPEND a x") == refused
    assert run(space, "APPEND a ''") == b":67108864\r\n"
    assert run(space, "STRLEN a") == b":67108864\r\n"


def test_replies_beyond_the_limit_are_refused_and_their_commands_not_run() -> None:
    space = Keyspace()
    half = MAX_REPLY // 2
    space.put(b"a", b"x" * half)
    space.put(b"b", b"")
    refused = b"-ERR too much at a time; nothing was done, send fewer commands together\r\n"
    unknown = b"-ERR unknown command 'FOO', with args beginning with: \r\n"
    commands = [words(line) for line in ("GET a", "GET a", "GETDEL b", "FOO")]
    reply = execute(space, commands, 2)
    assert len(reply) == 2 * (half + 13) + len(refused) + len(unknown)
    assert reply.endswith(b"x\r\n" + refused + unknown)
    assert space.get(b"b") == b""
    assert len(run(space, "MGET a a b c")) == 4 + 2 * (half + 13) + 6 + 5
    space.put(b"b", b"y")
    assert run(space, "MGET a a b") == refused


def test_work_beyond_the_limit_is_refused_though_its_replies_are_short() -> None:
    space = Keyspace()
    space.put(b"a", b"x" * (1 << 20))
    replies = execute(space, [words("APPEND a z")] * 2000, 2).splitlines()
    done = sum(reply.startswith(b":") for reply in replies)
    assert 60 <= done <= 70
    assert run(space, "STRLEN a") == b":%d\r\n" % ((1 << 20) + done)
    assert replies[-1] == b"-ERR too much at a time; nothing was done, send fewer commands together"
    # The next batch begins anew.
    assert run(space, "APPEND a z") == b":%d\r\n" % ((1 << 20) + done + 1)
    cleared = execute(space, [words("FLUSHDB")] * 1000, 2).splitlines()
    assert 32 <= cleared.count(b"+OK") <= 128


def test_a_single_long_value_is_answered_whatever_its_length() -> None:
    space = Keyspace()
    space.put(b"a", b"x" * (MAX_REPLY + 1))
    assert len(run(space, "GET a")) == MAX_REPLY + 1 + 13
    assert len(run(space, "MGET a")) == 4 + MAX_REPLY + 1 + 13


# Strings


def test_get_and_set() -> None:
    assert replies("GET a", "SET a 1", "GET a", "set a 2", "gEt a") == [
        NIL,
        b"+OK\r\n",
        b"$1\r\n1\r\n",
        b"+OK\r\n",
        b"$1\r\n2\r\n",
    ]


@pytest.mark.parametrize(
    ("before", "options", "reply", "after"),
    [
        (None, "NX", b"+OK\r\n", b"2"),
        (b"1", "NX", NIL, b"1"),
        (None, "XX", NIL, None),
        (b"1", "xx", b"+OK\r\n", b"2"),
        (None, "GET", NIL, b"2"),
        (b"1", "GET", b"$1\r\n1\r\n", b"2"),
        (b"", "GET", b"$0\r\n\r\n", b"2"),
        (None, "NX GET", NIL, b"2"),
        (b"1", "GET NX", b"$1\r\n1\r\n", b"1"),
        (None, "XX GET", NIL, None),
        (b"1", "XX get", b"$1\r\n1\r\n", b"2"),
        (b"1", "NX NX", NIL, b"1"),
        (b"1", "GET GET", b"$1\r\n1\r\n", b"2"),
    ],
)
def test_set_with_options(before: bytes | None, options: str, reply: bytes, after: bytes | None) -> None:
    space = Keyspace()
    if before is not None:
        space.put(b"a", before)
    assert kind_of(words(f"SET a 2 {options}")) is WRITE
    assert run(space, f"SET a 2 {options}") == reply
    assert space.get(b"a") == after


def test_getdel() -> None:
    assert replies("GETDEL a", "SET a 1", "GETDEL a", "EXISTS a") == [
        NIL,
        b"+OK\r\n",
        b"$1\r\n1\r\n",
        b":0\r\n",
    ]


def test_mset_and_mget() -> None:
    assert replies("MSET a 1 b 2 a 3", "MGET a x b a") == [
        b"+OK\r\n",
        b"*4\r\n$1\r\n3\r\n$-1\r\n$1\r\n2\r\n$1\r\n3\r\n",
    ]


def test_msetnx_is_all_or_nothing() -> None:
    assert replies("MSETNX a 1 b 2", "MSETNX c 1 b 3", "MGET a b c", "MSETNX d 1 d 2", "GET d") == [
        b":1\r\n",
        b":0\r\n",
        b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n",
        b":1\r\n",
        b"$1\r\n2\r\n",
    ]


def test_setnx() -> None:
    assert replies("SETNX a 1", "SETNX a 2", "GET a") == [b":1\r\n", b":0\r\n", b"$1\r\n1\r\n"]


def test_counting() -> None:
    assert replies(
        "INCR a", "INCR a", "DECR a", "INCRBY a 10", "DECRBY a -5", "DECR b", "DECRBY c 3", "GET a"
    ) == [
        b":1\r\n",
        b":2\r\n",
        b":1\r\n",
        b":11\r\n",
        b":16\r\n",
        b":-1\r\n",
        b":-3\r\n",
        b"$2\r\n16\r\n",
    ]


def test_counting_to_the_edges() -> None:
    assert last(f"SET a {MAX}", "DECR a") == b":9223372036854775806\r\n"
    assert last(f"INCRBY a {MIN}") == b":-9223372036854775808\r\n"
    assert last(f"INCRBY a {MIN}", f"INCRBY a {MAX}") == b":-1\r\n"
    assert last(f"INCRBY a {MAX}") == b":9223372036854775807\r\n"


def test_append_and_strlen() -> None:
    assert replies(
        "STRLEN a", "APPEND a abc", "APPEND a ''", "APPEND a de", "STRLEN a", "APPEND b ''", "EXISTS b"
    ) == [
        b":0\r\n",
        b":3\r\n",
        b":3\r\n",
        b":5\r\n",
        b":5\r\n",
        b":0\r\n",
        b":1\r\n",
    ]


@pytest.mark.parametrize(
    ("start", "end", "part"),
    [
        ("0", "3", b"This"),
        ("-3", "-1", b"ing"),
        ("0", "-1", b"This is a string"),
        ("10", "100", b"string"),
        ("5", "5", b"i"),
        ("16", "20", b""),
        ("5", "3", b""),
        ("-1", "-3", b""),
        ("-100", "3", b"This"),
        ("-100", "-50", b"T"),
        ("-50", "-100", b""),
        ("0", "-100", b"T"),
        ("1", "-100", b""),
        ("-100", "-16", b"T"),
        (MIN, MAX, b"This is a string"),
    ],
)
def test_getrange(start: str, end: str, part: bytes) -> None:
    line = f"GETRANGE a {start} {end}"
    assert last("SET a 'This is a string'", line) == b"$%d\r\n%b\r\n" % (len(part), part)
    assert last(line) == b"$0\r\n\r\n"
    assert last("SET a ''", line) == b"$0\r\n\r\n"


# Keys


def test_del_exists_type_dbsize_flushdb() -> None:
    assert replies("MSET a 1 b 2 c ''", "EXISTS a b a x", "DEL a x a", "DBSIZE", "TYPE c", "TYPE a") == [
        b"+OK\r\n",
        b":3\r\n",
        b":1\r\n",
        b":2\r\n",
        b"+string\r\n",
        b"+none\r\n",
    ]
    for line in ("FLUSHDB", "flushdb async", "FLUSHDB SYNC"):
        assert replies("SET a 1", line, "DBSIZE") == [b"+OK\r\n", b"+OK\r\n", b":0\r\n"]


def test_keys() -> None:
    setup = "MSET one 1 two 2 three 3 '' 4"
    assert last(setup, "KEYS t*") == b"*2\r\n$3\r\ntwo\r\n$5\r\nthree\r\n"
    # In an order that depends on nothing but the keys.
    listed = b"*4\r\n$0\r\n\r\n$3\r\ntwo\r\n$5\r\nthree\r\n$3\r\none\r\n"
    assert last(setup, "KEYS *") == listed
    assert last("MSET '' 4 three 3 two 2 one 1", "KEYS *") == listed
    assert last(setup, "KEYS ''") == b"*1\r\n$0\r\n\r\n"
    assert last(setup, "KEYS x") == b"*0\r\n"
    assert last(f"KEYS {'a' * 16385}") == b"-ERR the pattern is longer than 16384 bytes\r\n"


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("SCAN x", b"-ERR invalid cursor\r\n"),
        ("SCAN ''", b"-ERR invalid cursor\r\n"),
        ("SCAN ' 1'", b"-ERR invalid cursor\r\n"),
        ("SCAN -1", b"-ERR invalid cursor\r\n"),
        (f"SCAN {'1' * 21}", b"-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT", SYNTAX),
        ("SCAN 0 COUNT 0", SYNTAX),
        ("SCAN 0 COUNT -1", SYNTAX),
        ("SCAN 0 COUNT x", INTEGER),
        ("SCAN 0 FOO 1", SYNTAX),
        (f"SCAN 0 MATCH {'a' * 16385}", b"-ERR the pattern is longer than 16384 bytes\r\n"),
    ],
)
def test_scan_refuses_faulty_arguments(line: str, reply: bytes) -> None:
    assert last("SET a 1", line) == reply


def test_scan() -> None:
    setup = "MSET one 1 two 2 three 3"
    assert last(setup, "SCAN 0") == b"*2\r\n$1\r\n0\r\n*3\r\n$3\r\ntwo\r\n$5\r\nthree\r\n$3\r\none\r\n"
    assert last(setup, "SCAN 0 MATCH t* COUNT 100") == b"*2\r\n$1\r\n0\r\n*2\r\n$3\r\ntwo\r\n$5\r\nthree\r\n"
    assert last(setup, "SCAN 0 match x type string") == b"*2\r\n$1\r\n0\r\n*0\r\n"
    assert last(setup, "SCAN 0 TYPE hash") == b"*2\r\n$1\r\n0\r\n*0\r\n"
    assert last(setup, "SCAN 18446744073709551615") == b"*2\r\n$1\r\n0\r\n*0\r\n"


def test_scan_goes_on_from_its_cursor() -> None:
    first = last("MSET one 1 two 2 three 3", "SCAN 0 COUNT 2")
    cursor = first.split(b"\r\n")[2].decode()
    assert first.endswith(b"*2\r\n$3\r\ntwo\r\n$5\r\nthree\r\n")
    rest = last("MSET one 1 two 2 three 3", f"SCAN {cursor} COUNT 2")
    assert rest == b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\none\r\n"


# RESP3


def test_the_null_of_resp3() -> None:
    lines = ["GET a", "SET a 1 XX", "SET a 1 XX GET", "GETDEL a", "MGET a"]
    assert replies(*lines, protocol=3) == [b"_\r\n", b"_\r\n", b"_\r\n", b"_\r\n", b"*1\r\n_\r\n"]


# Batches


def test_an_error_does_not_keep_the_others_from_running() -> None:
    space = Keyspace()
    commands = [words(line) for line in ("SET a x", "INCR a", "FOO", "GET", "PING", "SET b 1")]
    assert execute(space, commands, 2) == (
        b"+OK\r\n" + INTEGER + b"-ERR unknown command 'FOO', with args beginning with: \r\n"
        b"-ERR wrong number of arguments for 'get' command\r\n"
        b"-ERR 'ping' is no command of the store\r\n"
        b"+OK\r\n"
    )
    assert contents(space) == {b"a": b"x", b"b": b"1"}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (READ, "get mget exists strlen getrange type keys scan dbsize ttl pttl expiretime pexpiretime"),
        (WRITE, "set getdel mset msetnx setnx del incr decr incrby decrby append flushdb flushall unlink"),
        (WRITE, "setex psetex getset getex expire pexpire expireat pexpireat persist"),
        (LOCAL, "ping echo hello auth select command info client config quit reset unwatch"),
        (CONTROL, "multi exec discard watch"),
    ],
)
def test_who_carries_out_what(kind: Kind, names: str) -> None:
    for name in names.split():
        command = TABLE[name.encode()]
        args = [b"1"] * (abs(command.arity) - 1)
        assert kind_of([name.encode(), *args]) is kind
        assert kind_of([name.title().encode(), *args]) is kind
        assert command.takes(len(args) + 1)
        assert refusal([name.upper().encode(), *args]) == b""
