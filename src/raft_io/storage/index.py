"""Where entries are: what the log keeps in memory of all that is on disk.

Small: sixteen bytes a record, whatever it holds, sixteen a change of term, and eight a membership.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final, final

from mypy_extensions import i64

__all__ = ["LogIndex", "Place", "place_of"]

Place = int
"""A record's segment number and offset in one integer."""

OFFSET_BITS: Final = 40
"""A segment is below a tebibyte, and there are below 2**23 of them."""


def place_of(segment: i64, offset: i64) -> Place:
    """The place of the record at `offset` of `segment`."""
    return segment << OFFSET_BITS | offset


def segment_of(place: Place) -> int:
    """The number of the segment."""
    return place >> OFFSET_BITS


def offset_of(place: Place) -> int:
    """The offset in the segment."""
    return place & ((1 << OFFSET_BITS) - 1)


NO_TERM: Final = -1
"""There is no run of a term, or a term is not known."""


@final
class LogIndex:
    """The terms of all entries, as runs, the records that hold them, and where memberships are.

    1. The entries are those from `base + 1` to `last_index`. `base_term` is the term of the one before them,
       `NO_TERM` if it is not known; `base` is 0 in a log that has never been compacted.
    2. `term_starts`, `firsts` and `memberships` increase strictly, and so do `places`.
    3. Record `r` holds the entries from `firsts[r]` up to the next record's first; whatever else it has on
       disk has been cut off since.
    4. `run_term` is the term of the last run, `NO_TERM` if there is none.
    5. `memberships` are the indexes of the `MEMBERSHIP` entries.
    """

    __slots__ = (
        "base",
        "base_term",
        "firsts",
        "last_index",
        "memberships",
        "places",
        "run_term",
        "term_starts",
        "terms",
    )

    def __init__(self) -> None:
        self.base: i64 = 0
        self.base_term: i64 = 0
        self.last_index: i64 = 0
        self.run_term: i64 = NO_TERM
        self.term_starts: array[int] = array("q")
        self.terms: array[int] = array("q")
        self.firsts: array[int] = array("q")
        self.places: array[int] = array("q")
        self.memberships: array[int] = array("q")

    @property
    def last_term(self) -> i64:
        """The term of the last entry, or of the one before the first if there is none."""
        return max(self.run_term if self.last_index > self.base else self.base_term, 0)

    def reset(self, index: i64, term: i64) -> None:
        """Forget everything: the next entry comes behind `index`, which has this term (or `NO_TERM`)."""
        self.base = index
        self.base_term = term
        self.last_index = index
        self.run_term = NO_TERM
        del self.term_starts[:]
        del self.terms[:]
        del self.firsts[:]
        del self.places[:]
        del self.memberships[:]

    def new_term(self, first: i64, term: i64) -> None:
        """The entries from `first` on have this term."""
        self.term_starts.append(first)
        self.terms.append(term)
        self.run_term = term

    def add_record(self, first: i64, place: Place) -> None:
        """The record at `place` holds the entries from `first` on."""
        self.firsts.append(first)
        self.places.append(place)

    def cut(self, first: i64) -> None:
        """Forget every entry at `first` and after."""
        if first > self.last_index:
            return
        if first <= self.base:
            self.reset(first - 1, NO_TERM if first > 1 else 0)
            return
        self.last_index = first - 1
        while self.firsts and self.firsts[-1] >= first:
            self.firsts.pop()
            self.places.pop()
        while self.term_starts and self.term_starts[-1] >= first:
            self.term_starts.pop()
            self.terms.pop()
        while self.memberships and self.memberships[-1] >= first:
            self.memberships.pop()
        self.run_term = self.terms[-1] if self.terms else NO_TERM

    def drop(self, base: i64) -> None:
        """Forget every entry up to `base`, with which a record ends."""
        term = self.term_at(base)
        if base == self.last_index:
            self.reset(base, NO_TERM if term is None else term)
            return
        self.base_term = NO_TERM if term is None else term
        self.base = base
        run = bisect_right(self.term_starts, base + 1) - 1
        del self.term_starts[:run]
        del self.terms[:run]
        records = bisect_right(self.firsts, base)
        del self.firsts[:records]
        del self.places[:records]
        del self.memberships[: bisect_right(self.memberships, base)]

    def term_at(self, index: i64) -> int | None:
        """The term of the entry at `index`, that of the base (`0` at 0) at its own, `None` outside."""
        if index <= self.base:
            return int(self.base_term) if index == self.base and self.base_term >= 0 else None
        if index > self.last_index:
            return None
        return self.terms[bisect_right(self.term_starts, index) - 1]

    def record_of(self, index: i64) -> int:
        """The position in `firsts` and `places` of the record that holds the entry at `index`."""
        return bisect_right(self.firsts, index) - 1

    def check(self) -> None:
        """Assert the invariants."""
        assert 0 <= self.base <= self.last_index, "1: the entries are those behind the base"
        for increasing in (self.term_starts, self.firsts, self.memberships, self.places):
            assert list(increasing) == sorted(set(increasing)), "2: they increase strictly"
        assert len(self.terms) == len(self.term_starts) and len(self.places) == len(self.firsts)
        if self.firsts:
            assert self.firsts[0] == self.base + 1 and self.firsts[-1] <= self.last_index, (
                "3: records hold entries"
            )
        if self.last_index > self.base:
            assert self.term_starts[0] <= self.base + 1 and self.term_starts[-1] <= self.last_index
        assert self.run_term == (self.terms[-1] if self.terms else NO_TERM), "4: the last run"
        if self.memberships:
            assert self.base < self.memberships[0] and self.memberships[-1] <= self.last_index, "5: entries"
