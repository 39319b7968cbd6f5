"""Quorums: pure functions over voters (paper, sections 5.2, 5.3 and 6)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

__all__ = ["OUTGOING", "VOTER", "agreed", "committed_index", "majority", "wins"]

VOTER: Final = 1
OUTGOING: Final = 2
"""Flags of a seat: whose majority it counts in. A learner has none, and while a membership is joint one may
have both."""


def majority(voters: i64) -> i64:
    """How many of `voters` make a majority.

    >>> [int(majority(n)) for n in (1, 2, 3, 4, 5)]
    [1, 2, 2, 3, 3]
    """
    return voters // 2 + 1


def _has_majority(voters: list[int], granted: list[int]) -> bool:
    count: i64 = 0
    for voter in voters:
        if voter in granted:
            count += 1
    return count >= majority(len(voters))


def wins(voters: list[int], outgoing: list[int], granted: list[int]) -> bool:
    """Whether the ids in `granted` hold a majority of `voters`, and of `outgoing` as well if there are any.

    Votes count by id: a double counts once, and so does nobody who is no voter.
    """
    return _has_majority(voters, granted) and (not outgoing or _has_majority(outgoing, granted))


def committed_index(matches: list[int]) -> i64:
    """The highest index that a majority has, given the match index of every voter.

    >>> int(committed_index([7, 3, 5]))
    5
    """
    # Counting beats sorting for as few voters as a cluster has.
    needed = majority(len(matches))
    best: i64 = 0
    for candidate in matches:
        if candidate > best:
            count: i64 = 0
            for match in matches:
                if match >= candidate:
                    count += 1
            if count >= needed:
                best = candidate
    return best


def agreed(values: list[int], seats: list[int]) -> i64:
    """The highest value that a majority of the voters has reached, and of the outgoing voters if there are
    any: both majorities count while a membership is joint (section 6). `seats` has the flags of each value's
    owner.

    >>> int(agreed([9, 3, 5, 7], [VOTER, VOTER | OUTGOING, OUTGOING, VOTER]))
    3
    """
    voters: list[int] = []
    outgoing: list[int] = []
    for value, seat in zip(values, seats, strict=True):
        if seat & VOTER:
            voters.append(value)
        if seat & OUTGOING:
            outgoing.append(value)
    best = committed_index(voters)
    if outgoing:
        best = min(best, committed_index(outgoing))
    return best
