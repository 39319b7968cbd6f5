"""The transaction of one connection, on its way into the log and back."""

from __future__ import annotations

from raft_io.kv import resp
from raft_io.kv.batch import encode_transaction
from raft_io.kv.commands import LOCAL, find
from raft_io.kv.connection import Connection, Node, execute

__all__ = ["assemble", "encode"]


def _is_local(args: list[bytes]) -> bool:
    command = find(args[0])
    return command is not None and command.kind is LOCAL


def encode(connection: Connection, commands: list[list[bytes]]) -> bytes:
    """The batch of a transaction: of the commands those that the store carries out, under the condition that
    what the connection watches did not change."""
    stored = [args for args in commands if not _is_local(args)]
    return encode_transaction(stored, list(connection.watched.items()), connection.protocol)


def assemble(connection: Connection, commands: list[list[bytes]], reply: bytes, node: Node) -> bytes:
    """The reply to EXEC: that of the store, and in their places those of the commands that the node carries
    out, which it does now. Nothing is done if the transaction was aborted."""
    if not reply.startswith(b"*") or reply.startswith(b"*-") or not any(map(_is_local, commands)):
        return reply
    pos = reply.index(b"\n") + 1
    replies: list[bytes] = []
    for args in commands:
        if _is_local(args):
            replies.append(execute(connection, args, node))
        else:
            end = resp.skip(reply, pos)
            replies.append(reply[pos:end])
            pos = end
    return resp.array(replies)
