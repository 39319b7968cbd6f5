"""What the commands of batches of version 1 mean. Logs hold such batches, and replaying one must end in the
same state and the same replies as carrying it out did: nothing here changes any more.

Then nothing expired, and there were no transactions. The commands that are not named here were unknown.
"""

from __future__ import annotations

from typing import Final

from raft_io.kv import resp, strings
from raft_io.kv.keyspace import Keyspace
from raft_io.kv.strings import SYNTAX

__all__ = ["CONNECTION", "REFUSED", "STORE", "set_"]

STORE: Final[tuple[str, ...]] = (
    *("get", "getdel", "mget", "mset", "msetnx", "setnx", "del", "exists", "incr", "decr", "incrby"),
    *("decrby", "append", "strlen", "getrange", "type", "keys", "scan", "dbsize", "flushdb"),
)
"""The commands that mean the same as today; SET means less."""

CONNECTION: Final[tuple[str, ...]] = (
    *("ping", "echo", "hello", "auth", "select", "command", "info", "client", "config", "quit", "reset"),
)
"""Those that the store does not carry out; in a batch they are an error."""

_NO_EXPIRY: Final = resp.error("ERR expiry is not supported yet")
_NO_TRANSACTIONS: Final = resp.error("ERR transactions are not supported yet")

REFUSED: Final[dict[str, bytes]] = {
    **dict.fromkeys(("multi", "exec", "discard", "watch", "unwatch"), _NO_TRANSACTIONS),
    **dict.fromkeys(("expire", "pexpire", "expireat", "pexpireat", "ttl", "pttl"), _NO_EXPIRY),
    **dict.fromkeys(("expiretime", "pexpiretime", "persist", "setex", "psetex", "getex"), _NO_EXPIRY),
}
"""The commands that were refused, and how."""

_KEEPTTL: Final = 8
_EXPIRE: Final = 16

# An option, the options it cannot stand beside (itself, for a second expiry), and whether a value follows it.
_OPTIONS: Final = {
    b"NX": (1, 2, 0),
    b"XX": (2, 1, 0),
    b"GET": (4, 0, 0),
    b"KEEPTTL": (_KEEPTTL, _EXPIRE, 0),
    b"EX": (_EXPIRE, _KEEPTTL | _EXPIRE, 1),
    b"PX": (_EXPIRE, _KEEPTTL | _EXPIRE, 1),
    b"EXAT": (_EXPIRE, _KEEPTTL | _EXPIRE, 1),
    b"PXAT": (_EXPIRE, _KEEPTTL | _EXPIRE, 1),
}


def set_(keys: Keyspace, args: list[bytes], protocol: int) -> bytes:
    """SET key value [NX | XX] [GET]"""
    flags = 0
    at = 3
    while at < len(args):
        option = _OPTIONS.get(args[at].upper())
        if option is None:
            return SYNTAX
        flag, excluded, values = option
        if flags & excluded or at + values >= len(args):
            return SYNTAX
        flags |= flag
        at += 1 + values
    if flags & (_KEEPTTL | _EXPIRE):
        return _NO_EXPIRY
    return strings.set_(keys, args, protocol)
