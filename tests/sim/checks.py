"""What must always hold (paper, figure 3), judged from outside: from the disks, the logs and what is sent.

Nothing here asks the core how it counts: who votes and what is committed is worked out from the memberships
in each node's own log, and checked against the disks of all nodes, those that are down included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.sim.check_changes import Changes, may_stand
from tests.sim.check_contact import Contact
from tests.sim.check_flow import Flow
from tests.sim.check_machines import Machines
from tests.sim.check_reads import Reads
from tests.sim.history import History
from tests.sim.image import Image, membership_in
from tests.sim.quorums import is_quorum

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    EntryKind,
    InstallSnapshot,
    InstallSnapshotReply,
    LogEntry,
    Membership,
    Message,
    NodeId,
    PreVote,
    PreVoteReply,
    RaftNode,
    RequestVote,
    RequestVoteReply,
    Send,
    Snapshot,
    Status,
    StorageError,
    Sync,
    Term,
    Tick,
    TimeoutNow,
)

if TYPE_CHECKING:
    from tests.sim.member import Member


class Seen(NamedTuple):
    """What one incarnation of a node showed last."""

    term: int
    commit: int
    applied: int


class Acknowledged(NamedTuple):
    """The entry that a reply acknowledges, as the log held it when the reply was made."""

    place: int
    term: Term


class Checker:
    """The properties of a whole cluster, over its whole life."""

    def __init__(self, initial: Membership) -> None:
        self.members: dict[NodeId, Member] = {}
        self.history = History(initial)
        self.flow = Flow(self.history)
        self.reads = Reads(self.history)
        self.machines = Machines(self.history)
        self.changes = Changes(self.history)
        self.contact = Contact()
        self.leaders: dict[Term, NodeId] = {}
        self.votes: dict[tuple[Term, NodeId], NodeId] = {}
        self.entries: dict[tuple[int, Term], tuple[bytes, EntryKind, Term]] = {}
        """By index and term: the command, its kind, and the term of the entry before."""
        self.seen: dict[NodeId, Seen] = {}
        self.leads: dict[NodeId, Term] = {}

    # The log: every change of it, before it happens.

    def appended(self, member: Member, entries: Sequence[LogEntry]) -> None:
        """Log matching: an entry's index and term fix its content and all that precedes it."""
        node = member.node
        if node is not None:
            self._watch(member, node)
        before = member.log.now.last_term()
        for entry in entries:
            fact = (entry.command, entry.kind, before)
            known = self.entries.setdefault((entry.index, entry.term), fact)
            assert known == fact, f"log matching: node {member.id} holds another {entry} than {known}"
            assert before <= entry.term, f"terms decrease at {entry} on node {member.id}"
            before = entry.term
            if node is not None and node.is_leader:
                assert entry.term == node.term, f"leader {node.id} of {node.term} appends {entry}"
                if entry.kind is EntryKind.MEMBERSHIP:
                    self.changes.appended(member, node, entry)
                    self.contact.changed(member)
                    self.flow.changed(node.id, member.membership, membership_in(entry.command))

    def truncated(self, member: Member, removed: Sequence[LogEntry]) -> None:
        """A leader only appends; what is committed is never removed."""
        assert member.node is None or not member.node.is_leader, f"leader {member.id} removed entries"
        if member.node is not None:
            self._watch(member, member.node)
        for entry in removed:
            assert not self.history.agrees(entry.index, entry.term), (
                f"node {member.id} removed the committed {entry}"
            )

    def saved(self, member: Member, snapshot: Snapshot) -> None:
        """A snapshot takes the place of committed entries. Behind it, it leaves the log alone if that agrees,
        as every log does whose node has applied so far; else it replaces all of it."""
        node = member.node
        assert node is not None
        self._watch(member, node)
        self.machines.is_true(snapshot)
        member.snapshots[snapshot.index, snapshot.term] = snapshot
        if node.is_leader:
            assert snapshot.index <= node.last_applied, f"leader {member.id} takes in {snapshot}"
        now = member.log.now
        if now.agrees(snapshot):
            return
        assert snapshot.index > node.commit_index, f"node {member.id} replaces what it has committed"
        for entry in now.between(snapshot.index + 1, now.last_index()):
            assert not self.history.agrees(entry.index, entry.term), (
                f"{snapshot} removes the committed {entry} on node {member.id}"
            )

    # The actions.

    def returned(self, member: Member, actions: Sequence[Action]) -> None:
        """The bounds on one call's actions. At most one `Sync` a drain."""
        config = member.config
        if member.mode.batches:
            assert sum(isinstance(action, Sync) for action in actions) <= 1
            sizes = [len(action.command) for action in actions if isinstance(action, Apply)]
            if config.max_apply_bytes and len(sizes) > 1:
                assert sum(sizes) <= config.max_apply_bytes, f"applied {sizes} at once"
        elif member.node is not None:
            stands = any(isinstance(a, Send) and isinstance(a.message, PreVote) for a in actions)
            assert not stands or may_stand(member, member.node), f"node {member.id} stands without a vote"

    def sent(self, member: Member, send: Send, acknowledged: Acknowledged | None) -> None:
        """Persist before you respond (figure 2), checked against the disk as the message goes out."""
        message = send.message
        disk = member.log.disk.hard_state(member.id)
        assert send.to != member.id, "a message to itself"
        if isinstance(message, PreVote | PreVoteReply):
            # They promise nothing.
            self.contact.granted(member, message)
            return
        assert disk.term >= message.term, f"node {member.id} may forget the term of {message}"
        current = disk.term == message.term
        match message:
            case RequestVote():
                assert message.candidate == member.id
                self._vote(message.term, member.id, member.id)
                assert not current or disk.voted_for == member.id, "its own vote is not durable"
            case RequestVoteReply():
                assert message.sender == member.id
                if message.vote_granted:
                    self._vote(message.term, member.id, send.to)
                    assert not current or disk.voted_for == send.to, f"vote not durable: {message}"
            case AppendEntries():
                self._leads(message.term, message.leader)
                assert message.leader == member.id
                self.flow.appends(member, send.to, message)
            case InstallSnapshot():
                self._leads(message.term, message.leader)
                self.flow.piece(member, send.to, message)
            case TimeoutNow():
                assert message.leader == member.id
                self._leads(message.term, message.leader)
            case AppendEntriesReply():
                assert message.sender == member.id
                if acknowledged is not None and current:
                    self._durable(member, acknowledged, f"{message} was sent, but not durable")

    def _vote(self, term: Term, voter: NodeId, candidate: NodeId) -> None:
        known = self.votes.setdefault((term, voter), candidate)
        assert known == candidate, f"node {voter} voted for {known} and {candidate} in term {term}"

    def _durable(self, member: Member, entry: Acknowledged, message: str) -> None:
        assert member.log.disk.holds(entry.place, entry.term), message

    def delivered(self, to: NodeId, message: Message) -> None:
        """A message reaches a node that is up."""
        if isinstance(message, AppendEntriesReply | InstallSnapshotReply):
            self.flow.answered(to, message.sender)

    # The nodes, after every step.

    def started(self, member: Member, applied: int) -> None:
        """A node (re)starts: its memory is new, its promises are old."""
        node = member.node
        assert node is not None
        term = member.log.disk.hard_state(member.id).term
        assert (node.term, node.commit_index, node.last_applied) == (term, applied, applied)
        self.seen[member.id] = Seen(node.term, applied, applied)
        self.machines.started(member, applied)
        self.leads.pop(member.id, None)
        self.flow.forget(member.id)

    def stopped(self, member: Member) -> None:
        """A node is gone, with all that it did not write down."""
        self.reads.forget(member)
        self.changes.forget(member)
        self.contact.forget(member)

    def observe(self, member: Member) -> None:
        """Everything that must hold between two steps, called after each."""
        node = member.node
        if node is None:
            return
        node._state.check()
        self._watch(member, node)
        self.changes.observe(member, node)

    def _watch(self, member: Member, node: RaftNode) -> None:
        """What must hold even between two writes to the log."""
        now = Seen(node.term, node.commit_index, node.last_applied)
        before = self.seen[member.id]
        if node.is_leader and self.leads.get(member.id) != node.term:
            self.leads[member.id] = node.term
            self.flow.forget(member.id)
            self.contact.elected(member)
            self._leads(node.term, member.id)
            self._elected(member, node.term)
            self._complete(member, node.term)
        if now == before:
            return
        assert all(a >= b for a, b in zip(now, before, strict=True)), f"{member.id}: {before} to {now}"
        self.seen[member.id] = now
        if now.commit > before.commit:
            self._commits(member, node, before.commit, now.commit)

    def _leads(self, term: Term, leader: NodeId) -> None:
        known = self.leaders.setdefault(term, leader)
        assert known == leader, f"term {term} has the leaders {known} and {leader}"

    def _elected(self, member: Member, term: Term) -> None:
        """A quorum of different nodes voted for a leader, and its own vote is on its disk. The quorum is of
        the membership that it stood with: what was in its log before its own term."""
        voters = {voter for (when, voter), whom in self.votes.items() if (when, whom) == (term, member.id)}
        voters.add(member.id)
        membership = standing(member.log.now, member.initial, term)
        assert is_quorum(membership, voters), f"{member.id} leads {term} by {voters} alone: {membership}"
        hard = member.log.disk.hard_state(member.id)
        assert (hard.term, hard.voted_for) == (term, member.id), "leads without its own vote on disk"

    def _complete(self, member: Member, term: Term) -> None:
        """Leader completeness: a leader has what was committed in earlier terms. Its last entry will do, for
        with it comes all that precedes it."""
        terms = self.history.commit_terms
        index = len(terms)
        while index > 0 and terms[index - 1] >= term:
            index -= 1
        if index:
            entry = self.history.at(index)
            held = member.log.now.holds(index, entry.term)
            assert held, f"leader {member.id} of term {term} lacks {entry}"

    def _commits(self, member: Member, node: RaftNode, before: int, now: int) -> None:
        """The same entry at the same index everywhere; the first to know is the leader of its term."""
        known = self.history.known
        for entry in member.log.now.between(before + 1, min(now, known)):
            assert self.history.agrees(entry.index, entry.term), f"node {member.id} commits another {entry}"
        if now <= known:
            return
        assert self.leads.get(member.id) == node.term, f"node {member.id} commits {now}, which no leader has"
        assert node.log.term_at(now) == node.term, f"{now} is of an old term (section 5.4.2)"
        membership = member.log.now.membership(member.initial)
        for entry in member.log.now.between(known + 1, now):
            self.history.commit(entry, node.term)
            self._is_on_a_quorum(entry, membership)
        self.survives()
        for other in self.members.values():
            if other.node is not None and other.node.is_leader:
                self._complete(other, other.node.term)

    def _is_on_a_quorum(self, entry: LogEntry, membership: Membership) -> None:
        have = {who for who, m in self.members.items() if m.log.disk.holds(entry.index, entry.term)}
        assert is_quorum(membership, have), f"{entry} is committed by {membership}, but only on {have}"

    def survives(self) -> None:
        """The disks alone, all nodes crashed now, keep what is committed: no node that lacks the last of it
        could win an election by its own membership (sections 5.4.1 and 5.4.2)."""
        if not self.history.committed:
            return
        entry = self.history.committed[-1]
        disks = {who: member.log.disk for who, member in self.members.items()}
        for who, disk in disks.items():
            if disk.holds(entry.index, entry.term):
                continue
            membership = disk.membership(self.members[who].initial)
            end = disk.end()
            votes = {other for other, its in disks.items() if end >= its.end()}
            wins = bool(membership.voters) and is_quorum(membership, votes)
            assert not wins, f"committed, but {who}, whose log ends at {end}, could win: {entry}"

    # Refusals.

    def refuses_everything(self, node: RaftNode) -> None:
        """A node whose disk failed is dead, and says so."""
        with pytest.raises(StorageError):
            node.step(Tick())
        with pytest.raises(StorageError):
            node.drain()

    def refused(self, member: Member, before: Status) -> None:
        """Whoever refuses changes nothing."""
        assert member.node is not None
        assert member.node.status == before, "a refused event changed something"

    def overload(self, member: Member, size: int, *, refused: bool) -> None:
        """A proposal of `size` bytes was refused or taken: `max_uncommitted_bytes` says which it must be."""
        node = member.node
        assert node is not None
        held = member.log.now.between(node.commit_index + 1, node.log.last_index())
        sizes = [max(len(e.command), 1) for e in held if e.term == node.term and e.kind is EntryKind.NORMAL]
        limit = member.config.max_uncommitted_bytes
        if refused:
            assert limit and sizes and sum(sizes) + max(size, 1) > limit, f"refused beside {sizes}"
        else:
            assert not limit or len(sizes) <= 1 or sum(sizes) <= limit, f"took {sizes}"


def standing(image: Image, initial: Membership, term: Term) -> Membership:
    """The membership as it was before the first entry of `term`."""
    for entry in reversed(image.changes):
        if entry.index <= image.covered:
            break
        if entry.term < term:
            return membership_in(entry.command)
    return initial if image.snapshot is None else image.snapshot.membership
