"""`RaftNode`: the term gate, the dispatch, and the two halves `feed` and `drain`."""

from __future__ import annotations

from typing import final

from mypy_extensions import i64

from raft_io.core import append, commit, durability, election, replicate, roles
from raft_io.core.actions import Action, Send, Sync
from raft_io.core.config import RaftConfig
from raft_io.core.events import Event, Propose, Receive, Synced, SyncFailed, Tick
from raft_io.core.log import REQUIRED, MemoryLog, RaftLog
from raft_io.core.messages import AppendEntries, AppendEntriesReply, Message, RequestVote
from raft_io.core.state import LEADER, State
from raft_io.core.status import FollowerStatus, Status
from raft_io.core.types import MAX, NOBODY, HardState, Index, Membership, NodeId, Role, Term, checked
from raft_io.errors import NotLeaderError, OverloadedError, StorageError

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
    so that a log recovered from disk resumes in its last term and vote. `applied`: the index through which
    the state machine itself is durable already; `commit_index` and `last_applied` start there.
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
            raise StorageError("adopt log", "the last index or the term is at its maximum")
        if backend.last_term() > term:
            # Whom it voted for in that term is lost, so that nobody gets the vote. Needs no sync: a crash
            # would find the same again.
            backend.set_hard_state(HardState(backend.last_term(), config.id))
        self._state: State = State(config, backend, start, bool(deferred_sync))

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
        """Who takes part."""
        return Membership(self._state.voters)

    @property
    def pending(self) -> bool:
        """Whether there is more to drain."""
        return self._state.work

    @property
    def status(self) -> Status:
        """All that an operator wants to see, at this moment."""
        st = self._state
        followers = [FollowerStatus(f.id, f.state, f.match, f.next, len(f.inflight)) for f in st.followers]
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

        Raises `NotLeaderError` or `OverloadedError` for a `Propose` that cannot be taken, and then nothing
        has changed; `StorageError` when the log failed: the node is dead, every later call raises it again.
        """
        st = self._state
        if st.failed is not None:
            raise st.failed.with_traceback(None)
        if isinstance(event, Propose):
            return _propose(st, event.command)
        if not isinstance(event, (Receive, Tick, Synced, SyncFailed)):
            raise TypeError(f"event must be an Event, not {type(event).__name__}")
        try:
            if isinstance(event, Receive):
                _receive(st, event.message)
            elif isinstance(event, Tick):
                election.tick(st)
            elif isinstance(event, Synced):
                if durability.settle_tickets(st, event.ticket):
                    _became_durable(st)
            else:
                durability.fail(st, StorageError("sync log", event.detail))
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


def _propose(st: State, command: bytes) -> i64:
    if st.role is not LEADER:
        raise NotLeaderError(None if st.leader == NOBODY else st.leader)
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
    elif isinstance(message, RequestVote):
        if message.candidate == st.id:
            return
        if message.term > st.term:
            roles.become_follower(st, message.term, NOBODY)
        election.handle_request_vote(st, message)
    else:
        if message.sender == st.id:
            return
        if message.term > st.term:
            roles.become_follower(st, message.term, NOBODY)
        election.handle_request_vote_reply(st, message)


def _became_durable(st: State) -> None:
    """More of the log is durable: the node's own vote and its own copy may count now."""
    election.count_own_vote(st)
    if st.role is LEADER:
        commit.advance(st)
    st.work = True


def _drain_syncing(st: State, actions: list[Action]) -> None:
    if st.dirty:
        durability.sync(st)
        _became_durable(st)
        st.work = False
    if st.role is LEADER:
        replicate.send_appends(st)
    for send in st.outbox:
        if send.message.term == st.term:
            actions.append(send)
    st.outbox.clear()
    commit.emit_applies(st, actions)


def _drain_deferred(st: State, actions: list[Action]) -> None:
    if st.role is LEADER:
        replicate.send_appends(st)
    held: list[Send] = []
    for send in st.outbox:
        if send.message.term == st.term:
            if durability.relies_on_unsynced(st, send.message):
                held.append(send)
            else:
                actions.append(send)
    st.outbox.clear()
    commit.emit_applies(st, actions)
    if st.dirty or held:
        actions.append(Sync(durability.issue_ticket(st)))
        actions.extend(held)
