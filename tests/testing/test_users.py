"""Users' own state machines."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any, BinaryIO

import pytest

from raft_io.server import StateMachine
from raft_io.testing import Operation, SimulationFailedError, simulate
from raft_io.testing.sweep import Summary


class Counter(StateMachine):
    """Adds up. Children of it have bugs."""

    def __init__(self) -> None:
        self.total = 0
        self.count = 0

    def apply(self, command: bytes) -> bytes:
        self.total += int(command)
        self.count += 1
        return b"%d" % self.total

    def capture(self) -> Callable[[BinaryIO], None]:
        text = b"%d %d" % (self.total, self.count)
        return lambda stream: stream.writelines([text])

    def restore(self, stream: BinaryIO) -> None:
        self.total, self.count = map(int, stream.read().split())


def add(rng: random.Random, client: int) -> bytes:
    return b"%d" % rng.randrange(10)


def test_a_machine_that_is_right_passes() -> None:
    told: list[Summary] = []
    report = simulate(Counter, add, seeds=[4, 5], on_run=told.append)
    assert report.runs == 2
    assert report.seconds > 120
    assert report.operations > 500
    assert [each.seed for each in told] == [4, 5]


class Random(Counter):
    """Depends on more than its commands."""

    def apply(self, command: bytes) -> bytes:
        self.total += random.randrange(10)
        return super().apply(command)


class Forgets(Counter):
    """Does not save all of it."""

    def capture(self) -> Callable[[BinaryIO], None]:
        text = b"%d 0" % self.total
        return lambda stream: stream.writelines([text])

    def apply(self, command: bytes) -> bytes:
        return super().apply(command) + b" as number %d" % self.count


class Shares(Counter):
    """What it saves changes after it was captured."""

    def capture(self) -> Callable[[BinaryIO], None]:
        return lambda stream: stream.writelines([b"%d %d" % (self.total, self.count)])


class Quiet(Counter):
    """Its results are right, its state is not."""

    def apply(self, command: bytes) -> bytes:
        self.count += id(self) % 97
        return super().apply(command)


class Fails(Counter):
    """An exception that is no refusal."""

    def apply(self, command: bytes) -> bytes:
        if self.count == 30:
            raise ZeroDivisionError("not this one")
        return super().apply(command)


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (Random, "another result"),
        (Forgets, "another result"),
        (Shares, "result"),
        (Quiet, "different states"),
        (Fails, "not this one"),
    ],
)
def test_a_bug_is_found_and_the_seed_is_told(machine: type[Counter], text: str) -> None:
    with pytest.raises(SimulationFailedError, match=text) as caught:
        simulate(machine, add, seeds=30)
    seed = caught.value.seed
    assert f"seeds=[{seed}]" in str(caught.value)
    with pytest.raises(SimulationFailedError):
        simulate(machine, add, seeds=[seed])


class Reads:
    """A workload with reads, and a fingerprint of its own."""

    def __init__(self) -> None:
        self.read: list[Any] = []

    def next(self, rng: random.Random, client: int) -> Operation:
        if rng.random() < 0.5:
            return Operation("total", query=lambda machine: machine.total)
        return Operation("add 1", command=b"1")

    def fingerprint(self, machine: Counter) -> Hashable:
        return machine.total, machine.count

    def history(self, calls: Sequence[Any]) -> Sequence[Any]:
        return ()


def test_a_workload_may_read_and_say_what_is_equal() -> None:
    report = simulate(Counter, Reads(), seeds=[3])
    assert report.operations > 300


def test_an_operation_is_a_command_or_a_query() -> None:
    with pytest.raises(ValueError, match="either"):
        Operation("nothing")
    with pytest.raises(ValueError, match="either"):
        Operation("both", command=b"", query=len)
