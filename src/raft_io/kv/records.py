"""What is kept of a key, as one bytes object: its value, when it expires and when it was changed last.

    the value, as the RESP bulk string that a reply needs
    8 bytes     when the key expires, in ms since the epoch; only there if it does
    8 bytes     twice the revision of the last change, and 1 more if the key expires

Numbers are little-endian. One object a key, and one that the garbage collector need not walk: a store of
millions of keys makes no pauses, and a record that somebody holds never changes.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

try:
    from librt.strings import BytesWriter, read_i64_le, write_i64_le
except ImportError:  # no build of librt for this platform
    from raft_io._plain import BytesWriter, read_i64_le, write_i64_le  # type: ignore[assignment]

__all__ = ["expires", "make", "renewed", "reply", "revision", "size", "value", "when"]

_HEADS: Final[list[bytes]] = [b"$%d\r\n" % size for size in range(1024)]
"""How a bulk string begins, by its length: most are short."""

_END: Final = b"\r\n"
_NUMBER: Final = 8


def make(value: bytes, revision: i64, when: i64) -> bytes:
    """The record of a key that was changed at `revision` and expires at `when`; `0`: never."""
    out = BytesWriter()
    length = len(value)
    out.write(_HEADS[length] if length < 1024 else b"$%d\r\n" % length)
    out.write(value)
    out.write(_END)
    if when:
        write_i64_le(out, when)
        write_i64_le(out, 2 * revision + 1)
    else:
        write_i64_le(out, 2 * revision)
    return out.getvalue()


def renewed(record: bytes, revision: i64, when: i64) -> bytes:
    """The record with the same value, another revision and another expiry."""
    out = BytesWriter()
    out.write(reply(record))
    if when:
        write_i64_le(out, when)
        write_i64_le(out, 2 * revision + 1)
    else:
        write_i64_le(out, 2 * revision)
    return out.getvalue()


def expires(record: bytes) -> bool:
    """Whether the key expires."""
    return record[len(record) - _NUMBER] & 1 == 1


def when(record: bytes) -> i64:
    """When the key expires; `0`: never."""
    size: i64 = len(record)
    if record[size - _NUMBER] & 1 == 0:
        return 0
    return i64(read_i64_le(record, size - 2 * _NUMBER))


def revision(record: bytes) -> i64:
    """The revision of the last change."""
    size: i64 = len(record)
    return i64(read_i64_le(record, size - _NUMBER)) >> 1


def reply(record: bytes) -> bytes:
    """The value as a bulk string."""
    size: i64 = len(record)
    return record[: size - (2 * _NUMBER if record[size - _NUMBER] & 1 == 1 else _NUMBER)]


def _start(record: bytes) -> i64:
    at: i64 = 2
    while record[at] != 0x0A:
        at += 1
    return at + 1


def _stop(record: bytes) -> i64:
    length: i64 = len(record)
    return length - 2 - (2 * _NUMBER if record[length - _NUMBER] & 1 == 1 else _NUMBER)


def value(record: bytes) -> bytes:
    """The value."""
    return record[_start(record) : _stop(record)]


def size(record: bytes) -> int:
    """The length of the value."""
    return _stop(record) - _start(record)
