"""`RaftNode`: construction, the end of all indexes, and the term gate."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import (
    TOP,
    TracingLog,
    ack,
    applied,
    campaign,
    default_leader,
    elect,
    entries_of,
    heartbeat,
    leader,
    log_of,
    paper,
    receive,
    step,
)

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    Apply,
    HardState,
    InstallSnapshot,
    InstallSnapshotReply,
    LogEntry,
    Membership,
    MemoryLog,
    Message,
    OverloadedError,
    PreVote,
    PreVoteReply,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadIndexReply,
    ReadIndexRequest,
    Receive,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    StorageError,
    Tick,
    TimeoutNow,
)

pytestmark = pytest.mark.core


# Construction.


def test_a_fresh_node_follows_nobody_in_term_0() -> None:
    node = RaftNode(paper(1, [2, 3]))
    assert (node.id, node.role, node.term, node.leader) == (1, Role.FOLLOWER, 0, None)
    assert (node.commit_index, node.last_applied, node.is_leader, node.pending) == (0, 0, False, False)
    assert isinstance(node.log, MemoryLog) and node.log.is_empty
    assert node.membership == Membership([1, 2, 3])
    assert node.drain() == []


def test_two_fresh_nodes_do_not_share_a_log() -> None:
    assert RaftNode(RaftConfig(1)).log is not RaftNode(RaftConfig(1)).log


def test_a_node_adopts_what_its_log_holds() -> None:
    log = log_of([1, 1, 3], term=5, voted_for=2)
    for node in (RaftNode(paper(1, [2, 3]), log), RaftNode.with_log(paper(1, [2, 3]), log)):
        assert node.log is log
        assert (node.term, node.status.voted_for, node.status.last_index) == (5, 2, 3)
        assert (node.commit_index, node.last_applied) == (0, 0)


def test_applied_is_where_commitment_starts() -> None:
    node = RaftNode(RaftConfig.single(1), log_of([1, 1, 1]), applied=2)
    assert (node.commit_index, node.last_applied) == (2, 2)
    elect(node)
    assert node.last_applied == 4, "the third entry and the NOOP that commits it"


def test_entries_through_applied_are_not_applied_again() -> None:
    node = RaftNode(RaftConfig.single(1), log_of([1, 1, 1]), applied=2)
    assert applied(campaign(node)) == [3]


def test_applied_lies_within_the_log() -> None:
    with pytest.raises(ValueError, match="applied is 4, but the log ends at index 3"):
        RaftNode(RaftConfig(1), log_of([1, 1, 1]), applied=4)
    for number in (-1, TOP + 1):
        with pytest.raises(ValueError, match="applied must be in"):
            RaftNode(RaftConfig(1), applied=number)


def test_wrong_types_are_type_errors() -> None:
    config: Any = 1
    log: Any = [1]
    nothing: Any = None
    with pytest.raises(TypeError):
        RaftNode(config)
    with pytest.raises(TypeError):
        RaftNode(RaftConfig(1), log)
    with pytest.raises(TypeError):
        RaftNode.with_log(RaftConfig(1), nothing)
    with pytest.raises(TypeError):
        RaftNode(RaftConfig(1), applied=nothing)


def partial_log(*lacking: str) -> RaftLog:
    """A `RaftLog` of a class that lacks some methods, made although `abc` would refuse to."""
    methods = {
        name: getattr(TracingLog, name)
        for name in dir(TracingLog)
        if not name.startswith("_") and name in RaftLog.__dict__ and name not in lacking
    }
    cls: Any = type("PartialLog", (RaftLog,), methods)
    cls.__abstractmethods__ = frozenset()
    made: RaftLog = cls()
    return made


@pytest.mark.parametrize(
    "lacking",
    [
        ["last_index"],
        ["last_term"],
        ["term_at"],
        ["entry"],
        ["append"],
        ["truncate"],
        ["hard_state"],
        ["set_hard_state"],
        ["sync"],
        ["append", "sync"],
    ],
    ids=lambda names: "+".join(names),
)
def test_an_incomplete_log_is_refused_and_told_what_it_lacks(lacking: list[str]) -> None:
    expected = f"^PartialLog is no complete RaftLog: it lacks {', '.join(lacking)}$"
    with pytest.raises(TypeError, match=expected):
        RaftNode(RaftConfig(1), partial_log(*lacking))
    with pytest.raises(TypeError, match=expected):
        RaftNode.with_log(RaftConfig(1), partial_log(*lacking))


def test_a_log_in_python_works_as_well_as_the_one_in_memory() -> None:
    log = TracingLog()
    node = RaftNode(RaftConfig.single(1), log)
    elect(node)
    assert step(node, Propose(b"x")) == [Apply(1, 1, b"x")]
    assert log.calls == ["set_hard_state", "sync", "append", "sync"]


class Far(TracingLog):
    """A log that claims to end at `last`."""

    def __init__(self, last: int, term: int = 1) -> None:
        super().__init__()
        self.last = last
        self.state = HardState(term)

    def last_index(self) -> int:
        return self.last + len(self.held)

    def last_term(self) -> int:
        return self.held[-1].term if self.held else 1

    def term_at(self, index: int) -> int | None:
        if index > self.last:
            return self.held[index - self.last - 1].term
        return 1 if index else 0

    def entry(self, index: int) -> LogEntry | None:
        return LogEntry(1, index)

    def membership_entries(self) -> list[LogEntry]:
        return []


@pytest.mark.parametrize(("last", "term"), [(TOP, 1), (5, TOP)])
def test_a_log_at_the_maximum_is_refused(last: int, term: int) -> None:
    with pytest.raises(StorageError, match="at its maximum"):
        RaftNode(RaftConfig(1), Far(last, term))


def test_a_log_with_entries_of_a_later_term_than_its_hard_state_is_adopted_in_that_term() -> None:
    node = RaftNode(paper(1, [2, 3]), log_of([1, 3], term=2))
    assert node.term == 3
    node._state.check()
    # Whom it voted for in that term is lost: nobody gets the vote.
    assert node.step(Receive(RequestVote(3, 2, 9, 3))) == [Send(2, RequestVoteReply(3, False, 1))]
    assert node.step(Receive(RequestVote(4, 2, 9, 3))) == [Send(2, RequestVoteReply(4, True, 1))]


# The end of all indexes.


def test_a_leader_takes_no_entry_at_the_largest_index() -> None:
    node = RaftNode(paper(1, [2]), Far(TOP - 3))
    elect(node)
    assert node.feed(Propose(b"x")) == TOP - 1
    with pytest.raises(OverloadedError, match="the log is full"):
        node.feed(Propose(b"x"))


def test_who_has_no_room_for_an_entry_does_not_campaign() -> None:
    node = RaftNode(paper(1, [2]), Far(TOP - 1))
    for _ in range(100):
        assert node.step(Tick()) == []
    assert node.role is Role.FOLLOWER


def test_a_follower_takes_no_entry_at_the_largest_index() -> None:
    node = RaftNode(paper(1, [2]), Far(TOP - 2))
    message = AppendEntries(1, 2, TOP - 2, 1, entries_of([1, 1], first=TOP - 1), 0)
    assert node.step(Receive(message)) == []
    assert node.log.last_index() == TOP - 2
    assert node.step(Receive(AppendEntries(1, 2, TOP, 1, (), 0))) == []
    assert len(node.step(Receive(AppendEntries(1, 2, TOP - 2, 1, message.entries[:1], 0)))) == 1
    assert node.log.last_index() == TOP - 1


# The term gate.


OF_TERM: list[Message] = [
    PreVoteReply(9, False, 2),
    RequestVote(9, 2, 0, 0),
    RequestVoteReply(9, False, 2),
    AppendEntries(9, 2, 0, 0, (), 0),
    AppendEntriesReply(9, False, 2, 0),
    InstallSnapshot(9, 2, 5, 9, Membership([1, 2, 3]), 0, b"ab", False, 4),
    InstallSnapshotReply(9, 2, 5, 0),
    TimeoutNow(9, 2),
    ReadIndexRequest(9, 2, b"r"),
    ReadIndexReply(9, b"r", 0),
]
"""A message of every type whose term the receiver adopts."""


def changed(message: Message, **fields: Any) -> Message:
    values = {name: getattr(message, name) for name in type(message).__match_args__}
    cls: Any = type(message)
    made: Message = cls(**{**values, **fields})
    return made


def own(message: Message) -> Message:
    """The same message in node 1's own name."""
    for name in ("sender", "leader", "candidate"):
        if hasattr(message, name):
            return changed(message, **{name: 1})
    raise AssertionError(message)


EVERY: list[Message] = [PreVote(9, 2, 9, 9), *OF_TERM]
NAMED = [message for message in EVERY if not isinstance(message, ReadIndexReply)]


@pytest.mark.parametrize(
    "message",
    [
        *[changed(message, term=TOP) for message in EVERY],
        *[own(message) for message in NAMED],
    ],
    ids=repr,
)
def test_what_no_correct_peer_sends_is_dropped(message: Message) -> None:
    for node in (leader(), default_leader()):
        before = node.status
        assert receive(node, message) == []
        assert node.status == before


def test_before_the_first_election_nobody_says_anything() -> None:
    for message in EVERY:
        if not isinstance(message, InstallSnapshot):
            node = RaftNode(RaftConfig(1, [2, 3]))
            assert receive(node, changed(message, term=0)) == []
            assert (node.leader, node.term) == (None, 0)


def test_a_request_of_term_0_is_stale_once_there_was_an_election() -> None:
    node = leader()
    assert receive(node, RequestVote(0, 2, 9, 9)) == [Send(2, RequestVoteReply(1, False, 1))]
    assert receive(node, AppendEntries(0, 2, 0, 0, (), 0)) == [Send(2, AppendEntriesReply(1, False, 1, 0))]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("message", OF_TERM, ids=lambda message: type(message).__name__)
def test_a_later_term_in_any_message_makes_a_follower_of_that_term(role: Role, message: Message) -> None:
    node = RaftNode(paper(1, [2, 3]))
    if role is not Role.FOLLOWER:
        campaign(node)
    if role is Role.LEADER:
        receive(node, RequestVoteReply(1, True, 2))
    assert node.role is role
    receive(node, message)
    if isinstance(message, TimeoutNow):
        assert (node.role, node.term) == (Role.CANDIDATE, 10), "told to by the leader of that term"
        return
    assert (node.role, node.term) == (Role.FOLLOWER, 9)
    assert node.log.hard_state().term == 9
    assert node.leader == (2 if isinstance(message, (AppendEntries, InstallSnapshot)) else None)


def test_the_term_of_a_pre_vote_is_adopted_by_nobody() -> None:
    for node in (RaftNode(RaftConfig(1, [2, 3])), leader(), default_leader()):
        term = node.term
        receive(node, PreVote(9, 2, 99, 9))
        receive(node, PreVoteReply(9, True, 2))
        assert node.term == term


def test_the_largest_term_but_one_is_taken_and_nobody_goes_beyond_it() -> None:
    node = RaftNode(paper(1, [2, 3]))
    heartbeat(node, term=TOP - 1)
    assert node.term == TOP - 1
    for _ in range(100):
        assert step(node, Tick()) == []
    assert (node.role, node.term) == (Role.FOLLOWER, TOP - 1)


def test_messages_of_ids_that_are_no_peers_do_no_harm() -> None:
    node = leader()
    step(node, Propose(b"x"))
    ack(node, 77, 1)
    assert node.commit_index == 0
    assert [follower.id for follower in node.status.followers] == [2, 3]
