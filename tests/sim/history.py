"""What is committed, by any node's word: the one history that all nodes must tell."""

from __future__ import annotations

from tests.sim.image import membership_in

from raft_io import EntryKind, LogEntry, Membership, Term


class History:
    """Entries from index 1 on, and who took part when."""

    def __init__(self, initial: Membership) -> None:
        self.initial = initial
        self.committed: list[LogEntry] = []
        self.commit_terms: list[Term] = []
        """The term of the leader that first knew, for each."""
        self.changes: list[LogEntry] = []

    def commit(self, entry: LogEntry, term: Term) -> None:
        """`entry` is committed, says the leader of `term`."""
        assert entry.index == len(self.committed) + 1
        self.committed.append(entry)
        self.commit_terms.append(term)
        if entry.kind is EntryKind.MEMBERSHIP:
            self.changes.append(entry)

    @property
    def known(self) -> int:
        """The highest index that is known to be committed, by anybody."""
        return len(self.committed)

    def at(self, index: int) -> LogEntry:
        return self.committed[index - 1]

    def between(self, first: int, last: int) -> list[LogEntry]:
        return self.committed[first - 1 : last]

    def agrees(self, index: int, term: Term) -> bool:
        """Whether the entry of `term` at `index` is the committed one."""
        return 1 <= index <= self.known and self.committed[index - 1].term == term

    def commands(self, through: int) -> list[bytes]:
        """The commands that a state machine at `through` has applied."""
        return [entry.command for entry in self.committed[:through] if entry.kind is EntryKind.NORMAL]

    def membership(self, index: int) -> Membership:
        """Who takes part as of `index`."""
        for entry in reversed(self.changes):
            if entry.index <= index:
                return membership_in(entry.command)
        return self.initial

    def owed(self, first: int, last: int) -> list[LogEntry]:
        """The entries from `first` to `last` of which a driver is told: commands and final memberships."""
        return [entry for entry in self.between(first, last) if is_told(entry)]


def is_told(entry: LogEntry) -> bool:
    """Whether a driver is told of this entry once it is committed."""
    if entry.kind is EntryKind.MEMBERSHIP:
        return not membership_in(entry.command).outgoing
    return entry.kind is EntryKind.NORMAL
