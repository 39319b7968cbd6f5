"""State machines: the same commands in the same order on every replica, each once, to the same state."""

from __future__ import annotations

from raft_io.testing.checks.base import Check
from raft_io.testing.world import World

__all__ = ["Replicas"]


class Replicas(Check):
    """State machine safety (paper, section 5.4.3), exactly once (thesis, section 6.3), over snapshots too."""

    name = "replicas"
    rule = (
        "All replicas apply the same commands, in the same order, each once, with the same results; a "
        "snapshot takes none of them back; in the end all are in the same state."
    )

    def __init__(self, world: World) -> None:
        super().__init__(world)
        world.ledger.problem = self.fail

    def ended(self) -> None:
        members = self.world.members
        first = members[0]
        state = self.world.workload.fingerprint(first.machine.inner)
        for other in members[1:]:
            if (other.machine.place, other.machine.chain) != (first.machine.place, first.machine.chain):
                self.fail(f"nodes {first.id} and {other.id} have not applied the same commands")
            if self.world.workload.fingerprint(other.machine.inner) != state:
                self.fail(
                    f"nodes {first.id} and {other.id} have applied the same {first.machine.place} "
                    "commands, but are in different states: the state machine is not deterministic, or "
                    "its capture or restore loses something"
                )
