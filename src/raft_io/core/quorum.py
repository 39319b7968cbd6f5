"""Quorums: pure functions over voters (paper, sections 5.2 and 5.3)."""

from __future__ import annotations

from mypy_extensions import i64

__all__ = ["committed_index", "majority", "wins"]


def majority(voters: i64) -> i64:
    """How many of `voters` make a majority.

    >>> [int(majority(n)) for n in (1, 2, 3, 4, 5)]
    [1, 2, 2, 3, 3]
    """
    return voters // 2 + 1


def wins(voters: list[int], granted: list[int]) -> bool:
    """Whether the ids in `granted` hold a majority of `voters`. Votes count by id: a double counts once,
    and so does nobody who is no voter."""
    count: i64 = 0
    for voter in voters:
        if voter in granted:
            count += 1
    return count >= majority(len(voters))


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
