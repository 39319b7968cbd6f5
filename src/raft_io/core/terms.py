"""Terms along the log: they never decrease, so that a binary search finds where one begins or ends."""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core.state import State

__all__ = ["first_of_term", "last_of_term", "term_of"]


def term_of(st: State, index: i64) -> i64:
    """The term of an entry that the log holds, or of the snapshot (0 for index 0)."""
    term = st.log.term_at(index)
    assert term is not None, "the log holds everything through last_index"
    return term


def first_of_term(st: State, term: i64, index: i64) -> i64:
    """The first index of the run of `term` that holds `index`, as far back as the snapshot."""
    low = min(st.snapshot_index + 1, index)
    high = index
    while low < high:
        middle = (low + high) // 2
        if term_of(st, middle) >= term:
            high = middle
        else:
            low = middle + 1
    return low


def last_of_term(st: State, term: i64) -> i64:
    """The last index whose entry is of `term`, `0` if there is none behind the snapshot's."""
    low = st.snapshot_index
    high = st.last_index
    while low < high:
        middle = (low + high + 1) // 2
        if term_of(st, middle) <= term:
            low = middle
        else:
            high = middle - 1
    return low if low > 0 and term_of(st, low) == term else 0
