"""The commands on values. Each takes the keys, the arguments and the RESP version, and returns its reply.

The number of arguments has been checked. A command that answers with an error has changed nothing.
"""

from __future__ import annotations

from typing import Final

from raft_io.kv import records, resp
from raft_io.kv.keyspace import Keyspace

__all__ = ["MAX_REPLY", "MAX_VALUE"]

MAX_VALUE: Final = 64 * 1024 * 1024
"""Bytes of the longest value that APPEND makes."""

MAX_REPLY: Final = 64 * 1024 * 1024
"""Bytes of replies to one batch, and of work that replies do not show, beyond which no further command of it
is run: a short batch that asks for a long value many times, or appends to one, must not take all memory or
all time, on every node alike."""

NOT_AN_INTEGER: Final = resp.error("ERR value is not an integer or out of range")
SYNTAX: Final = resp.error("ERR syntax error")
TOO_LONG: Final = resp.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
REPLY_TOO_LONG: Final = resp.error("ERR too much at a time; nothing was done, send fewer commands together")
OVERFLOW: Final = resp.error("ERR increment or decrement would overflow")
DECREMENT_OVERFLOW: Final = resp.error("ERR decrement would overflow")

MAX_TIME: Final = 2**63 - 1

ZERO: Final = b":0\r\n"
ONE: Final = b":1\r\n"

_NX: Final = 1
_XX: Final = 2
_GET: Final = 4
_KEEPTTL: Final = 8
_PERSIST: Final = 16
_EX: Final = 32
_PX: Final = 64
_EXAT: Final = 128
_PXAT: Final = 256
_TIMED: Final = _EX | _PX | _EXAT | _PXAT
_BAD_SYNTAX: Final = -1

# An option and the options it cannot stand beside.
_EXPIRY: Final = {
    b"EX": (_EX, _KEEPTTL | _PERSIST | _PX | _EXAT | _PXAT),
    b"PX": (_PX, _KEEPTTL | _PERSIST | _EX | _EXAT | _PXAT),
    b"EXAT": (_EXAT, _KEEPTTL | _PERSIST | _EX | _PX | _PXAT),
    b"PXAT": (_PXAT, _KEEPTTL | _PERSIST | _EX | _PX | _EXAT),
}
_OF_SET: Final = {
    b"NX": (_NX, _XX),
    b"XX": (_XX, _NX),
    b"GET": (_GET, 0),
    b"KEEPTTL": (_KEEPTTL, _TIMED),
    **_EXPIRY,
}
_OF_GETEX: Final = {b"PERSIST": (_PERSIST, _TIMED), **_EXPIRY}


def _options(args: list[bytes], at: int, known: dict[bytes, tuple[int, int]]) -> tuple[int, bytes]:
    """The options from `at` on as flags, or `_BAD_SYNTAX`; and the time that one of them gives."""
    flags = 0
    time = b""
    while at < len(args):
        option = known.get(args[at].upper())
        if option is None:
            return _BAD_SYNTAX, time
        flag, excluded = option
        if flags & excluded:
            return _BAD_SYNTAX, time
        if flag & _TIMED:
            at += 1
            if at >= len(args):
                return _BAD_SYNTAX, time
            time = args[at]
        flags |= flag
        at += 1
    return flags, time


def _moment(now: int, flags: int, time: bytes, name: str) -> tuple[int, bytes]:
    """When a key expires that is set with these flags and this time; or what is wrong with it, as a reply."""
    return moment(now, time, flags & (_EX | _EXAT) != 0, flags & (_EX | _PX) != 0, name)


def moment(now: int, time: bytes, seconds: bool, relative: bool, name: str) -> tuple[int, bytes]:
    """The moment, in ms since the epoch, that `time` tells; or `0` and what is wrong with it, as a reply.

    `seconds`: it is in seconds, not milliseconds; `relative`: from `now` on. `name`: the command that asks.
    """
    number = resp.to_integer(time)
    if number is None:
        return 0, NOT_AN_INTEGER
    if number <= 0 or (seconds and number > MAX_TIME // 1000):
        return 0, invalid_time(name)
    if seconds:
        number *= 1000
    if relative:
        number += now
    return (number, b"") if number <= MAX_TIME else (0, invalid_time(name))


def invalid_time(name: str) -> bytes:
    """The reply to a time that cannot be."""
    return resp.error(f"ERR invalid expire time in '{name}' command")


def check_set(args: list[bytes]) -> bytes:
    """What is wrong with a SET, as its reply, whatever the keys and the time; empty if nothing is."""
    if len(args) == 3:
        return b""
    flags, time = _options(args, 3, _OF_SET)
    if flags == _BAD_SYNTAX:
        return SYNTAX
    return _moment(0, flags, time, "set")[1] if flags & _TIMED else b""


def check_setex(args: list[bytes]) -> bytes:
    """The same for a SETEX."""
    return moment(0, args[2], True, True, "setex")[1]


def check_psetex(args: list[bytes]) -> bytes:
    """The same for a PSETEX."""
    return moment(0, args[2], False, True, "psetex")[1]


def check_getex(args: list[bytes]) -> bytes:
    """The same for a GETEX."""
    return SYNTAX if len(args) > 2 and _options(args, 2, _OF_GETEX)[0] == _BAD_SYNTAX else b""


def get(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """GET key"""
    record = keys.find(args[1])
    return resp.null(protocol) if record is None else records.reply(record)


def set_(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]"""
    if len(args) == 3:
        keys.put(args[1], args[2])
        return resp.OK
    flags, time = _options(args, 3, _OF_SET)
    if flags == _BAD_SYNTAX:
        return SYNTAX
    when = 0
    if flags & _TIMED:
        when, wrong = _moment(keys.now, flags, time, "set")
        if wrong:
            return wrong
    old = keys.find(args[1])
    refused = (flags & _NX and old is not None) or (flags & _XX and old is None)
    if not refused:
        if flags & _KEEPTTL and old is not None:
            when = records.when(old)
        keys.put(args[1], args[2], when)
    if flags & _GET:
        return resp.null(protocol) if old is None else records.reply(old)
    return resp.null(protocol) if refused else resp.OK


def setex(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """SETEX key seconds value"""
    return _set_for(keys, args, True, "setex")


def psetex(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """PSETEX key milliseconds value"""
    return _set_for(keys, args, False, "psetex")


def _set_for(keys: Keyspace, args: list[bytes], seconds: bool, name: str) -> bytes:
    when, wrong = moment(keys.now, args[2], seconds, True, name)
    if wrong:
        return wrong
    keys.put(args[1], args[3], when)
    return resp.OK


def getset(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """GETSET key value"""
    old = keys.find(args[1])
    keys.put(args[1], args[2])
    return resp.null(protocol) if old is None else records.reply(old)


def getdel(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """GETDEL key"""
    record = keys.remove(args[1])
    return resp.null(protocol) if record is None else records.reply(record)


def getex(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]"""
    flags, time = _options(args, 2, _OF_GETEX)
    if flags == _BAD_SYNTAX:
        return SYNTAX
    record = keys.find(args[1])
    if record is None:
        return resp.null(protocol)
    if flags & _TIMED:
        when, wrong = _moment(keys.now, flags, time, "getex")
        if wrong:
            return wrong
        if when <= keys.now:
            keys.remove(args[1])
        else:
            keys.expire(args[1], record, when)
    elif flags & _PERSIST and records.expires(record):
        keys.expire(args[1], record, 0)
    return records.reply(record)


def mget(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """MGET key [key ...]"""
    missing = resp.null(protocol)
    replies: list[bytes] = []
    size = 0
    for key in args[1:]:
        record = keys.find(key)
        if record is None:
            replies.append(missing)
            continue
        size += records.size(record)
        if size > MAX_REPLY and len(replies) > 0:
            return REPLY_TOO_LONG
        replies.append(records.reply(record))
    return resp.array(replies)


def mset(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """MSET key value [key value ...]"""
    wrong = check_pairs(args)
    if wrong:
        return wrong
    for at in range(1, len(args), 2):
        keys.put(args[at], args[at + 1])
    return resp.OK


def msetnx(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """MSETNX key value [key value ...]"""
    wrong = check_pairs(args)
    if wrong:
        return wrong
    for at in range(1, len(args), 2):
        if keys.find(args[at]) is not None:
            return ZERO
    for at in range(1, len(args), 2):
        keys.put(args[at], args[at + 1])
    return ONE


def check_pairs(args: list[bytes]) -> bytes:
    """What is wrong with an MSET or MSETNX, as its reply; empty if nothing is."""
    if len(args) % 2 == 1:
        return b""
    name = args[0].decode("latin-1").lower()
    return resp.error(f"ERR wrong number of arguments for '{name}' command")


def setnx(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """SETNX key value"""
    if keys.find(args[1]) is not None:
        return ZERO
    keys.put(args[1], args[2])
    return ONE


def _add(keys: Keyspace, key: bytes, amount: int) -> bytes:
    old = keys.find(key)
    when = 0
    if old is None:
        number = amount
    else:
        current = resp.to_integer(records.value(old))
        if current is None:
            return NOT_AN_INTEGER
        number = current + amount
        if not -(2**63) <= number < 2**63:
            return OVERFLOW
        when = records.when(old)
    text = b"%d" % number
    keys.put(key, text, when)
    return b":%b\r\n" % text


def incr(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """INCR key"""
    return _add(keys, args[1], 1)


def decr(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """DECR key"""
    return _add(keys, args[1], -1)


def incrby(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """INCRBY key increment"""
    amount = resp.to_integer(args[2])
    return NOT_AN_INTEGER if amount is None else _add(keys, args[1], amount)


def decrby(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """DECRBY key decrement"""
    amount = resp.to_integer(args[2])
    if amount is None:
        return NOT_AN_INTEGER
    if amount == -(2**63):
        return DECREMENT_OVERFLOW
    return _add(keys, args[1], -amount)


def append(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """APPEND key value"""
    old = keys.find(args[1])
    if old is None:
        keys.put(args[1], args[2])
        return resp.integer(len(args[2]))
    if records.size(old) + len(args[2]) > MAX_VALUE:
        return TOO_LONG
    value = records.value(old) + args[2]
    keys.work += len(value)
    keys.put(args[1], value, records.when(old))
    return resp.integer(len(value))


def strlen(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """STRLEN key"""
    record = keys.find(args[1])
    return ZERO if record is None else resp.integer(records.size(record))


def getrange(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """GETRANGE key start end: both included, negative ones count from the end"""
    start = resp.to_integer(args[2])
    end = resp.to_integer(args[3])
    if start is None or end is None:
        return NOT_AN_INTEGER
    value = keys.get(args[1])
    if value is None or (start < 0 and end < 0 and start > end):
        return resp.EMPTY
    size = len(value)
    first = max(start + size, 0) if start < 0 else start
    last = max(end + size, 0) if end < 0 else min(end, size - 1)
    return resp.EMPTY if first > last else resp.bulk(value[first : last + 1])
