"""The arithmetic of majorities, against plain counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io.core.quorum import committed_index, majority, wins

pytestmark = pytest.mark.core


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_is_more_than_half(voters: int, needed: int) -> None:
    assert majority(voters) == needed


def test_votes_are_counted_by_id_and_only_those_of_voters() -> None:
    voters = [1, 2, 3, 4, 5]
    assert not wins(voters, [])
    assert not wins(voters, [1, 2])
    assert not wins(voters, [1, 2, 2, 2])
    assert not wins(voters, [1, 2, 6, 7, 8])
    assert wins(voters, [5, 1, 3])
    assert wins([9], [9])


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=9))
def test_the_committed_index_is_the_highest_that_a_majority_has(matches: list[int]) -> None:
    index = committed_index(matches)
    assert sum(match >= index for match in matches) > len(matches) / 2
    above = [match for match in matches if match > index]
    assert all(sum(match >= higher for match in matches) <= len(matches) / 2 for higher in above)


def test_the_committed_index_of_small_clusters() -> None:
    assert committed_index([5]) == 5
    assert committed_index([5, 3]) == 3
    assert committed_index([0, 0, 9]) == 0
    assert committed_index([4, 9, 6, 1]) == 4
