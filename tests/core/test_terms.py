"""The searches by term, against a plain scan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import log_of

from raft_io import RaftConfig, RaftNode
from raft_io.core.state import State
from raft_io.core.terms import first_of_term, last_of_term, term_of

pytestmark = pytest.mark.core

terms_of_a_log = st.lists(st.integers(1, 6), max_size=30).map(sorted)


def state(terms: list[int]) -> State:
    return RaftNode(RaftConfig(1), log_of(terms))._state


@given(terms_of_a_log, st.integers(0, 7))
def test_the_last_of_a_term(terms: list[int], term: int) -> None:
    expected = max((index for index, one in enumerate(terms, start=1) if one == term), default=0)
    assert last_of_term(state(terms), term) == expected


@given(terms_of_a_log.filter(bool), st.data())
def test_the_first_of_the_term_at_an_index(terms: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(1, len(terms)))
    term = terms[index - 1]
    assert first_of_term(state(terms), term, index) == terms.index(term) + 1


def test_the_term_of_an_index() -> None:
    st_ = state([1, 1, 3])
    assert [term_of(st_, index) for index in range(4)] == [0, 1, 1, 3]


def test_a_log_that_lost_an_entry_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="the log holds everything"):
        term_of(state([1]), 2)
