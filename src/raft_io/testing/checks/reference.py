"""A machine that is never restored: what it comes to is what was answered."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from raft_io import CommandError
from raft_io.server import StateMachine
from raft_io.testing.checks.base import Check, told
from raft_io.testing.checks.replicas import state_of
from raft_io.testing.machine import UNKNOWN, Applied, Asked, kept, shown
from raft_io.testing.world import World

__all__ = ["Reference"]

CAUSES: Final = "its capture or restore loses something, or the state machine is not deterministic"

Step = tuple[int, int, int, "Asked | None"]
"""What comes next: after how many commands, at what time (before any: the command itself), which of those,
and for a query what it is."""


class Reference(Check):
    """Replicas that have all been restored, and have all lost the same, agree. So the whole history is
    applied once more, from the first command on, by a machine that has had no snapshot."""

    name = "reference"
    rules: ClassVar = {
        32: (
            "Commands and queries are answered as by a machine that is never restored, and that ends in the "
            "state of the replicas."
        ),
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.place = 0

    def ended(self) -> None:
        ledger = self.world.ledger
        steps: list[Step] = [(place + 1, -1, 0, None) for place in range(len(ledger.history))]
        steps += [(place, time, 1, None) for place, time in ledger.times]
        steps += [(asked.place, asked.time, 2, asked) for asked in ledger.asked]
        steps.sort(key=lambda step: step[:3])
        try:
            machine = self.world.machine()
            for place, time, _, asked in steps:
                self.place = place
                if asked is not None:
                    self._ask(machine, asked)
                elif time < 0:
                    self._apply(machine, ledger.history[place - 1])
                else:
                    machine.advance(time)
        except Exception as error:
            self.fail(32, f"a machine that is never restored raises {told(error)}, others do not")
        first = self.world.members[0].machine
        if first.place == self.place and state_of(self.world, machine) != state_of(self.world, first.inner):
            self.fail(
                32,
                f"the replicas have applied {self.place} commands, and are in another state than a machine "
                f"that is never restored: {CAUSES}",
            )

    def _apply(self, machine: StateMachine, applied: Applied) -> None:
        answer: bytes | str
        try:
            answer = machine.apply(applied.command)
        except CommandError as error:
            answer = str(error)
        if answer != applied.answer:
            self.fail(
                32,
                f"command {self.place} is answered with {shown(applied.answer)}, and by a machine that is "
                f"never restored with {shown(answer)}: {CAUSES}",
            )

    def _ask(self, machine: StateMachine, asked: Asked) -> None:
        query: Any = asked.operation.query
        found = kept(query(machine))
        if found is UNKNOWN or asked.answer is UNKNOWN or _are_equal(found, asked.answer):
            return
        # What differs where nothing differs, as objects do that cannot be compared, says nothing.
        if _are_equal(found, query(machine)):
            self.fail(
                32,
                f"the query {asked.operation.text!r}, after {self.place} commands, is answered with "
                f"{shown(asked.answer)}, and by a machine that is never restored with {shown(found)}: "
                f"{CAUSES}",
            )


def _are_equal(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except Exception:
        return False
