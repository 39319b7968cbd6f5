"""Where entries are: what the log keeps in memory of all that is on disk.

Small: sixteen bytes a record, whatever it holds, and sixteen a change of term.
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


@final
class LogIndex:
    """The terms of all entries, as runs, and the records that hold them.

    1. `term_starts` and `firsts` increase strictly.
    2. Record `r` holds the entries from `firsts[r]` up to the next record's first; whatever else it has on
       disk has been cut off since.
    3. `run_term` is the term of the last run, `NO_TERM` if there is none.
    """

    __slots__ = ("firsts", "last_index", "places", "run_term", "term_starts", "terms")

    def __init__(self) -> None:
        self.last_index: i64 = 0
        self.run_term: i64 = NO_TERM
        self.term_starts: array[int] = array("q")
        self.terms: array[int] = array("q")
        self.firsts: array[int] = array("q")
        self.places: array[int] = array("q")

    @property
    def last_term(self) -> i64:
        """The term of the last entry, 0 if there is none."""
        return max(self.run_term, 0)

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
        self.last_index = first - 1
        while self.firsts and self.firsts[-1] >= first:
            self.firsts.pop()
            self.places.pop()
        while self.term_starts and self.term_starts[-1] >= first:
            self.term_starts.pop()
            self.terms.pop()
        self.run_term = self.terms[-1] if self.terms else NO_TERM

    def term_at(self, index: i64) -> int | None:
        """The term of the entry at `index`, `0` at 0, `None` outside."""
        if index == 0:
            return 0
        if index < 0 or index > self.last_index:
            return None
        return self.terms[bisect_right(self.term_starts, index) - 1]

    def record_of(self, index: i64) -> int:
        """The position in `firsts` and `places` of the record that holds the entry at `index`."""
        return bisect_right(self.firsts, index) - 1
