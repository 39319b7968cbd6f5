"""The one place that interprets actions. Sans-I/O: what arrived and the time go in; what to send, to sync and
to answer comes out. asyncio is one shell around it, a simulator is another.

One turn: everything that has arrived, every tick that has passed, then the input; one drain. What may be
sent before the disk is done leaves at once, the rest when the sync is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from raft_io import wire
from raft_io.core.actions import (
    Action,
    Apply,
    MembershipChanged,
    MembershipCommitted,
    ReadFailed,
    ReadReady,
    RestoreSnapshot,
    Send,
    Sync,
    TakeSnapshot,
)
from raft_io.core.config import RaftConfig
from raft_io.core.events import (
    Event,
    Propose,
    ReadIndex,
    Receive,
    SnapshotTaken,
    Synced,
    SyncFailed,
    Tick,
)
from raft_io.core.log import RaftLog
from raft_io.core.messages import origin_of
from raft_io.core.node import RaftNode
from raft_io.core.types import Contents, Index, NodeId, Role, Snapshot, Term
from raft_io.errors import NotLeaderError, OverloadedError, RaftError, TransferInProgressError, WireError
from raft_io.server import envelope, frames
from raft_io.server.envelope import Member
from raft_io.server.machine import StateMachine
from raft_io.server.reads import Reads
from raft_io.server.requests import Answer, Request, Requests, Waiter
from raft_io.server.sessions import Sessions
from raft_io.server.snapshots import Capture, Snapshots, not_taken, restore

__all__ = ["Driver", "Output"]

MAX_TICKS: int = 4096
"""Ticks fed in one turn, or those of two election timeouts if they are more: a process that was suspended for
longer has missed all there was to miss."""

MAX_HELD: int = 4096
"""Frames that wait for the disk; above it they are dropped: a disk that hangs must not fill the memory."""

MAX_FORWARD: int = frames.MAX_FRAME // 2 + 1024 * 1024
"""The longest entry accepted from a peer, in bytes: a server makes no longer one."""

MAX_POSTPONED: int = 64 * 1024 * 1024
"""Bytes of forwarded entries that wait for a transfer of leadership to end; above it they are refused."""

MAX_OPERATIONS: int = 1000
"""Operator's events that wait for the next turn."""

TICK: Final = Tick()

Done = Callable[[Exception | None], None]


class Output:
    """What a turn wants done, in this order: `send` (frames by peer), `sync` (begin one, then `synced` this
    ticket; `0`: none), `capture` (write it in a thread, then `snapshot_taken` or `snapshot_failed`),
    `changes` (of the membership, as the core tells them), `answers`. `members_changed`: look at `members`
    again. `again`: there is more to do, take another turn soon. `failure`: the node is dead."""

    __slots__ = ("again", "answers", "capture", "changes", "failure", "members_changed", "send", "sync")

    def __init__(self) -> None:
        self.send: dict[NodeId, list[bytes]] = {}
        self.sync: int = 0
        self.capture: Capture | None = None
        self.changes: list[Action] = []
        self.members_changed: bool = False
        self.answers: list[Answer] = []
        self.again: bool = False
        self.failure: Exception | None = None


class Driver:
    """A node, its state machine and its callers, driven by turns.

    `tick_interval` and every time are in seconds, of any monotonic clock; `wall` tells the ms since the
    epoch, for the entries that this node proposes as leader. `nonce` returns 16 random bytes. `report` is
    told, in one line, what an operator should know.

    Restores `machine` from the log's snapshot, if there is one. Raises `StorageError` if that is damaged, and
    what the machine raises.
    """

    def __init__(
        self,
        config: RaftConfig,
        log: RaftLog,
        machine: StateMachine,
        *,
        tick_interval: float,
        now: float,
        wall: Callable[[], int],
        nonce: Callable[[], bytes],
        report: Callable[[str], None],
    ) -> None:
        self.node = RaftNode(config, log, deferred_sync=True)
        self._log = log
        self._machine = machine
        self._sessions = Sessions(machine)
        self._requests = Requests(nonce, config.election_timeout[1])
        self._max_ticks = max(MAX_TICKS, 2 * config.election_timeout[1])
        self._reads = Reads(nonce())
        self._tick_interval = tick_interval
        self._clock = now
        self._wall = wall
        self._ticks = 0
        self._slept = False
        """The time since the last turn went into a restore: its ticks do not count."""
        self._report = report
        self._events: list[Event] = []
        self._forwarded: list[tuple[NodeId, bytes]] = []
        self._operations: deque[tuple[Event, Done]] = deque()
        self._held: deque[tuple[int, NodeId, bytes]] = deque()
        self._syncing = 0
        self._wanted = 0
        self._snapshots = Snapshots()
        self._told: tuple[Term, Index] = (0, 0)
        """The last entry that this node proposed to tell the time."""
        self._seen: tuple[Role, Term, NodeId | None] = (Role.FOLLOWER, self.node.term, None)
        self._failure: Exception | None = None
        snapshot = log.snapshot()
        if snapshot is not None:
            self._restore(snapshot)

    @property
    def members(self) -> Mapping[NodeId, Member]:
        """The replicated table of members: where each listens, and which life of it is meant."""
        return self._sessions.members

    # What arrives.

    def receive(self, peer: NodeId, kind: int, body: bytes) -> None:
        """A frame from `peer` arrived. Raises `WireError` for one that no correct peer sends."""
        if kind == frames.MESSAGE:
            message = wire.decode(body)
            origin = origin_of(message)
            if origin < 0:
                # It does not say whom it is from, and only the leader's word counts.
                if peer != self.node.leader:
                    return
            elif origin != peer:
                raise WireError(f"a message in the name of node {origin}")
            self._events.append(Receive(message))
        elif kind == frames.FORWARD:
            if not envelope.is_envelope(body):
                raise WireError("a forwarded entry that is none")
            if len(body) > MAX_FORWARD:
                # In the log it would make a message that no peer accepts.
                raise WireError(f"a forwarded entry of {len(body)} bytes; at most {MAX_FORWARD} are accepted")
            self._forwarded.append((peer, body))
        elif kind == frames.REFUSED:
            session, sequence = frames.decode_refused(body)
            self._requests.refused(session, sequence)
        else:
            raise WireError(f"a frame of unknown type {kind}")

    def request(self, request: Request) -> None:
        """A caller asks for something. Raises `OverloadedError`, or what the node died of."""
        if self._failure is not None:
            raise self._failure
        if request.query is not None:
            self._reads.add(request)
        else:
            self._requests.add(request)

    def operate(self, event: Event, done: Done) -> None:
        """An operator's event (`ChangeMembership`, `TransferLeadership`) for the next turn, in which `done`
        is called with what the node raised for it, or `None`. Raises as `request` does."""
        if self._failure is not None:
            raise self._failure
        if len(self._operations) >= MAX_OPERATIONS:
            raise OverloadedError(f"{len(self._operations)} operations are waiting here; try again later")
        self._operations.append((event, done))

    def request_snapshot(self, waiter: Waiter | None = None) -> None:
        """Take a snapshot of what is applied now, unasked. `waiter` gets its index once it is durable. Raises
        as `request` does."""
        if self._failure is not None:
            raise self._failure
        if self._snapshots.asking >= MAX_OPERATIONS:
            raise OverloadedError(f"{self._snapshots.asking} wait for a snapshot here; try again later")
        self._snapshots.ask(waiter)

    def snapshot_taken(self, index: Index, data: Contents) -> None:
        """What `Output.capture` wrote is there, as `data`."""
        if self._snapshots.index == index:
            self._events.append(SnapshotTaken(index, data))

    def snapshot_failed(self, index: Index, error: Exception) -> None:
        """`Output.capture` could not be written: the node goes on without."""
        if self._snapshots.index == index:
            self._no_snapshot(index, error)

    def link_restored(self, peer: NodeId) -> None:
        """The connection to `peer` was made anew: what was sent to it may be lost."""
        self._requests.link_restored(peer)
        if peer == self.node.leader:
            self._reads.lost()

    def synced(self, ticket: int) -> None:
        """The sync of `ticket` is done."""
        self._syncing = 0
        self._events.append(Synced(ticket))

    def sync_failed(self, ticket: int, detail: str) -> None:
        """The sync of `ticket` failed."""
        self._syncing = 0
        self._events.append(SyncFailed(ticket, detail))

    # What comes out.

    def turn(self, now: float) -> Output:
        """Take one turn."""
        output = Output()
        if self._failure is None:
            try:
                self._run(now, output)
            except Exception as error:
                self._die(error)
        if self._failure is not None:
            output.failure = self._failure
        output.answers = self._take_answers()
        return output

    def next_tick(self) -> float:
        """When the next tick is due."""
        return self._clock + self._tick_interval

    def stop(self, error: Exception) -> list[Answer]:
        """The node stops: answer whoever still waits."""
        self._abandon(error)
        return self._take_answers()

    def _take_answers(self) -> list[Answer]:
        answers = self._requests.answers
        self._requests.answers = []
        if self._reads.answers:
            answers.extend(self._reads.answers)
            self._reads.answers = []
        if self._snapshots.answers:
            answers.extend(self._snapshots.answers)
            self._snapshots.answers = []
        return answers

    def _run(self, now: float, output: Output) -> None:
        self._feed_ticks(now)
        events = self._events
        if events:
            self._events = []
            for event in events:
                self._feed(event, output)
        if self._forwarded:
            self._feed_forwarded(output)
        while self._operations:
            self._operate(self._operations[0])
        self._send_requests(output)
        self._ask_read_points()
        self._interpret(self.node.drain(), output)
        if self._snapshots.due and not self._snapshots.index:
            self._take_snapshot(output)
        if self._wanted and not self._syncing:
            self._syncing = output.sync = self._wanted
            self._wanted = 0
        self._notice_role()
        if self._sessions.members_changed:
            self._sessions.members_changed = False
            output.members_changed = True
        # What was applied may have opened this node's session.
        waiting = self._requests.ready or self._reads.ready
        output.again = self.node.pending or (waiting and self.node.leader is not None)

    def _feed_ticks(self, now: float) -> None:
        passed = int((now - self._clock) / self._tick_interval)
        if passed <= 0:
            return
        self._clock += passed * self._tick_interval
        if self._slept:
            self._slept = False
            passed = 1
        for _ in range(min(passed, self._max_ticks)):
            self.node.feed(TICK)
        self._ticks += passed
        self._requests.expire(now)
        self._reads.expire(now)
        if self.node.is_leader:
            self._tell_time()

    def _feed(self, event: Event, output: Output) -> None:
        self.node.feed(event)
        if isinstance(event, Synced):
            while self._held and self._held[0][0] <= event.ticket:
                _, peer, data = self._held.popleft()
                _post(output, peer, data)
            if self._snapshots.settling:
                self._snapshots.durable(event.ticket)
        elif isinstance(event, SnapshotTaken):
            saved = self.node.log.snapshot()
            if saved is not None and saved.index >= event.index:
                self._snapshots.saved()
            else:
                self._snapshots.failed(RaftError("no snapshot: this node does not know the members yet"))

    def _feed_forwarded(self, output: Output) -> None:
        forwarded = self._forwarded
        self._forwarded = []
        time = self._time()
        for place, (peer, data) in enumerate(forwarded):
            try:
                self.node.feed(Propose(envelope.stamp(data, time)))
            except NotLeaderError:
                pass  # its node finds the leader by itself
            except OverloadedError:
                _post(output, peer, frames.encode_refused(*envelope.peek(data)))
            except TransferInProgressError:
                self._postpone(forwarded[place:], output)
                return

    def _postpone(self, forwarded: list[tuple[NodeId, bytes]], output: Output) -> None:
        """Keep what was forwarded until it is known who leads: soon, and its node need not notice."""
        size = 0
        for peer, data in forwarded:
            size += len(data)
            if size > MAX_POSTPONED:
                _post(output, peer, frames.encode_refused(*envelope.peek(data)))
            else:
                self._forwarded.append((peer, data))

    def _operate(self, operation: tuple[Event, Done]) -> None:
        event, done = operation
        failure: Exception | None = None
        try:
            self.node.feed(event)
        except (RaftError, ValueError) as error:
            if isinstance(error, RaftError) and error.is_fatal:
                raise  # whoever waits is told of the end
            failure = error
        self._operations.popleft()
        done(failure)

    def _send_requests(self, output: Output) -> None:
        leader = self.node.leader
        if leader is None or not self._requests.waiting:
            return
        here = self.node.is_leader
        if leader != self.node.id or here:
            route = (leader, self.node.term)
            time = self._time() if here else 0
            for outbound in self._requests.due(route, not here, self._ticks, self.node.last_applied):
                if here:
                    self._propose(outbound.sequence, envelope.stamp(outbound.data, time))
                else:
                    _post(output, leader, frames.encode(frames.FORWARD, outbound.data))

    def _propose(self, sequence: int, data: bytes) -> None:
        try:
            self.node.feed(Propose(data))
        except OverloadedError:
            self._requests.refused(envelope.peek(data)[0], sequence)
        except TransferInProgressError:
            self._requests.postponed(sequence)

    def _ask_read_points(self) -> None:
        while self._reads.ready and self.node.leader is not None:
            self.node.feed(ReadIndex(self._reads.ask()))

    def _time(self) -> int:
        return min(max(self._wall(), 0), envelope.MAX_TIME)

    def _tell_time(self) -> None:
        """Where the state machine waits for the time and nobody proposes anything, an entry tells it."""
        due = self._machine.due()
        if due is None or due <= self._sessions.time:
            return
        term, index = self._told
        time = self._time()
        if time < due or (term == self.node.term and index > self.node.last_applied):
            return
        try:
            self._told = (self.node.term, self.node.feed(Propose(envelope.encode_clock(time))))
        except (OverloadedError, TransferInProgressError):
            return  # the next tick is another chance

    def _interpret(self, actions: list[Action], output: Output) -> None:
        ticket = 0
        for action in actions:
            if isinstance(action, Send):
                data = frames.encode(frames.MESSAGE, wire.encode(action.message))
                if ticket:
                    if len(self._held) < MAX_HELD:
                        self._held.append((ticket, action.to, data))
                else:
                    _post(output, action.to, data)
            elif isinstance(action, Apply):
                outcome = self._sessions.apply(action.index, action.command)
                if outcome is not None:
                    self._requests.applied(outcome)
            elif isinstance(action, ReadReady):
                self._reads.confirmed(action.context, self._machine)
            elif isinstance(action, ReadFailed):
                self._reads.refused(action.context)
            elif isinstance(action, Sync):
                ticket = self._wanted = action.ticket
            elif isinstance(action, (MembershipChanged, MembershipCommitted)):
                output.changes.append(action)
            elif isinstance(action, TakeSnapshot):
                self._snapshots.due = True
            else:
                assert isinstance(action, RestoreSnapshot)
                self._restore(action.snapshot)
                self._requests.restored(self._sessions)
                self._slept = True
        if self._snapshots.settling:
            self._snapshots.drained(ticket)

    # Snapshots.

    def _restore(self, snapshot: Snapshot) -> None:
        restore(snapshot.data, self._sessions, self._machine)
        self._report(f"node {self.node.id}: restored the snapshot at index {snapshot.index}")

    def _take_snapshot(self, output: Output) -> None:
        """Capture the state as it is now, after everything that this turn has applied."""
        index = self.node.last_applied
        last = self._log.snapshot()
        if index == 0 or (last is not None and index <= last.index):
            self._snapshots.there_already(index)
            return
        self._snapshots.begin(index)
        try:
            output.capture = Capture(index, self._sessions.capture(), self._machine.capture())
        except Exception as error:
            self._no_snapshot(index, error)

    def _no_snapshot(self, index: Index, error: Exception) -> None:
        failure = not_taken(index, error)
        self._report(f"node {self.node.id}: {failure}")
        self._snapshots.failed(failure)

    # The end.

    def _notice_role(self) -> None:
        seen = (self.node.role, self.node.term, self.node.leader)
        if seen != self._seen:
            role, term, leader = seen
            self._seen = seen
            led = f"node {leader} leads" if leader is not None else "no leader known"
            self._report(f"node {self.node.id}: {role.value} in term {term}, {led}")

    def _die(self, error: Exception) -> None:
        self._failure = error
        if not isinstance(error, RaftError):
            error = RaftError(f"the node has stopped: {type(error).__name__}: {error}")
        self._abandon(error)

    def _abandon(self, error: Exception) -> None:
        self._requests.abandon(error)
        self._reads.abandon(error)
        while self._operations:
            self._operations.popleft()[1](error)
        self._snapshots.abandon(error)


def _post(output: Output, peer: NodeId, data: bytes) -> None:
    queue = output.send.get(peer)
    if queue is None:
        output.send[peer] = [data]
    else:
        queue.append(data)
