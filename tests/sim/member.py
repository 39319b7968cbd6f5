"""One node of the simulated cluster with the driver around it: crashes, restarts, late syncs."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from tests.sim.checks import Checker
from tests.sim.crash_log import CrashLog

from raft_io import (
    Action,
    AppendEntriesReply,
    Apply,
    Event,
    LogEntry,
    RaftConfig,
    RaftNode,
    Role,
    Send,
    StorageError,
    Sync,
    Synced,
    Tick,
)


class Mode(enum.IntEnum):
    """How events reach the node."""

    STEP = 0
    """`step`, one event at a time; the node syncs."""
    BATCH = 1
    """`feed` as events come, `drain` now and then; the node syncs."""
    DEFERRED = 2
    """`feed` and `drain`, and syncs that finish late."""
    DEFERRED_STEP = 3
    """`step`, and syncs that finish late."""

    @property
    def deferred(self) -> bool:
        return self in (Mode.DEFERRED, Mode.DEFERRED_STEP)

    @property
    def batches(self) -> bool:
        return self in (Mode.BATCH, Mode.DEFERRED)


class Waiting(NamedTuple):
    """A `Send` with the entry that it acknowledges, as the log held it when it was made."""

    send: Send
    acknowledged: LogEntry | None


class Ticket(NamedTuple):
    """A sync under way since `tick`. It covers the writes before `position`; `waiting` goes out after it."""

    number: int
    position: int
    tick: int
    waiting: list[Waiting]


class Member:
    """A node, its log, its state machine's progress and what it still has to sync."""

    def __init__(
        self, config: RaftConfig, mode: Mode, checker: Checker, post: Callable[[int, Send], None]
    ) -> None:
        self.config = config
        self.id = config.id
        self.mode = mode
        self.checker = checker
        self.post = post
        self.log = CrashLog(node_may_sync=not mode.deferred)
        self.log.on_append = lambda previous, entries: checker.appended(self, previous, entries)
        self.log.on_truncate = lambda removed: checker.truncated(self, removed)
        self.node: RaftNode | None = None
        self.machine = 0
        """The state machine has applied through here, and forgets it only when it is told to."""
        self.tickets: list[Ticket] = []
        self.ticks = 0

    @property
    def up(self) -> bool:
        return self.node is not None

    def start(self, applied: int = 0) -> None:
        """Start on what the disk holds; the state machine is durable through `applied`."""
        assert self.node is None
        self.node = RaftNode(self.config, self.log, applied=applied, deferred_sync=self.mode.deferred)
        self.machine = applied
        self.checker.started(self, applied)

    def crash(self, keep: int = 0) -> None:
        """Lose the memory, and of the disk what was not synced but for `keep` writes."""
        self.node = None
        self.tickets.clear()
        self.log.crash(keep)

    def take(self, event: Event) -> int:
        """Hand one event to the node. Returns the index of the entry that it made, else 0."""
        node = self.node
        assert node is not None
        try:
            if self.mode.batches:
                return node.feed(event)
            before = node.log.last_index()
            self._carry_out(node.step(event))
            return before + 1
        except StorageError:
            self._died(node)
            return 0

    def tick(self) -> None:
        """Time passes by one tick."""
        before = self.node
        role = None if before is None else before.role
        self.ticks += 1
        self.take(Tick())
        if self.node is not None and self._disk_hangs():
            assert not self.node.is_leader, "leads while its disk hangs"
            assert self.node.role is role or role is Role.LEADER, "campaigns while its disk hangs"

    def _disk_hangs(self) -> bool:
        """Whether a sync with something to write has been out for longer than the longest timeout."""
        patience = self.config.election_timeout[1]
        return any(
            self.ticks - ticket.tick > patience and self.log.waits_for(ticket.position)
            for ticket in self.tickets[:1]
        )

    def drain(self) -> None:
        """Carry out what has come of the events so far."""
        if self.node is None:
            return
        try:
            self._carry_out(self.node.drain())
        except StorageError:
            self._died(self.node)

    def finish_sync(self, which: int, *, feed_first: bool) -> None:
        """The sync of the ticket at `which` is done, and so is every earlier one."""
        if self.node is None or which >= len(self.tickets):
            return
        done, self.tickets = self.tickets[: which + 1], self.tickets[which + 1 :]
        self.log.persist(done[-1].position)
        if feed_first:
            self.take(Synced(done[-1].number))
        for ticket in done:
            for waiting in ticket.waiting:
                self._release(waiting)
        if not feed_first and self.node is not None:
            self.take(Synced(done[-1].number))

    def _carry_out(self, actions: list[Action]) -> None:
        self.checker.observe(self)
        self.checker.returned(self, actions)
        waiting: list[Waiting] | None = None
        for action in actions:
            match action:
                case Send():
                    item = Waiting(action, self._acknowledged(action))
                    if waiting is None:
                        self._release(item)
                    else:
                        waiting.append(item)
                case Apply():
                    self.checker.applied(self, action)
                    self.machine = action.index
                case Sync(ticket):
                    assert self.mode.deferred, "a Sync that nobody asked for"
                    assert not self.tickets or self.tickets[-1].number < ticket, "tickets increase"
                    waiting = []
                    self.tickets.append(Ticket(ticket, self.log.position, self.ticks, waiting))

    def _acknowledged(self, send: Send) -> LogEntry | None:
        message = send.message
        if isinstance(message, AppendEntriesReply) and message.success and message.match_index > 0:
            return self.log.held[message.match_index - 1]
        return None

    def _release(self, item: Waiting) -> None:
        self.checker.sent(self, item.send, item.acknowledged)
        self.post(self.id, item.send)

    def _died(self, node: RaftNode) -> None:
        """The disk failed, and the node with it: it says so ever after, and only a restart helps."""
        assert self.log.broken, "a StorageError without a cause"
        self.checker.refuses_everything(node)
        self.crash()
