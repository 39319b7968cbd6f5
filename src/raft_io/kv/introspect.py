"""COMMAND: what the table of commands holds, for clients that ask when they connect."""

from __future__ import annotations

from raft_io.kv import resp
from raft_io.kv.commands import TABLE, Command, find, wrong_arity
from raft_io.kv.resp import shown
from raft_io.kv.strings import SYNTAX

__all__ = ["describe", "unknown_subcommand"]


def unknown_subcommand(name: bytes) -> bytes:
    """The reply to a subcommand that does not exist."""
    return resp.error(f"ERR unknown subcommand '{shown(name)}'.")


def describe(args: list[bytes], protocol: int) -> bytes:
    """The reply to COMMAND and its subcommands COUNT, INFO, LIST and DOCS.

    What is not supported is not listed. DOCS is empty: clients then fall back on their own texts.
    """
    listed = [command for command in TABLE.values() if not command.refused]
    if len(args) == 1:
        return resp.array([_row(command, protocol) for command in listed])
    name = args[1].lower()
    if name == b"count":
        return resp.integer(len(listed)) if len(args) == 2 else wrong_arity("command|count")
    if name == b"list":
        return resp.bulks([command.name.encode() for command in listed]) if len(args) == 2 else SYNTAX
    if name == b"docs":
        return resp.map_header(0, protocol)
    if name == b"info":
        if len(args) == 2:
            return resp.array([_row(command, protocol) for command in listed])
        return resp.array([_row(find(each), protocol) for each in args[2:]])
    return unknown_subcommand(args[1])


def _row(command: Command | None, protocol: int) -> bytes:
    """Name, arity, flags, positions of the keys; categories, tips, key specifications and subcommands,
    which are left empty."""
    if command is None or command.refused:
        return resp.null_array(protocol)
    first, last, step = command.keys
    flags = [resp.simple(flag) for flag in command.flags]
    nothing = resp.array([])
    return resp.array(
        [
            resp.bulk(command.name.encode()),
            resp.integer(command.arity),
            resp.set_header(len(flags), protocol) + b"".join(flags),
            resp.integer(first),
            resp.integer(last),
            resp.integer(step),
            resp.set_header(0, protocol),
            nothing,
            nothing,
            nothing,
        ]
    )
