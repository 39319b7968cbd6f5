"""State machines: the same commands in the same order on every replica, each once, to the same state."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import ClassVar

from raft_io.testing.checks.base import Check, told
from raft_io.testing.process import Process
from raft_io.testing.workload import WorkloadError, fingerprint
from raft_io.testing.world import World

__all__ = ["Replicas"]


class Replicas(Check):
    """State machine safety (paper, section 5.4.3), exactly once (thesis, section 6.3), over snapshots too."""

    name = "replicas"
    rules: ClassVar = {
        13: (
            "All replicas apply the same commands, in the same order, each once, with the same results,"
            " over snapshots too."
        ),
        14: "In the end all replicas are in the same state.",
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        world.ledger.problem = partial(self.fail, 13)

    def ended(self) -> None:
        members = self.world.members
        first = members[0]
        state = self._state(first)
        for other in members[1:]:
            if (other.machine.place, other.machine.chain) != (first.machine.place, first.machine.chain):
                self.fail(14, f"nodes {first.id} and {other.id} have not applied the same commands")
            if self._state(other) != state:
                self.fail(
                    14,
                    f"nodes {first.id} and {other.id} have applied the same {first.machine.place} "
                    "commands, but are in different states, or save equal ones differently: the state "
                    "machine is not deterministic, or its capture or restore loses something",
                )

    def _state(self, process: Process) -> Hashable:
        taken = getattr(self.world.workload, "fingerprint", None)
        if taken is None:
            return fingerprint(process.machine.inner)
        try:
            found: Hashable = taken(process.machine.inner)
        except Exception as error:
            raise WorkloadError(f"the workload's fingerprint raised {told(error)}") from error
        return found
