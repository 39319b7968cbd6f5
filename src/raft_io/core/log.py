"""The log as the protocol sees it, and the one that lives in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.types import (
    MEMBERSHIP,
    Contents,
    HardState,
    Index,
    LogEntry,
    Snapshot,
    SnapshotMeta,
    Term,
)
from raft_io.errors import StorageError

__all__ = ["MemoryLog", "RaftLog"]


@mypyc_attr(allow_interpreted_subclasses=True)
class RaftLog(ABC):
    """Where a node's entries, hard state and snapshot live.

    A snapshot at index `i` stands for the entries through `i`. The backend may drop them, or keep some of
    them readable for followers that are a little behind: a tail.

    Durability: a backend may buffer, but once `sync` returns, every `append`, `truncate`, `set_hard_state`
    and `save_snapshot` before it is durable. Whatever fails raises `StorageError`
    (`StorageError.wrap` makes one of any exception); after that the node is dead.
    """

    __slots__ = ()

    @abstractmethod
    def last_index(self) -> Index:
        """The index of the last entry; the snapshot's if there is none behind it, `0` without one."""

    @abstractmethod
    def last_term(self) -> Term:
        """The term of the last entry, likewise."""

    @abstractmethod
    def term_at(self, index: Index) -> Term | None:
        """The term of the entry at `index`; `0` for index 0 (as long as entry 1 is there), the snapshot's
        term at its index; `None` outside the log."""

    @abstractmethod
    def entry(self, index: Index) -> LogEntry | None:
        """The entry at `index`, or `None`."""

    def entries(self, first: Index, last: Index) -> Sequence[LogEntry]:
        """The entries from `first` to `last`, both included, as far as they exist.

        The leader reads its batches by this. The default asks `entry` for each.
        """
        found = [self.entry(index) for index in range(max(first, 1), min(last, self.last_index()) + 1)]
        return [entry for entry in found if entry is not None]

    @abstractmethod
    def append(self, entries: Sequence[LogEntry]) -> None:
        """Append `entries`: contiguous, the first at `last_index() + 1`. Otherwise `StorageError`, and
        nothing has changed."""

    @abstractmethod
    def truncate(self, first: Index) -> None:
        """Remove every entry at `first` (>= 1) and after."""

    @abstractmethod
    def hard_state(self) -> HardState:
        """The hard state that was set last."""

    @abstractmethod
    def set_hard_state(self, state: HardState) -> None:
        """Replace the hard state."""

    @abstractmethod
    def sync(self) -> None:
        """Make everything before this call durable."""

    def snapshot(self) -> Snapshot | None:
        """The last snapshot. The default has none."""
        return None

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep `snapshot` in place of the last one, and compact the prefix that it stands for.

        One beyond the last entry, or of another term than the entry at its index, replaces the whole log. One
        that is no later than the last snapshot is ignored. What was staged may be dropped. The default
        cannot: it raises `StorageError`.
        """
        raise StorageError("saving a snapshot", f"{type(self).__name__} keeps no snapshots")

    def receive_snapshot(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> Contents | None:
        """Stage a piece of an incoming snapshot. Returns the whole, for `save_snapshot`, once it is complete
        (`offset + len(chunk) == meta.size`); before that, or if what was staged proves to be damaged and was
        dropped, `None`.

        Pieces come in order; `offset` 0 drops what was staged before. Staged data need not survive a restart.
        The default cannot: it raises `StorageError`.
        """
        raise StorageError("receiving a snapshot", f"{type(self).__name__} keeps no snapshots")

    def membership_entries(self) -> Sequence[LogEntry]:
        """The `MEMBERSHIP` entries behind the snapshot, in order. The default looks at every entry."""
        snapshot = self.snapshot()
        first = 1 if snapshot is None else snapshot.index + 1
        found: list[LogEntry] = []
        last = self.last_index()
        while first <= last:
            page = self.entries(first, min(first + _PAGE - 1, last))
            found.extend([entry for entry in page if entry.kind is MEMBERSHIP])
            first += _PAGE
        return found

    def close(self) -> None:  # noqa: B027 - a log with nothing to release needs no close of its own
        """Release what the log holds. The default holds nothing."""


_PAGE: Final = 1024

REQUIRED: Final = (
    "last_index",
    "last_term",
    "term_at",
    "entry",
    "append",
    "truncate",
    "hard_state",
    "set_hard_state",
    "sync",
)
"""What every backend must bring itself."""


def check_contiguous(entries: Sequence[LogEntry], last_index: Index) -> None:
    """Raise `StorageError` unless `entries` continue a log that ends at `last_index`."""
    expected: i64 = last_index + 1
    batch: tuple[LogEntry, ...] = entries if isinstance(entries, tuple) else tuple(entries)
    for entry in batch:
        if entry.index != expected:
            raise StorageError("appending entries", f"expected index {expected}, got {entry.index}")
        expected += 1


def check_truncation(first: Index, base: Index = 0) -> None:
    """Raise `StorageError` unless a log whose snapshot is at `base` can be cut at `first`."""
    if first <= base:
        raise StorageError(
            "truncating the log", f"the first index to remove must be >= {base + 1}, not {first}"
        )


def check_piece(offset: int, staged: int) -> None:
    """Raise `StorageError` unless a piece at `offset` continues a snapshot with `staged` bytes so far."""
    if offset != staged:
        raise StorageError("receiving a snapshot", f"byte {staged} expected, got byte {offset}")


@final
class MemoryLog(RaftLog):
    """The log in memory: for tests, examples and simulations. Nothing survives the process. After a snapshot
    it keeps the entries behind it and no others.

    >>> log = MemoryLog()
    >>> log.append([LogEntry(1, 1, b"a")])
    >>> log.last_index(), log.term_at(1), log.term_at(0)
    (1, 1, 0)
    """

    __slots__ = ("_base", "_base_term", "_entries", "_hard_state", "_snapshot", "_staged", "_staged_size")

    def __init__(self) -> None:
        self._entries: list[LogEntry] = []
        self._hard_state: HardState = HardState()
        self._snapshot: Snapshot | None = None
        self._base: i64 = 0
        """The snapshot's index: `_entries` begins right behind it."""
        self._base_term: i64 = 0
        self._staged: list[bytes] = []
        self._staged_size: i64 = 0

    def __len__(self) -> int:
        """How many entries there are, without those that the snapshot stands for."""
        return len(self._entries)

    @property
    def is_empty(self) -> bool:
        """Whether there is no entry."""
        return not self._entries

    def last_index(self) -> Index:
        return self._base + len(self._entries)

    def last_term(self) -> Term:
        return self._entries[-1].term if self._entries else self._base_term

    def term_at(self, index: Index) -> Term | None:
        place = index - self._base
        if place == 0:
            return self._base_term
        if place < 0 or place > len(self._entries):
            return None
        return self._entries[place - 1].term

    def entry(self, index: Index) -> LogEntry | None:
        place = index - self._base
        if place < 1 or place > len(self._entries):
            return None
        return self._entries[place - 1]

    def entries(self, first: Index, last: Index) -> Sequence[LogEntry]:
        return self._entries[max(first - self._base, 1) - 1 : max(last - self._base, 0)]

    def append(self, entries: Sequence[LogEntry]) -> None:
        batch = entries if isinstance(entries, tuple) else tuple(entries)
        check_contiguous(batch, self._base + len(self._entries))
        if len(batch) == 1:
            self._entries.append(batch[0])
        else:
            self._entries.extend(batch)

    def truncate(self, first: Index) -> None:
        check_truncation(first, self._base)
        del self._entries[first - self._base - 1 :]

    def hard_state(self) -> HardState:
        return self._hard_state

    def set_hard_state(self, state: HardState) -> None:
        self._hard_state = state

    def sync(self) -> None:
        pass

    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    def save_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.index <= self._base:
            return
        if self.term_at(snapshot.index) == snapshot.term:
            del self._entries[: snapshot.index - self._base]
        else:
            self._entries.clear()
        self._snapshot = snapshot
        self._base = snapshot.index
        self._base_term = snapshot.term

    def receive_snapshot(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> Contents | None:
        if offset == 0:
            self._staged.clear()
            self._staged_size = 0
        check_piece(offset, self._staged_size)
        self._staged.append(chunk)
        self._staged_size += len(chunk)
        if self._staged_size != meta.size:
            return None
        whole = b"".join(self._staged)
        self._staged.clear()
        self._staged_size = 0
        return whole
