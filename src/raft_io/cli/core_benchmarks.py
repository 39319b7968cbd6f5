"""What `raft-io bench core` measures, and the process that measures it.

    python -m raft_io.cli.core_benchmarks --plain

prints the nanoseconds of each benchmark, of whichever build it was started with, as JSON. Without `--plain`
the arguments are those of pyperf, which writes them to a file.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Final

from raft_io import (
    COMPILED,
    Action,
    AppendEntries,
    LogEntry,
    Propose,
    RaftConfig,
    RaftNode,
    Receive,
    Send,
    Tick,
    wire,
)

__all__ = ["BENCHMARKS", "main"]

COMMAND: Final = b"x" * 100
BATCH: Final = 64

ROUNDS: Final = 7
"""How often the plain timer measures; the fastest counts, which disturbances only ever make slower."""

ROUND_SECONDS: Final = 0.1


def _leader(id: int, peers: tuple[int, ...]) -> dict[int, RaftNode]:  # noqa: A002
    """A cluster in memory, in which node `id` leads."""
    ids = (id, *peers)
    nodes = {node: RaftNode(RaftConfig(node, [peer for peer in ids if peer != node])) for node in ids}
    while not nodes[id].is_leader:
        _deliver(nodes, nodes[id].step(Tick()))
    return nodes


def _deliver(nodes: dict[int, RaftNode], actions: list[Action]) -> None:
    """Carry messages until there are none."""
    while actions:
        caused: list[Action] = []
        for action in actions:
            if type(action) is Send:
                caused += nodes[action.to].step(Receive(action.message))
        actions = caused


def tick(loops: int) -> float:
    """A follower's tick."""
    step = RaftNode(RaftConfig(1, [2, 3]).with_election_timeout(10**9, 10**9)).step
    event = Tick()
    start = perf_counter()
    for _ in range(loops):
        step(event)
    return perf_counter() - start


def propose_apply(loops: int) -> float:
    """A proposal on a cluster of one, until it is to be applied."""
    step = _leader(1, ())[1].step
    start = perf_counter()
    for _ in range(loops):
        step(Propose(COMMAND))
    return perf_counter() - start


def propose_commit(loops: int) -> float:
    """A proposal on a cluster of three, until its leader has committed it: both followers answer."""
    nodes = _leader(1, (2, 3))
    leader = nodes[1]
    start = perf_counter()
    for _ in range(loops):
        for action in leader.step(Propose(COMMAND)):
            if type(action) is Send:
                for answer in nodes[action.to].step(Receive(action.message)):
                    if type(answer) is Send:
                        leader.step(Receive(answer.message))
    elapsed = perf_counter() - start
    assert leader.commit_index == loops
    return elapsed


def batch(loops: int) -> float:
    """64 proposals at a time on a cluster of three, until every node has committed them."""
    nodes = _leader(1, (2, 3))
    leader = nodes[1]
    start = perf_counter()
    for _ in range(loops):
        for _ in range(BATCH):
            leader.feed(Propose(COMMAND))
        _deliver(nodes, leader.drain())
    elapsed = perf_counter() - start
    assert leader.commit_index == loops * BATCH
    return elapsed


def _message() -> AppendEntries:
    entries = [LogEntry(3, index, COMMAND) for index in range(1, BATCH + 1)]
    return AppendEntries(3, 1, 0, 0, entries, 0)


def encode(loops: int) -> float:
    """Encoding a message with 64 entries of 100 bytes."""
    message = _message()
    start = perf_counter()
    for _ in range(loops):
        wire.encode(message)
    return perf_counter() - start


def decode(loops: int) -> float:
    """Decoding it."""
    data = wire.encode(_message())
    start = perf_counter()
    for _ in range(loops):
        wire.decode(data)
    return perf_counter() - start


BENCHMARKS: Final[dict[str, tuple[Callable[[int], float], int]]] = {
    "follower tick": (tick, 1),
    "propose to apply, one node": (propose_apply, 1),
    "propose to commit, three nodes": (propose_commit, 1),
    "64 proposals, three nodes, an entry": (batch, BATCH),
    "encode 64 entries": (encode, 1),
    "decode 64 entries": (decode, 1),
}
"""By name: a function that does it so often and returns the seconds, and how many things each time does."""


def measure(function: Callable[[int], float], things: int) -> float:
    """Nanoseconds of each thing that `function` does, without pyperf."""
    loops = 1
    while function(loops) < ROUND_SECONDS:
        loops *= 2
    fastest = math.inf
    for _ in range(ROUNDS):
        gc.collect()
        fastest = min(fastest, function(loops))
    return fastest / loops / things * 1e9


def main() -> None:
    """Measure everything."""
    if "--plain" in sys.argv:
        times = {name: measure(function, things) for name, (function, things) in BENCHMARKS.items()}
        print(json.dumps({"compiled": COMPILED, "nanoseconds": times}))
        return
    pyperf = importlib.import_module("pyperf")  # an extra, and untyped
    runner = pyperf.Runner(processes=6, program_args=("-m", "raft_io.cli.core_benchmarks"))
    for name, (function, things) in BENCHMARKS.items():
        runner.bench_time_func(name, function, inner_loops=things)


if __name__ == "__main__":
    main()
