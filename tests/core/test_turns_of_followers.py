"""A follower that is far behind does not keep the others waiting."""

from __future__ import annotations

import pytest
from tests.support import ack, drain, feed, leader, sent_to, step

from raft_io import AppendEntries, AppendEntriesReply, LogEntry, MemoryLog, RaftNode, Receive

pytestmark = pytest.mark.core

MIB = 1024 * 1024


def behind(megabytes: int) -> RaftNode:
    """A leader of so many entries of 1 MiB each; node 2 has none of them, node 3 has all."""
    log = MemoryLog()
    log.append([LogEntry(1, index, bytes(MIB)) for index in range(1, megabytes + 1)])
    node = leader(log=log, pre_vote=False, check_quorum=False)
    ack(node, 3, log.last_index())
    return node


def sizes(messages: list[AppendEntries]) -> list[int]:
    return [sum(len(entry.command) for entry in message.entries) // MIB for message in messages]


def test_one_drain_sends_it_a_few_megabytes_and_the_next_goes_on() -> None:
    node = behind(20)
    step(node, Receive(AppendEntriesReply(node.term, False, 2, 0, 2, 0)))
    feed(node, Receive(AppendEntriesReply(node.term, True, 2, 1)))
    turns = []
    while node.pending:
        turns.append(
            sizes([m for m in sent_to(drain(node), 2) if isinstance(m, AppendEntries) and m.entries])
        )
    assert [sum(turn) for turn in turns] == [4, 4, 4, 4, 3]


def test_step_returns_all_of_it() -> None:
    node = behind(20)
    step(node, Receive(AppendEntriesReply(node.term, False, 2, 0, 2, 0)))
    actions = step(node, Receive(AppendEntriesReply(node.term, True, 2, 1)))
    assert sum(sizes([m for m in sent_to(actions, 2) if isinstance(m, AppendEntries)])) == 19
