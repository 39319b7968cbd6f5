"""The commands that a node answers by itself: about the connection, and about the node.

Nothing here reads a clock or a socket: what the commands tell comes in with `Node`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, final

from raft_io.kv import introspect, resp
from raft_io.kv.commands import find, refusal, wrong_arity
from raft_io.kv.resp import shown
from raft_io.kv.strings import NOT_AN_INTEGER, SYNTAX

__all__ = ["REDIS_VERSION", "Connection", "Node", "execute", "raft_section"]

REDIS_VERSION: Final = "7.0.0"
"""The release of Redis whose protocol and texts are followed; clients read it to know what they may send."""

Section: TypeAlias = Mapping[str, object]

_NO_PASSWORD: Final = resp.error(
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
_PARAMETERS: Final = {b"save": b"", b"appendonly": b"yes", b"appendfsync": b"always"}
"""The settings of Redis that say what is so here: every write is in a log, and synced."""

_BAD_NAME: Final = "cannot contain spaces, newlines or special characters."


@final
class Connection:
    """What a node knows about one client's connection.

    `id` is unique on the node. `protocol`, 2 or 3, is the RESP version of the replies.
    `closing`: to be closed once everything has been answered. `watched`: keys, and the revision of the store
    when each was watched first. `unsure`: a WATCH failed, so that no transaction may rely on it.
    """

    __slots__ = (
        "address",
        "closing",
        "id",
        "lib_name",
        "lib_version",
        "local",
        "name",
        "protocol",
        "unsure",
        "watched",
    )

    def __init__(self, id: int, address: str = "", local: str = "") -> None:  # noqa: A002
        self.id = id
        self.address = address
        self.local = local
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.protocol = 2
        self.closing = False
        self.watched: dict[bytes, int] = {}
        self.unsure = False

    def watch(self, keys: list[bytes], revision: int) -> None:
        """`keys` are watched from now on; those that already were, from then on."""
        for key in keys:
            self.watched.setdefault(key, revision)

    def unwatch(self) -> None:
        """No key is watched."""
        if self.watched:
            self.watched = {}
        self.unsure = False

    def describe(self) -> bytes:
        """A line of CLIENT LIST, without its end."""
        start = f"id={self.id} addr={self.address} laddr={self.local} name="
        end = f" db=0 resp={self.protocol} lib-name="
        return b"%b%b%b%b lib-ver=%b" % (
            start.encode("latin-1", "replace"),
            self.name,
            end.encode(),
            self.lib_name,
            self.lib_version,
        )


def raft_section(
    *, node: int, role: str, term: int, leader: int | None, commit_index: int, last_applied: int
) -> dict[str, object]:
    """The section `Raft` of INFO; `raft_leader` is empty while there is none."""
    return {
        "raft_id": node,
        "raft_role": role,
        "raft_term": term,
        "raft_leader": "" if leader is None else leader,
        "raft_commit_index": commit_index,
        "raft_last_applied": last_applied,
    }


@final
class Node:
    """What the commands may ask the node for.

    `info` makes the sections of INFO, in order, from title to fields; `connections` lists those that are
    open, for CLIENT LIST. Both are called only when they are needed.
    """

    __slots__ = ("connections", "info")

    def __init__(
        self,
        info: Callable[[], Mapping[str, Section]],
        connections: Callable[[], Iterable[Connection]],
    ) -> None:
        self.info = info
        self.connections = connections


Handler: TypeAlias = Callable[[Connection, list[bytes], Node], bytes]


def execute(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """The reply to a command of kind `LOCAL`: connection-level, or one that is refused; or to a DISCARD.

    HELLO, RESET, CLIENT, QUIT, DISCARD and UNWATCH change `connection`.
    """
    wrong = refusal(args)
    command = find(args[0])
    if wrong:
        if command is not None and command.name == "exec":
            connection.unwatch()  # also one that is faulty ends what it would have ended
        return wrong
    assert command is not None and command.name in _HANDLERS, "the store's commands are not for here"
    return _HANDLERS[command.name](connection, args, node)


def _ping(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """PING [message]"""
    if len(args) > 2:
        return wrong_arity("ping")
    return resp.bulk(args[1]) if len(args) == 2 else resp.PONG


def _echo(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """ECHO message"""
    return resp.bulk(args[1])


def _hello(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """HELLO [protover [AUTH username password] [SETNAME name]]"""
    protocol = connection.protocol
    name = connection.name
    if len(args) > 1:
        number = resp.to_integer(args[1])
        if number is None:
            return resp.error("ERR Protocol version is not an integer or out of range")
        if number not in (2, 3):
            return resp.error("NOPROTO unsupported protocol version")
        protocol = number
    at = 2
    while at < len(args):
        option = args[at].upper()
        if option == b"AUTH" and at + 2 < len(args):
            return _NO_PASSWORD
        if option != b"SETNAME" or at + 1 >= len(args):
            return resp.error(f"ERR Syntax error in HELLO option '{shown(args[at])}'")
        name = args[at + 1]
        if not _is_plain(name):
            return resp.error(f"ERR Client names {_BAD_NAME}")
        at += 2
    connection.protocol = protocol
    connection.name = name
    fields = [
        ("server", resp.bulk(b"raft-io")),
        ("version", resp.bulk(REDIS_VERSION.encode())),
        ("proto", resp.integer(protocol)),
        ("id", resp.integer(connection.id)),
        ("mode", resp.bulk(b"standalone")),
        ("role", resp.bulk(b"master")),  # every node takes writes
        ("modules", resp.array([])),
    ]
    body = b"".join([resp.bulk(key.encode()) + value for key, value in fields])
    return resp.map_header(len(fields), protocol) + body


def _auth(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """AUTH [username] password"""
    return _NO_PASSWORD if len(args) <= 3 else SYNTAX


def _select(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """SELECT index: there is only one, 0"""
    number = resp.to_integer(args[1])
    if number is None:
        return NOT_AN_INTEGER
    return resp.OK if number == 0 else resp.error("ERR DB index is out of range")


def _info(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """INFO [section ...]"""
    wanted = [arg.decode("latin-1").lower() for arg in args[1:]]
    everything = not wanted or not {"all", "default", "everything"}.isdisjoint(wanted)
    blocks: list[str] = []
    for title, fields in node.info().items():
        if everything or title.lower() in wanted:
            lines = [f"{name}:{value}\r\n" for name, value in fields.items()]
            blocks.append(f"# {title}\r\n{''.join(lines)}")
    return resp.verbatim("\r\n".join(blocks).encode(), connection.protocol)


def _command(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """COMMAND [COUNT | INFO [name ...] | LIST | DOCS [name ...]]"""
    return introspect.describe(args, connection.protocol)


def _config(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """CONFIG GET parameter [parameter ...]: by name, or all of them by *"""
    if args[1].upper() != b"GET":
        return resp.error(f"ERR CONFIG {shown(args[1])} is not supported")
    if len(args) < 3:
        return wrong_arity("config|get")
    wanted = [arg.lower() for arg in args[2:]]
    found = [
        resp.bulk(name) + resp.bulk(value)
        for name, value in _PARAMETERS.items()
        if any(name == pattern or pattern == b"*" for pattern in wanted)
    ]
    return resp.map_header(len(found), connection.protocol) + b"".join(found)


def _quit(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """QUIT"""
    connection.closing = True
    return resp.OK


def _reset(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """RESET: a transaction that is open was closed already"""
    connection.unwatch()
    connection.protocol = 2
    connection.name = b""
    return resp.simple("RESET")


def _discard(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """DISCARD: the transaction was closed already"""
    connection.unwatch()
    return resp.OK


def _unwatch(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """UNWATCH"""
    connection.unwatch()
    return resp.OK


def _client(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """CLIENT subcommand ..."""
    name = args[1].decode("latin-1").lower()
    entry = _CLIENT.get(name)
    if entry is None:
        return introspect.unknown_subcommand(args[1])
    arity, handler = entry
    if len(args) != arity if arity > 0 else len(args) < -arity:
        return wrong_arity(f"client|{name}")
    return handler(connection, args, node)


def _is_plain(text: bytes) -> bool:
    return all(33 <= byte <= 126 for byte in text)


def _client_id(connection: Connection, args: list[bytes], node: Node) -> bytes:
    return resp.integer(connection.id)


def _client_getname(connection: Connection, args: list[bytes], node: Node) -> bytes:
    return resp.bulk(connection.name) if connection.name else resp.null(connection.protocol)


def _client_setname(connection: Connection, args: list[bytes], node: Node) -> bytes:
    if not _is_plain(args[2]):
        return resp.error(f"ERR Client names {_BAD_NAME}")
    connection.name = args[2]
    return resp.OK


def _client_setinfo(connection: Connection, args: list[bytes], node: Node) -> bytes:
    field = args[2].lower()
    if field not in (b"lib-name", b"lib-ver"):
        return resp.error(f"ERR Unrecognized option '{shown(args[2])}'")
    if not _is_plain(args[3]):
        return resp.error(f"ERR {shown(field)} {_BAD_NAME}")
    if field == b"lib-name":
        connection.lib_name = args[3]
    else:
        connection.lib_version = args[3]
    return resp.OK


def _client_info(connection: Connection, args: list[bytes], node: Node) -> bytes:
    return resp.verbatim(connection.describe() + b"\n", connection.protocol)


def _client_list(connection: Connection, args: list[bytes], node: Node) -> bytes:
    if len(args) > 2:
        return SYNTAX
    lines = [each.describe() + b"\n" for each in node.connections()]
    return resp.verbatim(b"".join(lines), connection.protocol)


def _client_switch(connection: Connection, args: list[bytes], node: Node) -> bytes:
    """NO-EVICT and NO-TOUCH: nothing is ever evicted here, so both are so already."""
    return resp.OK if args[2].lower() in (b"on", b"off") else SYNTAX


_CLIENT: Final[dict[str, tuple[int, Handler]]] = {
    "id": (2, _client_id),
    "getname": (2, _client_getname),
    "setname": (3, _client_setname),
    "setinfo": (4, _client_setinfo),
    "info": (2, _client_info),
    "list": (-2, _client_list),
    "no-evict": (3, _client_switch),
    "no-touch": (3, _client_switch),
}

_HANDLERS: Final[dict[str, Handler]] = {
    "ping": _ping,
    "echo": _echo,
    "hello": _hello,
    "auth": _auth,
    "select": _select,
    "info": _info,
    "command": _command,
    "config": _config,
    "client": _client,
    "quit": _quit,
    "reset": _reset,
    "discard": _discard,
    "unwatch": _unwatch,
}
