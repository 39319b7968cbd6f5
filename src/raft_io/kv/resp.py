"""RESP, the protocol of Redis clients: requests as they arrive in pieces, replies as bytes.

Requests are RESP arrays of bulk strings, or inline commands (a line of words). Replies are RESP2 or RESP3,
as the connection asked for with HELLO. Nothing here reads a socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from mypy_extensions import i64

__all__ = [
    "EMPTY",
    "OK",
    "PONG",
    "Parser",
    "ProtocolError",
    "array",
    "bulk",
    "bulks",
    "error",
    "integer",
    "map_header",
    "null",
    "null_array",
    "set_header",
    "shown",
    "simple",
    "skip",
    "to_integer",
    "verbatim",
]

MAX_BULK: Final = 1024 * 1024
"""Bytes of one argument."""

MAX_ARGUMENTS: Final = 1024 * 1024
"""Arguments of one command, its name included."""

MAX_INLINE: Final = 64 * 1024
"""Bytes of the line of an inline command, its end included."""

MAX_COMMAND: Final = 1024 * 1024
"""Bytes of one command, counted as a batch encodes it: 4, and for each argument 4 and its length."""

_ARGUMENT_HEADER: Final = 4
_MAX_DIGITS: Final = 18
_INCOMPLETE: Final = -1
_INVALID: Final = -2
_NEGATIVE: Final = -3

_STAR: Final = 0x2A
_DOLLAR: Final = 0x24
_MINUS: Final = 0x2D
_ZERO: Final = 0x30
_NINE: Final = 0x39
_CR: Final = 0x0D
_LF: Final = 0x0A
_QUOTE: Final = 0x22
_APOSTROPHE: Final = 0x27
_QUOTES: Final = b"\"'"
_BACKSLASH: Final = 0x5C
_LOWER_X: Final = 0x78

_SPACES: Final = b" \t\n\v\f\r"
_HEX: Final = b"0123456789abcdefABCDEF"
_ESCAPES: Final = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}

_HTTP: Final = (b"post", b"host:")


class ProtocolError(ValueError):
    """What a client sent is not RESP, or too long. The text is the one Redis uses, where it has one; the
    connection cannot go on."""


# Requests


@final
class Parser:
    """Turns the bytes of one connection into commands.

    `feed` takes bytes as they come and returns the commands they complete, each a list of arguments.
    `error` is `None` until the client breaks the protocol. From then on `feed` returns nothing: answer
    what came before, then `resp.error(f"ERR {parser.error}")`, and close.

    How the bytes are split over calls makes no difference. Memory stays within a small multiple of the
    bytes received, and those within `max_command` beyond what was returned: a length that is over a limit
    is refused as soon as it is read.

    >>> parser = Parser()
    >>> parser.feed(b"*2\\r\\n$3\\r\\nGET\\r\\n$1")
    []
    >>> parser.feed(b"\\r\\na\\r\\nPING\\r\\n")
    [[b'GET', b'a'], [b'PING']]
    """

    __slots__ = (
        "_args",
        "_left",
        "_max_arguments",
        "_max_bulk",
        "_max_command",
        "_max_inline",
        "_need",
        "_next",
        "_size",
        "_tail",
        "error",
    )

    def __init__(
        self,
        max_bulk: int = MAX_BULK,
        max_arguments: int = MAX_ARGUMENTS,
        max_inline: int = MAX_INLINE,
        max_command: int = MAX_COMMAND,
    ) -> None:
        self.error: ProtocolError | None = None
        self._max_bulk: i64 = max_bulk
        self._max_arguments: i64 = max_arguments
        self._max_inline: i64 = max_inline
        self._max_command: i64 = max_command
        # The command that is only partly here: its arguments so far, how many are missing, its size so far.
        self._args: list[bytes] = []
        self._left: i64 = 0
        self._size: i64 = 0
        # Bytes that are no whole argument yet, and how many there must be before looking again is worth it.
        self._tail: bytearray = bytearray()
        self._need: i64 = 0
        # Where the number that `_number` read last ends.
        self._next: i64 = 0

    @property
    def buffered(self) -> int:
        """Bytes that were received and belong to no complete command yet, framing left out."""
        return len(self._tail) + self._size

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The commands that `data` completes, in order."""
        commands: list[list[bytes]] = []
        if self.error is not None:
            return commands
        if self._tail:
            self._tail += data
            if len(self._tail) < self._need:
                return commands
            data = bytes(self._tail)
            self._tail = bytearray()
        try:
            rest = self._scan(data, commands)
        except ProtocolError as error:
            self.error = error
            self._args = []
            self._size = 0
            return commands
        if rest < len(data):
            self._tail += data[rest:]
        return commands

    def _scan(self, data: bytes, commands: list[list[bytes]]) -> i64:
        """Append the complete commands; return where the first byte stands that was not used."""
        end: i64 = len(data)
        pos: i64 = 0
        args = self._args
        left = self._left
        size = self._size
        self._need = 0
        while pos < end:
            if left == 0:
                if data[pos] != _STAR:
                    after = self._inline(data, pos, end, commands)
                    if after == _INCOMPLETE:
                        break
                    pos = after
                    continue
                count = self._number(data, pos, end)
                if count == _INCOMPLETE:
                    break
                self._check_count(count)
                pos = self._next
                if count > 0:  # *0 and *-1 are no command
                    left = count
                    args = []
                    size = 4
                continue
            if data[pos] != _DOLLAR:
                raise ProtocolError(f"Protocol error: expected '$', got '{chr(data[pos])}'")
            length = self._number(data, pos, end)
            if length == _INCOMPLETE:
                break
            if length < 0:
                raise ProtocolError("Protocol error: invalid bulk length")
            if length > self._max_bulk or size + _ARGUMENT_HEADER * left + length > self._max_command:
                raise self._too_long()
            start = self._next
            stop = start + length
            if stop + 2 > end:
                self._need = stop + 2 - pos
                break
            if data[stop] != _CR or data[stop + 1] != _LF:
                raise ProtocolError("Protocol error: expected CRLF after bulk string")
            args.append(data[start:stop])
            pos = stop + 2
            left -= 1
            size += _ARGUMENT_HEADER + length
            if left == 0:
                commands.append(args)
                args = []
                size = 0
        self._args = args
        self._left = left
        self._size = size
        return pos

    def _check_count(self, count: i64) -> None:
        if count == _INVALID or count > self._max_arguments:
            raise ProtocolError("Protocol error: invalid multibulk length")
        if 4 + _ARGUMENT_HEADER * count > self._max_command:
            raise self._too_long()

    def _too_long(self) -> ProtocolError:
        most = min(self._max_bulk, self._max_command)
        return ProtocolError(
            f"Protocol error: a command of more than {most} bytes, the most that max_command_bytes allows"
        )

    def _number(self, data: bytes, pos: i64, end: i64) -> i64:
        """The length after the type byte at `pos`, and `_next` set behind it; or why there is none.

        As strict as Redis: no sign but a minus, no leading zeros. More digits than any limit has are invalid
        before the line is complete.
        """
        at = pos + 1
        first = at
        if at < end and data[at] == _MINUS:
            first = at + 1
            at = first
        value: i64 = 0
        while at < end:
            byte: i64 = data[at]
            if byte < _ZERO or byte > _NINE:
                break
            value = value * 10 + byte - _ZERO
            at += 1
            if at - first > _MAX_DIGITS:
                return _INVALID
        if at - first > 1 and data[first] == _ZERO:
            return _INVALID
        if at >= end:
            return _INCOMPLETE
        if data[at] != _CR or at == first:
            return _INVALID
        if at + 1 >= end:
            return _INCOMPLETE
        if data[at + 1] != _LF:
            return _INVALID
        self._next = at + 2
        if first == pos + 1:
            return value
        return _NEGATIVE if value > 0 else _INVALID

    def _inline(self, data: bytes, pos: i64, end: i64, commands: list[list[bytes]]) -> i64:
        """Take the line at `pos`; return where the next one starts, or `_INCOMPLETE`."""
        newline: i64 = data.find(b"\n", pos, pos + self._max_inline)
        if newline < 0:
            if end - pos >= self._max_inline:
                raise ProtocolError("Protocol error: too big inline request")
            return _INCOMPLETE
        args = split_words(data[pos:newline])
        if args:
            if args[0].lower() in _HTTP:
                # A browser that was lured here: its request body must not be taken for commands.
                raise ProtocolError("Protocol error: HTTP is not spoken here")
            size = 4 + _ARGUMENT_HEADER * len(args) + sum([len(arg) for arg in args])
            if size > self._max_command:
                raise self._too_long()
            commands.append(args)
        return newline + 1


def split_words(line: bytes) -> list[bytes]:
    """The words of an inline command, with quotes and escapes as in redis-cli.

    Raises `ProtocolError` for a quote that is not closed, or is closed in the middle of a word.

    >>> split_words(b'SET key "two words\\\\x21"')
    [b'SET', b'key', b'two words!']
    """
    if b'"' not in line and b"'" not in line:
        return line.split()
    words: list[bytes] = []
    pos: i64 = 0
    end: i64 = len(line)
    while pos < end:
        if line[pos] in _SPACES:
            pos += 1
            continue
        word = bytearray()
        while pos < end and line[pos] not in _SPACES:
            quote: i64 = line[pos]
            if quote in _QUOTES:
                pos = _quoted(line, pos + 1, quote, word)
                break
            word.append(line[pos])
            pos += 1
        words.append(bytes(word))
    return words


def _quoted(line: bytes, pos: i64, quote: i64, word: bytearray) -> i64:
    """Add what is quoted from `pos` on to `word`; return where the closing quote ends."""
    end: i64 = len(line)
    while pos < end:
        byte: i64 = line[pos]
        if byte == quote:
            if pos + 1 < end and line[pos + 1] not in _SPACES:
                break
            return pos + 1
        if byte == _BACKSLASH and pos + 1 < end:
            if quote == _QUOTE:
                pos = _escaped(line, pos + 1, word)
                continue
            if line[pos + 1] == _APOSTROPHE:
                pos += 1
                byte = _APOSTROPHE
        word.append(byte)
        pos += 1
    raise ProtocolError("Protocol error: unbalanced quotes in request")


def _escaped(line: bytes, pos: i64, word: bytearray) -> i64:
    """Add the byte that the escape sequence at `pos` (behind the backslash) means; return its end."""
    byte = line[pos]
    if byte == _LOWER_X and pos + 2 < len(line) and line[pos + 1] in _HEX and line[pos + 2] in _HEX:
        word.append(int(line[pos + 1 : pos + 3], 16))
        return pos + 3
    word.append(_ESCAPES.get(byte, byte))
    return pos + 1


# Numbers


def to_integer(data: bytes) -> int | None:
    """The signed 64-bit number that `data` spells, or `None`: no spaces, no plus, no leading zeros."""
    size = len(data)
    if size == 0 or size > 20:
        return None
    if not data.isdigit() and not (data[0] == _MINUS and data[1:].isdigit()):
        return None
    value = int(data)
    if size > 1 and (data[0] == _ZERO or (data[0] == _MINUS and data[1] == _ZERO)):
        return None
    return value if -(2**63) <= value < 2**63 else None


# Replies

MAX_SHOWN: Final = 128

OK: Final = b"+OK\r\n"
_SIZED: Final = b"$="
_COUNTED: Final = {0x2A: 1, 0x7E: 1, 0x25: 2}
"""What follows each element that an array, a set or a map counts."""

PONG: Final = b"+PONG\r\n"
EMPTY: Final = b"$0\r\n\r\n"


def simple(text: str) -> bytes:
    """A status: one line."""
    return b"+%b\r\n" % _line(text)


def error(text: str) -> bytes:
    """An error. `text` begins with its code, such as `ERR`; line breaks in it become spaces."""
    return b"-%b\r\n" % _line(text)


def _line(text: str) -> bytes:
    return text.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")


def shown(data: bytes, limit: int = MAX_SHOWN) -> str:
    """What a client sent, for an error message: at most `limit` bytes of it, and none behind a zero byte."""
    return data[:limit].partition(b"\0")[0].decode("latin-1")


def integer(value: int) -> bytes:
    """A signed 64-bit integer."""
    return b":%d\r\n" % value


def bulk(value: bytes) -> bytes:
    """Any bytes."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def null(protocol: int) -> bytes:
    """No value."""
    return b"_\r\n" if protocol == 3 else b"$-1\r\n"


def null_array(protocol: int) -> bytes:
    """No array."""
    return b"_\r\n" if protocol == 3 else b"*-1\r\n"


def array(items: Sequence[bytes]) -> bytes:
    """An array of replies, each already encoded."""
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def bulks(values: Sequence[bytes]) -> bytes:
    """An array of bulk strings."""
    return array([bulk(value) for value in values])


def map_header(size: int, protocol: int) -> bytes:
    """What comes before `size` keys and values: a map in RESP3, a flat array in RESP2."""
    return b"%%%d\r\n" % size if protocol == 3 else b"*%d\r\n" % (2 * size)


def set_header(size: int, protocol: int) -> bytes:
    """What comes before the `size` members of a set: a set in RESP3, an array in RESP2."""
    return b"~%d\r\n" % size if protocol == 3 else b"*%d\r\n" % size


def verbatim(text: bytes, protocol: int) -> bytes:
    """Plain text for people: a verbatim string in RESP3, a bulk string in RESP2."""
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if protocol == 3 else bulk(text)


def skip(data: bytes, pos: int) -> int:
    """Where the reply ends that begins at `pos` in `data`, which holds whole replies of the kinds above."""
    left = 1
    while left > 0:
        left -= 1
        kind = data[pos]
        end = data.index(b"\r\n", pos)
        if kind in _SIZED:
            size = int(data[pos + 1 : end])
            pos = end + 2 + (size + 2 if size >= 0 else 0)
        else:
            if kind in _COUNTED:
                left += max(int(data[pos + 1 : end]), 0) * _COUNTED[kind]
            pos = end + 2
    return pos
