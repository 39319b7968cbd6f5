"""The invariants, one file for those that belong together. `ALL` has them by number."""

from __future__ import annotations

from typing import Final

from raft_io.testing.checks.base import WHOLE_RUN, Check, ViolationError
from raft_io.testing.checks.bounds import Bounds
from raft_io.testing.checks.commitment import Commitment
from raft_io.testing.checks.durability import Durability
from raft_io.testing.checks.leaders import Leaders
from raft_io.testing.checks.leases import Leases
from raft_io.testing.checks.linearizable import Linearizable
from raft_io.testing.checks.matching import Matching
from raft_io.testing.checks.membership import Changes
from raft_io.testing.checks.monotone import Monotone
from raft_io.testing.checks.reads import RealTime
from raft_io.testing.checks.reference import Reference
from raft_io.testing.checks.replicas import Replicas

__all__ = ["ALL", "INVARIANTS", "Check", "ViolationError"]

ALL: Final[tuple[type[Check], ...]] = (
    *(Leaders, Matching, Commitment, Replicas, Monotone),
    *(Durability, Changes, Bounds, RealTime, Leases, Linearizable, Reference),
)

_ALL: Final = {
    **{number: (check.name, rule) for check in ALL for number, rule in check.rules.items()},
    **{number: (check, rule) for check, (number, rule) in WHOLE_RUN.items()},
}

INVARIANTS: Final[dict[int, tuple[str, str]]] = dict(sorted(_ALL.items()))
"""The name of the check and the sentence of each invariant, by number."""
