"""Bugs that Raft implementations had, each as a small change of this package's source.

A simulator is as good as what it finds: each of these it must catch. The bugs are those of real systems, or
mistakes that the Raft paper and thesis warn of; none leaves the behaviour as it was.
"""

from __future__ import annotations

from tests.mutants.catalogue import ALL
from tests.mutants.mutant import AREAS, Mutant, apply

__all__ = ["ALL", "AREAS", "Mutant", "apply"]
