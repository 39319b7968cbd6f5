"""List the members of a cluster, or change them.

A new voter starts as a learner, which holds the data but has no vote, and is promoted once it has caught up:
until then the cluster would stand still if it had to wait for it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from raft_io.cli.client import NodeRefusedError
from raft_io.cli.errors import CommandFailedError, UsageError
from raft_io.cli.operate import Operator, add_node_options, node_id, print_json
from raft_io.cli.show import print_table
from raft_io.cli.status import leader_of
from raft_io.server.address import Address

__all__ = ["add_arguments", "run"]

TIMEOUT: Final = 60.0
"""Seconds that a change may take by default: a new node may have much to catch up with."""

POLL: Final = 0.5

Members = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io members`."""
    parser.set_defaults(work=_list)
    add_node_options(parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")

    def action_of(name: str, about: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about)
        return made

    listing = action_of("list", "list them, as without an action")
    add = action_of("add", "add a node, or tell a new address of one that is a member")
    add.add_argument("id", type=node_id, metavar="ID", help="the node's id")
    add.add_argument("address", type=_address, metavar="HOST:PORT", help="where its peers reach it")
    add.add_argument("--learner", action="store_true", help="it stays a learner")
    remove = action_of("remove", "remove a node; its process ends")
    remove.add_argument("id", type=node_id, metavar="ID", help="the member's id")
    promote = action_of("promote", "make a learner a voter, once it has caught up")
    promote.add_argument("id", type=node_id, metavar="ID", help="the learner's id")
    add_node_options(listing, inner=True)
    for action, work in ((add, _add), (remove, _remove), (promote, _promote)):
        add_node_options(action, timeout=TIMEOUT, inner=True)
        action.set_defaults(work=work)


def _address(text: str) -> str:
    try:
        found = Address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not found.port:
        raise argparse.ArgumentTypeError(f"{text!r} has no port")
    return str(found)


def run(options: argparse.Namespace) -> int:
    """Do what was asked."""
    change = Change(options)
    work: Callable[[Change, argparse.Namespace], Coroutine[Any, Any, None]] = options.work
    asyncio.run(work(change, options))
    if options.json:
        print_json(change.members)
    elif options.work is _list:
        print_table(("node", "role", "address"), rows(change.members))
    return 0


class Change:
    """A change of the members, and what they are as far as this command knows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.operator = Operator(options)
        self.members: Members = {}
        self._deadline = time.monotonic() + self.operator.timeout
        self._quiet: bool = options.json

    async def read(self) -> Members:
        """Ask what the members are."""
        self.members = await self.operator.get("/members")
        return self.members

    async def move(self, **change: Any) -> None:
        """Change them, and return when that is done."""
        left = max(1.0, self._deadline - time.monotonic())
        self.members = await self.operator.post("/members", change, timeout=left)

    def say(self, line: str) -> None:
        """Tell how far it is."""
        if not self._quiet:
            print(line, flush=True)

    async def wait_caught_up(self, node: int) -> None:
        """Return once the learner has all that was committed when it was last looked at, or is a voter."""
        before = None
        told = False
        while True:
            cluster = await self.operator.get("/cluster?timeout=1")
            self.members = cluster["members"]
            if node in self.members["voters"]:
                return
            commit, match = _progress(cluster, node)
            if before is not None and match is not None and match >= before:
                return
            behind = (
                "the leader has not heard from it yet"
                if match is None
                else f"{commit - match} entries are missing"
            )
            if time.monotonic() + POLL > self._deadline:
                raise CommandFailedError(
                    f"node {node} is a learner and has not caught up ({behind}); "
                    f"later: raft-io members promote {node}"
                )
            if not told and (match is None or commit > match):
                told = True
                self.say(f"node {node} catches up ({behind})")
            before = commit
            await asyncio.sleep(POLL)


def _progress(cluster: dict[str, Any], node: int) -> tuple[int, int | None]:
    """What is committed, and how much of the log the node has, `None` if the leader does not know yet."""
    leader = leader_of(cluster)
    for each in cluster["nodes"]:
        state = each["status"]
        if state is not None and state["id"] == leader:
            found = [follower["match_index"] for follower in state["followers"] if follower["id"] == node]
            return state["commit_index"], found[0] if found and found[0] else None
    return 0, None


async def _list(change: Change, options: argparse.Namespace) -> None:
    await change.read()


async def _add(change: Change, options: argparse.Namespace) -> None:
    node, address = options.id, options.address
    members = await change.read()
    voters, learners = set(members["voters"]), set(members["learners"])
    if node in voters | learners:
        if options.learner and node in voters:
            raise UsageError(f"node {node} is a voter: remove it first, and add it as a learner then")
        if members["addresses"].get(str(node)) != address:
            await change.move(addresses={str(node): address})
            change.say(f"node {node} has the address {address}")
    else:
        await change.move(learners=sorted({*learners, node}), addresses={str(node): address})
    if node in voters:
        change.say(f"node {node} is a voter")
        return
    change.say(f"node {node} is a learner")
    if not options.learner:
        await _make_voter(change, node)


async def _promote(change: Change, options: argparse.Namespace) -> None:
    members = await change.read()
    if options.id in members["voters"]:
        change.say(f"node {options.id} is a voter")
        return
    if options.id not in members["learners"]:
        raise CommandFailedError(f"node {options.id} is no member; see raft-io members add")
    await _make_voter(change, options.id)


async def _make_voter(change: Change, node: int) -> None:
    await change.wait_caught_up(node)
    # The server promotes who joined by itself.
    voters, learners = set(change.members["voters"]), set(change.members["learners"])
    if node not in voters:
        await change.move(voters=sorted({*voters, node}), learners=sorted(learners - {node}))
    change.say(f"node {node} is a voter")


async def _remove(change: Change, options: argparse.Namespace) -> None:
    members = await change.read()
    voters, learners = set(members["voters"]), set(members["learners"])
    if options.id not in voters | learners:
        raise CommandFailedError(f"node {options.id} is no member")
    if voters == {options.id}:
        raise CommandFailedError(f"node {options.id} is the only voter: there must be one")
    try:
        await change.move(voters=sorted(voters - {options.id}), learners=sorted(learners - {options.id}))
    except CommandFailedError as error:
        # A node that was asked to remove itself may stop before it can say that it is done.
        if not (
            isinstance(error, NodeRefusedError) and error.kind == "Removed" and members["id"] == options.id
        ):
            raise CommandFailedError(_not_removed(members["id"], options.id, error)) from error
    change.say(f"node {options.id} is removed")


def _not_removed(asked: int, node: int, error: CommandFailedError) -> str:
    if asked == node:
        return f"node {node} was asked to remove itself, and what came of it is not known: {error}"
    return f"node {node} is not removed yet: {error}"


def rows(members: Members) -> list[list[object]]:
    """A row a member."""
    made: list[list[object]] = []
    for node in sorted({*members["voters"], *members["learners"], *members["outgoing"]}):
        role = "voter" if node in members["voters"] else "learner"
        if members["outgoing"]:
            leaving = node in members["outgoing"] and node not in members["voters"]
            role = (
                "voter, leaving" if leaving else role if node in members["outgoing"] else f"{role}, joining"
            )
        if node == members["leader"]:
            role = f"{role}, leads"
        made.append([node, role, members["addresses"].get(str(node))])
    return made
