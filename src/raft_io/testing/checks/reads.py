"""Clients: nothing that was acknowledged is forgotten, nothing is read that is older."""

from __future__ import annotations

from typing import ClassVar

from raft_io.testing.checks.base import Check
from raft_io.testing.clients import Call
from raft_io.testing.world import World

__all__ = ["RealTime"]


class RealTime(Check):
    """Linearizability by the places in the one history: an operation comes after everything that was
    acknowledged before it began (Herlihy and Wing)."""

    name = "real time"
    rules: ClassVar = {
        24: (
            "A command takes a place after all that were acknowledged before it was asked for, keeps it, "
            "and is answered with what it came to there."
        ),
        25: "A read is served by a state that has all that was acknowledged before it began.",
        26: "What was refused was not applied.",
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.calls: list[Call] = []

    def acknowledged(self, call: Call) -> None:
        if call.is_read:
            if call.place < call.floor:
                self.fail(
                    25, f"a stale read: {call} at {call.place}, {call.floor} was acknowledged before it began"
                )
        else:
            place = self.world.ledger.places.get(call.tag)
            if place is None:
                self.fail(24, f"{call} is acknowledged, but was applied nowhere")
            elif place <= call.floor:
                self.fail(24, f"{call} at {place}, but {call.floor} was acknowledged before it began")
            else:
                answer = self.world.ledger.history[place - 1].answer
                if answer != (str(call.result) if isinstance(call.result, Exception) else call.result):
                    self.fail(24, f"{call} is answered with {call.result!r}, and came to {answer!r}")

    def ended(self) -> None:
        ledger = self.world.ledger
        for call in self.world.clients.calls:
            if call.is_read:
                continue
            place = ledger.places.get(call.tag, 0)
            if call.outcome == "acknowledged" and place != call.place:
                self.fail(24, f"{call} was acknowledged at {call.place}, and is at {place}")
            if call.outcome == "refused" and place and not call.unknown:
                self.fail(26, f"{call} was refused, and is at {place}")
