"""The one place that interprets actions. Sans-I/O: what arrived and the time go in; what to send, to sync and
to answer comes out. asyncio is one shell around it, a simulator is another.

One turn: everything that has arrived, every tick that has passed, then the input; one drain. What may be
sent before the disk is done leaves at once, the rest when the sync is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from raft_io import wire
from raft_io.core.actions import Action, Apply, Send, Sync
from raft_io.core.config import RaftConfig
from raft_io.core.events import Event, Propose, Receive, Synced, SyncFailed, Tick
from raft_io.core.log import RaftLog
from raft_io.core.messages import AppendEntries, AppendEntriesReply, Message, RequestVote, RequestVoteReply
from raft_io.core.node import RaftNode
from raft_io.core.types import NodeId, Role, Term
from raft_io.errors import NotLeaderError, OverloadedError, RaftError, WireError
from raft_io.server import envelope, frames
from raft_io.server.machine import StateMachine
from raft_io.server.requests import Answer, Request, Requests
from raft_io.server.sessions import Sessions

__all__ = ["Driver", "Output"]

MAX_TICKS: int = 4096
"""Ticks fed in one turn; a process that was suspended for longer has missed all there was to miss."""

MAX_HELD: int = 4096
"""Frames that wait for the disk; above it they are dropped: a disk that hangs must not fill the memory."""

MAX_FORWARD: Final = frames.MAX_FRAME // 2 + 1024 * 1024
"""The longest entry accepted from a peer, in bytes: a server makes no longer one."""

TICK: Final = Tick()


class Output:
    """What a turn wants done, in this order: `send` (frames by peer), `sync` (begin one, then `synced` this
    ticket; `0`: none), `answers`. `again`: there is more to do, take another turn soon. `failure`: the node
    is dead."""

    __slots__ = ("again", "answers", "failure", "send", "sync")

    def __init__(self) -> None:
        self.send: dict[NodeId, list[bytes]] = {}
        self.sync: int = 0
        self.answers: list[Answer] = []
        self.again: bool = False
        self.failure: Exception | None = None


class Driver:
    """A node, its state machine and its callers, driven by turns.

    `tick_interval` and every time are in seconds, of any monotonic clock. `nonce` returns 16 random bytes.
    `report` is told, in one line, what an operator should know.
    """

    def __init__(
        self,
        config: RaftConfig,
        log: RaftLog,
        machine: StateMachine,
        *,
        tick_interval: float,
        now: float,
        nonce: Callable[[], bytes],
        report: Callable[[str], None],
    ) -> None:
        self.node = RaftNode(config, log, deferred_sync=True)
        self._machine = machine
        self._sessions = Sessions(machine)
        self._requests = Requests(nonce, config.election_timeout[1])
        self._tick_interval = tick_interval
        self._clock = now
        self._ticks = 0
        self._report = report
        self._peers = frozenset(config.peers)
        self._events: list[Event] = []
        self._forwarded: list[tuple[NodeId, bytes]] = []
        self._held: deque[tuple[int, NodeId, bytes]] = deque()
        self._syncing = 0
        self._wanted = 0
        self._seen: tuple[Role, Term, NodeId | None] = (Role.FOLLOWER, self.node.term, None)
        self._failure: Exception | None = None

    # What arrives.

    def receive(self, peer: NodeId, kind: int, body: bytes) -> None:
        """A frame from `peer` arrived. Raises `WireError` for one that no correct peer sends."""
        if kind == frames.MESSAGE:
            message = wire.decode(body)
            if _sender(message) != peer:
                raise WireError(f"a message in the name of node {_sender(message)}")
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
        self._requests.add(request)

    def link_restored(self, peer: NodeId) -> None:
        """The connection to `peer` was made anew: what was sent to it may be lost."""
        self._requests.link_restored(peer)

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
        output.answers = self._requests.answers
        self._requests.answers = []
        return output

    def next_tick(self) -> float:
        """When the next tick is due."""
        return self._clock + self._tick_interval

    def stop(self, error: Exception) -> list[Answer]:
        """The node stops: answer whoever still waits."""
        self._requests.abandon(error)
        answers = self._requests.answers
        self._requests.answers = []
        return answers

    def _run(self, now: float, output: Output) -> None:
        self._feed_ticks(now)
        events = self._events
        if events:
            self._events = []
            for event in events:
                self._feed(event, output)
        self._feed_forwarded(output)
        self._send_requests(output)
        self._interpret(self.node.drain(), output)
        if self._wanted and not self._syncing:
            self._syncing = output.sync = self._wanted
            self._wanted = 0
        self._notice_role()
        # What was applied may have opened this node's session.
        output.again = self.node.pending or (self._requests.ready and self.node.leader is not None)

    def _feed_ticks(self, now: float) -> None:
        passed = int((now - self._clock) / self._tick_interval)
        if passed <= 0:
            return
        self._clock += passed * self._tick_interval
        for _ in range(min(passed, MAX_TICKS)):
            self.node.feed(TICK)
        self._ticks += passed
        self._requests.expire(now)

    def _feed(self, event: Event, output: Output) -> None:
        self.node.feed(event)
        if isinstance(event, Synced):
            while self._held and self._held[0][0] <= event.ticket:
                _, peer, data = self._held.popleft()
                _post(output, peer, data)

    def _feed_forwarded(self, output: Output) -> None:
        forwarded = self._forwarded
        if not forwarded:
            return
        self._forwarded = []
        for peer, data in forwarded:
            try:
                self.node.feed(Propose(data))
            except NotLeaderError:
                pass  # its node finds the leader by itself
            except OverloadedError:
                _post(output, peer, frames.encode_refused(*envelope.peek(data)))

    def _send_requests(self, output: Output) -> None:
        leader = self.node.leader
        if leader is None or not self._requests.waiting:
            return
        here = self.node.is_leader
        if leader != self.node.id or here:
            route = (leader, self.node.term)
            for outbound in self._requests.due(route, not here, self._ticks, self.node.last_applied):
                if here:
                    self._propose(outbound.sequence, outbound.data)
                else:
                    _post(output, leader, frames.encode(frames.FORWARD, outbound.data))

    def _propose(self, sequence: int, data: bytes) -> None:
        try:
            self.node.feed(Propose(data))
        except OverloadedError:
            self._requests.refused(envelope.peek(data)[0], sequence)

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
                    self._requests.applied(outcome, self._machine)
            else:
                assert isinstance(action, Sync)
                ticket = self._wanted = action.ticket

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
        self._requests.abandon(error)


def _sender(message: Message) -> NodeId:
    if isinstance(message, (AppendEntriesReply, RequestVoteReply)):
        return message.sender
    if isinstance(message, AppendEntries):
        return message.leader
    assert isinstance(message, RequestVote)
    return message.candidate


def _post(output: Output, peer: NodeId, data: bytes) -> None:
    queue = output.send.get(peer)
    if queue is None:
        output.send[peer] = [data]
    else:
        queue.append(data)
