"""What must always hold (paper, figure 3), judged from outside: from the disks, the logs and what is sent.

Nothing here asks the core how it counts. What is committed is checked against the disks of all nodes, those
that are down included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pytest

from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    EntryKind,
    HardState,
    LogEntry,
    Message,
    NodeId,
    RaftNode,
    RequestVote,
    RequestVoteReply,
    Role,
    Send,
    Status,
    StorageError,
    Sync,
    Term,
    Tick,
)

if TYPE_CHECKING:
    from tests.sim.member import Member


class Seen(NamedTuple):
    """What one incarnation of a node showed last."""

    term: int
    commit: int
    applied: int


class Checker:
    """The properties of a whole cluster, over its whole life."""

    def __init__(self) -> None:
        self.members: dict[NodeId, Member] = {}
        self.committed: list[LogEntry] = []
        """What is committed, by any node's word, from index 1 on."""
        self.commit_terms: list[Term] = []
        """The term of the leader that first knew, for each."""
        self.leaders: dict[Term, NodeId] = {}
        self.votes: dict[tuple[Term, NodeId], NodeId] = {}
        self.entries: dict[tuple[int, Term], tuple[bytes, EntryKind, Term]] = {}
        """By index and term: the command, its kind, and the term of the entry before."""
        self.seen: dict[NodeId, Seen] = {}
        self.applied_through: dict[NodeId, int] = {}
        self.leads: dict[NodeId, Term] = {}
        self.unanswered: dict[tuple[NodeId, NodeId], int] = {}
        """Entry-bearing messages from a leader to a follower since it last heard from it."""

    # The log: every change of it, before it happens.

    def appended(self, member: Member, previous: LogEntry | None, entries: Sequence[LogEntry]) -> None:
        """Log matching: an entry's index and term fix its content and all that precedes it."""
        before = 0 if previous is None else previous.term
        for entry in entries:
            fact = (entry.command, entry.kind, before)
            known = self.entries.setdefault((entry.index, entry.term), fact)
            assert known == fact, f"log matching: node {member.id} holds another {entry} than {known}"
            assert before <= entry.term, f"terms decrease at {entry} on node {member.id}"
            before = entry.term

    def truncated(self, member: Member, removed: Sequence[LogEntry]) -> None:
        """A leader only appends; what is committed is never removed."""
        assert member.node is None or not member.node.is_leader, f"leader {member.id} removed entries"
        for entry in removed:
            if entry.index <= len(self.committed):
                assert self.committed[entry.index - 1].term != entry.term, (
                    f"node {member.id} removed the committed {entry}"
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

    def sent(self, member: Member, send: Send, acknowledged: LogEntry | None) -> None:
        """Persist before you respond (figure 2), checked against the disk as the message goes out."""
        message = send.message
        disk = member.log.disk_state
        assert send.to != member.id, "a message to itself"
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
                self._appends(member, send.to, message)
            case AppendEntriesReply():
                assert message.sender == member.id
                if acknowledged is not None and current:
                    self._durable(member, acknowledged, f"{message} was sent, but not durable")

    def _vote(self, term: Term, voter: NodeId, candidate: NodeId) -> None:
        known = self.votes.setdefault((term, voter), candidate)
        assert known == candidate, f"node {voter} voted for {known} and {candidate} in term {term}"

    def _appends(self, member: Member, to: NodeId, message: AppendEntries) -> None:
        config = member.config
        assert message.leader == member.id
        self._leads(message.term, message.leader)
        assert len(message.entries) <= config.max_batch
        sizes = [len(entry.command) for entry in message.entries]
        assert len(sizes) <= 1 or sum(sizes) <= config.max_batch_bytes, f"{sizes} in one message"
        known = len(self.committed)
        assert message.leader_commit <= known, f"{message} claims a commit that there is not"
        if message.entries:
            count = self.unanswered.get((member.id, to), 0) + 1
            self.unanswered[member.id, to] = count
            assert count <= config.max_inflight, f"{count} unanswered messages from {member.id} to {to}"

    def delivered(self, to: NodeId, message: Message) -> None:
        """A message reaches a node that is up."""
        if isinstance(message, AppendEntriesReply):
            self.unanswered.pop((to, message.sender), None)

    def heeded(self, member: Member, message: Message, before: Status | None) -> None:
        """What a message alone brings about: its term is adopted, its leader recognised (section 5.2), and
        if its term is old, nothing (section 5.1): `before` is given then."""
        node = member.node
        if node is None:
            return
        assert before is None or node.status == before, f"{message} is old, but changed {before}"
        assert node.term >= message.term, f"node {member.id} of term {node.term} ignored {message}"
        if isinstance(message, AppendEntries) and message.term == node.term:
            assert (node.role, node.leader) == (Role.FOLLOWER, message.leader), f"{message} not followed"

    def applied(self, member: Member, action: Apply) -> None:
        """Committed, durable here, in order, each once, nothing skipped but what is no command."""
        last = self.applied_through[member.id]
        assert action.index > last, f"node {member.id} applies {action} after {last}"
        assert action.index <= len(self.committed), f"{action} is not committed"
        entry = self.committed[action.index - 1]
        assert (entry.term, entry.command) == (action.term, action.command), f"{action} is not {entry}"
        assert entry.kind is EntryKind.NORMAL
        skipped = self.committed[last : action.index - 1]
        assert all(e.kind is not EntryKind.NORMAL for e in skipped), f"node {member.id} skips {skipped}"
        self._durable(member, entry, f"{action} is not durable on node {member.id}")
        self.applied_through[member.id] = action.index

    def _durable(self, member: Member, entry: LogEntry, message: str) -> None:
        disk = member.log.disk
        assert len(disk) >= entry.index and disk[entry.index - 1] == entry, message

    # The nodes, after every step.

    def started(self, member: Member, applied: int) -> None:
        """A node (re)starts: its memory is new, its promises are old."""
        node = member.node
        assert node is not None
        assert (node.term, node.commit_index, node.last_applied) == (
            member.log.disk_state.term,
            applied,
            applied,
        )
        self.seen[member.id] = Seen(node.term, applied, applied)
        self.applied_through[member.id] = applied
        self.leads.pop(member.id, None)
        self._forget_window(member)

    def _forget_window(self, member: Member) -> None:
        for link in [link for link in self.unanswered if link[0] == member.id]:
            del self.unanswered[link]

    def observe(self, member: Member) -> None:
        """Everything that must hold between two steps."""
        node = member.node
        if node is None:
            return
        node._state.check()
        now = Seen(node.term, node.commit_index, node.last_applied)
        before = self.seen[member.id]
        assert all(a >= b for a, b in zip(now, before, strict=True)), f"{member.id}: {before} to {now}"
        self.seen[member.id] = now
        if node.is_leader and self.leads.get(member.id) != node.term:
            self.leads[member.id] = node.term
            self._forget_window(member)
            self._leads(node.term, member.id)
            self._elected(member, node.term)
            self._complete(member, node.term)
        if now.commit > before.commit:
            self._commits(member, node, before.commit, now.commit)

    def _leads(self, term: Term, leader: NodeId) -> None:
        known = self.leaders.setdefault(term, leader)
        assert known == leader, f"term {term} has the leaders {known} and {leader}"

    def _elected(self, member: Member, term: Term) -> None:
        """A majority of different nodes voted for a leader, and its own vote is on its disk."""
        voters = {voter for (when, voter), whom in self.votes.items() if (when, whom) == (term, member.id)}
        majority = len(self.members) // 2 + 1
        assert len(voters | {member.id}) >= majority, f"{member.id} leads {term} by {voters} alone"
        assert member.log.disk_state == HardState(term, member.id), "leads without its own vote on disk"

    def _complete(self, member: Member, term: Term) -> None:
        """Leader completeness: a leader has what was committed in earlier terms."""
        for entry, when in zip(self.committed, self.commit_terms, strict=True):
            if when < term:
                held = member.log.held[entry.index - 1 : entry.index]
                assert held == [entry], f"leader {member.id} of term {term} lacks {entry}"

    def _commits(self, member: Member, node: RaftNode, before: int, now: int) -> None:
        """The same entry at the same index everywhere; the first to know is the leader of its term."""
        known = len(self.committed)
        for entry in member.log.held[before : min(now, known)]:
            assert self.committed[entry.index - 1] == entry, f"node {member.id} commits another {entry}"
        if now <= known:
            return
        assert node.is_leader, f"node {member.id} commits {now}, which no leader has"
        assert node.log.term_at(now) == node.term, f"{now} is of an old term (section 5.4.2)"
        for entry in member.log.held[known:now]:
            self.committed.append(entry)
            self.commit_terms.append(node.term)
            self._is_safe(entry)
        for other in self.members.values():
            if other.node is not None and other.node.is_leader:
                self._complete(other, other.node.term)

    def _is_safe(self, entry: LogEntry) -> None:
        """The disks alone, all nodes crashed now, must keep `entry`: a majority holds it, and no node that
        lacks it could win an election (sections 5.4.1 and 5.4.2)."""
        majority = len(self.members) // 2 + 1
        disks = [member.log.disk for member in self.members.values()]
        have = [disk[entry.index - 1 : entry.index] == [entry] for disk in disks]
        assert sum(have) >= majority, f"committed, but not on a majority of disks: {entry}"
        ends = [(disk[-1].term, len(disk)) if disk else (0, 0) for disk in disks]
        for end, has in zip(ends, have, strict=True):
            votes = sum(end >= other for other in ends)
            assert has or votes < majority, f"committed, but a log ending at {end} could win: {entry}"

    # Refusals.

    def refuses_everything(self, node: RaftNode) -> None:
        """A node whose disk failed is dead, and says so."""
        with pytest.raises(StorageError):
            node.step(Tick())
        with pytest.raises(StorageError):
            node.drain()

    def refused(self, member: Member, before: Status, *, leads: bool) -> None:
        """A node that leads refuses for overload only, another for want of leadership; nothing changes."""
        assert member.node is not None
        assert member.node.status == before, "a refused proposal changed something"
        assert member.node.is_leader == leads

    def overload(self, member: Member, size: int, *, refused: bool) -> None:
        """A proposal of `size` bytes was refused or taken: `max_uncommitted_bytes` says which it must be."""
        node = member.node
        assert node is not None
        held = member.log.held[node.commit_index :]
        sizes = [max(len(e.command), 1) for e in held if e.term == node.term and e.kind is EntryKind.NORMAL]
        limit = member.config.max_uncommitted_bytes
        if refused:
            assert limit and sizes and sum(sizes) + max(size, 1) > limit, f"refused beside {sizes}"
        else:
            assert not limit or len(sizes) <= 1 or sum(sizes) <= limit, f"took {sizes}"
