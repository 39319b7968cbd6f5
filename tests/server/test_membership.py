"""Whom a server takes for what: decided from its own log, its own table, and what others say."""

from __future__ import annotations

import pytest

from raft_io import (
    EntryKind,
    LogEntry,
    Membership,
    MemoryLog,
    RaftConfig,
    RaftNode,
    Receive,
    Snapshot,
    StorageError,
    Tick,
    encode_membership,
)
from raft_io.core.messages import AppendEntries
from raft_io.server import frames
from raft_io.server.address import Address
from raft_io.server.envelope import Member
from raft_io.server.frames import Greeting
from raft_io.server.membership import MAX_GUESTS, MemberInfo, Members, membership_index
from raft_io.storage import MemoryFileSystem, PeerFile


def disk() -> MemoryFileSystem:
    fs = MemoryFileSystem()
    fs.mkdir("/d")
    return fs


def entry(index: int, membership: Membership) -> LogEntry:
    return LogEntry(1, index, encode_membership(membership), EntryKind.MEMBERSHIP)


def log_of(*memberships: tuple[int, Membership], last: int = 0) -> MemoryLog:
    """A log with memberships at these indexes, and other entries around them."""
    found = dict(memberships)
    log = MemoryLog()
    for index in range(1, max([last, *found]) + 1):
        log.append([entry(index, found[index]) if index in found else LogEntry(1, index, b"x")])
    return log


def node(log: MemoryLog | None = None, *, joins: bool = False) -> RaftNode:
    config = RaftConfig.joining(1) if joins else RaftConfig(1, [2, 3])
    return RaftNode(config, log)


CONFIGURED = {2: Address("h", 2), 3: Address("h", 3)}


def members(
    raft: RaftNode, fs: MemoryFileSystem | None = None, *, initial: bool = True, configured: bool = True
) -> Members:
    file = PeerFile(disk() if fs is None else fs, "/d")
    return Members(raft, ("own:1", 11), CONFIGURED if configured else {}, file, initial)


def hello(node: int, incarnation: int, address: str = "", joining: bool = False) -> Greeting:
    return Greeting("c", node, incarnation, address or f"said:{node}", joining)


def elect(raft: RaftNode) -> RaftNode:
    """Make it the leader of a cluster of one, or of none."""
    for _ in range(50):
        raft.step(Tick())
    return raft


# Incarnations.


def test_who_is_met_is_remembered_and_nobody_else_passes_for_it() -> None:
    fs = disk()
    known = members(node(), fs)
    assert known.objection(hello(2, 22)) is None
    for each in (known, members(node(), fs)):
        assert each.met(2) == 22
        assert each.objection(hello(2, 22)) is None
        objection = each.objection(hello(2, 23))
        assert objection is not None
        assert "another data directory" in objection and "raft-io serve --join" in objection
    assert known.objection(hello(3, 23)) is None


def test_who_cannot_be_remembered_is_not_taken() -> None:
    fs = disk()
    known = members(node(), fs)

    def fault(operation: str, path: str) -> None:
        if operation == "sync":
            raise OSError(28, "No space left on device")

    fs.fault = fault
    for _ in range(2):
        assert "cannot remember node 2" in str(known.objection(hello(2, 22)))
    fs.fault = lambda operation, path: None
    assert known.objection(hello(2, 23)) is None


def test_the_table_says_who_a_member_is_from_now_on() -> None:
    fs = disk()
    known = members(node(), fs)
    known.objection(hello(2, 22))
    known.adopt({2: Member("t:2", 23)}, 5)
    for each in (known, members(node(), fs)):
        assert each.objection(hello(2, 22)) is not None
        assert each.objection(hello(2, 23)) is None
        assert each.row(2) == ("t:2", 23)
        # The log is applied anew after a restart, from an older table on.
        each.adopt({2: Member("t:2", 22)}, 4)
        assert each.objection(hello(2, 23)) is None


def test_a_table_that_cannot_be_saved_counts_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    fs = disk()
    known = members(node(), fs)
    fs.fault = lambda operation, path: (_ for _ in ()).throw(OSError(5, "Input/output error"))
    known.adopt({2: Member("t:2", 23)}, 5)
    assert known.row(2) == ("t:2", 23)
    [record] = caplog.records
    assert "Input/output error" in record.getMessage()


def test_one_without_data_is_taken_only_for_whom_the_table_expects() -> None:
    known = members(node())
    objection = known.objection(hello(2, 22, joining=True))
    assert objection is not None and "has no data yet" in objection
    known.adopt({2: Member("t:2", 22)}, 5)
    assert known.objection(hello(2, 22, joining=True)) is None
    # An operator has named it without knowing more than its address: whoever comes first.
    known.adopt({2: Member("t:2", 22), 3: Member("t:3", 0)}, 6)
    assert known.objection(hello(3, 33, joining=True)) is None
    assert known.objection(hello(3, 34, joining=True)) is not None


def test_what_others_vouch_for_may_lead_but_does_not_count() -> None:
    known = members(node(log_of(last=3)))
    for peer, incarnation in ((2, 22), (3, 33)):
        assert known.objection(hello(peer, incarnation)) is None
        known.greeted(hello(peer, incarnation))
        assert known.counts(peer)
    known.hear(2, 9, {3: ("new:3", 34), 1: ("elsewhere:1", 99)})
    assert known.objection(hello(3, 34)) is None
    known.greeted(hello(3, 34))
    assert not known.counts(3)
    assert known.objection(hello(3, 35)) is not None
    assert known.address(3) == "new:3"
    assert known.address(1) == "own:1", "nobody tells a node who it is"
    # Who does not count vouches for nobody; nor does who is no member.
    known.hear(3, 10, {2: ("new:2", 99)})
    known.hear(7, 10, {2: ("new:2", 99)})
    assert known.objection(hello(2, 99)) is not None
    known.adopt({3: Member("new:3", 34)}, 9)
    assert known.counts(3)


def test_old_tables_of_others_are_not_listened_to() -> None:
    known = members(node())
    known.objection(hello(2, 22))
    known.greeted(hello(2, 22))
    known.adopt({3: Member("t:3", 33)}, 8)
    known.hear(2, 8, {3: ("old:3", 30)})
    assert known.objection(hello(3, 30)) is not None
    known.hear(2, 9, {3: ("t:3", 34)})
    known.hear(2, 9, {3: ("t:3", 35)})
    assert known.objection(hello(3, 35)) is not None
    assert known.objection(hello(3, 34)) is None
    known.adopt({3: Member("t:3", 36)}, 10)
    assert known.objection(hello(3, 34)) is not None


def test_what_a_node_tells_is_what_another_hears() -> None:
    known = members(node())
    known.objection(hello(2, 22))
    known.adopt({3: Member("t:3", 33), 7: Member("t:7", 77)}, 8)
    kind = frames.Frames(1 << 20).feed(known.tell())
    assert [(each, frames.decode_members(body)) for each, body in kind] == [
        (frames.MEMBERS, (8, {1: ("own:1", 11), 2: ("h:2", 22), 3: ("t:3", 33)}))
    ]


# Who may connect.


def test_a_stranger_is_refused_where_nothing_can_have_been_missed() -> None:
    known = members(node())
    assert known.objection(hello(9, 99)) == "node 9 is no peer of node 1"


def test_who_may_have_become_a_member_since_is_let_in_while_no_leader_is_known() -> None:
    raft = node(log_of(last=3))
    known = members(raft)
    assert known.objection(hello(9, 99)) is None
    known.greeted(hello(9, 99))
    assert known.links()[9] == (Address("said", 9),)
    assert known.strangers() == []
    raft.step(Receive(AppendEntries(2, 2, 3, 1, (), 0)))
    assert raft.leader == 2
    assert known.objection(hello(9, 99)) is not None
    assert known.strangers() == [9]
    assert 9 not in known.links()
    known.left(9)
    assert known.strangers() == []
    # The leader itself is let in, and whom a member has told of.
    raft.step(Receive(AppendEntries(3, 9, 3, 1, (), 0)))
    assert known.objection(hello(9, 99)) is None
    known.objection(hello(2, 22))
    known.greeted(hello(2, 22))
    known.hear(2, 50, {8: ("t:8", 88)})
    assert known.objection(hello(8, 88)) is None
    assert known.objection(hello(8, 89)) is not None


def test_guests_are_counted() -> None:
    known = members(node(log_of(last=3)))
    for guest in range(100, 100 + MAX_GUESTS):
        assert known.objection(hello(guest, 1)) is None
        known.greeted(hello(guest, 1))
    assert known.objection(hello(99, 1)) is not None
    assert known.objection(hello(100, 1)) is None, "one that is here already may dial anew"
    assert known.objection(hello(2, 1)) is None


def test_a_node_that_joins_lets_everybody_in() -> None:
    known = members(node(joins=True), initial=False, configured=False)
    assert known.is_joining and not known.settled
    assert known.objection(hello(9, 99)) is None
    known.greeted(hello(9, 99))
    assert known.links() == {9: (Address("said", 9),)}
    assert known.listing() == {}


# Addresses.


def test_the_table_knows_better_than_the_configuration_where_a_peer_is() -> None:
    known = members(node())
    assert known.links() == {2: (Address("h", 2),), 3: (Address("h", 3),)}
    known.adopt({2: Member("t:2", 0)}, 5)
    assert known.links()[2] == (Address("t", 2),)
    known.greeted(hello(2, 22, "said:5"))
    assert known.links()[2] == (Address("t", 2), Address("said", 5))
    known.left(2)
    assert known.links()[2] == (Address("t", 2), Address("said", 5)), "it may be back there"
    known.greeted(hello(3, 33, "nonsense"))
    assert known.links()[3] == (Address("h", 3),)
    known.greeted(hello(3, 33, "host:0"))
    assert known.links()[3] == (Address("h", 3),)


def test_a_member_without_an_address_has_no_link() -> None:
    known = members(node(), configured=False)
    assert known.links() == {}
    assert known.address(2) is None
    assert known.listing()[2] == MemberInfo(None, "voter", 0)


def test_the_listing_tells_what_is_known_of_everybody() -> None:
    raft = node(log_of((1, Membership([1, 2], [4], [1, 3]))))
    known = members(raft)
    known.adopt({4: Member("t:4", 44)}, 1)
    assert known.listing() == {
        1: MemberInfo("own:1", "voter", 11),
        2: MemberInfo("h:2", "voter", 0),
        3: MemberInfo("h:3", "outgoing", 0),
        4: MemberInfo("t:4", "learner", 44),
    }


# A first node.


def test_one_that_began_alone_and_met_nobody_was_always_alone() -> None:
    raft = elect(RaftNode(RaftConfig(1)))
    assert members(raft, configured=False).was_always_alone
    assert not members(raft, configured=False, initial=False).was_always_alone, "it has joined"
    assert not members(node()).was_always_alone
    table, met = members(raft, configured=False), members(raft, configured=False)
    table.adopt({2: Member("t:2", 0)}, 1)
    assert not table.was_always_alone
    met._peers.met[2] = 22
    assert not met.was_always_alone
    shrunk = RaftNode(RaftConfig(1), log_of((1, Membership([1, 2])), (2, Membership([1]))))
    assert not members(shrunk, configured=False).was_always_alone
    log = MemoryLog()
    log.save_snapshot(Snapshot(5, 1, Membership([1]), b""))
    restored = members(RaftNode(RaftConfig(1), log), configured=False)
    assert not restored.was_always_alone, "from a backup: it has lost nothing"


# Removal.


def test_who_leaves_is_kept_until_that_is_committed() -> None:
    raft = node()
    known = members(raft)
    after = Membership([1, 2])
    known.changed(raft.membership, after)
    raft.log.append([entry(1, after)])
    assert 3 in known.links()
    assert known.committed(1) == {}, "only a leader tells"
    known.changed(Membership([1, 2, 3]), after)
    known.changed(after, Membership([1, 2, 3]))
    known.part()
    assert 3 in known.links(), "it was rolled back"


def test_a_leader_tells_those_who_left() -> None:
    raft = elect(RaftNode(RaftConfig(1), log_of((1, Membership([1, 9])), (2, Membership([1])))))
    assert raft.is_leader
    known = members(raft, configured=False)
    assert known.removal(9) == 2
    assert known.removal(1) == 0
    known.changed(Membership([1, 9]), Membership([1]))
    [(node_id, farewell)] = known.committed(2).items()
    [(kind, body)] = frames.Frames().feed(farewell)
    assert (node_id, kind, frames.decode_removed(body)) == (9, frames.REMOVED, 2)
    known.greeted(hello(9, 99))
    assert 9 in known.links()
    known.part()
    assert 9 not in known.links()
    assert known.strangers() == [9]


def test_a_follower_tells_those_who_come_back_but_only_while_it_hears_a_leader() -> None:
    raft = node(log_of((1, Membership([1, 2, 9])), (2, Membership([1, 2]))))
    known = members(raft, configured=False)
    assert known.removal(9) == 0, "nobody leads: it may be behind"
    raft.step(Receive(AppendEntries(2, 2, 2, 1, (), 1)))
    assert known.removal(9) == 0, "that is not committed"
    raft.step(Receive(AppendEntries(2, 2, 2, 1, (), 2)))
    assert known.removal(9) == 2
    assert known.removal(2) == 0


def test_who_was_vouched_for_is_remembered_when_it_is_met() -> None:
    fs = disk()
    raft = node()
    known = members(raft, fs)
    assert known.objection(hello(2, 22)) is None
    known.greeted(hello(2, 22))
    known.hear(2, 1000, {3: ("t:3", 33)})
    assert known.objection(hello(3, 33)) is None
    assert PeerFile(fs, "/d").peers.met[3] == 33
    entries = [LogEntry(1, index, b"x") for index in range(1, 1001)]
    raft.step(Receive(AppendEntries(1, 2, 0, 0, entries, 1000)))
    assert known.objection(hello(3, 34)), "it has lost its data since"


def test_who_joins_knows_its_leader_though_the_log_begins_with_another() -> None:
    raft = RaftNode(RaftConfig.joining(1))
    known = members(raft, configured=False, initial=False)
    assert known.objection(hello(2, 22)) is None
    known.greeted(hello(2, 22))
    known.hear(2, 9, {2: ("t:2", 22), 9: ("t:9", 99)})
    change = entry(1, Membership([2, 9], [1]))
    raft.step(Receive(AppendEntries(2, 9, 0, 0, [change, LogEntry(1, 2, b"x")], 2)))
    # Node 9 was another one as of there.
    known.adopt({9: Member("t:9", 98)}, 2)
    assert known.objection(hello(9, 99)) is None
    known.greeted(hello(9, 99))
    assert known.strangers() == []


def test_who_catches_up_does_not_turn_its_own_leader_away() -> None:
    # The leader was let in again by an entry that this node is yet to be sent.
    raft = node(log_of((1, Membership([1, 2, 9])), (2, Membership([1, 2]))))
    known = members(raft, configured=False)
    raft.step(Receive(AppendEntries(2, 9, 2, 1, (), 2)))
    assert raft.leader == 9
    assert known.removal(9) == 0
    assert known.objection(hello(9, 99)) is None


def test_where_nobody_was_ever_removed_nobody_is_told_so() -> None:
    assert members(node()).removal(9) == 0
    assert members(elect(RaftNode(RaftConfig(1)))).removal(9) == 0


def test_an_initial_voter_is_removed_by_what_is_newer_than_its_own_membership() -> None:
    known = members(node(log_of((2, Membership([1, 2])), last=4)))
    assert not known.is_removed(1)
    assert not known.is_removed(2), "by its own log it is a member as of there"
    assert known.is_removed(3)
    gone = members(node(log_of((2, Membership([2, 3])), last=4)))
    assert gone.is_removed(2)


def test_a_joiner_ignores_removals_from_before_its_time() -> None:
    fs = disk()
    raft = node(log_of((2, Membership([2, 3])), last=4), joins=True)
    known = members(raft, fs, initial=False)
    assert not known.is_removed(2) and not known.is_removed(99)
    known.adopt({1: Member("own:1", 10)}, 3)
    assert known.is_joining, "that was an earlier life of it"
    known.adopt({1: Member("own:1", 11)}, 5)
    assert not known.is_joining
    for each in (known, members(raft, fs, initial=False)):
        assert not each.is_removed(2) and not each.is_removed(5)
        assert each.is_removed(6)
        assert not each.settled
    known.settle()
    assert known.settled and members(raft, fs, initial=False).settled


def test_who_joins_takes_an_earlier_life_of_the_leader_in_its_table_for_what_it_is() -> None:
    """Its log has come no further; and after a restart nobody who vouches for the leader is remembered."""
    raft, fs = node(), disk()
    known = members(raft, fs, initial=False)
    known.adopt({2: Member("h:2", 21), 3: Member("h:3", 31)}, 5)
    assert known.is_joining
    again = Greeting("c", 2, 22, "h:2")
    assert known.objection(again) is None
    known.greeted(again)
    assert 2 not in known.strangers()
    # It is no more than heard: what it replies is not counted.
    assert not known.counts(2)


def test_the_membership_comes_from_the_log_the_snapshot_or_the_start() -> None:
    assert membership_index(node().log) == 0
    assert membership_index(node(log_of((2, Membership([1])), (4, Membership([1, 2])), last=6)).log) == 4


def test_a_damaged_file_of_peers_is_an_error() -> None:
    fs = disk()
    fs.open("/d/peers.json", create=True).pwrite(b"{}", 0)
    with pytest.raises(StorageError):
        members(node(), fs)
