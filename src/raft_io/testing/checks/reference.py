"""A machine that is never restored: what it comes to is what was answered."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any, ClassVar, Final

from raft_io import CommandError
from raft_io.server import StateMachine
from raft_io.testing.checks.base import Check, told
from raft_io.testing.checks.replicas import state_of
from raft_io.testing.machine import CAUSES, Applied, WatchedMachine, answer_to, differing
from raft_io.testing.workload import Operation
from raft_io.testing.world import World

__all__ = ["Reference"]

AGAIN: Final = 8
"""How often a query is asked again whose answers differ: it may depend on more than the machine."""

END: Final = 2**63
"""Later than any time in ms since the epoch that a machine is told."""


class Reference(Check):
    """Replicas that have all been restored, and have all lost the same, agree. So the history is applied once
    more, from the first command on, by a machine that has had no snapshot, as far as somebody asks."""

    name = "reference"
    rules: ClassVar = {
        32: (
            "Commands and queries are answered as by a machine that is never restored, and that ends in the "
            "state of the replicas."
        ),
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.machine: StateMachine | None = None
        self.place = 0
        self.time = 0
        world.ledger.queried = self.queried

    def queried(self, replica: WatchedMachine, operation: Operation, answer: Any) -> None:
        """A replica has answered a query. One that is further behind than another was is not judged."""
        query = operation.query
        if query is None or (replica.place, replica.time) < (self.place, self.time):
            return
        machine = self._caught_up(replica.place, replica.time)
        found = answer_to(query, machine)
        if _are_equal(answer, found) or not (_is_plain(answer) and _is_plain(found)):
            return
        for _ in range(AGAIN):
            here, there = answer_to(query, replica.inner), answer_to(query, machine)
            if not (_are_equal(here, answer) and _are_equal(there, found)):
                return
        self.fail(
            32,
            f"after {self.place} commands node {replica.node} answers the query {operation.text!r} with "
            f"{differing(answer, found)}, as a machine that is never restored does: {CAUSES}, or the query "
            "depends on more than the machine",
        )

    def ended(self) -> None:
        machine = self._caught_up(len(self.world.ledger.history), END)
        first = self.world.members[0].machine
        # Saved states may differ by what was shared between objects before a restore: a fingerprint does not.
        judges = getattr(self.world.workload, "fingerprint", None) is not None
        if not judges or (first.place, first.time) != (self.place, self.time):
            return
        found, reference = state_of(self.world, first.inner), state_of(self.world, machine)
        if found != reference:
            self.fail(
                32,
                f"after {self.place} commands the replicas are in the state "
                f"{differing(found, reference)}, as a machine is that was never restored: {CAUSES}",
            )

    def _caught_up(self, place: int, time: int) -> StateMachine:
        """The machine, after so many commands, at a time."""
        ledger = self.world.ledger
        machine = self.machine
        if machine is None:
            machine = self.machine = self.world.machine()
        while True:
            for told_time in ledger.times.get(self.place, ()):
                if told_time > self.time and (self.place < place or told_time <= time):
                    self.time = told_time
                    self._advance(machine)
            if self.place == place:
                return machine
            self.place += 1
            self._apply(machine, ledger.history[self.place - 1])

    def _advance(self, machine: StateMachine) -> None:
        try:
            machine.advance(self.time)
        except Exception as error:
            self._raises(f"the time {self.time}", error)

    def _apply(self, machine: StateMachine, applied: Applied) -> None:
        answer: bytes | str = ""
        try:
            answer = machine.apply(applied.command)
        except CommandError as error:
            answer = str(error)
        except Exception as error:
            self._raises("it", error)
        if answer != applied.answer:
            self.fail(
                32,
                f"the replicas answer command {self.place} with {differing(applied.answer, answer)}, as a "
                f"machine that is never restored does: {CAUSES}",
            )

    def _raises(self, what: str, error: Exception) -> None:
        text = f"at command {self.place} a machine that is never restored is told {what}"
        self.fail(32, f"{text} and raises {told(error)}; the replicas do not: {CAUSES}")


def _listed(value: object) -> object:
    return list(value) if isinstance(value, (KeysView, ItemsView, ValuesView)) else value


def _are_equal(one: object, other: object) -> bool:
    """Whether nobody can tell them apart: what is not a number is not equal to itself."""
    try:
        return bool(_listed(one) == _listed(other)) or repr(one) == repr(other)
    except Exception:
        return False


def _is_plain(value: object) -> bool:
    """Whether equality says something: of all that it holds, nothing is equal to itself alone."""
    try:
        if isinstance(value, Mapping):
            return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
        if isinstance(value, (list, tuple, set, frozenset, KeysView, ItemsView, ValuesView)):
            return all(_is_plain(item) for item in value)
        return type(value).__eq__ is not object.__eq__
    except Exception:
        return False
