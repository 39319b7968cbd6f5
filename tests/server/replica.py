"""One node of a simulated cluster: its disk, its clock, and while it runs its driver and its machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from raft_io import (
    AppendEntriesReply,
    CommandError,
    HardState,
    Index,
    LogEntry,
    NodeId,
    PreVote,
    PreVoteReply,
    RaftConfig,
    RaftLog,
    RequestVote,
    RequestVoteReply,
    Snapshot,
    SnapshotData,
    SnapshotMeta,
    StorageError,
    Term,
    wire,
)
from raft_io.server import StateMachine, frames
from raft_io.server.driver import Driver, Output
from raft_io.server.frames import Frames
from raft_io.server.snapshots import Capture
from raft_io.storage import WalLog
from raft_io.storage.memfs import MemoryFileSystem

if TYPE_CHECKING:
    from tests.server.sim import Cluster

TICK = 0.025


class Machine(StateMachine):
    """Counts, and remembers every command it was given, and when. `r...` is refused."""

    def __init__(self) -> None:
        self.history: list[bytes] = []
        self.times: list[int] = []
        self.now = 0
        self.wakes = 0
        """ms after which it wants to know the time again; `0`: it does not."""

    def apply(self, command: bytes) -> bytes:
        self.history.append(command)
        self.times.append(self.now)
        if command.startswith(b"r"):
            raise CommandError(f"refused as number {len(self.history)}")
        return b"%d" % len(self.history)

    def advance(self, now: int) -> None:
        assert now > self.now, "time goes back, or is told twice"
        self.now = now

    def due(self) -> int | None:
        return self.now + self.wakes if self.wakes and self.now else None

    def capture(self) -> Callable[[BinaryIO], None]:
        lines = [b"%d %s" % pair for pair in zip(self.times, self.history, strict=True)]
        state = b"\n".join([b"%d" % self.now, *lines])
        return lambda stream: stream.writelines([state])

    def restore(self, stream: BinaryIO) -> None:
        now, *lines = stream.read().split(b"\n")
        pairs = [line.split(b" ", 1) for line in lines]
        assert len(pairs) >= len(self.history), "a snapshot moved the state machine backwards"
        assert [command for _, command in pairs[: len(self.history)]] == self.history, "another history"
        self.now = int(now)
        self.times = [int(time) for time, _ in pairs]
        self.history = [command for _, command in pairs]


class WatchedLog(RaftLog):
    """The real log, and beside it what a crash at this moment is sure to leave: the terms of its entries, as
    far as they are known (those that only a snapshot stands for are not)."""

    def __init__(self, log: WalLog) -> None:
        self.log = log
        self.terms = [log.term_at(index) for index in range(1, log.last_index() + 1)]
        self.durable_terms = list(self.terms)
        self.durable_state = log.hard_state()

    def keeps(self, last: Index) -> bool:
        """Whether a crash now would leave what is here through `last`."""
        pairs = zip(self.durable_terms, self.terms[:last], strict=False)
        return len(self.durable_terms) >= last and all(
            durable == term for durable, term in pairs if durable is not None and term is not None
        )

    def last_index(self) -> Index:
        return self.log.last_index()

    def last_term(self) -> Term:
        return self.log.last_term()

    def term_at(self, index: Index) -> Term | None:
        return self.log.term_at(index)

    def entry(self, index: Index) -> LogEntry | None:
        return self.log.entry(index)

    def entries(self, first: Index, last: Index) -> Sequence[LogEntry]:
        return self.log.entries(first, last)

    def append(self, entries: Sequence[LogEntry]) -> None:
        self.log.append(entries)
        self.terms += [entry.term for entry in entries]

    def truncate(self, first: Index) -> None:
        self.log.truncate(first)
        del self.terms[first - 1 :]

    def hard_state(self) -> HardState:
        return self.log.hard_state()

    def set_hard_state(self, state: HardState) -> None:
        self.log.set_hard_state(state)

    def snapshot(self) -> Snapshot | None:
        return self.log.snapshot()

    def save_snapshot(self, snapshot: Snapshot) -> None:
        replaces = self.log.term_at(snapshot.index) != snapshot.term
        self.log.save_snapshot(snapshot)
        if replaces:
            self.terms = [None] * (snapshot.index - 1) + [snapshot.term]

    def receive_snapshot(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> bytes | SnapshotData | None:
        return self.log.receive_snapshot(meta, offset, chunk)

    def membership_entries(self) -> Sequence[LogEntry]:
        return self.log.membership_entries()

    def sync(self) -> None:
        self.log.sync()
        self.durable_terms = list(self.terms)
        self.durable_state = self.log.hard_state()

    def close(self) -> None:
        self.log.close()


@dataclass
class Trouble:
    """How often what goes wrong, and how tight everything is. Probabilities are per 10 ms of the schedule."""

    crash: float = 0.003
    kill: float = 0.002
    partition: float = 0.004
    reconnect: float = 0.02
    pause: float = 0.002
    disk_fault: float = 0.001
    frame_loss: float = 0.01
    slow_disk: float = 0.02
    latency: float = 0.003
    max_uncommitted: int = 0
    max_apply: int = 0
    transfer: float = 0.0
    change: float = 0.0
    snapshot: float = 0.0
    """An operator asks for a snapshot."""
    snapshot_fault: float = 0.0
    """Of the snapshots that are written."""
    spare: int = 0
    """Nodes beside the first members, for changes of membership."""
    skew: float = 0.0
    """Seconds by which the clocks on the wall differ."""
    wakes: int = 0
    segment: int = 64 * 1024
    tail: int = 64 * 1024
    options: dict[str, int] = field(default_factory=dict)


class Node:
    """One node. What it is told and what it does goes through its driver; `cluster` is all around it."""

    def __init__(self, cluster: Cluster, node_id: NodeId) -> None:
        self.cluster = cluster
        self.id = node_id
        rng = cluster.rng
        self.fs = MemoryFileSystem(coin=lambda: rng.random() < 0.5)
        self.faulty = False
        self.fs.fault = self._fault
        self.life = 0
        self.up = False
        self.skew = 0.0
        self.inbox: list[tuple[NodeId, bytes]] = []
        self.turn_due = False
        self.paused_until = 0.0
        self.log: WatchedLog
        self.driver: Driver
        self.machine: Machine
        self.reports: list[str] = []

    def _fault(self, operation: str, path: str) -> None:
        if self.faulty and operation in ("sync", "pwrite"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def _config(self) -> RaftConfig:
        cluster = self.cluster
        first = cluster.first
        config = RaftConfig(self.id, first) if self.id in first else RaftConfig.joining(self.id)
        return config.replace(
            seed=cluster.rng.getrandbits(32),
            max_uncommitted_bytes=cluster.trouble.max_uncommitted,
            max_apply_bytes=cluster.trouble.max_apply,
            **cluster.trouble.options,
        )

    def start(self) -> None:
        cluster = self.cluster
        trouble = cluster.trouble
        self.faulty = False
        self.log = WatchedLog(
            WalLog.open(f"/log{self.id}", fs=self.fs, segment_size=trouble.segment, tail_bytes=trouble.tail)
        )
        self.machine = Machine()
        self.machine.wakes = trouble.wakes
        self.skew = cluster.rng.uniform(-trouble.skew, trouble.skew)
        self.driver = Driver(
            self._config(),
            self.log,
            self.machine,
            tick_interval=TICK,
            now=cluster.now,
            wall=self.wall,
            nonce=lambda: cluster.rng.randbytes(16),
            report=self.reports.append,
        )
        self.up = True
        self.life += 1
        self.inbox.clear()
        self.turn_due = False
        cluster.trace("start", self.id)
        self._tick(self.life)

    def wall(self) -> int:
        """The time of the day, as this node's clock tells it."""
        return int((self.cluster.now + self.skew) * 1000)

    def stop(self, *, power: bool) -> None:
        """The end of the process; with `power`, of what was not synced as well."""
        self.up = False
        self.life += 1
        if power:
            self.fs.crash()
        else:
            self.fs.end_process()
        self.cluster.trace("crash" if power else "kill", self.id)
        self.cluster.node_lost(self)

    # Turns.

    def schedule(self) -> None:
        """A turn soon: what arrives until then shares it."""
        if self.up and not self.turn_due:
            self.turn_due = True
            life = self.life
            when = max(self.cluster.now, self.paused_until)
            self.cluster.at(when, lambda: self._turn(life))

    def _tick(self, life: int) -> None:
        if self.life == life and self.up:
            self.schedule()
            self.cluster.after(TICK, lambda: self._tick(life))

    def _turn(self, life: int) -> None:
        if self.life != life or not self.up:
            return
        if self.cluster.now < self.paused_until:
            self.cluster.at(self.paused_until, lambda: self._turn(life))
            return
        self.turn_due = False
        inbox, self.inbox = self.inbox, []
        for peer, data in inbox:
            for kind, body in Frames(frames.MAX_FRAME).feed(data):
                self.driver.receive(peer, kind, body)
        output = self.driver.turn(self.cluster.now)
        self._carry_out(output)

    def _carry_out(self, output: Output) -> None:
        for peer, batch in output.send.items():
            for data in batch:
                self._check_durable(data)
                self.cluster.send(self.id, peer, data)
        if output.sync:
            self._begin_sync(output.sync)
        if output.capture is not None:
            self._begin_snapshot(output.capture)
        for change in output.changes:
            self.cluster.trace(self.id, repr(change))
        for waiter, succeeded, value in output.answers:
            if succeeded:
                waiter.succeeded(value)
            else:
                waiter.failed(value)
        if output.failure is not None:
            assert self.faulty, f"node {self.id} died: {output.failure!r}"
            self.stop(power=True)
        elif output.again:
            self.schedule()

    # The disk.

    def _begin_sync(self, ticket: int) -> None:
        rng = self.cluster.rng
        delay = rng.uniform(0.0, 0.004)
        if rng.random() < self.cluster.trouble.slow_disk:
            delay = rng.uniform(0.05, 1.0)
        early = rng.random() < 0.5  # the disk may be done long before anybody hears of it
        failure = self._sync() if early else None
        life = self.life
        self.cluster.after(delay, lambda: self._end_sync(life, ticket, early, failure))

    def _sync(self) -> str | None:
        try:
            self.log.sync()
        except Exception as error:
            return str(error)
        return None

    def _end_sync(self, life: int, ticket: int, early: bool, failure: str | None) -> None:
        if self.life != life:
            return
        if not early:
            failure = self._sync()
        if failure is None:
            self.driver.synced(ticket)
        else:
            self.driver.sync_failed(ticket, failure)
        self.schedule()

    def _begin_snapshot(self, capture: Capture) -> None:
        """Write it beside everything else; it says nothing of what happens meanwhile."""
        rng = self.cluster.rng
        life = self.life
        self.cluster.after(rng.uniform(0.0, 0.5), lambda: self._end_snapshot(life, capture))

    def _end_snapshot(self, life: int, capture: Capture) -> None:
        if self.life != life:
            return
        try:
            with self.log.log.snapshot_writer() as writer:
                capture.write(writer)
                self._maybe_full()
                data = writer.finish()
        except (OSError, StorageError) as error:
            self.driver.snapshot_failed(capture.index, error)
        else:
            self.driver.snapshot_taken(capture.index, data)
        self.schedule()

    def _maybe_full(self) -> None:
        if self.cluster.rng.random() < self.cluster.trouble.snapshot_fault:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # Persist before you respond (paper, figure 2).

    def _check_durable(self, data: bytes) -> None:
        """Judged by the disk as the frame goes out."""
        [(kind, body)] = Frames(frames.MAX_FRAME).feed(data)
        if kind != frames.MESSAGE:
            return
        message = wire.decode(body)
        if isinstance(message, (PreVote, PreVoteReply)):
            return  # they promise nothing
        disk = self.log.durable_state
        assert disk.term >= message.term, f"node {self.id} may forget the term of {message}"
        if disk.term > message.term:
            return
        if isinstance(message, RequestVote):
            assert disk.voted_for == self.id, f"{message} before its own vote is durable"
        elif isinstance(message, RequestVoteReply):
            granted = message.vote_granted
            assert not granted or disk.voted_for is not None, f"{message} before the vote is durable"
        elif (
            isinstance(message, AppendEntriesReply)
            and message.success
            and self.log.hard_state().term == message.term
        ):
            assert self.log.keeps(message.match_index), f"{message}, which is not durable"
