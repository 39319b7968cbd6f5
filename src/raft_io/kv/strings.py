"""The commands on values. Each takes the keys, the arguments and the RESP version, and returns its reply.

The number of arguments has been checked. A command that answers with an error has changed nothing.
"""

from __future__ import annotations

from typing import Final

from raft_io.kv import resp
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
NO_EXPIRY: Final = resp.error("ERR expiry is not supported yet")
OVERFLOW: Final = resp.error("ERR increment or decrement would overflow")
DECREMENT_OVERFLOW: Final = resp.error("ERR decrement would overflow")

ZERO: Final = b":0\r\n"
ONE: Final = b":1\r\n"

_NX: Final = 1
_XX: Final = 2
_GET: Final = 4
_KEEPTTL: Final = 8
_EXPIRE: Final = 16
_BAD_SYNTAX: Final = -1

# An option, the options it cannot stand beside (itself, for a second expiry), and whether a value follows it.
_OPTIONS: Final = {
    b"NX": (_NX, _XX, 0),
    b"XX": (_XX, _NX, 0),
    b"GET": (_GET, 0, 0),
    b"KEEPTTL": (_KEEPTTL, _EXPIRE, 0),
    b"EX": (_EXPIRE, _KEEPTTL | _EXPIRE, 1),
    b"PX": (_EXPIRE, _KEEPTTL | _EXPIRE, 1),
    b"EXAT": (_EXPIRE, _KEEPTTL | _EXPIRE, 1),
    b"PXAT": (_EXPIRE, _KEEPTTL | _EXPIRE, 1),
}


def _options(args: list[bytes]) -> int:
    """The options of SET as flags, or `_BAD_SYNTAX`."""
    flags = 0
    at = 3
    while at < len(args):
        option = _OPTIONS.get(args[at].upper())
        if option is None:
            return _BAD_SYNTAX
        flag, excluded, values = option
        if flags & excluded or at + values >= len(args):
            return _BAD_SYNTAX
        flags |= flag
        at += 1 + values
    return flags


def check_set(args: list[bytes]) -> bytes:
    """What is wrong with a SET, as its reply, whatever the keys; empty if nothing is."""
    if len(args) == 3:
        return b""
    flags = _options(args)
    if flags == _BAD_SYNTAX:
        return SYNTAX
    return NO_EXPIRY if flags & (_KEEPTTL | _EXPIRE) else b""


def get(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """GET key"""
    value = keys.values.get(args[1])
    if value is None:
        return resp.null(protocol)
    return b"$%d\r\n%b\r\n" % (len(value), value)


def set_(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """SET key value [NX | XX] [GET]"""
    if len(args) == 3:
        keys.put(args[1], args[2])
        return resp.OK
    wrong = check_set(args)
    if wrong:
        return wrong
    flags = _options(args)
    old = keys.values.get(args[1])
    refused = (flags & _NX and old is not None) or (flags & _XX and old is None)
    if not refused:
        keys.put(args[1], args[2])
    if flags & _GET:
        return resp.null(protocol) if old is None else resp.bulk(old)
    return resp.null(protocol) if refused else resp.OK


def getdel(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """GETDEL key"""
    value = keys.remove(args[1])
    return resp.null(protocol) if value is None else resp.bulk(value)


def mget(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """MGET key [key ...]"""
    missing = resp.null(protocol)
    replies: list[bytes] = []
    size = 0
    for key in args[1:]:
        value = keys.values.get(key)
        if value is None:
            replies.append(missing)
            continue
        size += len(value)
        if size > MAX_REPLY and len(replies) > 0:
            return REPLY_TOO_LONG
        replies.append(resp.bulk(value))
    return resp.array(replies)


def mset(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """MSET key value [key value ...]"""
    for at in range(1, len(args), 2):
        keys.put(args[at], args[at + 1])
    return resp.OK


def msetnx(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """MSETNX key value [key value ...]"""
    for at in range(1, len(args), 2):
        if args[at] in keys.values:
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
    if args[1] in keys.values:
        return ZERO
    keys.put(args[1], args[2])
    return ONE


def _add(keys: Keyspace, key: bytes, amount: int) -> bytes:
    old = keys.values.get(key)
    if old is None:
        number = amount
    else:
        current = resp.to_integer(old)
        if current is None:
            return NOT_AN_INTEGER
        number = current + amount
        if not -(2**63) <= number < 2**63:
            return OVERFLOW
    text = b"%d" % number
    keys.put(key, text)
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
    old = keys.values.get(args[1])
    if old is None:
        keys.put(args[1], args[2])
        return resp.integer(len(args[2]))
    if len(old) + len(args[2]) > MAX_VALUE:
        return TOO_LONG
    value = old + args[2]
    keys.work += len(value)
    keys.put(args[1], value)
    return resp.integer(len(value))


def strlen(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """STRLEN key"""
    value = keys.values.get(args[1])
    return ZERO if value is None else resp.integer(len(value))


def getrange(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """GETRANGE key start end: both included, negative ones count from the end"""
    start = resp.to_integer(args[2])
    end = resp.to_integer(args[3])
    if start is None or end is None:
        return NOT_AN_INTEGER
    value = keys.values.get(args[1])
    if value is None or (start < 0 and end < 0 and start > end):
        return resp.EMPTY
    size = len(value)
    first = max(start + size, 0) if start < 0 else start
    last = max(end + size, 0) if end < 0 else min(end, size - 1)
    return resp.EMPTY if first > last else resp.bulk(value[first : last + 1])
