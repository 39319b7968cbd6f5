"""Clients of the store: what they saw could have happened one after the other."""

from __future__ import annotations

from typing import ClassVar

from raft_io.testing.checks.base import Check
from raft_io.testing.linearizability import UndecidedError, check

__all__ = ["Linearizable"]

LIMIT = 200_000
"""Steps of the search of one key: a second or less."""


class Linearizable(Check):
    """Linearizability (Herlihy and Wing) by the answers alone. The places at which the replicas served are no
    more than a guess at an order: it has to explain every answer, or another one is searched for. For
    workloads that have a model, as that of the store."""

    name = "linearizability"
    rules: ClassVar = {
        27: "Key by key, there is an order of all operations, in real time, that explains every answer.",
    }

    def ended(self) -> None:
        told = getattr(self.world.workload, "history", None)
        history = told(self.world.clients.calls) if told is not None else ()
        places = self._places()
        try:
            found = check(history, limit=LIMIT, guess=lambda asked: places.get((asked.client, asked.called)))
        except UndecidedError as error:
            # Invariants 24 to 26 have judged the same history, by its places.
            self.world.note(0, str(error))
            return
        if found is not None:
            self.fail(27, str(found))

    def _places(self) -> dict[tuple[int, float], tuple[int, int]]:
        """Where each operation was served, by its client, who has but one at a time, and when that called.
        What read a state comes after the command that led to it."""
        applied = self.world.ledger.places
        places: dict[tuple[int, float], tuple[int, int]] = {}
        for call in self.world.clients.calls:
            if call.is_read:
                places[call.client, call.called] = (call.place, 1)
            elif call.tag in applied:
                places[call.client, call.called] = (applied[call.tag], 0)
        return places
