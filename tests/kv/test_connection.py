"""What a node answers by itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from raft_io.kv.commands import TABLE, refusal
from raft_io.kv.connection import Connection, Node, execute, raft_section

NIL = b"$-1\r\n"
SYNTAX = b"-ERR syntax error\r\n"
NAME = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
NO_PASSWORD = (
    b"-ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?\r\n"
)

INFO: Mapping[str, Mapping[str, object]] = {
    "Server": {"redis_version": "7.0.0"},
    "Raft": raft_section(node=1, role="leader", term=2, leader=None, commit_index=7, last_applied=6),
}


def connect() -> Connection:
    return Connection(7, "127.0.0.1:5000", "127.0.0.1:7001")


def ask(connection: Connection, *args: bytes) -> bytes:
    return execute(connection, list(args), Node(lambda: INFO, lambda: [connection, Connection(8, "host:1")]))


def answer(line: str, protocol: int = 2) -> bytes:
    connection = connect()
    connection.protocol = protocol
    return ask(connection, *line.encode().split())


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("FOO", b"-ERR unknown command 'FOO', with args beginning with: \r\n"),
        ("GET", b"-ERR wrong number of arguments for 'get' command\r\n"),
        ("SET a 1 EX 0", b"-ERR invalid expire time in 'set' command\r\n"),
        ("EXPIRE a x", b"-ERR value is not an integer or out of range\r\n"),
        (
            "EXEC x",
            b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
        ),
        ("PING a b", b"-ERR wrong number of arguments for 'ping' command\r\n"),
        ("ECHO", b"-ERR wrong number of arguments for 'echo' command\r\n"),
        ("SELECT 1", b"-ERR DB index is out of range\r\n"),
        ("SELECT -1", b"-ERR DB index is out of range\r\n"),
        ("SELECT x", b"-ERR value is not an integer or out of range\r\n"),
        ("AUTH secret", NO_PASSWORD),
        ("AUTH me secret", NO_PASSWORD),
        ("AUTH a b c", SYNTAX),
        ("HELLO x", b"-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 1", b"-NOPROTO unsupported protocol version\r\n"),
        ("HELLO 4", b"-NOPROTO unsupported protocol version\r\n"),
        ("HELLO 3 FOO", b"-ERR Syntax error in HELLO option 'FOO'\r\n"),
        ("HELLO 3 SETNAME", b"-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
        ("HELLO 3 AUTH me", b"-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        ("HELLO 3 AUTH me secret", NO_PASSWORD),
        ("HELLO 3 SETNAME \x7f", NAME),
        ("CLIENT", b"-ERR wrong number of arguments for 'client' command\r\n"),
        ("CLIENT FOO", b"-ERR unknown subcommand 'FOO'.\r\n"),
        ("CLIENT ID x", b"-ERR wrong number of arguments for 'client|id' command\r\n"),
        ("CLIENT SETNAME", b"-ERR wrong number of arguments for 'client|setname' command\r\n"),
        ("CLIENT SETNAME \x7f", NAME),
        ("CLIENT SETINFO x y", b"-ERR Unrecognized option 'x'\r\n"),
        (
            "CLIENT SETINFO LIB-NAME \x7f",
            b"-ERR lib-name cannot contain spaces, newlines or special characters.\r\n",
        ),
        ("CLIENT LIST TYPE normal", SYNTAX),
        ("CLIENT NO-EVICT maybe", SYNTAX),
        ("CONFIG", b"-ERR wrong number of arguments for 'config' command\r\n"),
        ("CONFIG GET", b"-ERR wrong number of arguments for 'config|get' command\r\n"),
        ("CONFIG SET save 1", b"-ERR CONFIG SET is not supported\r\n"),
        ("COMMAND FOO", b"-ERR unknown subcommand 'FOO'.\r\n"),
        ("COMMAND COUNT x", b"-ERR wrong number of arguments for 'command|count' command\r\n"),
        ("COMMAND LIST FILTERBY MODULE x", SYNTAX),
    ],
)
def test_what_is_refused(line: str, reply: bytes) -> None:
    assert answer(line) == reply


def test_a_name_with_a_line_break_cannot_forge_a_client() -> None:
    connection = connect()
    assert ask(connection, b"CLIENT", b"SETNAME", b"x\nid=9") == NAME
    assert ask(connection, b"HELLO", b"3", b"SETNAME", b"a b") == NAME
    assert (connection.name, connection.protocol) == (b"", 2)


def test_commands_of_the_store_are_the_callers_mistake() -> None:
    with pytest.raises(AssertionError):
        answer("GET a")


def test_every_local_command_is_answered() -> None:
    for name, command in TABLE.items():
        if command.kind == 0:
            args = [name] + [b"0"] * (abs(command.arity) - 1)
            assert refusal(args) == b""
            assert ask(connect(), *args)


def test_ping_echo_select() -> None:
    assert answer("PING") == b"+PONG\r\n"
    assert answer("ping hi") == b"$2\r\nhi\r\n"
    assert answer("ECHO hi") == b"$2\r\nhi\r\n"
    assert answer("SELECT 0") == b"+OK\r\n"


HELLO = (
    b"$6\r\nserver\r\n$7\r\nraft-io\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:%d\r\n"
    b"$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
)


def test_hello_answers_in_the_version_it_sets() -> None:
    connection = connect()
    assert ask(connection, b"HELLO") == b"*14\r\n" + HELLO % 2
    assert ask(connection, b"HELLO", b"3") == b"%7\r\n" + HELLO % 3
    assert connection.protocol == 3
    assert ask(connection, b"hello") == b"%7\r\n" + HELLO % 3
    assert ask(connection, b"HELLO", b"2", b"setname", b"me") == b"*14\r\n" + HELLO % 2
    assert (connection.protocol, connection.name) == (2, b"me")


def test_a_refused_hello_changes_nothing() -> None:
    connection = connect()
    ask(connection, b"HELLO", b"3", b"SETNAME", b"me", b"FOO")
    assert (connection.protocol, connection.name) == (2, b"")


def test_quit_closes_and_reset_begins_anew() -> None:
    connection = connect()
    ask(connection, b"HELLO", b"3", b"SETNAME", b"me")
    assert ask(connection, b"RESET") == b"+RESET\r\n"
    assert (connection.protocol, connection.name, connection.closing) == (2, b"", False)
    assert ask(connection, b"QUIT") == b"+OK\r\n"
    assert connection.closing


RAFT = (
    b"# Raft\r\nraft_id:1\r\nraft_role:leader\r\nraft_term:2\r\nraft_leader:\r\n"
    b"raft_commit_index:7\r\nraft_last_applied:6\r\n"
)
SERVER = b"# Server\r\nredis_version:7.0.0\r\n"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("INFO", SERVER + b"\r\n" + RAFT),
        ("INFO everything", SERVER + b"\r\n" + RAFT),
        ("INFO raft", RAFT),
        ("INFO RAFT server", SERVER + b"\r\n" + RAFT),
        ("INFO memory", b""),
    ],
)
def test_info(line: str, text: bytes) -> None:
    assert answer(line) == b"$%d\r\n%b\r\n" % (len(text), text)
    assert answer(line, protocol=3) == b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)


def test_the_leader_in_info() -> None:
    section = raft_section(node=1, role="follower", term=2, leader=3, commit_index=0, last_applied=0)
    assert section["raft_leader"] == 3


def test_command_lists_what_is_supported() -> None:
    names = list(TABLE)
    assert answer("COMMAND COUNT") == b":%d\r\n" % len(names)
    listed = answer("COMMAND LIST")
    assert listed.startswith(b"*%d\r\n$3\r\nget\r\n$3\r\nset\r\n" % len(names))
    everything = answer("COMMAND")
    assert everything.startswith(b"*%d\r\n*10\r\n$3\r\nget\r\n:2\r\n" % len(names))
    assert answer("COMMAND INFO") == everything


def test_command_info() -> None:
    assert answer("COMMAND INFO get nosuch watch MSET") == (
        b"*4\r\n"
        b"*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n"
        b"*-1\r\n*10\r\n$5\r\nwatch\r\n:-2\r\n*4\r\n+noscript\r\n+loading\r\n+stale\r\n+fast\r\n"
        b":1\r\n:-1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n"
        b"*10\r\n$4\r\nmset\r\n:-3\r\n*2\r\n+write\r\n+denyoom\r\n:1\r\n:-1\r\n:2\r\n*0\r\n*0\r\n*0\r\n*0\r\n"
    )
    assert answer("COMMAND INFO get nosuch", protocol=3) == (
        b"*2\r\n"
        b"*10\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n~0\r\n*0\r\n*0\r\n*0\r\n"
        b"_\r\n"
    )


def test_empty_maps() -> None:
    for line in ("COMMAND DOCS", "COMMAND DOCS get", "CONFIG GET nosuch", "config get maxmemory"):
        assert answer(line) == b"*0\r\n"
        assert answer(line, protocol=3) == b"%0\r\n"


def test_config_tells_that_every_write_is_logged_and_synced() -> None:
    assert answer("CONFIG GET save") == b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n"
    assert answer("config get AppendOnly", protocol=3) == b"%1\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n"
    assert answer("CONFIG GET *").startswith(b"*6\r\n")


def test_client() -> None:
    connection = connect()
    assert ask(connection, b"CLIENT", b"ID") == b":7\r\n"
    assert ask(connection, b"CLIENT", b"GETNAME") == NIL
    assert ask(connection, b"client", b"setname", b"me") == b"+OK\r\n"
    assert ask(connection, b"CLIENT", b"GETNAME") == b"$2\r\nme\r\n"
    assert ask(connection, b"CLIENT", b"SETINFO", b"LIB-NAME", b"redis-py") == b"+OK\r\n"
    assert ask(connection, b"CLIENT", b"SETINFO", b"lib-ver", b"5.0") == b"+OK\r\n"
    line = (
        b"id=7 addr=127.0.0.1:5000 laddr=127.0.0.1:7001 name=me db=0 resp=2 lib-name=redis-py lib-ver=5.0\n"
    )
    other = b"id=8 addr=host:1 laddr= name= db=0 resp=2 lib-name= lib-ver=\n"
    assert ask(connection, b"CLIENT", b"INFO") == b"$%d\r\n%b\r\n" % (len(line), line)
    assert ask(connection, b"CLIENT", b"LIST") == b"$%d\r\n%b%b\r\n" % (len(line + other), line, other)
    assert ask(connection, b"CLIENT", b"SETNAME", b"") == b"+OK\r\n"
    assert ask(connection, b"CLIENT", b"GETNAME") == NIL
    for switch in (b"NO-EVICT", b"NO-TOUCH"):
        assert ask(connection, b"CLIENT", switch, b"ON") == b"+OK\r\n"
        assert ask(connection, b"CLIENT", switch, b"off") == b"+OK\r\n"
