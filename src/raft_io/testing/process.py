"""One node: its disk and its clock, and while it runs its driver, its log and its state machine."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raft_io import IdentityError, Index, MembershipChanged, NodeId, RaftConfig, SnapshotData, StorageError
from raft_io.server import frames
from raft_io.server.address import Address
from raft_io.server.driver import Driver, Output
from raft_io.server.frames import Frames, Greeting
from raft_io.server.membership import Members
from raft_io.server.recovery import recover
from raft_io.server.removal import PARTING, Removal
from raft_io.server.snapshots import Capture
from raft_io.storage import WalLog
from raft_io.testing.disk import Disk, SuddenEndError
from raft_io.testing.machine import WatchedMachine
from raft_io.testing.plan import TICK
from raft_io.testing.timeline import stream
from raft_io.testing.watched import Image, WatchedLog

if TYPE_CHECKING:
    from raft_io.testing.world import World

__all__ = ["Clock", "Process"]

CLUSTER_ID: Final = "simulated"
EPOCH: Final = 1_000_000.0
"""Seconds since the epoch at the beginning."""

RESTART: Final = 0.5
"""Seconds, about, after which a node that died of its disk is started again."""


class Clock:
    """A node's monotonic clock, which may be fast or slow."""

    __slots__ = ("_local", "_since", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._since = 0.0
        self._local = 0.0

    def read(self, now: float) -> float:
        """What it shows at the simulated time `now`."""
        return self._local + (now - self._since) * self.rate

    def change(self, now: float, rate: float) -> None:
        """From now on it runs at another rate."""
        self._local = self.read(now)
        self._since = now
        self.rate = rate

    def until(self, local: float, now: float) -> float:
        """Seconds until it shows `local`."""
        return max(0.0, (local - self.read(now)) / self.rate)


class Process:
    """The node `id` of `world`. `life` counts its starts and ends."""

    def __init__(self, world: World, node_id: NodeId) -> None:
        self.world = world
        self.id = node_id
        plan = world.plan
        self._rng = stream(plan.seed, "node", node_id)
        self.disk = Disk(stream(plan.seed, "disk", node_id))
        # Two thirds of the clocks are as far off as may be.
        self.clock = Clock(1.0 + plan.drift * max(-1.0, min(1.0, self._rng.uniform(-3.0, 3.0))))
        self.skew = self._rng.uniform(-plan.skew, plan.skew)
        self.life = 0
        self.up = False
        self.joins = node_id > plan.voters
        """Whether it may only come as one that joins."""
        self.broken = ""
        """Why it cannot start any more; only a new disk helps."""
        self.paused = False
        self.held_down = 0
        """Faults that keep it from being started."""
        self.dying = False
        """Something was done to its disk of which it may die."""
        self.fresh = True
        """Its disk is empty."""
        self.may_be_broken = False
        """Something was done to what is on its disk."""
        self.image: Image | None = None
        """What its disk holds; of one that was replaced, what the old one held until it is let in anew."""
        self.lost: Image | None = None
        """What a disk held that was replaced before its node was let in."""
        self._turn_due = False
        self._inbox: deque[tuple[NodeId, bytes]] = deque()
        self._frames = Frames(frames.MAX_FRAME)
        self.strangers: set[NodeId] = set()
        """Others from whom nothing is taken."""
        self.log: WatchedLog
        self.driver: Driver
        self.machine: WatchedMachine
        self.members: Members
        self.removal: Removal
        self.incarnation = 0
        self.config: RaftConfig

    # Life.

    @property
    def address(self) -> str:
        """Where it would listen."""
        return f"127.0.0.1:{7000 + self.id}"

    @property
    def greeting(self) -> Greeting:
        """How it introduces itself."""
        joining = self.members.is_joining
        return Greeting(CLUSTER_ID, self.id, self.incarnation, self.address, joining)

    def _config(self) -> RaftConfig:
        first = range(1, self.world.plan.voters + 1)
        config = RaftConfig.joining(self.id) if self.joins else RaftConfig(self.id, first)
        return config.replace(seed=self._rng.getrandbits(32), **self.world.options)

    def start(self) -> None:
        """Start the process. What is wrong with its disk is in `broken` afterwards."""
        assert not self.up, "it runs"
        try:
            self._start()
        except SuddenEndError as end:
            if self.up:
                self.stop(power=end.power)
            else:
                self._end_disk(end.power)
                self.world.stopped(self, power=end.power)
        except (IdentityError, StorageError) as error:
            self.disk.end_process()
            self.world.refused(self, error)

    def _start(self) -> None:
        world, plan = self.world, self.world.plan

        def open_log(path: Path) -> WalLog:
            return WalLog.open(path, fs=self.disk.fs, segment_size=plan.segment, tail_bytes=plan.tail)

        found = recover(
            self.disk.fs,
            Path("/data"),
            CLUSTER_ID,
            self._config(),
            open_log=open_log,
            incarnation=lambda: 1 + self._rng.getrandbits(62),
        )
        self.incarnation = found.identity.incarnation
        self.config = found.config
        self.log = WatchedLog(found.log)
        self.machine = WatchedMachine(self.id, world.machine(), world.ledger)
        self.driver = Driver(
            found.config,
            self.log,
            self.machine,
            tick_interval=TICK,
            now=self.clock.read(world.now),
            wall=self._wall,
            nonce=lambda: self._rng.randbytes(16),
            report=self._report,
        )
        others = {peer: Address.parse(f"127.0.0.1:{7000 + peer}") for peer in found.config.peers}
        own = (self.address, self.incarnation)
        initial = bool(found.identity.voters)
        self.members = Members(self.driver.node, own, others, found.peers, initial)
        self.driver.node.passive = self.members.is_joining
        self._membership = self.driver.node.membership
        self._leader: NodeId | None = None
        self.up = True
        self.life += 1
        self.removal = Removal(self.driver.node, self.members, found.config, TICK)
        self.paused = False
        self.dying = bool(self.disk.fails)
        self.may_be_broken = False
        self._turn_due = False
        self._inbox.clear()
        self.strangers.clear()
        world.started(self)
        if not self.up:
            return
        self.fresh = False
        self._see_disk()
        self._tick(self.life)

    def _wall(self) -> int:
        return int((EPOCH + self.clock.read(self.world.now) + self.skew) * 1000)

    def _report(self, text: str) -> None:
        self.world.report(self.id, text)

    def stop(self, *, power: bool) -> None:
        """The end of the process; with `power`, of what was not synced as well."""
        if self.up:
            self.up = False
            self.life += 1
            self._end_disk(power)
            self.world.stopped(self, power=power)

    def _end_disk(self, power: bool) -> None:
        if power:
            self.disk.lose_power()
        else:
            self.disk.end_process()

    def wipe(self) -> None:
        """The disk is replaced by an empty one."""
        assert not self.up, "its disk is in use"
        if hasattr(self, "log") and self.log.disk is not self.image:
            self.lost = self.log.disk
        self.disk.wipe()
        self.world.network.replaced_disk(self.id)
        self.joins = True
        self.fresh = True
        self.broken = ""

    def retire(self, index: Index) -> None:
        """It was removed by the entry at `index`, and ends. Who wants it back empties its disk and lets it
        join."""
        self.world.retired(self, index)
        self.world.operator.wanted.discard(self.id)
        self.stop(power=False)
        self.wipe()

    def pause(self, *, paused: bool) -> None:
        """Stop the process for a while, or let it go on."""
        self.paused = paused
        self.world.watcher.paused(self.world.now, self.id, paused)
        if not paused:
            self.schedule()

    # Turns.

    def schedule(self) -> None:
        """A turn soon: what arrives until then shares it."""
        if self.up and not self._turn_due and not self.paused:
            self._turn_due = True
            self.world.timeline.after(0.0, self._turn, self.life)

    def _tick(self, life: int) -> None:
        if self.life == life:
            self.schedule()
            # A node that is paused or behind looks again soon.
            delay = self.clock.until(self.driver.next_tick(), self.world.now) or TICK
            self.world.timeline.after(delay + 1e-6, self._tick, life)

    def arrive(self, source: NodeId, frames_: list[bytes]) -> None:
        """Frames of another node have come."""
        if self.up and source not in self.strangers:
            for frame in frames_:
                self._inbox.append((source, frame))
            self.schedule()

    def _turn(self, life: int) -> None:
        if self.life != life:
            return
        self._turn_due = False
        if self.paused:
            return
        try:
            self._take_turn()
        except SuddenEndError as end:
            self.stop(power=end.power)

    def _take_turn(self) -> None:
        inbox = self._inbox
        while inbox:
            source, frame = inbox.popleft()
            [(kind, body)] = self._frames.feed(frame)
            self._frame(source, kind, body)
        output = self.driver.turn(self.clock.read(self.world.now))
        self._carry_out(output)

    def _frame(self, source: NodeId, kind: int, body: bytes) -> None:
        if kind == frames.MEMBERS:
            self.members.hear(source, *frames.decode_members(body))
        elif kind == frames.REMOVED:
            self.hear_removal(frames.decode_removed(body), source)
        elif kind != frames.MESSAGE or self.members.counts(source) or not frames.is_counted(body):
            self.removal.pieces += frames.is_piece(kind, body)
            self.driver.receive(source, kind, body)

    def _carry_out(self, output: Output) -> None:
        world = self.world
        node = self.driver.node
        world.turned(self)
        for peer, batch in output.send.items():
            world.sends(self, peer, batch)
        if output.sync:
            self._begin_sync(output.sync)
        if output.capture is not None:
            self._begin_snapshot(output.capture)
        if output.changes:
            for change in output.changes:
                if isinstance(change, MembershipChanged):
                    self.members.changed(self._membership, change.membership)
                    self._membership = change.membership
            if self.removal.committed(output.changes):
                self._watch_removal()
            farewells = self.removal.farewells()
            for peer, farewell in farewells.items():
                world.network.send(self.id, peer, [farewell])
            if farewells:
                world.timeline.after(PARTING, self._part, self.life)
        if output.members_changed:
            self.members.adopt(self.driver.members, node.last_applied)
            self._see_disk()
        node.passive = self.members.is_joining
        leader = node.leader
        if output.changes or output.members_changed or leader != self._leader:
            # Who may be a member depends on whether there is a leader.
            self._leader = leader
            world.members_changed(self)
        if output.changes or output.members_changed:
            for peer in self.members.links():
                if peer not in self.strangers:
                    world.network.send(self.id, peer, [self.members.tell()])
        for waiter, succeeded, value in output.answers:
            if succeeded:
                waiter.succeeded(value)
            else:
                waiter.failed(value)
        if output.failure is not None:
            world.died(self, output.failure)
        elif output.again:
            self.schedule()

    # The others.

    def greet(self, source: Process) -> bool:
        """Another node connects; whether it is let in."""
        removal = self.members.removal(source.id)
        if removal:
            source.hear_removal(removal, self.id)
        refused = bool(removal) or self.members.objection(source.greeting) is not None
        if refused:
            self.strangers.add(source.id)
        else:
            self.strangers.discard(source.id)
            self.members.greeted(source.greeting)
        return not refused

    def hear_removal(self, index: Index, witness: NodeId) -> None:
        """Another node says that this one is no member."""
        if self.removal.told(index, witness):
            self._watch_removal()

    def _watch_removal(self) -> None:
        self.world.timeline.after(self.removal.patience, self._look_at_removal, self.life)

    def _look_at_removal(self, life: int) -> None:
        if self.life != life:
            return
        verdict = self.removal.look()
        if verdict == "wait":
            self._watch_removal()
        elif verdict == "end":
            self.retire(self.removal.index)

    def _part(self, life: int) -> None:
        if self.life == life:
            self.members.part()

    def connected(self, target: NodeId) -> None:
        """Its connection to `target` was made anew."""
        self.driver.link_restored(target)
        self.world.network.send(self.id, target, [self.members.tell()])
        self.schedule()

    def _see_disk(self) -> None:
        if not self.members.is_joining:
            self.image, self.lost = self.log.disk, None

    @property
    def is_lost(self) -> bool:
        """Whether what it had on its disk is gone, or may be, and it is not let in anew."""
        return (
            self.broken != ""
            or self.fresh
            or self.may_be_broken
            or self.image is None
            or not hasattr(self, "log")
            or self.image is not self.log.disk
        )

    @property
    def is_settled(self) -> bool:
        """Whether no change of the membership is under way in its log."""
        changes, membership = self.log.now.changes, self.driver.node.membership
        return not membership.outgoing and (not changes or changes[-1][0] <= self.driver.node.commit_index)

    # The disk.

    def _begin_sync(self, ticket: int) -> None:
        rng = self._rng
        delay = rng.uniform(0.0, 0.004)
        if rng.random() < self.world.plan.slow_disk and not self.world.healed:
            delay = rng.uniform(0.05, 1.0)
        delay += self.disk.delay
        # The disk may be done long before anybody hears of it.
        early = self.disk.delay == 0.0 and rng.random() < 0.5
        failure = self._sync() if early else None
        if delay < 1e9:
            self.world.timeline.after(delay, self._end_sync, self.life, ticket, early, failure)

    def _sync(self) -> str | None:
        try:
            self.log.sync()
        except StorageError as error:
            return str(error)
        self.world.synced(self)
        return None

    def _end_sync(self, life: int, ticket: int, early: bool, failure: str | None) -> None:
        if self.life != life:
            return
        try:
            if not early:
                failure = self._sync()
        except SuddenEndError as end:
            self.stop(power=end.power)
            return
        if failure is None:
            self.driver.synced(ticket)
        else:
            self.driver.sync_failed(ticket, failure)
        self.schedule()

    def _begin_snapshot(self, capture: Capture) -> None:
        """It is written beside everything else, and takes a while."""
        self.world.timeline.after(self._rng.uniform(0.0, 0.3), self._end_snapshot, self.life, capture)

    def _end_snapshot(self, life: int, capture: Capture) -> None:
        if self.life != life:
            return
        try:
            data = self._write(capture)
        except SuddenEndError as end:
            self.stop(power=end.power)
            return
        except (OSError, StorageError) as error:
            self.driver.snapshot_failed(capture.index, error)
        else:
            self.driver.snapshot_taken(capture.index, data)
            self.world.watcher.captured(self.world.now, self.id, capture.index)
        self.schedule()

    def _write(self, capture: Capture) -> bytes | SnapshotData:
        writer = self.log.log.snapshot_writer()
        try:
            capture.write(writer)
            return writer.finish()
        except BaseException:
            writer.abort()
            raise
