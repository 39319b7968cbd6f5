"""The log as the protocol sees it, and the one that lives in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.types import HardState, Index, LogEntry, Term
from raft_io.errors import StorageError

__all__ = ["MemoryLog", "RaftLog"]


@mypyc_attr(allow_interpreted_subclasses=True)
class RaftLog(ABC):
    """Where a node's entries and hard state live.

    Durability: a backend may buffer, but once `sync` returns, every `append`, `truncate` and
    `set_hard_state` before it is durable. Whatever fails raises `StorageError`
    (`StorageError.wrap` makes one of any exception); after that the node is dead.
    """

    __slots__ = ()

    @abstractmethod
    def last_index(self) -> Index:
        """The index of the last entry, `0` if there is none."""

    @abstractmethod
    def last_term(self) -> Term:
        """The term of the last entry, `0` if there is none."""

    @abstractmethod
    def term_at(self, index: Index) -> Term | None:
        """The term of the entry at `index`; `0` for index 0; `None` outside the log."""

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

    def close(self) -> None:  # noqa: B027 - a log with nothing to release needs no close of its own
        """Release what the log holds. The default holds nothing."""


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
            raise StorageError("append entries", f"expected index {expected}, got {entry.index}")
        expected += 1


def check_truncation(first: Index) -> None:
    """Raise `StorageError` unless a log can be cut at `first`."""
    if first < 1:
        raise StorageError("truncate", f"the first index to remove must be >= 1, not {first}")


@final
class MemoryLog(RaftLog):
    """The log in memory: for tests, examples and simulations. Nothing survives the process.

    >>> log = MemoryLog()
    >>> log.append([LogEntry(1, 1, b"a")])
    >>> log.last_index(), log.term_at(1), log.term_at(0)
    (1, 1, 0)
    """

    __slots__ = ("_entries", "_hard_state")

    def __init__(self) -> None:
        self._entries: list[LogEntry] = []
        self._hard_state: HardState = HardState()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_empty(self) -> bool:
        """Whether there is no entry."""
        return not self._entries

    def last_index(self) -> Index:
        return len(self._entries)

    def last_term(self) -> Term:
        return self._entries[-1].term if self._entries else 0

    def term_at(self, index: Index) -> Term | None:
        if index == 0:
            return 0
        if index < 0 or index > len(self._entries):
            return None
        return self._entries[index - 1].term

    def entry(self, index: Index) -> LogEntry | None:
        if index < 1 or index > len(self._entries):
            return None
        return self._entries[index - 1]

    def entries(self, first: Index, last: Index) -> Sequence[LogEntry]:
        return self._entries[max(first, 1) - 1 : max(last, 0)]

    def append(self, entries: Sequence[LogEntry]) -> None:
        batch = entries if isinstance(entries, tuple) else tuple(entries)
        check_contiguous(batch, len(self._entries))
        if len(batch) == 1:
            self._entries.append(batch[0])
        else:
            self._entries.extend(batch)

    def truncate(self, first: Index) -> None:
        check_truncation(first)
        del self._entries[first - 1 :]

    def hard_state(self) -> HardState:
        return self._hard_state

    def set_hard_state(self, state: HardState) -> None:
        self._hard_state = state

    def sync(self) -> None:
        pass
