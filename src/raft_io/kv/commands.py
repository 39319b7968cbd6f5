"""The table of commands: what each takes, what it does to the keys, and who carries it out.

A command is carried out by the replicated store (`read` and `write`), by the node that a client is
connected to (`connection`, in `connection.py`), or by nobody yet (`unsupported`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

from raft_io.kv import keys, resp, strings
from raft_io.kv.keyspace import Keyspace

__all__ = ["TABLE", "Command", "Kind", "Run", "execute", "kind_of", "plan", "refusal"]

Handler: TypeAlias = Callable[[Keyspace, list[bytes], int], bytes]
Check: TypeAlias = Callable[[list[bytes]], bytes]


class Kind(enum.IntEnum):
    """Who carries a command out."""

    LOCAL = 0
    """The node at once: connection-level commands, and those that are refused."""
    READ = 1
    """The store, at a point at which a read is linearizable."""
    WRITE = 2
    """The store, through the log."""


LOCAL: Final = Kind.LOCAL
READ: Final = Kind.READ
WRITE: Final = Kind.WRITE


@final
class Command:
    """One row of the table.

    `arity` counts the name; a negative one is a minimum. `keys` is the first key's position, the last one's
    (from the end where negative) and the step between them. `check` finds what is wrong with the arguments
    whatever the keys are, so that a faulty command stays out of the log; it returns the error reply, or
    nothing. `refused` is the reply to a command that is not supported.
    """

    __slots__ = ("arity", "check", "flags", "handler", "keys", "kind", "name", "refused")

    def __init__(
        self,
        name: str,
        arity: int,
        kind: Kind,
        flags: tuple[str, ...],
        keys: tuple[int, int, int] = (0, 0, 0),
        handler: Handler | None = None,
        check: Check | None = None,
        refused: bytes = b"",
    ) -> None:
        self.name = name
        self.arity = arity
        self.kind = kind
        self.flags = flags
        self.keys = keys
        self.handler = handler
        self.check = check
        self.refused = refused

    def takes(self, count: int) -> bool:
        """Whether `count` arguments, the name among them, are the right number."""
        return count == self.arity if self.arity >= 0 else count >= -self.arity


_ONE: Final = (1, 1, 1)
_ALL: Final = (1, -1, 1)
_PAIRS: Final = (1, -1, 2)
_NONE: Final = (0, 0, 0)


def _read(name: str, arity: int, handler: Handler, keys: tuple[int, int, int], *flags: str) -> Command:
    return Command(name, arity, READ, ("readonly", *flags), keys, handler)


def _write(
    name: str,
    arity: int,
    handler: Handler,
    keys: tuple[int, int, int],
    *flags: str,
    check: Check | None = None,
) -> Command:
    return Command(name, arity, WRITE, ("write", *flags), keys, handler, check)


def _connection(name: str, arity: int) -> Command:
    return Command(name, arity, LOCAL, ("loading", "stale", "fast"))


def _unsupported(text: str, *names: str) -> list[Command]:
    return [Command(name, -1, LOCAL, (), refused=resp.error(f"ERR {text}")) for name in names]


_COMMANDS: Final[list[Command]] = [
    _read("get", 2, strings.get, _ONE, "fast"),
    _write("set", -3, strings.set_, _ONE, "denyoom", check=strings.check_set),
    _write("getdel", 2, strings.getdel, _ONE, "fast"),
    _read("mget", -2, strings.mget, _ALL, "fast"),
    _write("mset", -3, strings.mset, _PAIRS, "denyoom", check=strings.check_pairs),
    _write("msetnx", -3, strings.msetnx, _PAIRS, "denyoom", check=strings.check_pairs),
    _write("setnx", 3, strings.setnx, _ONE, "denyoom", "fast"),
    _write("del", -2, keys.delete, _ALL),
    _read("exists", -2, keys.exists, _ALL, "fast"),
    _write("incr", 2, strings.incr, _ONE, "denyoom", "fast"),
    _write("decr", 2, strings.decr, _ONE, "denyoom", "fast"),
    _write("incrby", 3, strings.incrby, _ONE, "denyoom", "fast"),
    _write("decrby", 3, strings.decrby, _ONE, "denyoom", "fast"),
    _write("append", 3, strings.append, _ONE, "denyoom", "fast"),
    _read("strlen", 2, strings.strlen, _ONE, "fast"),
    _read("getrange", 4, strings.getrange, _ONE),
    _read("type", 2, keys.type_, _ONE, "fast"),
    _read("keys", 2, keys.keys_, _NONE),
    _read("scan", -2, keys.scan, _NONE),
    _read("dbsize", 1, keys.dbsize, _NONE, "fast"),
    _write("flushdb", -1, keys.flushdb, _NONE, check=keys.check_flushdb),
    _connection("ping", -1),
    _connection("echo", 2),
    _connection("hello", -1),
    _connection("auth", -2),
    _connection("select", 2),
    _connection("command", -1),
    _connection("info", -1),
    _connection("client", -2),
    _connection("config", -2),
    _connection("quit", -1),
    _connection("reset", 1),
    *_unsupported("transactions are not supported yet", "multi", "exec", "discard", "watch", "unwatch"),
    *_unsupported("expiry is not supported yet", "expire", "pexpire", "expireat", "pexpireat", "ttl", "pttl"),
    *_unsupported("expiry is not supported yet", "expiretime", "pexpiretime", "persist"),
    *_unsupported("expiry is not supported yet", "setex", "psetex", "getex"),
]

TABLE: Final[dict[bytes, Command]] = {command.name.encode(): command for command in _COMMANDS}
"""The commands by name, in lower case."""

# Also in upper case, as most clients write them: found without changing the case first.
_BY_NAME: Final[dict[bytes, Command]] = {
    **TABLE,
    **{command.name.upper().encode(): command for command in _COMMANDS},
}

_MAX_SHOWN: Final = 128


def find(name: bytes) -> Command | None:
    """The command of that name, in any case."""
    command = _BY_NAME.get(name)
    if command is None:
        command = _BY_NAME.get(name.lower())
    return command


def kind_of(args: list[bytes]) -> Kind:
    """Who carries the command out; `LOCAL` too if it is unknown or faulty, see `refusal`."""
    command = find(args[0])
    if command is None or not command.takes(len(args)):
        return LOCAL
    if command.check is not None and command.check(args):
        return LOCAL
    return command.kind


@final
class Run:
    """Commands of one connection, next to each other, that are carried out together."""

    __slots__ = ("commands", "kind")

    def __init__(self, kind: Kind, commands: list[list[bytes]]) -> None:
        self.kind = kind
        self.commands = commands


def plan(commands: list[list[bytes]]) -> list[Run]:
    """Split the commands of a connection into runs, in order.

    A run is all `LOCAL`, or all `READ`, or `WRITE`: reads and writes mixed, with at least one write. Runs
    are to be carried out one after the other, for a local command may change how later ones are answered.
    Execute nothing, change nothing.
    """
    runs: list[Run] = []
    run: Run | None = None
    for args in commands:
        kind = kind_of(args)
        if run is not None and (run.kind == kind or (run.kind != LOCAL and kind != LOCAL)):
            run.commands.append(args)
            if kind == WRITE:
                run.kind = WRITE
        else:
            run = Run(kind, [args])
            runs.append(run)
    return runs


def refusal(args: list[bytes]) -> bytes:
    """The reply to a command that cannot be carried out by anybody; empty if it can."""
    command = find(args[0])
    if command is None:
        return _unknown(args)
    if command.refused:
        return command.refused
    if not command.takes(len(args)):
        return wrong_arity(command.name)
    return b"" if command.check is None else command.check(args)


def wrong_arity(name: str) -> bytes:
    """The reply to a wrong number of arguments. `name` is in lower case, a subcommand's after a `|`."""
    return resp.error(f"ERR wrong number of arguments for '{name}' command")


def shown(data: bytes, limit: int = _MAX_SHOWN) -> str:
    """What a client sent, for an error message: at most `limit` bytes of it, and none behind a zero byte."""
    return data[:limit].partition(b"\0")[0].decode("latin-1")


def _unknown(args: list[bytes]) -> bytes:
    said = ""
    for arg in args[1:]:
        if len(said) >= _MAX_SHOWN:
            break
        said += f"'{shown(arg, _MAX_SHOWN - len(said))}' "
    return resp.error(f"ERR unknown command '{shown(args[0])}', with args beginning with: {said}")


def execute(space: Keyspace, commands: Sequence[list[bytes]], protocol: int) -> bytes:
    """Carry out commands of the store one after the other; their replies, in order.

    An error is the reply to its command, and the others still run. Once the replies, and the work that they
    do not show, are more than `strings.MAX_REPLY`, the remaining commands are refused.
    """
    replies: list[bytes] = []
    size = 0
    begun = space.work
    for args in commands:
        command = _BY_NAME.get(args[0])
        if command is None:
            command = _BY_NAME.get(args[0].lower())
        if command is None or command.handler is None or not command.takes(len(args)):
            reply = refusal(args) or _misplaced(args)
        elif size + space.work - begun > strings.MAX_REPLY:
            reply = strings.REPLY_TOO_LONG
        else:
            reply = command.handler(space, args, protocol)
        size += len(reply)
        replies.append(reply)
    return b"".join(replies)


def _misplaced(args: list[bytes]) -> bytes:
    return resp.error(f"ERR '{shown(args[0]).lower()}' is no command of the store")
