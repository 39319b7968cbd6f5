"""`RaftNode`: the term gate, the dispatch, and the two halves `feed` and `drain`."""

from __future__ import annotations

from typing import final

from mypy_extensions import i64

from raft_io.core import (
    adoption,
    append,
    commit,
    durability,
    election,
    membership,
    reads,
    replicate,
    roles,
    snapshot,
    transfer,
)
from raft_io.core.actions import Action, Send, Sync
from raft_io.core.config import RaftConfig
from raft_io.core.events import (
    ChangeMembership,
    Event,
    Propose,
    ReadIndex,
    Receive,
    SnapshotTaken,
    Synced,
    SyncFailed,
    Tick,
    TransferLeadership,
)
from raft_io.core.log import REQUIRED, MemoryLog, RaftLog
from raft_io.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    origin_of,
)
from raft_io.core.state import LEADER, State
from raft_io.core.status import FollowerStatus, Status
from raft_io.core.types import (
    MAX,
    NOBODY,
    HardState,
    Index,
    Membership,
    NodeId,
    Role,
    Term,
    checked,
    checked_bool,
)
from raft_io.errors import (
    MembershipChangeInProgressError,
    NotLeaderError,
    OverloadedError,
    StorageError,
    TransferInProgressError,
)

__all__ = ["RaftNode"]


def _check_backend(log: RaftLog) -> None:
    if not isinstance(log, RaftLog):
        raise TypeError(f"log must be a RaftLog, not {type(log).__name__}")
    missing = [name for name in REQUIRED if getattr(type(log), name) is getattr(RaftLog, name)]
    if missing:
        raise TypeError(f"{type(log).__name__} is no complete RaftLog: it lacks {', '.join(missing)}")


@final
class RaftNode:
    """A node of a Raft cluster: a deterministic state machine without I/O.

    `step(event)` is all that the common case needs. Drivers that want many events to share one write to
    disk call `feed` for each and then `drain`.

    `log`: where entries and hard state live; a fresh `MemoryLog` if `None`. The node adopts what it holds,
    so that a log recovered from disk resumes in its last term and vote, with its membership and snapshot; the
    configuration's peers count only until the log has a membership. `applied`: the index through which the
    state machine itself is durable already; `commit_index` and `last_applied` start there, or at the log's
    snapshot, which the caller restores, if that is later.
    `deferred_sync`: `drain` never syncs the log but asks for it by `Sync(ticket)`.

    Raises `TypeError` for a log that lacks a method, `ValueError` for an `applied` outside the log,
    `StorageError` for a log whose term or index is at its maximum. A log whose entries are of a later term
    than its hard state is adopted in that term, in which the node then votes for nobody else.

    >>> node = RaftNode(RaftConfig.single(1))
    >>> while not node.is_leader:
    ...     _ = node.step(Tick())
    >>> node.step(Propose(b"x"))
    [Apply(index=1, term=1, command=b'x')]
    """

    __slots__ = ("_state",)

    def __init__(
        self,
        config: RaftConfig,
        log: RaftLog | None = None,
        *,
        applied: Index = 0,
        deferred_sync: bool = False,
    ) -> None:
        if not isinstance(config, RaftConfig):
            raise TypeError(f"config must be a RaftConfig, not {type(config).__name__}")
        backend: RaftLog = MemoryLog() if log is None else log
        _check_backend(backend)
        start = checked(applied, "applied")
        last = backend.last_index()
        if start > last:
            raise ValueError(f"applied is {applied}, but the log ends at index {last}")
        term = backend.hard_state().term
        if last >= MAX or max(term, backend.last_term()) >= MAX:
            raise StorageError("adopting the log", "the last index or the term is at its maximum")
        if backend.last_term() > term:
            # Whom it voted for in that term is lost, so that nobody gets the vote. Needs no sync: a crash
            # would find the same again.
            backend.set_hard_state(HardState(backend.last_term(), config.id))
        saved = backend.snapshot()
        if saved is not None:
            start = max(start, saved.index)
        self._state: State = State(config, backend, start, bool(deferred_sync))
        try:
            adoption.recover(self._state)
        except ValueError as error:
            failure = StorageError("adopting the log", f"an entry that holds no membership: {error}")
            failure.__cause__ = error  # compiled, `raise ... from` does not keep it
            raise failure from failure.__cause__

    @classmethod
    def with_log(cls, config: RaftConfig, log: RaftLog) -> RaftNode:
        """A node on `log`, whose hard state and entries it adopts."""
        _check_backend(log)
        return RaftNode(config, log)

    @property
    def id(self) -> NodeId:
        """This node's id."""
        return self._state.id

    @property
    def role(self) -> Role:
        """The role it plays now."""
        return self._state.role

    @property
    def is_leader(self) -> bool:
        """Whether it leads."""
        return self._state.role is LEADER

    @property
    def term(self) -> Term:
        """Its current term."""
        return self._state.term

    @property
    def leader(self) -> NodeId | None:
        """The leader that it recognises, if any."""
        return None if self._state.leader == NOBODY else self._state.leader

    @property
    def commit_index(self) -> Index:
        """The highest index that it knows to be committed."""
        return self._state.commit_index

    @property
    def last_applied(self) -> Index:
        """The highest index that it has handed out as `Apply` (or skipped as none)."""
        return self._state.last_applied

    @property
    def log(self) -> RaftLog:
        """The log. Read it as you like; only the node may write it."""
        return self._state.log

    @property
    def membership(self) -> Membership:
        """Who takes part: the last membership in the log, committed or not."""
        return self._state.membership

    @property
    def passive(self) -> bool:
        """Whether it never campaigns, not even when told to. For a node that has lost its disk: while it
        catches up, the memberships in its log may be those in which it was a voter before, perhaps the only
        one. A driver sets it until the node has seen that its earlier life is over."""
        return self._state.passive

    @passive.setter
    def passive(self, passive: bool) -> None:
        self._state.passive = checked_bool(passive, "passive")

    @property
    def pending(self) -> bool:
        """Whether there is more to drain."""
        return self._state.work

    @property
    def status(self) -> Status:
        """All that an operator wants to see, at this moment."""
        st = self._state
        followers = [
            FollowerStatus(
                f.id,
                f.state,
                f.match,
                f.next,
                len(f.inflight),
                _part_of(st.membership, f.id),
                st.now - f.heard,
                f.offset,
            )
            for f in st.followers
        ]
        return Status(
            st.id,
            st.role,
            st.term,
            self.leader,
            None if st.voted_for == NOBODY else st.voted_for,
            st.commit_index,
            st.last_applied,
            st.last_index,
            st.last_term,
            st.stable_index,
            self.membership,
            st.uncommitted_bytes,
            followers,
            st.snapshot_index,
            st.snapshot_term,
            None if st.transfer_target == NOBODY else st.transfer_target,
        )

    def step(self, event: Event) -> list[Action]:
        """Take one event in, return what to do, in order: what must be durable first already is.

        With `deferred_sync` it is what follows a `Sync` that must wait. Raises as `feed` does.
        """
        self.feed(event)
        actions = self.drain()
        while self._state.work:
            actions.extend(self.drain())
        return actions

    def feed(self, event: Event) -> Index:
        """Take one event in; `drain` tells what follows from it. Returns the index of the entry that it
        made, else `0`.

        Raises what the event says it raises, and then nothing has changed; `StorageError` when the log
        failed: the node is dead, every later call raises it again.
        """
        st = self._state
        if st.failed is not None:
            raise st.failed.with_traceback(None)
        if isinstance(event, Propose):
            return _propose(st, event.command)
        if isinstance(event, ReadIndex):
            if st.role is not LEADER and st.leader == NOBODY:
                raise NotLeaderError(None)
            reads.ask(st, event.context)
            return 0
        if isinstance(event, ChangeMembership):
            return _change_membership(st, event)
        if isinstance(event, TransferLeadership):
            _transfer(st, event.target)
            return 0
        if not isinstance(event, (Receive, Tick, Synced, SyncFailed, SnapshotTaken)):
            raise TypeError(f"event must be an Event, not {type(event).__name__}")
        try:
            if isinstance(event, Receive):
                _receive(st, event.message)
            elif isinstance(event, Tick):
                election.tick(st)
            elif isinstance(event, Synced):
                if durability.settle_tickets(st, event.ticket):
                    _became_durable(st)
            elif isinstance(event, SnapshotTaken):
                snapshot.taken(st, event.index, event.data)
            else:
                durability.fail(st, StorageError("syncing the log", event.detail))
        except Exception as error:
            failure = durability.fail(st, error)
            raise failure from failure.__cause__
        return 0

    def drain(self) -> list[Action]:
        """What the events since the last drain have brought about, in order. Raises `StorageError`."""
        st = self._state
        if st.failed is not None:
            raise st.failed.with_traceback(None)
        actions: list[Action] = []
        if not st.work:
            return actions
        st.work = False
        st.campaigned = False
        try:
            if st.deferred_sync:
                _drain_deferred(st, actions)
            else:
                _drain_syncing(st, actions)
        except Exception as error:
            failure = durability.fail(st, error)
            raise failure from failure.__cause__
        if st.dirty or commit.can_apply(st):
            st.work = True
        return actions


def _part_of(members: Membership, node: NodeId) -> str:
    if node in members.voters:
        return "voter"
    return "outgoing" if node in members.outgoing else "learner"


def _check_leads(st: State) -> None:
    if st.role is not LEADER:
        raise NotLeaderError(None if st.leader == NOBODY else st.leader)


def _propose(st: State, command: bytes) -> i64:
    _check_leads(st)
    if st.transfer_target != NOBODY:
        raise TransferInProgressError
    # An empty command counts as well: a pipeline of them is not free.
    size: i64 = max(len(command), 1)
    if st.last_index + 1 >= MAX:
        raise OverloadedError("the log is full: its last index is at the maximum")
    if not replicate.accepts(st, size):
        raise OverloadedError(f"{st.uncommitted_bytes} bytes are uncommitted; try again later")
    try:
        return replicate.propose(st, command, size)
    except Exception as error:
        failure = durability.fail(st, error)
        raise failure from failure.__cause__


def _change_membership(st: State, event: ChangeMembership) -> i64:
    _check_leads(st)
    if not event.voters:
        raise ValueError("a membership needs at least one voter")
    both = event.voters & event.learners
    if both:
        raise ValueError(f"node {min(both)} cannot be both a voter and a learner")
    if st.transfer_target != NOBODY:
        raise TransferInProgressError
    if membership.in_progress(st):
        raise MembershipChangeInProgressError
    if st.last_index + 2 >= MAX:
        raise OverloadedError("the log is full: its last index is at the maximum")
    try:
        return membership.begin(st, Membership(event.voters, event.learners))
    except Exception as error:
        failure = durability.fail(st, error)
        raise failure from failure.__cause__


def _transfer(st: State, target: i64) -> None:
    _check_leads(st)
    if target not in st.voters:
        raise ValueError(f"node {target} is no voter; leadership can be handed over to one of {st.voters}")
    transfer.begin(st, target)


def _receive(st: State, message: Message) -> None:
    """The term gate (paper, section 5.1), then the handler. What no correct peer sends is dropped: a term
    at its maximum, one before the first election, anything in this node's own name."""
    if message.term >= MAX or message.term == st.term == 0:
        return
    if isinstance(message, AppendEntries):
        if message.leader == st.id:
            return
        if message.term > st.term:
            roles.become_follower(st, message.term, message.leader)
        append.handle_append_entries(st, message)
    elif isinstance(message, AppendEntriesReply):
        if message.sender == st.id:
            return
        if message.term > st.term:
            roles.become_follower(st, message.term, NOBODY)
        replicate.handle_append_entries_reply(st, message)
    elif origin_of(message) == st.id:
        return
    elif isinstance(message, PreVote):
        election.handle_pre_vote(st, message)  # its term is not adopted
    elif isinstance(message, PreVoteReply):
        election.handle_pre_vote_reply(st, message)
    elif isinstance(message, RequestVote) and election.ignores(st, message):
        return
    else:
        if message.term > st.term:
            leads = isinstance(message, (InstallSnapshot, TimeoutNow))
            roles.become_follower(st, message.term, origin_of(message) if leads else NOBODY)
        _dispatch(st, message)


def _dispatch(st: State, message: Message) -> None:
    if isinstance(message, RequestVote):
        election.handle_request_vote(st, message)
    elif isinstance(message, RequestVoteReply):
        election.handle_request_vote_reply(st, message)
    elif isinstance(message, InstallSnapshot):
        snapshot.handle_install_snapshot(st, message)
    elif isinstance(message, InstallSnapshotReply):
        snapshot.handle_install_snapshot_reply(st, message)
    elif isinstance(message, TimeoutNow):
        election.handle_timeout_now(st, message)
    elif isinstance(message, ReadIndexRequest):
        reads.handle_read_index_request(st, message)
    else:
        assert isinstance(message, ReadIndexReply)
        reads.handle_read_index_reply(st, message)


def _became_durable(st: State) -> None:
    """More of the log is durable: the node's own vote and its own copy may count now."""
    election.count_own_vote(st)
    if st.role is LEADER:
        commit.advance(st)
    st.work = True


def _lead(st: State) -> None:
    """What a leader sends in this drain; it may be its last."""
    if st.reads:
        reads.advance(st)
    replicate.send_appends(st)
    if not st.votes and membership.has_left(st):
        roles.become_follower(st, st.term, NOBODY)


def _is_current(st: State, message: Message) -> bool:
    """Whether what was put into the outbox still holds: nothing is said of a term that is over."""
    if isinstance(message, PreVote):
        return st.prevoting and message.term == st.term + 1
    return message.term == st.term or isinstance(message, PreVoteReply)


def _emit(st: State, actions: list[Action]) -> None:
    commit.emit_applies(st, actions)
    if st.snapshot_threshold > 0:
        snapshot.request(st, actions)
    if st.ready:
        reads.emit_ready(st, actions)


def _drain_syncing(st: State, actions: list[Action]) -> None:
    if st.dirty:
        durability.sync(st)
        _became_durable(st)
        st.work = False
    if st.role is LEADER:
        _lead(st)
    _take_notices(st, actions)
    for send in st.outbox:
        if _is_current(st, send.message):
            actions.append(send)
    st.outbox.clear()
    _emit(st, actions)


def _drain_deferred(st: State, actions: list[Action]) -> None:
    if st.role is LEADER:
        _lead(st)
    _take_notices(st, actions)
    held: list[Send] = []
    for send in st.outbox:
        if _is_current(st, send.message):
            if durability.relies_on_unsynced(st, send.message):
                held.append(send)
            else:
                actions.append(send)
    st.outbox.clear()
    _emit(st, actions)
    if st.dirty or held:
        actions.append(Sync(durability.issue_ticket(st)))
        actions.extend(held)


def _take_notices(st: State, actions: list[Action]) -> None:
    if st.notices:
        actions.extend(st.notices)
        st.notices.clear()
