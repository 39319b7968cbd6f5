"""What a sync writes: a batch of changes, and what a snapshot asks for."""

from __future__ import annotations

from typing import Final, final

from raft_io.core.types import HardState, LogEntry, Snapshot
from raft_io.storage.records import NO_RESET

__all__ = ["Install", "Written", "before_reset", "split"]

MAX_RECORD: Final = 4 << 20
"""Bytes of entries in one record, unless a single entry is larger. A sync of more writes several records,
each of them synced before the next is written."""

ENTRY_COST: Final = 200
"""What an entry is taken to cost in memory and on disk besides its command."""


@final
class Written:
    """What one record holds, on its way to the disk: a new hard state, a cut (0: none), a reset (`NO_RESET`:
    none), entries; and the log's last index and term behind it."""

    __slots__ = ("cut", "entries", "hard_state", "last_index", "last_term", "reset_index", "reset_term")

    def __init__(
        self,
        hard_state: HardState | None,
        cut: int,
        entries: list[LogEntry],
        last_index: int,
        last_term: int,
        reset_index: int = NO_RESET,
        reset_term: int = 0,
    ) -> None:
        self.hard_state = hard_state
        self.cut = cut
        self.entries = entries
        self.last_index = last_index
        self.last_term = last_term
        self.reset_index = reset_index
        self.reset_term = reset_term


@final
class Install:
    """What a snapshot asks of the next sync: to publish it (`None`: that is done), and to empty the log,
    which goes on behind `reset_index` (`NO_RESET`: it stays as it is). `cut` is a truncation from before
    that, not written yet (0: none), and `cut_term` the term of the last entry that it leaves."""

    __slots__ = ("cut", "cut_term", "reset_index", "reset_term", "snapshot")

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.snapshot: Snapshot | None = snapshot
        self.reset_index: int = NO_RESET
        self.reset_term: int = 0
        self.cut: int = 0
        self.cut_term: int = 0

    def reset(self, index: int, term: int) -> None:
        """The log goes on behind `index`, which has this term."""
        self.reset_index = index
        self.reset_term = term


def before_reset(install: Install, batch: Written | None, last_index: int, last_term: int) -> Written | None:
    """What must be on disk before a snapshot that replaces the log; it is taken out of `batch`. `last_index`
    and `last_term` are those of the last entry on disk."""
    state = None if batch is None else batch.hard_state
    if state is None and not install.cut:
        return None
    if batch is not None:
        batch.hard_state = None
    if install.cut:
        return Written(state, install.cut, [], install.cut - 1, install.cut_term)
    return Written(state, 0, [], last_index, last_term)


def split(batch: Written) -> list[Written]:
    """`batch` as the records to write: mostly itself. The hard state and the cut go first, since no entry
    may be durable before the term it was accepted in."""
    entries = batch.entries
    size = sum([len(entry.command) + ENTRY_COST for entry in entries])
    if size <= MAX_RECORD:
        return [batch]
    parts: list[Written] = []
    part: list[LogEntry] = []
    size = 0
    for entry in entries:
        cost = len(entry.command) + ENTRY_COST
        if part and size + cost > MAX_RECORD:
            parts.append(_part(batch, part, not parts))
            part = []
            size = 0
        part.append(entry)
        size += cost
    parts.append(_part(batch, part, not parts))
    return parts


def _part(batch: Written, entries: list[LogEntry], is_first: bool) -> Written:
    state = batch.hard_state if is_first else None
    cut = batch.cut if is_first else 0
    reset = batch.reset_index if is_first else NO_RESET
    return Written(state, cut, entries, entries[-1].index, entries[-1].term, reset, batch.reset_term)
