"""The Redis protocol: requests as they arrive in pieces, and replies."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io.kv import resp
from raft_io.kv.resp import Parser, ProtocolError, split_words, to_integer

TEN_GIGABYTES = 10_000_000_000


def encoded(*args: bytes) -> bytes:
    return resp.bulks(args)


def parsed(data: bytes, **limits: int) -> tuple[list[list[bytes]], str]:
    """The commands in `data`, and the error after them."""
    parser = Parser(**limits)
    commands = parser.feed(data)
    return commands, "" if parser.error is None else str(parser.error)


# What breaks the protocol: what came before is handed over, then the error, as Redis words it.

MULTIBULK = "Protocol error: invalid multibulk length"
BULK = "Protocol error: invalid bulk length"
BIG = "Protocol error: a command of more than 1048576 bytes, the most that max_command_bytes allows"
CRLF = "Protocol error: expected CRLF after bulk string"
QUOTES = "Protocol error: unbalanced quotes in request"

VIOLATIONS = [
    (b"*x\r\n", MULTIBULK),
    (b"*\r\n", MULTIBULK),
    (b"*-\r\n", MULTIBULK),
    (b"*-0\r\n", MULTIBULK),
    (b"*+1\r\n", MULTIBULK),
    (b"* 1\r\n", MULTIBULK),
    (b"*01\r\n", MULTIBULK),
    (b"*1\n", MULTIBULK),
    (b"*1\rx", MULTIBULK),
    (b"*1048577\r\n", MULTIBULK),
    (b"*" + b"9" * 19, MULTIBULK),
    (b"*1\r\n$-1\r\n", BULK),
    (b"*1\r\n$x\r\n", BULK),
    (b"*1\r\n$\r\n", BULK),
    (b"*1\r\n$04\r\n", BULK),
    (b"*1\r\n$-0\r\n", BULK),
    (b"*1\r\n$1048577\r\n", BIG),
    (b"*1\r\n$%d\r\n" % TEN_GIGABYTES, BIG),
    (b"*1\r\n$" + b"9" * 19, BULK),
    (b"*1\r\nPING\r\n", "Protocol error: expected '$', got 'P'"),
    (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
    (b"*1\r\n\xff", "Protocol error: expected '$', got '\xff'"),
    (b"*1\r\n$4\r\nPINGxx", CRLF),
    (b"*1\r\n$4\r\nPING\rx", CRLF),
    (b"*1048576\r\n", BIG),
    (b"*1\r\n$1048569\r\n", BIG),
    (b'ECHO "a\r\n', QUOTES),
    (b"ECHO 'a\r\n", QUOTES),
    (b'ECHO "a"b\r\n', QUOTES),
    (b"ECHO 'a'b\r\n", QUOTES),
    (b'ECHO "a\\"\r\n', QUOTES),
    (b"x" * 65536, "Protocol error: too big inline request"),
    (b"x" * 65536 + b"\n", "Protocol error: too big inline request"),
    (b"POST / HTTP/1.1\r\n", "Protocol error: HTTP is not spoken here"),
    (b"host: localhost\r\n", "Protocol error: HTTP is not spoken here"),
]


@pytest.mark.parametrize(("data", "error"), VIOLATIONS, ids=lambda value: repr(value)[:40])
def test_a_violation_is_named_after_the_commands_before_it(data: bytes, error: str) -> None:
    assert parsed(encoded(b"GET", b"a") + data) == ([[b"GET", b"a"]], error)


@pytest.mark.parametrize(("data", "error"), VIOLATIONS, ids=lambda value: repr(value)[:40])
def test_a_violation_is_the_same_byte_by_byte(data: bytes, error: str) -> None:
    parser = Parser()
    for byte in data[:200]:
        assert parser.feed(bytes([byte])) == []
    parser.feed(data[200:])
    assert str(parser.error) == error


def test_after_a_violation_nothing_is_parsed_any_more() -> None:
    parser = Parser()
    parser.feed(b"*x\r\n")
    assert parser.feed(encoded(b"FLUSHDB")) == []
    assert isinstance(parser.error, ProtocolError)
    assert resp.error(f"ERR {parser.error}") == b"-ERR Protocol error: invalid multibulk length\r\n"


def test_a_huge_length_is_refused_from_its_header_alone() -> None:
    parser = Parser()
    assert parser.feed(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % TEN_GIGABYTES) == []
    assert str(parser.error) == BIG


@pytest.mark.parametrize("data", [b"*262143\r\n", b"*1\r\n$1048560\r\n", b"*1\r\n$1048560\r\nabc"])
def test_a_length_allocates_nothing(data: bytes) -> None:
    parser = Parser()
    tracemalloc.start()
    try:
        parser.feed(data)
        assert parser.error is None
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()


def test_a_long_argument_in_tiny_pieces_costs_little_memory() -> None:
    parser = Parser()
    parser.feed(b"*1\r\n$1000000\r\n")
    tracemalloc.start()
    try:
        for _ in range(100_000):
            assert parser.feed(b"x") == []
        assert tracemalloc.get_traced_memory()[1] < 250_000
    finally:
        tracemalloc.stop()
    assert parser.feed(b"x" * 900_000 + b"\r\n") == [[b"x" * 1_000_000]]


@pytest.mark.parametrize(
    ("limits", "fits", "too_much", "error"),
    [
        ({"max_bulk": 3}, encoded(b"abc"), encoded(b"abcd"), BIG.replace("1048576", "3")),
        ({"max_arguments": 2}, encoded(b"a", b"b"), encoded(b"a", b"b", b"c"), MULTIBULK),
        (
            {"max_command": 4 + 4 + 4 + 3},
            encoded(b"a", b"bc"),
            encoded(b"a", b"bcd"),
            BIG.replace("1048576", "15"),
        ),
        ({"max_command": 12}, b"*2\r\n$0\r\n\r\n$0\r\n\r\n", b"*3\r\n", BIG.replace("1048576", "12")),
        ({"max_command": 4 + 4 + 4 + 3}, b"a bc\r\n", b"a bcd\r\n", BIG.replace("1048576", "15")),
        ({"max_inline": 6}, b"PING\r\n", b"PINGS\r\n", "Protocol error: too big inline request"),
    ],
)
def test_limits_are_exact(limits: dict[str, int], fits: bytes, too_much: bytes, error: str) -> None:
    commands, none = parsed(fits, **limits)
    assert (len(commands), none) == (1, "")
    assert parsed(too_much, **limits) == ([], error)


def test_the_size_of_a_command_is_counted_anew_for_each() -> None:
    commands, error = parsed(encoded(b"abc") * 10, max_command=11)
    assert (len(commands), error) == (10, "")


# What Redis ignores


@pytest.mark.parametrize("nothing", [b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"\r\n", b"\n", b" \t \r\n"])
def test_empty_requests_are_no_commands(nothing: bytes) -> None:
    assert parsed(nothing + encoded(b"PING") + nothing) == ([[b"PING"]], "")


# Requests


def test_arguments_are_any_bytes() -> None:
    args = [b"SET", b"", b"\r\n$3\r\n\x00\xff"]
    assert parsed(encoded(*args)) == ([args], "")


def test_arrays_and_inline_commands_mix() -> None:
    data = b"PING\r\n" + encoded(b"GET", b"a") + b"get b\n" + encoded(b"GET", b"c")
    assert parsed(data)[0] == [[b"PING"], [b"GET", b"a"], [b"get", b"b"], [b"GET", b"c"]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  SET a\tb\x0b ", [b"SET", b"a", b"b"]),
        (b'ECHO "a b"', [b"ECHO", b"a b"]),
        (b"ECHO 'a b'\r", [b"ECHO", b"a b"]),
        (b"ECHO '' \"\"", [b"ECHO", b"", b""]),
        (b'ECHO a"b c"', [b"ECHO", b"ab c"]),
        (b'ECHO "\\n\\r\\t\\b\\a\\q\\"\\\\"', [b"ECHO", b'\n\r\t\x08\x07q"\\']),
        (b'ECHO "\\x41\\xfF\\x4\\xzz"', [b"ECHO", b"A\xffx4xzz"]),
        (b"ECHO 'it\\'s \\n'", [b"ECHO", b"it's \\n"]),
        (b"ECHO a\\nb", [b"ECHO", b"a\\nb"]),
    ],
)
def test_words_of_an_inline_command(line: bytes, words: list[bytes]) -> None:
    assert split_words(line) == words


def test_buffered_counts_what_is_not_complete() -> None:
    parser = Parser()
    parser.feed(encoded(b"PING"))
    assert parser.buffered == 0
    parser.feed(b"*2\r\n$3\r\nGET\r\n$100\r\n" + b"x" * 50)
    assert 50 < parser.buffered < 80
    parser.feed(b"x" * 50 + b"\r\n")
    assert parser.buffered == 0


COMMANDS = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[edges[i] : edges[i + 1]] for i in range(len(edges) - 1)]


@given(COMMANDS, st.lists(st.integers(0, 1000), max_size=20))
def test_the_pieces_make_no_difference(commands: list[list[bytes]], places: list[int]) -> None:
    parser = Parser()
    got: list[list[bytes]] = []
    for piece in cut(b"".join([encoded(*args) for args in commands]), places):
        got += parser.feed(piece)
    assert got == commands
    assert parser.error is None
    assert parser.buffered == 0


GARBAGE = st.lists(
    st.one_of(
        st.sampled_from(
            [b"*", b"$", b"\r", b"\n", b"\r\n", b"-1", b"0", b"1", b"3", b'"', b"'", b"\\", b"GET "]
        ),
        st.sampled_from([b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$1\r\na\r\n", b"$5\r\nhello\r\n"]),
        st.binary(max_size=4),
    ),
    max_size=30,
).map(b"".join)


@given(GARBAGE, st.lists(st.integers(0, 200), max_size=20))
def test_garbage_is_refused_alike_however_it_is_cut(data: bytes, places: list[int]) -> None:
    whole = Parser(max_bulk=50, max_arguments=5, max_inline=40, max_command=100)
    pieces = Parser(max_bulk=50, max_arguments=5, max_inline=40, max_command=100)
    expected = whole.feed(data)
    got: list[list[bytes]] = []
    for piece in cut(data, places):
        got += pieces.feed(piece)
    assert got == expected
    assert str(pieces.error) == str(whole.error)
    for args in got:
        assert 4 + sum([4 + len(arg) for arg in args]) <= 100


# Numbers


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b" 1",
            b"1 ",
            b"+1",
            b"01",
            b"-01",
            b"-0",
            b"-",
            b"--1",
            b"1.0",
            b"1e3",
            b"1_0",
            b"0x1",
            b"\xb2",
        ),
        *(b"9223372036854775808", b"-9223372036854775809", b"1" * 21, b"1" * 100_000),
    ],
)
def test_what_is_no_integer(data: bytes) -> None:
    assert to_integer(data) is None


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_integer_is_one(value: int) -> None:
    assert to_integer(b"%d" % value) == value


@pytest.mark.parametrize("value", [0, 1, -1, 10, 2**63 - 1, -(2**63)])
def test_integers_at_the_edges(value: int) -> None:
    assert to_integer(str(value).encode()) == value


# Replies


def test_an_error_is_one_line() -> None:
    assert resp.error("ERR a\r\nb\xff") == b"-ERR a  b\xff\r\n"
    assert resp.error("ERR \u20ac") == b"-ERR ?\r\n"
    assert resp.simple("a\r\nb") == b"+a  b\r\n"


def test_replies_that_both_versions_share() -> None:
    assert resp.simple("OK") == resp.OK
    assert resp.integer(-(2**63)) == b":-9223372036854775808\r\n"
    assert resp.bulk(b"") == resp.EMPTY == b"$0\r\n\r\n"
    assert resp.bulk(b"a\r\nb") == b"$4\r\na\r\nb\r\n"
    assert resp.array([]) == b"*0\r\n"
    assert resp.array([resp.integer(1), resp.array([resp.OK])]) == b"*2\r\n:1\r\n*1\r\n+OK\r\n"
    assert resp.bulks([b"a", b"bc"]) == b"*2\r\n$1\r\na\r\n$2\r\nbc\r\n"


def test_replies_that_differ() -> None:
    assert (resp.null(2), resp.null(3)) == (b"$-1\r\n", b"_\r\n")
    assert (resp.null_array(2), resp.null_array(3)) == (b"*-1\r\n", b"_\r\n")
    assert (resp.map_header(2, 2), resp.map_header(2, 3)) == (b"*4\r\n", b"%2\r\n")
    assert (resp.set_header(2, 2), resp.set_header(2, 3)) == (b"*2\r\n", b"~2\r\n")
    assert (resp.verbatim(b"hi", 2), resp.verbatim(b"hi", 3)) == (b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n")
