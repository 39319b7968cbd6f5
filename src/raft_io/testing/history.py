"""What is committed, by any node's word: the one history that all nodes must tell."""

from __future__ import annotations

from typing import final

from raft_io import Index, Membership, Term

__all__ = ["History"]


@final
class History:
    """The term of every committed entry, from index 1 on, and the term of the leader that first knew."""

    __slots__ = ("changes", "initial", "known_in", "terms")

    def __init__(self, initial: Membership) -> None:
        self.initial = initial
        self.terms: list[Term] = []
        self.known_in: list[Term] = []
        self.changes: list[tuple[Index, Membership]] = []
        """The committed memberships."""

    def membership(self, index: Index) -> Membership:
        """Who takes part as of a committed entry."""
        for changed, membership in reversed(self.changes):
            if changed <= index:
                return membership
        return self.initial

    @property
    def known(self) -> Index:
        """The highest index that is committed, as far as anybody knows."""
        return len(self.terms)

    def agrees(self, index: Index, term: Term) -> bool:
        """Whether the entry of `term` at `index` is the committed one."""
        return 1 <= index <= len(self.terms) and self.terms[index - 1] == term
