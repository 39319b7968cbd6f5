"""What the tests of the core share: nodes in a given state, a log that tells and fails, checks of values."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import raft_io
from raft_io import (
    Action,
    AppendEntries,
    AppendEntriesReply,
    Apply,
    EntryKind,
    Event,
    HardState,
    InstallSnapshot,
    InstallSnapshotReply,
    LogEntry,
    Membership,
    MemoryLog,
    Message,
    PreVote,
    PreVoteReply,
    RaftConfig,
    RaftLog,
    RaftNode,
    ReadFailed,
    ReadIndexReply,
    ReadIndexRequest,
    ReadReady,
    Receive,
    RequestVote,
    RequestVoteReply,
    RestoreSnapshot,
    Send,
    Snapshot,
    StorageError,
    Sync,
    Synced,
    Tick,
    TimeoutNow,
    encode_membership,
)

M = TypeVar("M")

TOP = 2**63 - 1
"""The largest id, term and index."""

BARE: dict[str, Any] = {"pre_vote": False, "check_quorum": False}
"""The options with which a node does what section 5 of the paper says and no more."""


def paper(id_: int, peers: Iterable[int] = (), **options: Any) -> RaftConfig:
    """The configuration of a node that does what section 5 of the paper says and no more."""
    return RaftConfig(id_, peers, **{**BARE, **options})


# Logs.


def entries_of(terms: Iterable[int], first: int = 1) -> list[LogEntry]:
    """Entries with these terms, from index `first` on; the command tells term and index."""
    return [
        LogEntry(term, index, f"{term}.{index}".encode()) for index, term in enumerate(terms, start=first)
    ]


def log_of(terms: Iterable[int], term: int | None = None, voted_for: int | None = None) -> MemoryLog:
    """A log whose entries have these terms; its own term is the last of them unless told."""
    log = MemoryLog()
    log.append(entries_of(terms))
    log.set_hard_state(HardState(log.last_term() if term is None else term, voted_for))
    return log


def terms_in(log: RaftLog) -> list[int]:
    return [entry.term for entry in log.entries(1, log.last_index())]


def membership_entry(term: int, index: int, membership: Membership) -> LogEntry:
    return LogEntry(term, index, encode_membership(membership), EntryKind.MEMBERSHIP)


def compacted_log(snapshot: Snapshot, terms: Iterable[int] = (), term: int | None = None) -> MemoryLog:
    """A log that holds a snapshot, and behind it entries of these terms."""
    log = MemoryLog()
    log.save_snapshot(snapshot)
    log.append(entries_of(terms, first=snapshot.index + 1))
    log.set_hard_state(HardState(log.last_term() if term is None else term))
    return log


class Contents:
    """A snapshot's contents that are not `bytes`: all that is asked of them, and nothing more. Tells in
    `reads` what was read."""

    def __init__(self, data: bytes, checksum: int = 4321) -> None:
        self.held = data
        self.size = len(data)
        self.checksum = checksum
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, size: int, /) -> bytes:
        assert 0 <= offset <= self.size
        self.reads.append((offset, size))
        return self.held[offset : offset + size]


class TracingLog(RaftLog):
    """Keeps its own list, tells in `calls` what was written, raises `failure` when `fail_on` is called."""

    def __init__(self, terms: Iterable[int] = (), state: HardState | None = None) -> None:
        self.held = entries_of(terms)
        self.state = HardState(self.last_term()) if state is None else state
        self.calls: list[str] = []
        self.fail_on = ""
        self.failure: Exception = StorageError("write", "disk full")

    def called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fail_on:
            raise self.failure

    def last_index(self) -> int:
        return len(self.held)

    def last_term(self) -> int:
        return self.held[-1].term if self.held else 0

    def term_at(self, index: int) -> int | None:
        if index == 0:
            return 0
        return self.held[index - 1].term if 0 < index <= len(self.held) else None

    def entry(self, index: int) -> LogEntry | None:
        return self.held[index - 1] if 0 < index <= len(self.held) else None

    def append(self, entries: Sequence[LogEntry]) -> None:
        self.called("append")
        self.held.extend(entries)

    def truncate(self, first: int) -> None:
        self.called("truncate")
        del self.held[first - 1 :]

    def hard_state(self) -> HardState:
        return self.state

    def set_hard_state(self, state: HardState) -> None:
        self.called("set_hard_state")
        self.state = state

    def sync(self) -> None:
        self.called("sync")


class TailedLog(TracingLog):
    """Keeps all of its entries beside a snapshot at index 5."""

    def snapshot(self) -> Snapshot | None:
        return Snapshot(5, self.held[4].term, Membership([1, 2, 3]), b"state")


# Driving a node.


def step(node: RaftNode, event: Event) -> list[Action]:
    """`node.step(event)`, with the node's invariants checked afterwards."""
    actions = node.step(event)
    node._state.check()
    return actions


def feed(node: RaftNode, *events: Event) -> None:
    for event in events:
        node.feed(event)
        node._state.check()


def drain(node: RaftNode) -> list[Action]:
    actions = node.drain()
    node._state.check()
    return actions


def receive(node: RaftNode, message: Message) -> list[Action]:
    return step(node, Receive(message))


def sent(actions: Iterable[Action], kind: type[M]) -> list[M]:
    """The messages of this type that `actions` send."""
    return [a.message for a in actions if isinstance(a, Send) and isinstance(a.message, kind)]


def only(actions: Iterable[Action], kind: type[M]) -> list[M]:
    """The actions of this type."""
    return [action for action in actions if isinstance(action, kind)]


def sent_to(actions: Iterable[Action], to: int) -> list[Message]:
    return [a.message for a in actions if isinstance(a, Send) and a.to == to]


def applied(actions: Iterable[Action]) -> list[int]:
    """The indexes that `actions` apply."""
    return [a.index for a in actions if isinstance(a, Apply)]


def reply_of(node: RaftNode, message: Message) -> Any:
    """The one message that `node` answers with."""
    (reply,) = [a.message for a in receive(node, message) if isinstance(a, Send)]
    return reply


def ticks_until(node: RaftNode, done: Callable[[], bool], limit: int = 100) -> tuple[int, list[Action]]:
    """Tick until `done()`. Returns the number of ticks and what they brought about."""
    actions: list[Action] = []
    for count in range(limit + 1):
        if done():
            return count, actions
        actions += step(node, Tick())
    raise AssertionError(f"not done after {limit} ticks")


def ask(node: RaftNode) -> list[Action]:
    """Tick until the node asks for pre-votes."""
    return ticks_until(node, lambda: node._state.prevoting)[1]


def campaign(node: RaftNode) -> list[Action]:
    """Tick until the node stands for the next term; where it asks for pre-votes it gets all of them."""
    term = node.term
    _, actions = ticks_until(node, lambda: node.term > term or node._state.prevoting)
    for voter in sorted(node.membership.voters | node.membership.outgoing):
        if node._state.prevoting and voter != node.id:
            actions += receive(node, PreVoteReply(term + 1, True, voter))
    assert node.term == term + 1
    return actions


def elect(node: RaftNode) -> list[Action]:
    """Make it leader of the next term, with the votes of all others. Returns what winning brought about."""
    actions = campaign(node)
    for peer in sorted(node.membership.voters | node.membership.outgoing):
        if not node.is_leader and peer != node.id:
            actions = receive(node, RequestVoteReply(node.term, True, peer))
    assert node.is_leader
    return actions


def leader(peers: Iterable[int] = (2, 3), log: RaftLog | None = None, **options: Any) -> RaftNode:
    """Node 1 of the paper, leading term `log's + 1`."""
    node = RaftNode(paper(1, peers, **options), log)
    elect(node)
    return node


def default_leader(peers: Iterable[int] = (2, 3), log: RaftLog | None = None, **options: Any) -> RaftNode:
    """Node 1 with the defaults, leading term `log's + 1`."""
    node = RaftNode(RaftConfig(1, peers, **options), log)
    elect(node)
    return node


def ack(node: RaftNode, sender: int, match: int) -> list[Action]:
    return receive(node, AppendEntriesReply(node.term, True, sender, match))


def caught_up_leader(peers: Iterable[int] = (2, 3), log: RaftLog | None = None, **options: Any) -> RaftNode:
    """A leader to whom every follower has acknowledged the whole log."""
    peers = tuple(peers)
    node = leader(peers, log, **options)
    for peer in peers:
        ack(node, peer, node.log.last_index())
    return node


def heartbeat(
    node: RaftNode, term: int = 1, sender: int = 2, prev: tuple[int, int] = (0, 0), commit: int = 0
) -> list[Action]:
    """`node` hears from the leader `sender` of `term`."""
    return receive(node, AppendEntries(term, sender, prev[0], prev[1], (), commit))


class Cluster:
    """Nodes of the paper and the messages between them, delivered in order; `cut` holds the ids that are cut
    off."""

    def __init__(self, logs: dict[int, RaftLog], **options: Any) -> None:
        self.nodes = {node: RaftNode(paper(node, logs, **options), log) for node, log in logs.items()}
        self.options = {**BARE, **options}
        self.cut: set[int] = set()
        self.queue: list[tuple[int, Message]] = []
        self.delivered: list[tuple[int, Message]] = []
        self.applied: dict[int, list[tuple[int, bytes]]] = {node: [] for node in logs}
        self.reads: dict[int, list[tuple[bytes, int]]] = {node: [] for node in logs}
        """What was served, and how much had been applied by then."""
        self.failed_reads: dict[int, list[bytes]] = {node: [] for node in logs}
        self.restored: dict[int, list[Snapshot]] = {node: [] for node in logs}

    def join(self, id_: int, log: RaftLog | None = None) -> None:
        """A node that knows no membership yet, or one that comes back with this log."""
        self.nodes[id_] = RaftNode(RaftConfig(id_, joins=True, **self.options), log)
        self.applied[id_], self.reads[id_], self.failed_reads[id_], self.restored[id_] = [], [], [], []

    def step(self, at: int, event: Event) -> None:
        for action in step(self.nodes[at], event):
            if isinstance(action, Send) and action.to in self.nodes and not self.cut & {at, action.to}:
                self.queue.append((action.to, action.message))
            elif isinstance(action, Apply):
                self.applied[at].append((action.index, action.command))
            elif isinstance(action, ReadReady):
                self.reads[at].append((action.context, self.nodes[at].last_applied))
            elif isinstance(action, ReadFailed):
                self.failed_reads[at].append(action.context)
            elif isinstance(action, RestoreSnapshot):
                self.restored[at].append(action.snapshot)

    def settle(self) -> int:
        """Deliver until nothing is under way. Returns how many rounds of messages that took."""
        rounds = 0
        while self.queue:
            rounds += 1
            assert rounds < 1000, "the cluster never comes to rest"
            batch, self.queue = self.queue, []
            for to, message in batch:
                if to not in self.cut and to in self.nodes:
                    self.delivered.append((to, message))
                    self.step(to, Receive(message))
        return rounds

    def tick(self, *at: int, count: int = 1) -> None:
        for _ in range(count):
            for node in at or tuple(self.nodes):
                self.step(node, Tick())
            self.settle()

    def elect(self, at: int) -> None:
        for _ in range(200):
            if self.nodes[at].is_leader:
                return
            self.tick(at)
        raise AssertionError(f"node {at} was not elected")


# A driver under `deferred_sync`.


def split(actions: Sequence[Action]) -> tuple[list[Action], int, list[Action]]:
    """What stands before the `Sync`, its ticket (0: there is none), and what stands after it."""
    places = [place for place, action in enumerate(actions) if isinstance(action, Sync)]
    assert len(places) <= 1, "one Sync at most"
    if not places:
        return list(actions), 0, []
    place = places[0]
    action = actions[place]
    assert isinstance(action, Sync)
    return list(actions[:place]), action.ticket, list(actions[place + 1 :])


def settle(node: RaftNode, actions: Sequence[Action]) -> list[Action]:
    """Carry out every sync at once, until none is asked for."""
    done = list(actions)
    _, ticket, _ = split(actions)
    while ticket:
        node.log.sync()
        feed(node, Synced(ticket))
        more = drain(node)
        _, ticket, _ = split(more)
        done += more
    return done


# Values.


def check_value(
    cls: type[Any], args: dict[str, Any], other: dict[str, Any], unchanged: Iterable[str] = ()
) -> None:
    """What every value promises. `args`: all arguments in constructor order; `other`: for each argument but
    those in `unchanged`, another value of it."""
    value = cls(**args)
    assert cls.__match_args__ == tuple(args)
    assert cls(*args.values()) == value
    for name, given in args.items():
        assert getattr(value, name) == given, name
    assert value == cls(**args)
    assert not operator.ne(value, cls(**args))
    assert hash(value) == hash(cls(**args))
    assert value != object()
    assert value is not None and value != tuple(args.values())
    for name in [name for name in args if name not in unchanged]:
        changed = cls(**{**args, name: other[name]})
        assert changed != value, name
        assert not operator.eq(changed, value), name
    names = {name: getattr(raft_io, name) for name in raft_io.__all__}
    assert eval(repr(value), names) == value  # noqa: S307
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301
        assert type(again) is cls and again == value and hash(again) == hash(value)
    assert not hasattr(value, "__dict__")
    try:
        value.no_such_field = 1
    except AttributeError:
        pass
    else:
        raise AssertionError("a value takes no further attributes")


NOT_INTEGERS: tuple[Any, ...] = (None, "1", 1.0, b"1", [1])
OUT_OF_RANGE: tuple[int, ...] = (-1, -(2**63), 2**63, 2**64, 10**30)
NOT_BYTES: tuple[Any, ...] = (None, "x", 5, bytearray(b"x"), memoryview(b"x"), [1])

NORMAL, MEMBERSHIP, NOOP = EntryKind.NORMAL, EntryKind.MEMBERSHIP, EntryKind.NOOP

MESSAGES: tuple[Message, ...] = (
    RequestVote(5, 2, 7, 4),
    RequestVoteReply(5, True, 2),
    AppendEntries(5, 2, 7, 4, entries_of([4, 5], first=8), 6),
    AppendEntriesReply(5, False, 2, 0, 3, 4),
    PreVote(5, 2, 7, 4),
    PreVoteReply(5, False, 2),
    InstallSnapshot(5, 2, 9, 4, Membership([1, 2], [3], [4]), 6, b"abc", True, 9, 77),
    InstallSnapshotReply(5, 2, 9, 6),
    TimeoutNow(5, 2, 8),
    ReadIndexRequest(5, 2, b"read"),
    ReadIndexReply(5, b"read", 7),
)
"""One message of each type."""

LATER: tuple[Message, ...] = (
    RequestVote(5, 2, 7, 4, True),
    AppendEntries(5, 2, 7, 4, entries_of([4, 5], first=8), 6, 3),
    AppendEntriesReply(5, False, 2, 0, 3, 4, 3),
)
"""Messages with a field that came later than their type."""
