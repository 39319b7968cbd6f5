"""The checks can fail: each is shown a cluster in which one promise was broken by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.sim.cluster import Cluster, Move, Op, Setup
from tests.sim.member import Member, Mode

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    Apply,
    HardState,
    LogEntry,
    Message,
    RequestVote,
    RequestVoteReply,
    Send,
)

pytestmark = pytest.mark.core


def cluster() -> Cluster:
    """Node 1 leads term 1 and has committed two entries; node 3 is behind by both."""
    made = Cluster(Setup((Mode.STEP,) * 3))
    made.do(Move(Op.ISOLATE, 2, 0))
    made.do(Move(Op.TIME_OUT, 0, 0))
    made.do(Move(Op.FLOW, 100, 0))
    for command in (b"a", b"b"):
        assert made.propose(made.members[0], command)
        made.do(Move(Op.FLOW, 100, 0))
    assert [entry.command for entry in made.checker.committed] == [b"a", b"b"]
    return made


def sends(member: Member, to: int, message: Message, acknowledged: LogEntry | None = None) -> None:
    member.checker.sent(member, Send(to, message), acknowledged)


def same_place_other_command(made: Cluster) -> None:
    made.members[2].log.append([LogEntry(1, 1, b"other")])


def same_place_other_past(made: Cluster) -> None:
    made.members[1].log.append([LogEntry(2, 3, b"y")])
    made.members[2].log.append([LogEntry(2, 1), LogEntry(2, 2), LogEntry(2, 3, b"y")])


def a_committed_entry_removed(made: Cluster) -> None:
    made.members[1].log.truncate(2)


def a_leader_removes(made: Cluster) -> None:
    made.members[0].log.truncate(2)


def two_leaders(made: Cluster) -> None:
    sends(made.members[1], 3, AppendEntries(1, 2, 0, 0, (), 0))


def two_votes(made: Cluster) -> None:
    sends(made.members[1], 3, RequestVoteReply(1, True, 2))


def a_vote_not_on_disk(made: Cluster) -> None:
    made.members[2].log.disk_state = HardState(1)
    sends(made.members[2], 1, RequestVoteReply(1, True, 3))


def a_term_not_on_disk(made: Cluster) -> None:
    sends(made.members[2], 1, RequestVote(9, 3, 0, 0))


def an_entry_not_on_disk(made: Cluster) -> None:
    made.members[2].log.disk_state = HardState(1)
    sends(made.members[2], 1, AppendEntriesReply(1, True, 3, 2), LogEntry(1, 2, b"b"))


def a_commit_that_is_none(made: Cluster) -> None:
    sends(made.members[0], 2, AppendEntries(1, 1, 0, 0, (), 3))


def applied_twice(made: Cluster) -> None:
    made.checker.applied(made.members[0], Apply(2, 1, b"b"))


def applied_and_skipped(made: Cluster) -> None:
    made.checker.applied_through[1] = 0
    made.checker.applied(made.members[0], Apply(2, 1, b"b"))


def applied_another(made: Cluster) -> None:
    made.checker.applied(made.members[2], Apply(1, 1, b"c"))


def applied_not_on_disk(made: Cluster) -> None:
    made.checker.applied(made.members[2], Apply(1, 1, b"a"))


def committed_on_one_disk(made: Cluster) -> None:
    made.members[1].log.disk.clear()
    made.checker._is_safe(made.checker.committed[1])


def committed_though_another_could_win(made: Cluster) -> None:
    made.members[2].log.disk.append(LogEntry(2, 1, b"z"))
    made.checker._is_safe(made.checker.committed[1])


def a_leader_lacks_an_entry(made: Cluster) -> None:
    made.checker._complete(made.members[2], 2)


def a_leader_without_votes(made: Cluster) -> None:
    made.checker._elected(made.members[2], 1)


def the_commit_index_falls(made: Cluster) -> None:
    member = made.members[0]
    made.checker.seen[1] = made.checker.seen[1]._replace(commit=3)
    made.checker.observe(member)


def a_term_is_not_adopted(made: Cluster) -> None:
    made.checker.heeded(made.members[0], RequestVoteReply(2, False, 2), None)


BROKEN: dict[Callable[[Cluster], None], str] = {
    same_place_other_command: "log matching",
    same_place_other_past: "log matching",
    a_committed_entry_removed: "removed the committed",
    a_leader_removes: "leader 1 removed entries",
    two_leaders: "has the leaders 1 and 2",
    two_votes: "voted for 1 and 3",
    a_vote_not_on_disk: "vote not durable",
    a_term_not_on_disk: "may forget the term",
    an_entry_not_on_disk: "not durable",
    a_commit_that_is_none: "claims a commit",
    applied_twice: "after 2",
    applied_and_skipped: "skips",
    applied_another: "is not LogEntry",
    applied_not_on_disk: "not durable on node 3",
    committed_on_one_disk: "not on a majority of disks",
    committed_though_another_could_win: "could win",
    a_leader_lacks_an_entry: "lacks LogEntry",
    a_leader_without_votes: "alone",
    the_commit_index_falls: "commit=3",
    a_term_is_not_adopted: "ignored RequestVoteReply",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_noticed(broken: Callable[[Cluster], None]) -> None:
    made = cluster()
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        broken(made)
