"""A voter whose disk was lost comes back as a learner."""

from __future__ import annotations

import pytest
from tests.support import ack, caught_up_leader, receive, sent, sent_to, step

from raft_io import AppendEntries, AppendEntriesReply, ChangeMembership, Membership, Propose

pytestmark = pytest.mark.core


def test_a_voter_that_becomes_a_learner_is_asked_anew_what_it_has() -> None:
    node = caught_up_leader(pre_vote=False, check_quorum=False)
    step(node, Propose(b"a"))
    ack(node, 2, 1)
    ack(node, 3, 1)
    step(node, ChangeMembership([1, 2], [3]))
    assert node.membership == Membership([1, 2], [3])

    # Its disk was empty: it refuses, and says that it wants the first entry.
    actions = receive(node, AppendEntriesReply(1, False, 3, 0, 1, 0))
    (message,) = sent_to(actions, 3)
    assert isinstance(message, AppendEntries) and message.prev_log_index == 0
    assert [entry.index for entry in message.entries] == [1, 2]


def test_one_that_stays_a_voter_is_not() -> None:
    """A voter never forgets what it has acknowledged, so that such a refusal can only be an old one."""
    node = caught_up_leader(pre_vote=False, check_quorum=False)
    step(node, Propose(b"a"))
    ack(node, 2, 1)
    ack(node, 3, 1)
    step(node, ChangeMembership([1, 2, 3], [4]))
    actions = receive(node, AppendEntriesReply(1, False, 3, 0, 1, 0))
    assert [message.prev_log_index for message in sent(actions, AppendEntries)] == [1]


def test_a_learner_keeps_its_place_when_it_is_promoted() -> None:
    node = caught_up_leader((2,), pre_vote=False, check_quorum=False)
    step(node, Propose(b"a"))
    ack(node, 2, 1)
    step(node, ChangeMembership([1, 2], [3]))
    ack(node, 2, 2)
    ack(node, 3, 2)
    step(node, ChangeMembership([1, 2, 3]))
    (progress,) = [f for f in node.status.followers if f.id == 3]
    assert progress.match_index == 2 and progress.state == "replicate"
