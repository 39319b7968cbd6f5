"""One node of a scenario: with its disk, its driver and its state machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.scenarios import show
from tests.scenarios.disk import Disk

from raft_io import (
    Action,
    Apply,
    Event,
    LogEntry,
    MembershipChanged,
    MembershipCommitted,
    Message,
    NodeId,
    RaftConfig,
    RaftError,
    RaftNode,
    ReadFailed,
    ReadReady,
    RestoreSnapshot,
    Send,
    Snapshot,
    Status,
    StorageError,
    Sync,
    Synced,
    TakeSnapshot,
)


class Packet(NamedTuple):
    sender: NodeId
    to: NodeId
    message: Message

    def __str__(self) -> str:
        return f"{self.sender} -> {self.to}: {show.message(self.message)}"


class Ticket(NamedTuple):
    number: int
    position: int
    held: list[Packet]


class Machine:
    """The state machine: the commands that were applied, one after the other."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, str]] = []

    def text(self, through: int | None = None) -> str:
        """The state, or what it was at an earlier index."""
        return " ".join(command for index, command in self.applied if through is None or index <= through)

    def restore(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot.data, bytes)
        self.applied = [(snapshot.index, snapshot.data.decode())]


class Host:
    """`say` takes one line of output."""

    def __init__(self, config: RaftConfig, deferred: bool, tail: int, say: Callable[[str], None]) -> None:
        self.config = config
        self.deferred = deferred
        self.tail = tail
        self.say = say
        self.disk = self.empty_disk()
        self.machine = Machine()
        self.node: RaftNode | None = None
        self.tickets: list[Ticket] = []
        self.asked: list[int] = []
        """At which indexes a snapshot was asked for that is not taken yet."""

    def empty_disk(self) -> Disk:
        return Disk(self._wrote, node_may_sync=not self.deferred, tail=self.tail)

    def start(self, applied: int = 0) -> None:
        """On what is on the disk; the state machine itself is durable through `applied`."""
        self.tickets.clear()
        self.asked.clear()
        snapshot = self.disk.snapshot()
        if applied or snapshot is None:
            self.machine.applied = [each for each in self.machine.applied if each[0] <= applied]
        else:
            self.machine.restore(snapshot)
        self.node = RaftNode(self.config, self.disk, applied=applied, deferred_sync=self.deferred)
        self.node._state.check()

    def crash(self) -> None:
        lost = len(self.disk.unsynced)
        self.node = None
        self.disk.crash()
        self.say(f"{self.config.id}: down" + (f", {lost} writes not synced are lost" if lost else ""))

    def take(self, *events: Event) -> list[Packet]:
        """Feed the events, then drain; say what changed, return what may be sent."""
        node = self.running()
        before = node.status
        drained: list[list[Action]] = []
        try:
            for event in events:
                node.feed(event)
            drained.append(node.drain())
            while node.pending:
                drained.append(node.drain())
        except StorageError as error:
            self.say(f"{self.config.id}: dead, {error}")
            self.node = None
            return []
        except (RaftError, ValueError) as error:
            self.say(f"{self.config.id}: refuses, {error}")
            return []
        node._state.check()
        self._changes(before, node.status)
        return [packet for actions in drained for packet in self._carry_out(actions)]

    def running(self) -> RaftNode:
        if self.node is None:
            raise ValueError(f"node {self.config.id} is down")
        return self.node

    def synced(self, number: int) -> list[Packet]:
        """The sync of a ticket is done, and that of every earlier one."""
        done = [ticket for ticket in self.tickets if ticket.number <= number]
        self.tickets = self.tickets[len(done) :]
        if done:
            self.disk.persist(done[-1].position)
        released = [packet for ticket in done for packet in ticket.held]
        for packet in released:
            self.say(str(packet))
        return released + self.take(Synced(number))

    def _wrote(self, what: str, item: Sequence[LogEntry] | Snapshot) -> None:
        shown = show.snapshot(item) if isinstance(item, Snapshot) else show.entries(item)
        self.say(f"{self.config.id}: {what} {shown}")

    def _changes(self, before: Status, now: Status) -> None:
        if show.standing(before) != show.standing(now):
            self.say(f"{now.id}: {show.standing(now)}")
        if before.commit_index != now.commit_index:
            self.say(f"{now.id}: commits through {now.commit_index}")

    def _carry_out(self, actions: list[Action]) -> list[Packet]:
        released: list[Packet] = []
        held: list[Packet] | None = None
        applied: list[LogEntry] = []
        for action in actions:
            if isinstance(action, Apply):
                applied.append(LogEntry(action.term, action.index, action.command))
                continue
            self._apply(applied)
            if isinstance(action, Send):
                packet = Packet(self.config.id, action.to, action.message)
                self.say(str(packet) if held is None else f"    then {packet}")
                (released if held is None else held).append(packet)
            elif isinstance(action, Sync):
                held = []
                self.tickets.append(Ticket(action.ticket, self.disk.position, held))
                self.say(f"{self.config.id}: asks for sync {action.ticket}")
            else:
                self._notice(action)
        self._apply(applied)
        return released

    def _apply(self, entries: list[LogEntry]) -> None:
        if entries:
            self.say(f"{self.config.id}: applies {show.entries(entries)}")
            self.machine.applied.extend((entry.index, entry.command.decode()) for entry in entries)
            entries.clear()

    def _notice(self, action: Action) -> None:
        match action:
            case MembershipChanged(membership):
                text = f"adopts {show.membership(membership)}"
            case MembershipCommitted(membership, index):
                text = f"{show.membership(membership)} is committed, at {index}"
            case ReadReady(context, index):
                text = f"may serve {context.decode()}, at {index}: {self.machine.text()!r}"
            case ReadFailed(context):
                text = f"{context.decode()} failed"
            case TakeSnapshot(index, term):
                text = f"is to take a snapshot at {term}/{index}"
                self.asked.append(index)
            case RestoreSnapshot(snapshot):
                text = f"restores {show.snapshot(snapshot)}"
                self.machine.restore(snapshot)
            case _:
                raise AssertionError(f"an unknown action: {action}")
        self.say(f"{self.config.id}: {text}")
