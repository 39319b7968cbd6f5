"""Hand leadership over to another voter.

Without an id the leader chooses one that is up to date. For when a machine is needed for something else; a
leader that is stopped by SIGTERM does it by itself.
"""

from __future__ import annotations

import argparse
import asyncio

from raft_io.cli.operate import Operator, add_node_options, node_id, print_json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io transfer`."""
    parser.add_argument("id", nargs="?", type=node_id, metavar="ID", help="the voter that shall lead")
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    """Hand over."""
    operator = Operator(options)
    answer = asyncio.run(operator.post("/transfer", {"target": options.id}))
    if options.json:
        print_json(answer)
    else:
        print(f"node {answer['leader']} leads")
    return 0
