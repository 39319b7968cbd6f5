"""The arithmetic of majorities, against plain counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io.core.quorum import OUTGOING, VOTER, agreed, committed_index, majority, wins

pytestmark = pytest.mark.core


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_is_more_than_half(voters: int, needed: int) -> None:
    assert majority(voters) == needed


def test_votes_are_counted_by_id_and_only_those_of_voters() -> None:
    voters = [1, 2, 3, 4, 5]
    assert not wins(voters, [], [])
    assert not wins(voters, [], [1, 2])
    assert not wins(voters, [], [1, 2, 2, 2])
    assert not wins(voters, [], [1, 2, 6, 7, 8])
    assert wins(voters, [], [5, 1, 3])
    assert wins([9], [], [9])


def test_where_there_are_no_voters_nobody_wins() -> None:
    assert not wins([], [], [])
    assert not wins([], [], [1, 2, 3])
    assert committed_index([]) == 0
    assert agreed([7], [0]) == 0


@given(
    st.frozensets(st.integers(0, 6)),
    st.frozensets(st.integers(0, 6)),
    st.lists(st.integers(0, 8), max_size=9),
)
def test_an_election_is_won_by_both_majorities_while_joint(
    voters: frozenset[int], outgoing: frozenset[int], granted: list[int]
) -> None:
    won = 2 * len(voters & set(granted)) > len(voters)
    if outgoing:
        won = won and 2 * len(outgoing & set(granted)) > len(outgoing)
    assert wins(sorted(voters), sorted(outgoing), granted) is won


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, VOTER, OUTGOING, VOTER | OUTGOING]))))
def test_agreed_is_the_highest_value_that_both_majorities_have(members: list[tuple[int, int]]) -> None:
    def has(value: int, half: int) -> bool:
        """Whether a majority of this half has reached `value`, by counting."""
        those = [reached for reached, seat in members if seat & half]
        return 2 * sum(reached >= value for reached in those) > len(those)

    joint = any(seat & OUTGOING for _, seat in members)
    best = max(v for v in range(10) if v == 0 or (has(v, VOTER) and (not joint or has(v, OUTGOING))))
    assert agreed([value for value, _ in members], [seat for _, seat in members]) == best


def test_learners_count_in_neither_majority() -> None:
    assert agreed([5, 5, 9, 9, 9], [VOTER, VOTER, 0, 0, 0]) == 5
    assert agreed([1, 5, 9, 9], [VOTER, VOTER, 0, OUTGOING]) == 1


def test_every_value_has_a_seat() -> None:
    with pytest.raises(ValueError, match="shorter"):
        agreed([1, 2], [VOTER])


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
