"""A cluster of drivers in one thread: virtual time, a network that loses, disks that sync late and crash.

Everything that happens is drawn from one seed. `Cluster.run` plays a schedule of trouble while callers work,
`Cluster.settle` heals it and lets it finish; `tests.server.callers` judges what the callers were told.
"""

from __future__ import annotations

import errno
import hashlib
import heapq
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    CommandError,
    HardState,
    Index,
    LogEntry,
    NodeId,
    RaftConfig,
    RaftLog,
    RequestVote,
    RequestVoteReply,
    Term,
    wire,
)
from raft_io.server import StateMachine, frames
from raft_io.server.driver import Driver, Output
from raft_io.server.frames import Frames
from raft_io.server.requests import Request
from raft_io.storage import WalLog
from raft_io.storage.memfs import MemoryFileSystem

TICK = 0.025
SEGMENT = 64 * 1024


class Machine(StateMachine):
    """Counts, and remembers every command it was given. `r...` is refused."""

    def __init__(self) -> None:
        self.history: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        self.history.append(command)
        if command.startswith(b"r"):
            raise CommandError(f"refused as number {len(self.history)}")
        return b"%d" % len(self.history)

    def capture(self) -> Callable[[BinaryIO], None]:
        raise NotImplementedError

    def restore(self, stream: BinaryIO) -> None:
        raise NotImplementedError


class WatchedLog(RaftLog):
    """The real log, and beside it what a crash at this moment is sure to leave."""

    def __init__(self, log: WalLog) -> None:
        self.log = log
        self.terms = [entry.term for entry in log.entries(1, log.last_index())]
        self.durable_terms = list(self.terms)
        self.durable_state = log.hard_state()

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
    options: dict[str, int] = field(default_factory=dict)


class Node:
    """One node: its disk, and while it runs its driver."""

    def __init__(self, cluster: Cluster, node_id: NodeId) -> None:
        self.cluster = cluster
        self.id = node_id
        rng = cluster.rng
        self.fs = MemoryFileSystem(coin=lambda: rng.random() < 0.5)
        self.faulty = False
        self.fs.fault = self._fault
        self.life = 0
        self.up = False
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

    def start(self) -> None:
        cluster = self.cluster
        peers = [node for node in cluster.ids if node != self.id]
        config = RaftConfig(self.id, peers).replace(
            seed=cluster.rng.getrandbits(32),
            max_uncommitted_bytes=cluster.trouble.max_uncommitted,
            max_apply_bytes=cluster.trouble.max_apply,
            **cluster.trouble.options,
        )
        self.faulty = False
        self.log = WatchedLog(WalLog.open(f"/log{self.id}", fs=self.fs, segment_size=SEGMENT))
        self.machine = Machine()
        self.driver = Driver(
            config,
            self.log,
            self.machine,
            tick_interval=TICK,
            now=cluster.now,
            wall=lambda: 0,
            nonce=lambda: cluster.rng.randbytes(16),
            report=self.reports.append,
        )
        self.up = True
        self.life += 1
        self.inbox.clear()
        self.turn_due = False
        cluster.trace("start", self.id)
        self._tick(self.life)

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

    def _check_durable(self, data: bytes) -> None:
        """Persist before you respond (paper, figure 2): judged by the disk as the frame goes out."""
        [(kind, body)] = Frames(frames.MAX_FRAME).feed(data)
        if kind != frames.MESSAGE:
            return
        message = wire.decode(body)
        disk = self.log.durable_state
        assert disk.term >= message.term, f"node {self.id} may forget the term of {message}"
        if disk.term > message.term:
            return
        if isinstance(message, RequestVote):
            assert disk.voted_for == self.id, f"{message} before its own vote is durable"
        elif isinstance(message, RequestVoteReply):
            granted = message.vote_granted
            assert not granted or disk.voted_for is not None, f"{message} before the vote is durable"
        elif isinstance(message, AppendEntriesReply):
            if message.success and self.log.hard_state().term == message.term:
                durable = self.log.durable_terms[: message.match_index]
                assert durable == self.log.terms[: message.match_index], f"{message}, which is not durable"
        else:
            assert isinstance(message, AppendEntries)


class Cluster:
    """The nodes, the network between them and the time."""

    def __init__(self, size: int, seed: int, trouble: Trouble) -> None:
        self.rng = random.Random(seed)
        self.trouble = trouble
        self.now = 1000.0
        self.ids = list(range(1, size + 1))
        self.calm = False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._links: dict[tuple[NodeId, NodeId], int] = {}
        self._last: dict[tuple[NodeId, NodeId], float] = {}
        self._cut: set[tuple[NodeId, NodeId]] = set()
        self.on_lost: list[Callable[[Node], None]] = []
        self.nodes = {node: Node(self, node) for node in self.ids}
        for node in self.nodes.values():
            node.start()

    # Time.

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end

    def trace(self, *what: object) -> None:
        self._digest.update(repr((round(self.now, 9), what)).encode())

    @property
    def digest(self) -> str:
        """Stands for everything that has happened."""
        return self._digest.hexdigest()

    # The network: connections that keep order, and end.

    def send(self, source: NodeId, target: NodeId, data: bytes) -> None:
        link = (source, target)
        if link in self._cut or (not self.calm and self.rng.random() < self.trouble.frame_loss):
            return
        epoch = self._links.setdefault(link, 0)
        when = max(self._last.get(link, 0.0), self.now + self.rng.uniform(0.0002, self.trouble.latency))
        self._last[link] = when
        self.trace("send", link, hashlib.blake2b(data, digest_size=8).hexdigest())
        life = self.nodes[target].life
        self.at(when, lambda: self._deliver(link, epoch, life, data))

    def _deliver(self, link: tuple[NodeId, NodeId], epoch: int, life: int, data: bytes) -> None:
        source, target = link
        node = self.nodes[target]
        if not node.up or node.life != life:
            return
        if self._links[link] != epoch:
            fate = self.rng.random()
            if fate < 0.3:
                return
            if fate < 0.9:
                # What an old connection still held may be read long after the new one was made.
                self.after(self.rng.uniform(0, 4), lambda: self._deliver(link, epoch, life, data))
                return
        node.inbox.append((source, data))
        node.schedule()

    def reconnect(self, source: NodeId, target: NodeId) -> None:
        """The connection breaks, with what was under way, and is made anew."""
        link = (source, target)
        self._links[link] = self._links.get(link, 0) + 1
        self._cut.discard(link)
        self._last.pop(link, None)
        node = self.nodes[source]
        if node.up and self.nodes[target].up:
            node.driver.link_restored(target)
            node.schedule()

    def break_link(self, source: NodeId, target: NodeId) -> None:
        link = (source, target)
        self._links[link] = self._links.get(link, 0) + 1
        self._cut.add(link)

    def _heal(self) -> None:
        for source, target in sorted(self._cut):
            self.reconnect(source, target)

    def node_lost(self, node: Node) -> None:
        for other in self.ids:
            if other != node.id:
                self._links[node.id, other] = self._links.get((node.id, other), 0) + 1
                self._links[other, node.id] = self._links.get((other, node.id), 0) + 1
        for callback in self.on_lost:
            callback(node)

    def restart(self, node: Node) -> None:
        if node.up:
            return
        node.start()
        for other in self.ids:
            if other != node.id:
                self.reconnect(node.id, other)
                self.reconnect(other, node.id)

    # Trouble.

    def run(self, seconds: float) -> None:
        """Play trouble for a while."""
        for _ in range(int(seconds / 0.01)):
            self._trouble()
            self.advance(0.01)

    def _trouble(self) -> None:
        rng = self.rng
        trouble = self.trouble
        node = self.nodes[rng.choice(self.ids)]
        down = [other for other in self.nodes.values() if not other.up]
        if down and rng.random() < 0.02:
            self.restart(rng.choice(down))
        if node.up and rng.random() < trouble.crash:
            node.stop(power=True)
        elif node.up and rng.random() < trouble.kill:
            node.stop(power=False)
        if rng.random() < trouble.partition:
            self._partition()
        elif self._cut and rng.random() < 0.03:
            self._heal()
        if len(self.ids) > 1 and rng.random() < trouble.reconnect:
            source, target = rng.sample(self.ids, 2)
            self.reconnect(source, target)
        if rng.random() < trouble.pause:
            node.paused_until = self.now + rng.uniform(0.05, 2.0)
        if node.up and rng.random() < trouble.disk_fault:
            node.faulty = True

    def _partition(self) -> None:
        side = {node for node in self.ids if self.rng.random() < 0.5}
        one_way = self.rng.random() < 0.3
        for a in self.ids:
            for b in self.ids:
                if (a in side) and (b not in side):
                    self.break_link(a, b)
                    if not one_way:
                        self.break_link(b, a)

    def settle(self, seconds: float = 20.0) -> None:
        """No more trouble: everything is repaired and given time."""
        self.calm = True
        self.trouble.slow_disk = 0.0
        for node in self.nodes.values():
            node.paused_until = 0.0
            if node.up and node.faulty:
                node.stop(power=True)
        for node in self.nodes.values():
            self.restart(node)
        self._heal()
        self.advance(seconds)
        assert all(node.up for node in self.nodes.values())

    # What tests ask.

    @property
    def leader(self) -> Node | None:
        """The leader of the highest term."""
        leading = [node for node in self.nodes.values() if node.up and node.driver.node.is_leader]
        return max(leading, key=lambda node: node.driver.node.term, default=None)

    def submit(self, node: Node, request: Request) -> None:
        """A caller asks `node`. Raises what the driver raises."""
        assert node.up
        node.driver.request(request)
        node.schedule()
