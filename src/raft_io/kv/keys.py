"""The commands on keys. Each takes the keys, the arguments and the RESP version, and returns its reply."""

from __future__ import annotations

from typing import Final

from raft_io.kv import resp
from raft_io.kv.glob import MAX_PATTERN, Glob
from raft_io.kv.keyspace import KEY_WORK, Keyspace
from raft_io.kv.strings import NOT_AN_INTEGER, SYNTAX

__all__: list[str] = []

LONG_PATTERN: Final = resp.error(f"ERR the pattern is longer than {MAX_PATTERN} bytes")
INVALID_CURSOR: Final = resp.error("ERR invalid cursor")

_DEFAULT_COUNT: Final = 10


def delete(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """DEL key [key ...]"""
    deleted = 0
    for key in args[1:]:
        if keys.remove(key) is not None:
            deleted += 1
    return resp.integer(deleted)


def exists(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """EXISTS key [key ...]: a key named twice counts twice"""
    found = 0
    for key in args[1:]:
        if keys.find(key) is not None:
            found += 1
    return resp.integer(found)


def type_(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """TYPE key"""
    return b"+none\r\n" if keys.find(args[1]) is None else b"+string\r\n"


def dbsize(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """DBSIZE"""
    keys.work += KEY_WORK * keys.past()
    return resp.integer(len(keys))


def check_flushdb(args: list[bytes]) -> bytes:
    """What is wrong with a FLUSHDB, as its reply; empty if nothing is."""
    if len(args) == 1 or (len(args) == 2 and args[1].upper() in (b"ASYNC", b"SYNC")):
        return b""
    return SYNTAX


def flushdb(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """FLUSHDB [ASYNC | SYNC]: both are the same here"""
    wrong = check_flushdb(args)
    if wrong:
        return wrong
    keys.clear()
    return resp.OK


def keys_(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """KEYS pattern: every key is looked at"""
    if len(args[1]) > MAX_PATTERN:
        return LONG_PATTERN
    pattern = Glob(args[1])
    keys.work += KEY_WORK * keys.count
    return resp.bulks([key for key in keys.names() if pattern.match(key)])


def scan(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]: `count` keys are looked at, then filtered"""
    if not args[1].isdigit() or len(args[1]) > 20:
        return INVALID_CURSOR
    pattern: Glob | None = None
    count = _DEFAULT_COUNT
    strings = True
    for at in range(2, len(args), 2):
        if at + 1 == len(args):
            return SYNTAX
        option = args[at].upper()
        value = args[at + 1]
        if option == b"COUNT":
            number = resp.to_integer(value)
            if number is None:
                return NOT_AN_INTEGER
            if number < 1:
                return SYNTAX
            count = number
        elif option == b"MATCH":
            if len(value) > MAX_PATTERN:
                return LONG_PATTERN
            pattern = Glob(value)
        elif option == b"TYPE":
            strings = value.lower() == b"string"
        else:
            return SYNTAX
    cursor, found = keys.scan(int(args[1]), count)
    keys.work += KEY_WORK * (len(found) + 64)
    if not strings:
        found = []
    elif pattern is not None:
        found = [key for key in found if pattern.match(key)]
    return resp.array([resp.bulk(b"%d" % cursor), resp.bulks(found)])
