"""The commands on when keys expire. Each takes the keys, the arguments and the RESP version, and returns its
reply.

All of them go by the replicated time, which an entry of the log brings: never by the clock of the node that
carries them out.
"""

from __future__ import annotations

from typing import Final

from raft_io.kv import records, resp
from raft_io.kv.keyspace import Keyspace
from raft_io.kv.strings import MAX_TIME, NOT_AN_INTEGER, ONE, ZERO, invalid_time

__all__: list[str] = []

_NX: Final = 1
_XX: Final = 2
_GT: Final = 4
_LT: Final = 8
_FLAGS: Final = {b"NX": _NX, b"XX": _XX, b"GT": _GT, b"LT": _LT}

_NX_ALONE: Final = resp.error("ERR NX and XX, GT or LT options at the same time are not compatible")
_GT_OR_LT: Final = resp.error("ERR GT and LT options at the same time are not compatible")

_NO_KEY: Final = b":-2\r\n"
_NO_EXPIRY: Final = b":-1\r\n"

_MAX_SECONDS: Final = MAX_TIME // 1000


def _flags(args: list[bytes]) -> tuple[int, bytes]:
    """The options of EXPIRE and its like, and what is wrong with them, as a reply."""
    flags = 0
    for arg in args[3:]:
        flag = _FLAGS.get(arg.upper(), 0)
        if flag == 0:
            return 0, resp.error(f"ERR Unsupported option {resp.shown(arg)}")
        flags |= flag
    if flags & _NX and flags != _NX:
        return 0, _NX_ALONE
    return (0, _GT_OR_LT) if flags & _GT and flags & _LT else (flags, b"")


def _moment(args: list[bytes], base: int, seconds: bool, name: str) -> tuple[int, bytes]:
    """When the key is to expire, and what is wrong with that, as a reply."""
    number = resp.to_integer(args[2])
    if number is None:
        return 0, NOT_AN_INTEGER
    if seconds:
        if not -_MAX_SECONDS <= number <= _MAX_SECONDS:
            return 0, invalid_time(name)
        number *= 1000
    return (0, invalid_time(name)) if number > MAX_TIME - base else (number + base, b"")


def _check(args: list[bytes], seconds: bool, name: str) -> bytes:
    return _flags(args)[1] or _moment(args, 0, seconds, name)[1]


def check_expire(args: list[bytes]) -> bytes:
    """What is wrong with an EXPIRE, as its reply, whatever the keys and the time; empty if nothing is."""
    return _check(args, True, "expire")


def check_pexpire(args: list[bytes]) -> bytes:
    """The same for a PEXPIRE."""
    return _check(args, False, "pexpire")


def check_expireat(args: list[bytes]) -> bytes:
    """The same for an EXPIREAT."""
    return _check(args, True, "expireat")


def check_pexpireat(args: list[bytes]) -> bytes:
    """The same for a PEXPIREAT."""
    return _check(args, False, "pexpireat")


def _expire(keys: Keyspace, args: list[bytes], base: int, seconds: bool, name: str) -> bytes:
    flags, wrong = _flags(args)
    if wrong:
        return wrong
    when, wrong = _moment(args, base, seconds, name)
    if wrong:
        return wrong
    record = keys.find(args[1])
    if record is None:
        return ZERO
    if flags:
        # A key that does not expire is one that expires last of all.
        current = records.when(record)
        if (
            (flags & _NX and current != 0)
            or (flags & _XX and current == 0)
            or (flags & _GT and (current == 0 or when <= current))
            or (flags & _LT and current != 0 and when >= current)
        ):
            return ZERO
    if when <= keys.now:
        keys.remove(args[1])
    else:
        keys.expire(args[1], record, when)
    return ONE


def expire(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """EXPIRE key seconds [NX | XX | GT | LT]"""
    return _expire(keys, args, keys.now, True, "expire")


def pexpire(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """PEXPIRE key milliseconds [NX | XX | GT | LT]"""
    return _expire(keys, args, keys.now, False, "pexpire")


def expireat(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """EXPIREAT key seconds-since-the-epoch [NX | XX | GT | LT]"""
    return _expire(keys, args, 0, True, "expireat")


def pexpireat(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """PEXPIREAT key milliseconds-since-the-epoch [NX | XX | GT | LT]"""
    return _expire(keys, args, 0, False, "pexpireat")


def persist(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """PERSIST key"""
    record = keys.find(args[1])
    if record is None or not records.expires(record):
        return ZERO
    keys.expire(args[1], record, 0)
    return ONE


def _left(keys: Keyspace, key: bytes, base: int, unit: int) -> bytes:
    """The time of a key's expiry from `base` on, rounded to `unit` milliseconds."""
    record = keys.find(key)
    if record is None:
        return _NO_KEY
    when = records.when(record)
    if when == 0:
        return _NO_EXPIRY
    # Rounded without an intermediate sum, which at the end of time would not fit in 64 bits.
    left = when - base
    return resp.integer(left // unit + (left % unit + unit // 2) // unit)


def ttl(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """TTL key"""
    return _left(keys, args[1], keys.now, 1000)


def pttl(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """PTTL key"""
    return _left(keys, args[1], keys.now, 1)


def expiretime(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """EXPIRETIME key"""
    return _left(keys, args[1], 0, 1000)


def pexpiretime(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """PEXPIRETIME key"""
    return _left(keys, args[1], 0, 1)
