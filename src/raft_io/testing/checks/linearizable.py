"""Clients of the store: what they saw could have happened one after the other."""

from __future__ import annotations

from typing import ClassVar

from raft_io.testing.checks.base import Check
from raft_io.testing.linearizability import UndecidedError, check

__all__ = ["Linearizable"]

LIMIT = 200_000
"""Steps of the search of one key: a second or less."""


class Linearizable(Check):
    """Linearizability (Herlihy and Wing) by the answers alone: no log, no place is looked at. For workloads
    that have a model, as that of the store."""

    name = "linearizability"
    rules: ClassVar = {
        27: "Key by key, there is an order of all operations, in real time, that explains every answer.",
    }

    def ended(self) -> None:
        told = getattr(self.world.workload, "history", None)
        history = told(self.world.clients.calls) if told is not None else ()
        try:
            found = check(history, limit=LIMIT) if history else None
        except UndecidedError as error:
            # Invariants 24 to 26 have judged the same history, by its places.
            self.world.note(0, str(error))
            return
        if found is not None:
            self.fail(27, str(found))
