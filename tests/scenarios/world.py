"""The nodes of a scenario, and the commands that move them. Nothing happens by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.scenarios import show
from tests.scenarios.host import Host, Machine, Packet

from raft_io import (
    AppendEntries,
    ChangeMembership,
    EntryKind,
    Event,
    HardState,
    LogEntry,
    Membership,
    NodeId,
    PreVote,
    Propose,
    RaftConfig,
    ReadIndex,
    Receive,
    RequestVote,
    Role,
    SnapshotTaken,
    Status,
    SyncFailed,
    Tick,
    TransferLeadership,
    encode_membership,
)


def _link(word: str) -> tuple[NodeId, NodeId]:
    sender, to = word.split("->")
    return int(sender), int(to)


def _ids(text: str) -> list[NodeId]:
    return [int(word) for word in text.split(",")]


def _entry(index: int, word: str) -> LogEntry:
    term, _, voters = word.partition(":")
    if not voters:
        return LogEntry(int(term), index)
    return LogEntry(int(term), index, encode_membership(Membership(_ids(voters))), EntryKind.MEMBERSHIP)


SWITCH = {"on": True, "off": False}


@dataclass
class Words:
    """What stands behind the name of a command: words, and `name=value` pairs."""

    plain: list[str]
    named: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, words: list[str]) -> Words:
        return cls(
            [word for word in words if "=" not in word],
            dict(word.split("=") for word in words if "=" in word),
        )

    def options(self) -> dict[str, object]:
        """The pairs as options of `RaftConfig`."""
        found: dict[str, object] = {}
        for name, value in self.named.items():
            low, _, high = value.partition("..")
            found[name] = SWITCH[value] if value in SWITCH else (int(low), int(high)) if high else int(low)
        return found


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

        Nodes and their disks:
        - `nodes N [deferred] [voters=1,2,3] [tail=T] [option=value ...]`: N fresh nodes; with `deferred` they
          sync by ticket; who is no voter is to join; a log keeps T entries behind a snapshot.
        - `config N option=value ...`: node N starts again with these options.
        - `log N terms ... [term=T] [vote=V]`: node N starts again on this log, given by its entries' terms;
          `2:1,3` is an entry of term 2 that makes 1 and 3 the voters.
        - `crash N`, `restart N [applied]`, `wipe N`: it starts again on an empty disk, and is to join.
        - `synced N ticket`, `syncfailed N ticket`; `damage N`: the next snapshot that arrives there is.

        Events:
        - `tick N [count]`; `timeout N`: ticks until it asks for votes; `propose N command`.
        - `read N context ...`: all at once; `transfer N target`; `change N voters=1,2 [learners=3]`.
        - `snapshot N`: of what it was asked for, else of its present state.
        - `elect N`: it asks for votes, gets them, and all are told: shown is only what came of it.
        - `run count`: so many ticks at every node, with everything delivered after each.

        The network:
        - `deliver`: everything, until nothing moves; `deliver A->B ...`: what is there now, in order.
        - `settle`: like `deliver`, and every sync is done as soon as it is asked for.
        - `repair A->B`: A and B alone talk until they have nothing to say; counts the round trips.
        - `drop [A->B ...]`, `duplicate A->B`, `hold A->B`, `copy A->B`: lost, doubled, kept back, a copy kept
          back; `release`: what was kept.
        - `cut A->B ...`, `isolate N`, `heal [A->B ...]`: a cut link loses what is delivered on it.

        To look: `logs`, `status [N ...]`, `members [N ...]`, `progress N`, `flying`.

        Before a command, `briefly` leaves the messages out of what is shown, `silently` everything.
        """
        self.output = []
        name, *arguments = words
        if name == "silently":
            self.run(arguments)
            return []
        if name == "briefly":
            return [line for line in self.run(arguments) if " -> " not in line]
        command: Callable[[list[str]], None] = getattr(self, f"do_{name}")
        command(arguments)
        return self.output

    def say(self, line: str) -> None:
        self.output.append(line)

    # Nodes and their disks.

    def do_nodes(self, words: list[str]) -> None:
        given = Words.of(words)
        ids = range(1, int(given.plain[0]) + 1)
        voters = _ids(given.named.pop("voters", ",".join(map(str, ids))))
        tail = int(given.named.pop("tail", "0"))
        deferred = "deferred" in given.plain
        self.hosts.clear()
        self.flying.clear()
        self.held.clear()
        self.cuts.clear()
        for node in ids:
            config = RaftConfig(node, voters) if node in voters else RaftConfig.joining(node)
            self.hosts[node] = Host(config.replace(**given.options()), deferred, tail, self.say)
            self.hosts[node].start()

    def do_config(self, words: list[str]) -> None:
        given = Words.of(words)
        host = self.hosts[int(given.plain[0])]
        host.config = host.config.replace(**given.options())
        host.start()

    def do_log(self, words: list[str]) -> None:
        given = Words.of(words)
        host = self.hosts[int(given.plain[0])]
        entries = [_entry(index, word) for index, word in enumerate(given.plain[1:], start=1)]
        vote = int(given.named["vote"]) if "vote" in given.named else None
        last = max([entry.term for entry in entries], default=0)
        host.disk = host.empty_disk()
        host.disk.load(entries, HardState(int(given.named.get("term", last)), vote))
        host.start()

    def do_crash(self, words: list[str]) -> None:
        self.hosts[int(words[0])].crash()

    def do_restart(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        host.start(int(words[1]) if len(words) > 1 else 0)
        self.say(f"{host.config.id}: {show.summary(host.running().status)}")

    def do_wipe(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        host.config = host.config.replace(peers=(), joins=True)
        host.disk = host.empty_disk()
        host.machine = Machine()
        self.do_restart(words[:1])

    def do_damage(self, words: list[str]) -> None:
        self.hosts[int(words[0])].disk.damage_next = True

    def do_synced(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        self.flying.extend(host.synced(int(words[1])))

    def do_syncfailed(self, words: list[str]) -> None:
        self._take(int(words[0]), SyncFailed(int(words[1]), "Input/output error"))

    # Events.

    def do_tick(self, words: list[str]) -> None:
        for _ in range(int(words[1]) if len(words) > 1 else 1):
            self._take(int(words[0]), Tick())

    def do_timeout(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        term = host.running().term
        for _ in range(host.config.election_timeout[1]):
            sent = host.take(Tick())
            self.flying.extend(sent)
            asks = any(isinstance(packet.message, (PreVote, RequestVote)) for packet in sent)
            if asks or host.running().term > term:
                return
        raise ValueError("it asks for no votes")

    def do_propose(self, words: list[str]) -> None:
        self._take(int(words[0]), Propose(" ".join(words[1:]).encode()))

    def do_read(self, words: list[str]) -> None:
        self._take(int(words[0]), *[ReadIndex(word.encode()) for word in words[1:]])

    def do_transfer(self, words: list[str]) -> None:
        self._take(int(words[0]), TransferLeadership(int(words[1])))

    def do_change(self, words: list[str]) -> None:
        given = Words.of(words)
        learners = _ids(given.named["learners"]) if "learners" in given.named else []
        self._take(int(given.plain[0]), ChangeMembership(_ids(given.named["voters"]), learners))

    def do_snapshot(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        index = host.asked.pop(0) if host.asked else host.running().last_applied
        self._take(host.config.id, SnapshotTaken(index, host.machine.text(index).encode()))

    def do_elect(self, words: list[str]) -> None:
        node = int(words[0])
        self.do_timeout(words)
        self.do_settle([])
        self.output.clear()
        for each, host in self.hosts.items():
            status = host.node.status if host.node is not None else None
            if status is not None and (each == node or status.leader == node):
                self.say(f"{each}: {show.standing(status)}")

    def do_run(self, words: list[str]) -> None:
        for _ in range(int(words[0])):
            for node, host in self.hosts.items():
                if host.node is not None:
                    self._take(node, Tick())
            self.do_settle([])

    # The network.

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
                apart = self.hosts[one].disk.now.entries != self.hosts[other].disk.now.entries
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

    def do_copy(self, words: list[str]) -> None:
        links = [_link(word) for word in words]
        self.held.extend([packet for packet in self.flying if (packet.sender, packet.to) in links])

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
        self.cuts.difference_update([_link(word) for word in words] or self.cuts.copy())

    # To look.

    def do_logs(self, words: list[str]) -> None:
        for node, host in self.hosts.items():
            self.say(f"{node}: {show.terms(host.disk.now.entries, host.disk.now.covered)}")

    def _statuses(self, words: list[str]) -> list[tuple[NodeId, Status | None]]:
        hosts = [(int(word), self.hosts[int(word)]) for word in words] or list(self.hosts.items())
        return [(node, None if host.node is None else host.node.status) for node, host in hosts]

    def do_status(self, words: list[str]) -> None:
        for node, status in self._statuses(words):
            self.say(f"{node}: {'down' if status is None else show.summary(status)}")

    def do_members(self, words: list[str]) -> None:
        for node, status in self._statuses(words):
            self.say(f"{node}: {'down' if status is None else show.membership(status.membership)}")

    def do_progress(self, words: list[str]) -> None:
        node = self.hosts[int(words[0])].running()
        if node.role is not Role.LEADER:
            raise ValueError("only a leader knows")
        for each in node.status.followers:
            self.say(show.progress(each))

    def do_flying(self, words: list[str]) -> None:
        for packet in self.flying:
            self.say(str(packet))

    def _take(self, node: NodeId, *events: Event) -> None:
        self.flying.extend(self.hosts[node].take(*events))

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
