"""Have a node take a snapshot, and drop the part of its log that the snapshot stands for.

Each node takes its own. They do it by themselves with the setting snapshot_threshold.
"""

from __future__ import annotations

import argparse
import asyncio

from raft_io.cli.operate import Operator, add_node_options, print_json

__all__ = ["add_arguments", "run"]

TIMEOUT = 300.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io snapshot`."""
    add_node_options(parser, timeout=TIMEOUT)


def run(options: argparse.Namespace) -> int:
    """Take it."""
    operator = Operator(options)
    answer = asyncio.run(operator.post("/snapshot", {}))
    if options.json:
        print_json(answer)
    elif not answer["index"]:
        print(f"node {answer['id']}: nothing was written yet, so there is nothing to take a snapshot of")
    else:
        print(f"node {answer['id']}: snapshot at index {answer['index']}")
    return 0
