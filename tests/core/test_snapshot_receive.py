"""Snapshots: how a follower stages what it is sent, and what installing one means (paper, figure 13)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import (
    TOP,
    Cluster,
    TracingLog,
    applied,
    campaign,
    compacted_log,
    elect,
    entries_of,
    feed,
    heartbeat,
    log_of,
    only,
    receive,
    reply_of,
    sent,
    step,
    terms_in,
)

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    ChangeMembership,
    InstallSnapshot,
    InstallSnapshotReply,
    Membership,
    MembershipChanged,
    MemoryLog,
    Propose,
    RaftConfig,
    RaftLog,
    RaftNode,
    Receive,
    RestoreSnapshot,
    Role,
    Snapshot,
    SnapshotData,
    SnapshotMeta,
    SnapshotTaken,
    StorageError,
    Tick,
)

pytestmark = pytest.mark.core

MEMBERS = Membership([1, 2, 3])
STATE = b"0123456789"


def follower(terms: list[int] | None = None, term: int | None = None) -> RaftNode:
    return RaftNode(RaftConfig(1, [2, 3]), log_of(terms or [], term))


def piece(
    offset: int = 0,
    size: int = 4,
    index: int = 9,
    snapshot_term: int = 2,
    term: int = 3,
    leader: int = 2,
    data: bytes = STATE,
    told: bool = True,
    checksum: int = 77,
) -> InstallSnapshot:
    """The piece of `data` at `offset`; with `told` it tells the size of the whole, and a checksum."""
    part = data[offset : offset + size]
    done = offset + len(part) == len(data)
    more = (len(data), checksum) if told else (0, 0)
    return InstallSnapshot(term, leader, index, snapshot_term, MEMBERS, offset, part, done, *more)


def wanted(actions: list[Action]) -> list[int]:
    return [reply.offset for reply in sent(actions, InstallSnapshotReply)]


def restored(actions: list[Action]) -> list[Snapshot]:
    return [action.snapshot for action in only(actions, RestoreSnapshot)]


WHOLE = Snapshot(9, 2, MEMBERS, STATE)
INSTALLED = AppendEntriesReply(3, True, 1, 9)


# Staging.


@pytest.mark.parametrize("told", [True, False])
def test_piece_by_piece_and_at_the_end_the_whole(told: bool) -> None:
    node = follower()
    assert reply_of(node, piece(0, told=told)) == InstallSnapshotReply(3, 1, 9, 4)
    assert reply_of(node, piece(4, told=told)) == InstallSnapshotReply(3, 1, 9, 8)
    actions = receive(node, piece(8, told=told))
    assert sent(actions, AppendEntriesReply) == [INSTALLED]
    assert restored(actions) == [WHOLE]
    assert node.log.snapshot() == WHOLE


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("data", [b"", STATE])
def test_all_of_it_in_one_piece(data: bytes, told: bool) -> None:
    node = follower()
    actions = receive(node, piece(0, 100, data=data, told=told))
    assert restored(actions) == [Snapshot(9, 2, MEMBERS, data)]


def test_until_then_nothing_else_changes() -> None:
    node = follower([1, 1])
    heartbeat(node, term=3, prev=(2, 1), commit=1)
    before = node.status
    receive(node, piece(0))
    receive(node, piece(4))
    assert node.status == before
    assert node.log.snapshot() is None


def test_a_piece_that_comes_twice_is_answered_with_what_is_wanted() -> None:
    node = follower()
    receive(node, piece(0))
    assert wanted(receive(node, piece(0))) == [4]
    receive(node, piece(4))
    for offset in (0, 4):
        assert wanted(receive(node, piece(offset))) == [8]
    assert restored(receive(node, piece(8))) == [WHOLE]


def test_a_piece_that_was_overtaken_is_asked_for() -> None:
    node = follower()
    for offset in (4, 8):
        assert wanted(receive(node, piece(offset))) == [0], "nothing is staged for it"
    receive(node, piece(0))
    assert wanted(receive(node, piece(8))) == [4]


def test_after_it_was_installed_late_pieces_are_answered_as_covered() -> None:
    node = follower()
    for offset in (0, 4, 8):
        receive(node, piece(offset))
    for offset in (0, 4, 8):
        actions = receive(node, piece(offset))
        assert sent(actions, AppendEntriesReply) == [INSTALLED]
        assert restored(actions) == []


def test_another_leader_goes_on_where_the_first_stopped() -> None:
    node = follower()
    receive(node, piece(0))
    receive(node, piece(4))
    assert wanted(receive(node, piece(0, term=4, leader=3))) == [8]
    actions = receive(node, piece(8, term=4, leader=3))
    assert restored(actions) == [WHOLE]
    assert (node.leader, node.term) == (3, 4)


@pytest.mark.parametrize(
    "other",
    [
        {"index": 10},
        {"snapshot_term": 3},
        {"checksum": 78},
        {"data": STATE + b"!"},
    ],
    ids=repr,
)
def test_only_where_index_term_size_and_checksum_agree(other: dict[str, object]) -> None:
    node = follower()
    receive(node, piece(0))
    later = {"term": 4, "leader": 3, **other}
    assert wanted(receive(node, piece(4, **later))) == [0]  # type: ignore[arg-type]
    assert wanted(receive(node, piece(0, **later))) == [4]  # type: ignore[arg-type]
    assert wanted(receive(node, piece(0, **later))) == [4]  # type: ignore[arg-type]


def test_a_newer_snapshot_of_the_same_leader_takes_the_place_of_the_older() -> None:
    node = follower()
    receive(node, piece(0))
    assert wanted(receive(node, piece(0, index=20))) == [4]
    assert receive(node, piece(4)) == [], "a late piece of the older one is not even answered"
    assert wanted(receive(node, piece(4, index=20))) == [8]


def test_a_later_leader_may_send_an_older_one() -> None:
    node = follower()
    receive(node, piece(0, index=20))
    assert wanted(receive(node, piece(0, index=15, term=4, leader=3))) == [4]


class Doubting(TracingLog):
    """Finds the first snapshot that it is sent to be damaged."""

    def __init__(self) -> None:
        self.inner = MemoryLog()
        super().__init__()

    def snapshot(self) -> Snapshot | None:
        return self.inner.snapshot()

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self.inner.save_snapshot(snapshot)

    def last_index(self) -> int:
        return self.inner.last_index()

    def last_term(self) -> int:
        return self.inner.last_term()

    def receive_snapshot(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> bytes | SnapshotData | None:
        whole = self.inner.receive_snapshot(meta, offset, chunk)
        if whole is not None:
            self.called("whole")
        return whole if self.calls.count("whole") > 1 else None


def test_what_proves_to_be_damaged_is_asked_for_anew() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), Doubting())
    receive(node, piece(0))
    receive(node, piece(4))
    assert wanted(receive(node, piece(8))) == [0]
    assert node.commit_index == 0
    for offset in (0, 4):
        receive(node, piece(offset))
    assert restored(receive(node, piece(8))) == [WHOLE]


def test_a_log_that_cannot_stage_it_kills_the_node() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), TracingLog())
    with pytest.raises(StorageError, match="keeps no snapshots"):
        node.feed(Receive(piece(0)))
    with pytest.raises(StorageError):
        node.drain()


# Installing.


def test_it_replaces_a_log_that_is_shorter() -> None:
    node = follower([1, 1])
    receive(node, piece(0, 100))
    assert (node.log.last_index(), node.log.last_term()) == (9, 2)
    assert (node.commit_index, node.last_applied) == (9, 9)
    assert (node.status.snapshot_index, node.status.snapshot_term, node.status.stable_index) == (9, 2, 9)


def test_it_replaces_a_longer_log_that_disagrees() -> None:
    node = follower([1] * 20, term=3)
    receive(node, piece(0, 100))
    assert (node.log.last_index(), node.log.last_term()) == (9, 2)


def test_a_log_that_has_its_last_entry_is_kept_and_needs_no_snapshot() -> None:
    node = follower([1] * 8 + [2] * 4, term=3)
    actions = receive(node, piece(0))
    assert sent(actions, AppendEntriesReply) == [INSTALLED]
    assert (restored(actions), applied(actions)) == ([], list(range(1, 10))), "by the entries themselves"
    assert (node.log.last_index(), node.log.snapshot(), node.commit_index) == (12, None, 9)


@pytest.mark.parametrize("index", [1, 3, 4])
def test_one_of_what_is_committed_here_never_moves_the_state_machine_back(index: int) -> None:
    node = follower([1] * 6)
    heartbeat(node, term=3, prev=(6, 1), commit=4)
    actions = receive(node, piece(0, index=index, snapshot_term=2))
    assert sent(actions, AppendEntriesReply) == [AppendEntriesReply(3, True, 1, 4)]
    assert (restored(actions), node.last_applied, terms_in(node.log)) == ([], 4, [1] * 6)


def test_the_state_machine_is_reset_and_goes_on_behind_it() -> None:
    node = follower([1, 1])
    heartbeat(node, term=3, prev=(2, 1), commit=2)
    receive(node, piece(0, 100))
    message = AppendEntries(3, 2, 9, 2, entries_of([2, 3], first=10), 11)
    assert applied(receive(node, message)) == [10, 11]


def test_the_reset_comes_before_what_is_applied_behind_it() -> None:
    node = follower()
    entries = AppendEntries(3, 2, 9, 2, entries_of([2], first=10), 10)
    feed(node, Receive(piece(0, 100)), Receive(entries))
    actions = [a for a in node.drain() if not isinstance(a, MembershipChanged)]
    kinds = [type(action).__name__ for action in actions if type(action).__name__ != "Send"]
    assert kinds == ["RestoreSnapshot", "Apply"]


def test_a_snapshot_that_was_asked_for_before_it_is_of_no_use_after_it() -> None:
    node = RaftNode(RaftConfig(1, [2, 3], snapshot_threshold=2), log_of([1, 1]))
    heartbeat(node, term=3, prev=(2, 1), commit=2)
    receive(node, piece(0, 100))
    assert step(node, SnapshotTaken(2, b"old")) == []
    assert node.log.snapshot() == WHOLE


def test_it_counts_as_the_last_one_taken() -> None:
    node = RaftNode(RaftConfig(1, [2, 3], snapshot_threshold=3))
    receive(node, piece(0, 100))
    message = AppendEntries(3, 2, 9, 2, entries_of([2, 2, 2], first=10), 12)
    assert [type(a).__name__ for a in receive(node, message)][-1] == "TakeSnapshot"


# Terms, roles, timers.


def test_a_leader_of_an_earlier_term_is_told_so() -> None:
    node = follower([1], term=5)
    assert reply_of(node, piece(0)) == AppendEntriesReply(5, False, 1, 0)
    assert node.leader is None


def test_one_of_a_later_term_is_followed() -> None:
    node = follower()
    receive(node, piece(0, term=7))
    assert (node.term, node.leader) == (7, 2)


def test_a_candidate_follows_who_sends_one_in_its_term() -> None:
    node = follower([1], term=2)
    campaign(node)
    assert node.role is Role.CANDIDATE
    receive(node, piece(0))
    assert (node.role, node.leader, node.term) == (Role.FOLLOWER, 2, 3)


def test_a_leader_takes_none_from_another_of_its_term() -> None:
    node = follower([1], term=2)
    elect(node)
    before = node.status
    assert receive(node, piece(0)) == []
    assert node.status == before


def test_each_piece_starts_the_election_timeout_over() -> None:
    node = RaftNode(RaftConfig(1, [2, 3]).with_election_timeout(10, 10))
    for offset in (0, 4, 0, 4):
        receive(node, piece(offset))
        for _ in range(9):
            assert step(node, Tick()) == []
    assert step(node, Tick()) != []


# What no correct leader sends.


def broken(**wrong: object) -> InstallSnapshot:
    fields = {name: getattr(piece(4), name) for name in InstallSnapshot.__match_args__}
    return InstallSnapshot(**{**fields, **wrong})


@pytest.mark.parametrize(
    "message",
    [
        broken(index=0),
        broken(index=TOP),
        broken(snapshot_term=0),
        broken(snapshot_term=4),
        broken(membership=Membership(())),
        broken(membership=Membership((), [4], [5])),
        broken(offset=TOP),
        broken(offset=TOP - 3),
        broken(done=True),
        broken(data=b"4567890"),
        broken(data=b"456789", done=False),
        broken(size=0, data=b"", done=False),
        broken(leader=1),
        broken(term=TOP),
    ],
    ids=range(14),
)
def test_nonsense_is_dropped(message: InstallSnapshot) -> None:
    node = follower()
    receive(node, piece(0))
    before = node.status
    assert receive(node, message) == []
    assert node.status == before
    assert wanted(receive(node, piece(4))) == [8], "and nothing is lost by it"


numbers = st.one_of(st.integers(0, 6), st.sampled_from([TOP, TOP - 1, 2**62]))
hostile = st.builds(
    InstallSnapshot,
    *(st.integers(0, 4), st.integers(0, 4), numbers, numbers),
    st.builds(Membership, st.frozensets(st.integers(1, 4))),
    *(numbers, st.binary(max_size=4), st.booleans(), st.integers(0, 8), st.integers(0, 1)),
)


@given(st.lists(hostile, max_size=15))
def test_no_message_breaks_an_invariant_or_moves_a_state_machine_back(
    messages: list[InstallSnapshot],
) -> None:
    node = RaftNode(RaftConfig(1, [2, 3]), log_of([1, 1, 2, 3]), applied=2)
    at = 2
    for message in messages:
        for action in receive(node, message):
            if isinstance(action, RestoreSnapshot):
                assert action.snapshot.index > at
                at = action.snapshot.index
            elif isinstance(action, Apply):
                assert action.index == at + 1
                at += 1
        step(node, Tick())


# In a cluster.


def test_a_follower_that_was_away_comes_back_by_snapshot_while_writes_go_on() -> None:
    logs: dict[int, RaftLog] = {id_: log_of([]) for id_ in (1, 2, 3)}
    nodes = Cluster(logs, pre_vote=True, check_quorum=True, snapshot_chunk=3)
    nodes.elect(1)
    nodes.cut = {3}
    for number in range(30):
        nodes.step(1, Propose(b"%d" % number))
        nodes.settle()
    nodes.step(1, SnapshotTaken(25, STATE))
    nodes.cut = set()
    for number in range(30, 40):
        nodes.step(1, Propose(b"%d" % number))
        nodes.tick()
    nodes.tick(count=30)
    assert nodes.restored[3] == [Snapshot(25, 1, MEMBERS, STATE)]
    assert nodes.applied[3] == nodes.applied[1][25:]


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_a_transfer_survives_loss_doubling_reordering_and_changes_of_leader(random: Random) -> None:
    members = Membership([1, 2, 3])
    state = bytes(range(40))
    logs: dict[int, RaftLog] = {
        1: compacted_log(Snapshot(9, 1, members, state), [1]),
        2: compacted_log(Snapshot(9, 1, members, state), [1]),
        3: log_of([], term=1),
    }
    nodes = Cluster(logs, pre_vote=True, check_quorum=True, snapshot_chunk=7)
    nodes.elect(1)
    for _ in range(60):
        nodes.step(random.choice([1, 2, 3]), Tick())
        batch, nodes.queue = nodes.queue, []
        random.shuffle(batch)
        for to, message in batch:
            for _ in range(random.choice([0, 1, 1, 2])):
                nodes.step(to, Receive(message))
    nodes.tick(count=100)
    assert nodes.restored[3] == [Snapshot(9, 1, members, state)], "once, and whole"
    assert nodes.nodes[3].last_applied == max(node.last_applied for node in nodes.nodes.values())


def test_a_new_learner_is_caught_up_by_snapshot_and_knows_who_takes_part() -> None:
    logs: dict[int, RaftLog] = {1: log_of([])}
    nodes = Cluster(logs)
    nodes.elect(1)
    for number in range(10):
        nodes.step(1, Propose(b"%d" % number))
    nodes.step(1, SnapshotTaken(10, STATE))
    nodes.join(2)
    nodes.step(1, ChangeMembership([1], [2]))
    nodes.settle()
    nodes.tick(count=30)
    assert nodes.restored[2] == [Snapshot(10, 1, Membership([1]), STATE)]
    assert nodes.nodes[2].membership == Membership([1], [2])
