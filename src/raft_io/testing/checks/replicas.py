"""State machines: the same commands in the same order on every replica, each once, to the same state."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import ClassVar

from raft_io.server import StateMachine
from raft_io.testing.checks.base import Check, told
from raft_io.testing.machine import CAUSES, differing
from raft_io.testing.workload import WorkloadError, fingerprint
from raft_io.testing.world import World

__all__ = ["Replicas", "state_of"]


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
        state = state_of(self.world, first.machine.inner)
        for other in members[1:]:
            if (other.machine.place, other.machine.chain) != (first.machine.place, first.machine.chain):
                self.fail(14, f"nodes {first.id} and {other.id} have not applied the same commands")
            if state_of(self.world, other.machine.inner) != state:
                self.fail(
                    14,
                    f"nodes {first.id} and {other.id} have applied the same {first.machine.place} "
                    f"commands, but are in different states, or save equal ones differently, "
                    f"{differing(state_of(self.world, other.machine.inner), state)}: {CAUSES}",
                )


def state_of(world: World, machine: StateMachine) -> Hashable:
    """What is equal for two machines exactly if they are in the same state. Raises `WorkloadError`."""
    taken = getattr(world.workload, "fingerprint", None)
    if taken is None:
        return fingerprint(machine)
    try:
        found: Hashable = taken(machine)
    except Exception as error:
        failed = WorkloadError(f"the workload's fingerprint raised {told(error)}")
        failed.__cause__ = error  # compiled, `from` leaves that out
        raise failed from error
    if found is None:
        raise WorkloadError("the workload's fingerprint returned None: nothing tells two states apart")
    return found
