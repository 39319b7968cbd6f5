"""One node of the simulated cluster with the driver around it: crashes, restarts, late syncs, snapshots."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from tests.sim.checks import Acknowledged, Checker
from tests.sim.contents import Contents, encode
from tests.sim.crash_log import CrashLog

from raft_io import (
    Action,
    AppendEntriesReply,
    Apply,
    Event,
    Membership,
    MembershipChanged,
    MembershipCommitted,
    RaftConfig,
    RaftNode,
    ReadFailed,
    ReadReady,
    RestoreSnapshot,
    Role,
    Send,
    Snapshot,
    SnapshotTaken,
    StorageError,
    Sync,
    Synced,
    TakeSnapshot,
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
    """A `Send` with the entry that it acknowledges."""

    send: Send
    acknowledged: Acknowledged | None


class Ticket(NamedTuple):
    """A sync under way since `tick`. It covers the writes before `position`; `waiting` goes out after it."""

    number: int
    position: int
    tick: int
    waiting: list[Waiting]


class Transfer(NamedTuple):
    """A hand-over that the node took on in `term`, at `tick`."""

    term: int
    target: int
    tick: int


class Member:
    """A node, its log, its state machine and what it still has to sync."""

    def __init__(
        self,
        config: RaftConfig,
        mode: Mode,
        checker: Checker,
        post: Callable[[int, Send], None],
        damage: int = 0,
    ) -> None:
        self.config = config
        self.id = config.id
        self.initial = Membership(() if config.joins else (config.id, *config.peers))
        self.mode = mode
        self.checker = checker
        self.post = post
        self.log = CrashLog(node_may_sync=not mode.deferred, seed=config.seed, damage=damage)
        self.log.on_append = lambda entries: checker.appended(self, entries)
        self.log.on_truncate = lambda removed: checker.truncated(self, removed)
        self.log.on_snapshot = lambda snapshot: checker.saved(self, snapshot)
        self.node: RaftNode | None = None
        self.machine: list[bytes] = []
        self.applied = 0
        """The state machine has applied through here, and forgets it only when it is told to."""
        self.told = self.initial
        """The membership as the driver knows it."""
        self.believed = self.logged = self.initial
        """The membership of the node and that of its log, as they were compared last."""
        self.captures: list[tuple[int, bytes]] = []
        """States that were captured for a snapshot, and the indexes that they are of."""
        self.snapshots: dict[tuple[int, int], Snapshot] = {}
        """Every snapshot that was ever in this log, by index and term."""
        self.transfer: Transfer | None = None
        self.tickets: list[Ticket] = []
        self.ticks = 0
        self.born = 0
        """The tick at which it was started last."""
        self.old = False
        """Whether it had been in a term before."""
        self.nonce = config.id

    @property
    def up(self) -> bool:
        return self.node is not None

    @property
    def membership(self) -> Membership:
        """What its log says."""
        return self.log.now.membership(self.initial)

    def start(self, applied: int = 0) -> None:
        """Start on what the disk holds; the state machine is durable through `applied`, or restored from the
        snapshot if that goes further."""
        assert self.node is None
        covered = self.log.now.covered
        if applied <= covered:
            snapshot = self.log.snapshot()
            if snapshot is not None:
                self.checker.machines.is_true(snapshot)
            applied = 0
        start = max(applied, covered)
        self.machine = self.checker.history.commands(start)
        self.applied = start
        self.told = self.membership
        self.born, self.old = self.ticks, self.log.now.state.term > 0
        self.node = RaftNode(self.config, self.log, applied=applied, deferred_sync=self.mode.deferred)
        self.checker.started(self, start)
        self.checker.observe(self)

    def crash(self, keep: int = 0, *, snapshots: bool = False) -> None:
        """Lose the memory, and of the disk what was not synced but for `keep` writes."""
        self.node = None
        self.tickets.clear()
        self.captures.clear()
        self.transfer = None
        self.checker.stopped(self)
        self.log.crash(keep, snapshots=snapshots)

    def take(self, event: Event) -> int:
        """Hand one event to the node. Returns the index of the entry that it made, else 0."""
        node = self.node
        assert node is not None
        try:
            if self.mode.batches:
                index = node.feed(event)
                self.checker.observe(self)
                return index
            before = node.log.last_index()
            self._carry_out(node.step(event))
            self._drained()
            return before + 1
        except StorageError:
            self._died(node)
            return 0

    def tick(self) -> None:
        """Time passes by one tick."""
        node = self.node
        role = None if node is None else node.role
        self.ticks += 1
        self.take(Tick())
        if self.node is None:
            return
        self.checker.contact.ticked(self, self.node)
        self._gives_up_transfers(self.node)
        if self._disk_hangs():
            assert not self.node.is_leader, "leads while its disk hangs"
            assert self.node.role is role or role is Role.LEADER, "campaigns while its disk hangs"

    def _disk_hangs(self) -> bool:
        """Whether a sync with something to write has been out for longer than the longest timeout."""
        patience = self.config.election_timeout[1]
        return any(
            self.ticks - ticket.tick > patience and self.log.waits_for(ticket.position)
            for ticket in self.tickets[:1]
        )

    def _gives_up_transfers(self, node: RaftNode) -> None:
        transfer = self.transfer
        if transfer is None or not node.is_leader or node.term != transfer.term:
            return
        target = node.status.transfer_target
        if target is None:
            self.transfer = None
        else:
            assert target == transfer.target
            age = self.ticks - transfer.tick
            assert age <= self.config.election_timeout[1], f"node {node.id} still hands over to {target}"

    def drain(self) -> None:
        """Carry out what has come of the events so far."""
        if self.node is None:
            return
        try:
            self._carry_out(self.node.drain())
        except StorageError:
            self._died(self.node)
        self._drained()

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

    def answer(self, index: int, data: bytes) -> None:
        """A captured state is written down: a snapshot, if it goes further than the last one."""
        node = self.node
        assert node is not None
        counts = self.log.now.covered < index <= node.last_applied and self.knows_members(index)
        covered = index if counts else self.log.now.covered
        self.nonce += 1
        self.take(SnapshotTaken(index, Contents(data, self.log) if self.nonce % 2 else data))
        if self.node is not None:
            assert self.log.now.covered == covered, f"SnapshotTaken({index}) led to {self.log.now.covered}"

    def knows_members(self, index: int) -> bool:
        """Whether its log tells who takes part as of `index`: one that joined may not have come so far."""
        now = self.log.now
        first = [entry for entry in now.changes if now.covered < entry.index <= index]
        return bool(first or now.snapshot is not None or self.initial.voters)

    def capture(self, index: int) -> bytes:
        """The state at an applied `index`."""
        self.nonce += 1
        return encode(self.checker.history.commands(index), self.nonce * 16 + self.id)

    # Actions.

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
                    self.checker.machines.applied(self, action)
                    self.machine.append(action.command)
                    self.applied = action.index
                case Sync(ticket):
                    assert self.mode.deferred, "a Sync that nobody asked for"
                    assert not self.tickets or self.tickets[-1].number < ticket, "tickets increase"
                    waiting = []
                    self.tickets.append(Ticket(ticket, self.log.position, self.ticks, waiting))
                case _:
                    self._tell(action)

    def _tell(self, action: Action) -> None:
        checker = self.checker
        match action:
            case ReadReady():
                checker.reads.ready(self, action, checker.machines.through[self.id])
            case ReadFailed():
                checker.reads.failed(self, action)
            case TakeSnapshot():
                checker.machines.take(self, action)
                self.captures.append((action.index, self.capture(action.index)))
            case RestoreSnapshot():
                checker.machines.restored(self, action)
                self.machine = checker.history.commands(action.snapshot.index)
                self.applied = action.snapshot.index
            case MembershipChanged():
                self.told = action.membership
            case MembershipCommitted():
                checker.machines.membership_committed(self, action)
            case _:
                raise AssertionError(f"an unknown action: {action}")

    def _drained(self) -> None:
        """Once there is nothing more to hand out."""
        node = self.node
        if node is not None and not node.pending:
            self.checker.machines.drained(self, node.last_applied)
            self.checker.changes.drained(self, node)

    def _acknowledged(self, send: Send) -> Acknowledged | None:
        message = send.message
        if isinstance(message, AppendEntriesReply) and message.success and message.match_index > 0:
            assert message.match_index <= self.log.last_index(), f"{message} of a log that ends before"
            term = self.log.term_at(message.match_index)
            if term is None:
                # Compacted here, hence committed.
                term = self.checker.history.at(message.match_index).term
            return Acknowledged(message.match_index, term)
        return None

    def _release(self, item: Waiting) -> None:
        self.checker.sent(self, item.send, item.acknowledged)
        self.post(self.id, item.send)

    def _died(self, node: RaftNode) -> None:
        """The disk failed, and the node with it: it says so ever after, and only a restart helps."""
        assert self.log.broken, "a StorageError without a cause"
        self.checker.refuses_everything(node)
        self.crash()
