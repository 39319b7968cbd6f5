"""The nodes of a scenario, and the commands that move them. Nothing happens by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.scenarios import show
from tests.sim.crash_log import CrashLog

from raft_io import (
    Action,
    AppendEntries,
    Apply,
    Event,
    HardState,
    LogEntry,
    Message,
    NodeId,
    Propose,
    RaftConfig,
    RaftError,
    RaftNode,
    Receive,
    Role,
    Send,
    Status,
    StorageError,
    Sync,
    Synced,
    SyncFailed,
    Tick,
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


class Host:
    """A node with its log and its driver. `say` takes one line of output."""

    def __init__(self, config: RaftConfig, deferred: bool, say: Callable[[str], None]) -> None:
        self.config = config
        self.deferred = deferred
        self.say = say
        self.log = CrashLog(node_may_sync=not deferred)
        self.node: RaftNode | None = None
        self.tickets: list[Ticket] = []

    def start(self, applied: int = 0) -> None:
        self.log.on_append = self._appended
        self.log.on_truncate = self._truncated
        self.node = RaftNode(self.config, self.log, applied=applied, deferred_sync=self.deferred)
        self.node._state.check()

    def crash(self) -> None:
        lost = len(self.log.unsynced)
        self.node = None
        self.tickets.clear()
        self.log.crash()
        self.say(f"{self.config.id}: down" + (f", {lost} writes not synced are lost" if lost else ""))

    def take(self, event: Event) -> list[Packet]:
        """Feed the event, say what changed, return what may be sent."""
        node = self.running()
        before = node.status
        try:
            actions = self._actions(node, event)
        except StorageError as error:
            self.say(f"{self.config.id}: dead, {error}")
            self.node = None
            return []
        except RaftError as error:
            self.say(f"{self.config.id}: refuses, {error}")
            return []
        node._state.check()
        self._changes(before, node.status)
        return self._carry_out(actions)

    def running(self) -> RaftNode:
        if self.node is None:
            raise ValueError(f"node {self.config.id} is down")
        return self.node

    def synced(self, number: int) -> list[Packet]:
        """The sync of a ticket is done, and that of every earlier one."""
        done = [ticket for ticket in self.tickets if ticket.number <= number]
        self.tickets = self.tickets[len(done) :]
        if done:
            self.log.persist(done[-1].position)
        released = [packet for ticket in done for packet in ticket.held]
        for packet in released:
            self.say(str(packet))
        return released + self.take(Synced(number))

    def _actions(self, node: RaftNode, event: Event) -> list[Action]:
        if not self.deferred:
            return node.step(event)
        node.feed(event)
        return node.drain()

    def _appended(self, previous: LogEntry | None, entries: Sequence[LogEntry]) -> None:
        self.say(f"{self.config.id}: appends {show.entries(entries)}")

    def _truncated(self, removed: Sequence[LogEntry]) -> None:
        self.say(f"{self.config.id}: removes {show.entries(removed)}")

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
            match action:
                case Send():
                    packet = Packet(self.config.id, action.to, action.message)
                    self.say(str(packet) if held is None else f"    then {packet}")
                    (released if held is None else held).append(packet)
                case Apply():
                    applied.append(LogEntry(action.term, action.index, action.command))
                case Sync(ticket):
                    held = []
                    self.tickets.append(Ticket(ticket, self.log.position, held))
                    self.say(f"{self.config.id}: asks for sync {ticket}")
        if applied:
            self.say(f"{self.config.id}: applies {show.entries(applied)}")
        return released


def _link(word: str) -> tuple[NodeId, NodeId]:
    sender, to = word.split("->")
    return int(sender), int(to)


class World:
    """Runs one command after the other. See `run` for the language."""

    def __init__(self) -> None:
        self.hosts: dict[NodeId, Host] = {}
        self.flying: list[Packet] = []
        self.held: list[Packet] = []
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        self.output: list[str] = []

    def run(self, words: list[str]) -> list[str]:
        """One command; returns what it brought about.

        - `nodes N [deferred] [option=value ...]`: N fresh nodes; with `deferred` they sync by ticket.
        - `log N terms ... [term=T] [vote=V]`: node N starts again on this log, given by its entries' terms.
        - `tick N [count]`; `timeout N`: ticks until it campaigns; `propose N command`.
        - `deliver`: everything, until nothing moves; `deliver A->B ...`: what is there now, in order.
        - `settle`: like `deliver`, and every sync is done as soon as it is asked for.
        - `repair A->B`: A and B alone talk until they have nothing to say; counts the round trips.
        - `drop [A->B ...]`, `duplicate A->B`, `hold A->B`: lost, doubled, kept; `release`: what was held.
        - `cut A->B ...`, `isolate N`, `heal`: a cut link loses what is delivered on it.
        - `crash N`, `restart N [applied]`, `synced N ticket`, `syncfailed N ticket`.
        - `logs`, `status [N ...]`, `progress N`, `flying`: look.
        """
        self.output = []
        name, *arguments = words
        command: Callable[[list[str]], None] = getattr(self, f"do_{name}")
        command(arguments)
        return self.output

    def say(self, line: str) -> None:
        self.output.append(line)

    def do_nodes(self, words: list[str]) -> None:
        self.hosts.clear()
        self.flying.clear()
        self.held.clear()
        self.cuts.clear()
        ids = range(1, int(words[0]) + 1)
        options: dict[str, object] = {}
        for word in words[1:]:
            if word != "deferred":
                name, value = word.split("=")
                low, _, high = value.partition("..")
                options[name] = (int(low), int(high)) if high else int(low)
        for node in ids:
            config = RaftConfig(node, ids).replace(**options)
            self.hosts[node] = Host(config, "deferred" in words, self.say)
            self.hosts[node].start()

    def do_log(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        terms = [int(word) for word in words[1:] if "=" not in word]
        named = dict(word.split("=") for word in words[1:] if "=" in word)
        vote = int(named["vote"]) if "vote" in named else None
        state = HardState(int(named.get("term", max(terms, default=0))), vote)
        host.log = CrashLog(node_may_sync=not host.deferred)
        host.log.load([LogEntry(term, index) for index, term in enumerate(terms, start=1)], state)
        host.start()

    def do_tick(self, words: list[str]) -> None:
        for _ in range(int(words[1]) if len(words) > 1 else 1):
            self._take(int(words[0]), Tick())

    def do_timeout(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        term = host.running().term
        for _ in range(host.config.election_timeout[1]):
            self._take(host.config.id, Tick())
            if host.running().term > term:
                return
        raise ValueError("it does not campaign")

    def do_propose(self, words: list[str]) -> None:
        self._take(int(words[0]), Propose(" ".join(words[1:]).encode()))

    def do_deliver(self, words: list[str]) -> None:
        if words:
            for packet in self._pick(words):
                self._deliver(packet)
            return
        while self.flying:
            self._deliver(self.flying.pop(0))

    def do_settle(self, words: list[str]) -> None:
        tickets = True
        while self.flying or tickets:
            self.do_deliver([])
            tickets = False
            for host in self.hosts.values():
                if host.tickets:
                    tickets = True
                    self.flying.extend(host.synced(host.tickets[-1].number))

    def do_repair(self, words: list[str]) -> None:
        ((one, other),) = [_link(word) for word in words]
        trips = 0
        while talk := self._pick([f"{one}->{other}", f"{other}->{one}"]):
            for packet in talk:
                apart = self.hosts[one].log.held != self.hosts[other].log.held
                trips += apart and isinstance(packet.message, AppendEntries)
                self._deliver(packet)
        self.say(f"round trips until the logs agree: {trips}")

    def do_drop(self, words: list[str]) -> None:
        dropped = self._pick(words) if words else self.flying
        for packet in dropped:
            self.say(f"lost: {packet}")
        if not words:
            self.flying = []

    def do_duplicate(self, words: list[str]) -> None:
        links = [_link(word) for word in words]
        self.flying.extend([packet for packet in self.flying if (packet.sender, packet.to) in links])

    def do_hold(self, words: list[str]) -> None:
        self.held.extend(self._pick(words))

    def do_release(self, words: list[str]) -> None:
        self.flying.extend(self.held)
        self.held.clear()

    def do_cut(self, words: list[str]) -> None:
        self.cuts.update(_link(word) for word in words)

    def do_isolate(self, words: list[str]) -> None:
        node = int(words[0])
        for other in self.hosts:
            self.cuts.update({(node, other), (other, node)})

    def do_heal(self, words: list[str]) -> None:
        self.cuts.clear()

    def do_crash(self, words: list[str]) -> None:
        self.hosts[int(words[0])].crash()

    def do_restart(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        host.start(int(words[1]) if len(words) > 1 else 0)
        self.say(f"{host.config.id}: {show.summary(host.running().status)}")

    def do_synced(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        self.flying.extend(host.synced(int(words[1])))

    def do_syncfailed(self, words: list[str]) -> None:
        self._take(int(words[0]), SyncFailed(int(words[1]), "Input/output error"))

    def do_logs(self, words: list[str]) -> None:
        for node, host in self.hosts.items():
            self.say(f"{node}: {show.terms(host.log.held)}")

    def do_status(self, words: list[str]) -> None:
        for node in [int(word) for word in words] or list(self.hosts):
            here = self.hosts[node].node
            self.say(f"{node}: {'down' if here is None else show.summary(here.status)}")

    def do_progress(self, words: list[str]) -> None:
        node = self.hosts[int(words[0])].running()
        if node.role is not Role.LEADER:
            raise ValueError("only a leader knows")
        for each in node.status.followers:
            self.say(
                f"{each.id}: {each.state}, match {each.match_index}, next {each.next_index}, "
                f"in flight {each.inflight}"
            )

    def do_flying(self, words: list[str]) -> None:
        for packet in self.flying:
            self.say(str(packet))

    def _take(self, node: NodeId, event: Event) -> None:
        self.flying.extend(self.hosts[node].take(event))

    def _pick(self, words: list[str]) -> list[Packet]:
        """Take what is on these links now, link by link."""
        picked: list[Packet] = []
        for link in [_link(word) for word in words]:
            picked.extend(packet for packet in self.flying if (packet.sender, packet.to) == link)
        self.flying = [packet for packet in self.flying if packet not in picked]
        return picked

    def _deliver(self, packet: Packet) -> None:
        if (packet.sender, packet.to) in self.cuts or self.hosts[packet.to].node is None:
            self.say(f"lost: {packet}")
            return
        self._take(packet.to, Receive(packet.message))
