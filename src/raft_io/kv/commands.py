"""The table of commands: what each takes, what it does to the keys, and who carries it out.

A command is carried out by the replicated store (`read` and `write`), by the node that a client is connected
to (`connection`, in `connection.py`), or has to do with that client's transaction (`control`, in `plan.py`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

from raft_io.kv import expiry, first, keys, resp, strings
from raft_io.kv.batch import FIRST_VERSION, VERSION, WHOLE_VERSION
from raft_io.kv.keyspace import KEY_WORK, Keyspace
from raft_io.kv.resp import MAX_SHOWN, shown

__all__ = ["TABLE", "Command", "Kind", "execute", "find", "kind_of", "refusal", "transact", "wrong_arity"]

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
    CONTROL = 3
    """The connection: what begins and ends a transaction, and what it depends on."""


LOCAL: Final = Kind.LOCAL
READ: Final = Kind.READ
WRITE: Final = Kind.WRITE
CONTROL: Final = Kind.CONTROL


@final
class Command:
    """One row of the table.

    `arity` counts the name; a negative one is a minimum. `keys` is the first key's position, the last one's
    (from the end where negative) and the step between them. `check` finds what is wrong with the arguments
    whatever the keys are, so that a faulty command stays out of the log; it returns the error reply, or
    nothing. `refused` is the reply to a command that is not supported, as some were in earlier versions.
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


def _transaction(name: str, arity: int, kind: Kind, keys: tuple[int, int, int] = _NONE) -> Command:
    return Command(name, arity, kind, ("noscript", "loading", "stale", "fast"), keys)


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
    _write("setex", 4, strings.setex, _ONE, "denyoom", check=strings.check_setex),
    _write("psetex", 4, strings.psetex, _ONE, "denyoom", check=strings.check_psetex),
    _write("getset", 3, strings.getset, _ONE, "denyoom", "fast"),
    _write("getex", -2, strings.getex, _ONE, "fast", check=strings.check_getex),
    _write("expire", -3, expiry.expire, _ONE, "fast", check=expiry.check_expire),
    _write("pexpire", -3, expiry.pexpire, _ONE, "fast", check=expiry.check_pexpire),
    _write("expireat", -3, expiry.expireat, _ONE, "fast", check=expiry.check_expireat),
    _write("pexpireat", -3, expiry.pexpireat, _ONE, "fast", check=expiry.check_pexpireat),
    _write("persist", 2, expiry.persist, _ONE, "fast"),
    _read("ttl", 2, expiry.ttl, _ONE, "fast"),
    _read("pttl", 2, expiry.pttl, _ONE, "fast"),
    _read("expiretime", 2, expiry.expiretime, _ONE, "fast"),
    _read("pexpiretime", 2, expiry.pexpiretime, _ONE, "fast"),
    _write("unlink", -2, keys.delete, _ALL, "fast"),
    _write("flushall", -1, keys.flushdb, _NONE, check=keys.check_flushdb),
    _transaction("multi", 1, CONTROL),
    _transaction("exec", 1, CONTROL),
    _transaction("discard", 1, CONTROL),
    _transaction("watch", -2, CONTROL, _ALL),
    _transaction("unwatch", 1, LOCAL),
]

TABLE: Final[dict[bytes, Command]] = {command.name.encode(): command for command in _COMMANDS}
"""The commands by name, in lower case."""


def _in_both_cases(commands: list[Command]) -> dict[bytes, Command]:
    """By name, also in upper case, as most clients write them: found without changing the case first."""
    return {
        **{command.name.encode(): command for command in commands},
        **{command.name.upper().encode(): command for command in commands},
    }


_BY_NAME: Final[dict[bytes, Command]] = _in_both_cases(_COMMANDS)

_FIRST: Final[dict[bytes, Command]] = _in_both_cases(
    [
        *[TABLE[name.encode()] for name in (*first.STORE, *first.CONNECTION)],
        _write("set", -3, first.set_, _ONE),
        *[Command(name, -1, LOCAL, (), refused=reply) for name, reply in first.REFUSED.items()],
    ]
)
"""The commands of batches of version 1."""

_GET: Final = TABLE[b"get"]
_EXEC: Final = TABLE[b"exec"]


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


def refusal(args: list[bytes]) -> bytes:
    """The reply to a command that cannot be carried out by anybody; empty if it can."""
    return _refusal(find(args[0]), args)


def _refusal(command: Command | None, args: list[bytes]) -> bytes:
    if command is None:
        return _unknown(args)
    if command.refused:
        return command.refused
    if not command.takes(len(args)):
        return _ABORTED if command is _EXEC else wrong_arity(command.name)
    return b"" if command.check is None else command.check(args)


_ABORTED: Final = resp.error(
    "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
)


def wrong_arity(name: str) -> bytes:
    """The reply to a wrong number of arguments. `name` is in lower case, a subcommand's after a `|`."""
    return resp.error(f"ERR wrong number of arguments for '{name}' command")


def _unknown(args: list[bytes]) -> bytes:
    said = ""
    for arg in args[1:]:
        if len(said) >= MAX_SHOWN:
            break
        said += f"'{shown(arg, MAX_SHOWN - len(said))}' "
    return resp.error(f"ERR unknown command '{shown(args[0])}', with args beginning with: {said}")


def execute(space: Keyspace, commands: Sequence[list[bytes]], protocol: int, version: int = VERSION) -> bytes:
    """Carry out commands of the store one after the other; their replies, in order.

    An error is the reply to its command, and the others still run. Once the replies, and the work that they
    do not show, are more than `strings.MAX_REPLY`, the remaining commands are refused. `version`: of the
    batch that they came in, which says what they mean.
    """
    table = _FIRST if version == FIRST_VERSION else _BY_NAME
    replies = _carry_out(space, commands, protocol, table, False)
    return replies[0] if len(replies) == 1 else b"".join(replies)


def _carry_out(
    space: Keyspace, commands: Sequence[list[bytes]], protocol: int, table: dict[bytes, Command], whole: bool
) -> list[bytes]:
    """The replies. `whole`: they end before the first command that would be refused for the limit."""
    replies: list[bytes] = []
    size = 0
    begun = space.work
    for args in commands:
        command = table.get(args[0])
        if command is None:
            command = table.get(args[0].lower())
        if command is None or command.handler is None or not command.takes(len(args)):
            reply = _refusal(command, args) or _misplaced(args)
        elif size + space.work - begun > strings.MAX_REPLY:
            if whole:
                break
            reply = strings.REPLY_TOO_LONG
        elif command is _GET:
            reply = strings.get(space, args, protocol)  # called directly: that is what matters most
        else:
            reply = command.handler(space, args, protocol)
        size += len(reply)
        replies.append(reply)
    return replies


_TOO_MUCH: Final = resp.error(
    f"EXECABORT Transaction discarded because its replies and its work are more than "
    f"{strings.MAX_REPLY // (1024 * 1024)} MiB; nothing was done"
)


def transact(
    space: Keyspace,
    commands: Sequence[list[bytes]],
    watched: Sequence[tuple[bytes, int]],
    protocol: int,
    version: int = VERSION,
) -> bytes:
    """Carry out a transaction: the array of the replies; or no array, and nothing is done, if one of the keys
    in `watched` has changed since the revision beside it; or an error, and nothing is done, if that takes
    more than `strings.MAX_REPLY`. `version`: of its batch; before 3 the commands beyond were left out."""
    space.work += KEY_WORK * len(watched)
    for key, since in watched:
        if space.changed(key, since):
            return resp.null_array(protocol)
    if version < WHOLE_VERSION:
        return b"*%d\r\n%b" % (len(commands), execute(space, commands, protocol, version))
    space.begin()
    replies = _carry_out(space, commands, protocol, _BY_NAME, True)
    if len(replies) < len(commands):
        space.undo()
        return _TOO_MUCH
    space.keep()
    return b"*%d\r\n%b" % (len(commands), b"".join(replies))


def _misplaced(args: list[bytes]) -> bytes:
    return resp.error(f"ERR '{shown(args[0]).lower()}' is no command of the store")
