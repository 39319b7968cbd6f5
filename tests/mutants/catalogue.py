"""All mutants, in the order of their areas."""

from __future__ import annotations

from tests.mutants import (
    commitment,
    elections,
    log,
    membership,
    reads,
    replication,
    sessions,
    snapshots,
    transfer,
)
from tests.mutants.mutant import Mutant

__all__ = ["ALL"]

ALL: tuple[Mutant, ...] = (
    *elections.MUTANTS,
    *replication.MUTANTS,
    *commitment.MUTANTS,
    *membership.MUTANTS,
    *snapshots.MUTANTS,
    *reads.MUTANTS,
    *log.MUTANTS,
    *sessions.MUTANTS,
    *transfer.MUTANTS,
)
