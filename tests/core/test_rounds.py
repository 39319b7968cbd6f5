"""Rounds: what a reply confirms, and what it does not."""

from __future__ import annotations

import pytest
from tests.support import log_of, reply_of

from raft_io import AppendEntries, AppendEntriesReply, RaftConfig, RaftNode

pytestmark = pytest.mark.core


def test_a_refusal_for_an_earlier_term_confirms_no_round() -> None:
    """Node 1 led term 1, and leads term 2 now. A message of its earlier term comes late: its round 7 says
    nothing of round 7 in term 2, which may not have begun."""
    node = RaftNode(RaftConfig(2, [1, 3]), log_of([1], term=2, voted_for=1))
    assert reply_of(node, AppendEntries(1, 1, 1, 1, (), 0, 7)) == AppendEntriesReply(2, False, 2, 0)


def test_a_refusal_in_the_leaders_own_term_confirms_its_round() -> None:
    node = RaftNode(RaftConfig(2, [1, 3]), log_of([1], term=2, voted_for=1))
    refusal = reply_of(node, AppendEntries(2, 1, 5, 2, (), 0, 7))
    assert refusal == AppendEntriesReply(2, False, 2, 0, 2, 0, 7)
    assert reply_of(node, AppendEntries(2, 1, 5, 2, (), 0)).round == 0
