"""What the commands share that operate a running cluster: their options, and asking one of its nodes."""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from raft_io.cli.client import NodeRefusedError, UnreachableError, ask
from raft_io.cli.errors import CommandFailedError
from raft_io.errors import NotLeaderError
from raft_io.server.address import Address

__all__ = ["DEFAULT_NODE", "MARGIN", "Operator", "add_node_options", "node_id", "print_json", "seconds"]

DEFAULT_NODE: Final = "127.0.0.1:7201"
TIMEOUT: Final = 10.0

MARGIN: Final = 1.0
"""Seconds more than a node gets that are waited for its answer: its own says more than none."""


def address(text: str) -> Address:
    """An option's address."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def seconds(text: str) -> float:
    """An option's seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0, at most 3600")
    return value


def node_id(text: str) -> int:
    """An argument's node id."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"{text!r} is no id of a node: an id is a whole number, 0 or more")
    return int(text)


def add_node_options(
    parser: argparse.ArgumentParser, *, timeout: float = TIMEOUT, inner: bool = False
) -> None:
    """Give `parser` the options that say whom to ask, for how long, and how to print it. `inner`: it is the
    parser of an action, and what was given before the action holds unless given again."""
    absent = argparse.SUPPRESS if inner else None
    parser.set_defaults(patience=timeout)
    parser.add_argument(
        "--node",
        type=address,
        action="append",
        default=absent,
        metavar="HOST:PORT",
        help=f"the HTTP address of a node, any of them; given again, the next to try ({DEFAULT_NODE})",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=absent,
        metavar="SECONDS",
        help=f"how long to wait ({timeout:g})",
    )
    parser.add_argument("--json", action="store_true", default=absent or False, help="print JSON")


class Operator:
    """Asks the nodes that the options name: the first that can be reached."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.nodes: list[Address] = options.node or [Address.parse(DEFAULT_NODE)]
        self.timeout: float = options.patience if options.timeout is None else options.timeout

    async def get(self, path: str) -> Any:
        """The answer to a `GET`."""
        return await self.first(lambda node: ask(node, "GET", path, timeout=self.timeout))

    async def post(self, path: str, body: Any, timeout: float | None = None) -> Any:
        """The answer to a `POST`."""
        limit = self.timeout if timeout is None else timeout
        target = f"{path}?timeout={limit:g}"
        return await self.first(lambda node: ask(node, "POST", target, body, timeout=limit, margin=MARGIN))

    async def first(self, request: Callable[[Address], Awaitable[Any]]) -> Any:
        """What the first node says that can be reached, and is in a state to answer."""
        failures: list[CommandFailedError] = []
        for node in self.nodes:
            try:
                return await request(node)
            except UnreachableError as error:
                failures.append(error)
            except NodeRefusedError as error:
                if error.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                failures.append(_explained(error))
        if len(failures) == 1:
            if str(failures[0]).endswith(os.strerror(errno.ECONNREFUSED)):
                raise UnreachableError(
                    f"{failures[0]}; is the node running? --node HOST:PORT asks another one"
                )
            raise failures[0]
        raise CommandFailedError("; ".join([str(error) for error in failures]))


def _explained(error: NodeRefusedError) -> NodeRefusedError:
    """A node that knows no leader says so in the words of a server; here it is the cluster that has none."""
    if error.kind != "NotLeader" or str(error) != str(NotLeaderError()):
        return error
    text = "no leader: a majority of the voters must run; see raft-io status"
    return NodeRefusedError(error.status_code, error.kind, text, error.retryable)


def print_json(value: Any) -> None:
    """Print `value` for a program to read."""
    print(json.dumps(value, indent=2))
