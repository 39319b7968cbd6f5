"""A state machine with a bug that no unit test shows, and the simulator that finds it.

Run: python examples/simulated.py
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import BinaryIO

from raft_io.server import StateMachine
from raft_io.testing import SimulationFailedError, simulate


class Accounts(StateMachine):
    """Money by name. The bug: `capture` remembers the balances, but not how many transfers there were."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.transfers = 0

    def apply(self, command: bytes) -> bytes:
        source, target, amount = json.loads(command)
        self.balances[source] = self.balances.get(source, 100) - amount
        self.balances[target] = self.balances.get(target, 100) + amount
        self.transfers += 1
        return b"transfer %d" % self.transfers

    def capture(self) -> Callable[[BinaryIO], None]:
        state = json.dumps(self.balances, sort_keys=True).encode()

        def write(stream: BinaryIO) -> None:
            stream.write(state)

        return write

    def restore(self, stream: BinaryIO) -> None:
        self.balances = json.loads(stream.read())


class MendedAccounts(Accounts):
    """The same, without the bug."""

    def capture(self) -> Callable[[BinaryIO], None]:
        state = json.dumps([self.balances, self.transfers], sort_keys=True).encode()

        def write(stream: BinaryIO) -> None:
            stream.write(state)

        return write

    def restore(self, stream: BinaryIO) -> None:
        self.balances, self.transfers = json.loads(stream.read())


def transfer(rng: random.Random, client: int) -> bytes:
    """What a client asks for: a transfer between two of four accounts."""
    source, target = rng.sample("abcd", 2)
    return json.dumps([source, target, rng.randint(1, 10)]).encode()


def main() -> None:
    """Simulate both."""
    try:
        simulate(Accounts, transfer, seeds=20)
    except SimulationFailedError as error:
        print(f"found: {error}")
    else:
        raise SystemExit("the bug was not found")
    report = simulate(MendedAccounts, transfer, seeds=5)
    print(f"mended: {report.runs} runs of {report.seconds / report.runs:.0f} simulated seconds are well")


if __name__ == "__main__":
    main()
