"""Run a whole cluster on this machine, one process a node.

Node i speaks the Redis protocol on base+i, to its peers on base+100+i and HTTP on base+200+i. Everything is
kept in the data directory, across runs: node-i/raft.toml (settings), node-i/pid, node-i/node.log.
Ctrl-C or SIGTERM stops all nodes cleanly. A node that dies is reported and can be started again by hand:
raft-io serve --config DIR/node-i/raft.toml
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raft_io.cli.cluster import MAX_NODES, Cluster, Observed, exclusive, plan, prepare
from raft_io.cli.errors import FAILED

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["add_arguments", "run"]

POLL_INTERVAL: Final = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io dev`."""
    parser.add_argument(
        "--nodes",
        type=_nodes,
        default=3,
        metavar="N",
        help="how many nodes, 1 to 9 (3)",
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where everything is kept (data)"
    )
    parser.add_argument("--base-port", type=int, default=7000, metavar="PORT", help="see above (7000)")


def _nodes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MAX_NODES):
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_NODES}, not {text}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Run the cluster until told to stop."""
    members = plan(options.data_dir, options.nodes, options.base_port)
    with exclusive(options.data_dir):
        prepare(options.data_dir, members)
        return asyncio.run(_run(Cluster(members)))


async def _run(cluster: Cluster) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(each, stop.set)
    with contextlib.ExitStack() as stack:
        say, show = _terminal(stack) if sys.stdout.isatty() else (_say, _show_nothing)
        try:
            await cluster.start()
            return await _watch(cluster, stop, say, show)
        finally:
            for complaint in await cluster.stop():
                say(complaint)


async def _watch(
    cluster: Cluster,
    stop: asyncio.Event,
    say: Callable[[str], None],
    show: Callable[[Sequence[Observed]], None],
) -> int:
    """Report what changes, until told to stop or until nothing is left that ever ran."""
    reporter = Reporter(cluster)
    while not stop.is_set():
        await cluster.observe()
        for line in reporter.news():
            say(line)
        show(cluster.nodes)
        if not reporter.ready and all(node.exit is not None for node in cluster.nodes):
            return FAILED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_INTERVAL):
                await stop.wait()
    say("stopping")
    return 0


class Reporter:
    """What is new since the last time, a line each."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._roles = {node.member.id: node.role for node in cluster.nodes}
        self._ended: set[int] = set()
        self.ready = False

    def news(self) -> list[str]:
        """Compare what was observed with what was told."""
        lines: list[str] = []
        for node in self._cluster.nodes:
            lines += self._of_node(node)
        leader = self._cluster.leader
        if leader is not None and not self.ready:
            self.ready = True
            first = self._cluster.nodes[0].member.resp.port
            lines.append(f"ready: node {leader.member.id} leads; try: redis-cli -p {first} set a 1")
        return lines

    def _of_node(self, node: Observed) -> list[str]:
        member = node.member
        lines = []
        if node.exit is not None and member.id not in self._ended:
            self._ended.add(member.id)
            again = f"; to start it again: {_command()} serve --config {member.config}"
            lines.append(f"node {member.id}: {node.ending()}{'' if node.removed else again}")
        if node.role != self._roles[member.id]:
            if node.status is not None:
                lines.append(
                    f"node {member.id}: {node.role} in term {node.status['term']}, redis on {member.resp}"
                )
            elif node.exit is None:
                lines.append(f"node {member.id}: does not answer")
            self._roles[member.id] = node.role
        return lines


def _command() -> str:
    """How to call this program, as a person would type it here."""
    here = sys.argv[0]
    if os.path.basename(here) != "raft-io" or shutil.which("raft-io") == os.path.abspath(here):
        return "raft-io"
    return os.path.relpath(here)


def _say(line: str) -> None:
    print(line, flush=True)


def _show_nothing(nodes: Sequence[Observed]) -> None:
    """There is no table where output is not a terminal."""


def _terminal(
    stack: contextlib.ExitStack,
) -> tuple[Callable[[str], None], Callable[[Sequence[Observed]], None]]:
    """A table that stays, and lines above it."""
    from rich.live import Live

    live = stack.enter_context(Live(auto_refresh=False, redirect_stdout=False, redirect_stderr=False))

    def say(line: str) -> None:
        live.console.print(line, markup=False, highlight=False)

    def show(nodes: Sequence[Observed]) -> None:
        live.update(table(nodes), refresh=True)

    return say, show


COLORS: Final = {"leader": "bold green", "candidate": "yellow", "down": "bold red"}


def table(nodes: Sequence[Observed]) -> Table:
    """The cluster at a glance."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    # Narrow enough for 80 columns.
    made = Table(box=SIMPLE_HEAD, pad_edge=False, caption="Ctrl-C stops all nodes", caption_justify="left")
    for title in ("node", "role", "term", "commit", "applied"):
        made.add_column(title, justify="left" if title == "role" else "right")
    for title in ("redis", "http"):
        made.add_column(title)
    for node in nodes:
        status = node.status or {}
        numbers = [str(status.get(name, "-")) for name in ("term", "commit_index", "last_applied")]
        role = Text(node.role, style=COLORS.get(node.role, ""))
        made.add_row(str(node.member.id), role, *numbers, str(node.member.resp), str(node.member.http))
    return made
