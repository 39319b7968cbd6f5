"""The invariants, one file for those that belong together. `ALL` has them by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raft_io.testing.checks.base import Check, ViolationError
from raft_io.testing.checks.bounds import Bounds
from raft_io.testing.checks.commitment import Commitment
from raft_io.testing.checks.durability import Durability
from raft_io.testing.checks.leaders import Leaders
from raft_io.testing.checks.linearizable import Linearizable
from raft_io.testing.checks.matching import Matching
from raft_io.testing.checks.membership import Changes
from raft_io.testing.checks.monotone import Monotone
from raft_io.testing.checks.reads import RealTime
from raft_io.testing.checks.replicas import Replicas
from raft_io.testing.world import World

__all__ = ["ALL", "Check", "ViolationError"]

ALL: Final[tuple[Callable[[World], Check], ...]] = (
    *(Leaders, Matching, Commitment, Replicas, Monotone),
    *(Durability, Changes, Bounds, RealTime, Linearizable),
)
