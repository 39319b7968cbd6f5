"""Every field of a node, grouped as the TLA+ specification of Raft groups its variables. No behaviour.

Numbered invariants stand on `State`; `check` asserts them and is called after every step by the tests.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import i64

from raft_io.core.actions import Action, Send
from raft_io.core.config import RaftConfig
from raft_io.core.log import RaftLog
from raft_io.core.progress import Progress
from raft_io.core.rng import SplitMix64
from raft_io.core.types import NOBODY, Membership, Role, Snapshot, SnapshotMeta
from raft_io.errors import StorageError

__all__ = [
    "CANDIDATE",
    "FOLLOWER",
    "LEADER",
    "Adopted",
    "Asked",
    "Read",
    "Ready",
    "Staging",
    "State",
    "Ticket",
]

FOLLOWER: Final = Role.FOLLOWER
CANDIDATE: Final = Role.CANDIDATE
LEADER: Final = Role.LEADER


@final
class Ticket:
    """A sync that the driver owes: what it, or any later one, will have made durable once it is done."""

    __slots__ = ("index", "number", "tick", "writes")

    def __init__(self, number: i64, index: i64, writes: i64, tick: i64) -> None:
        self.number: i64 = number
        self.index: i64 = index
        """Entries through this index; lowered when some of them are truncated, for the ticket never
        vouches for an entry that has replaced another."""
        self.writes: i64 = writes
        """Writes of the hard state, counted as `State.hard_written` counts them."""
        self.tick: i64 = tick
        """When it was handed out."""


@final
class Adopted:
    """A membership, and the index of the entry or snapshot that brought it (`0`: the configuration)."""

    __slots__ = ("index", "membership")

    def __init__(self, index: i64, membership: Membership) -> None:
        self.index: i64 = index
        self.membership: Membership = membership


@final
class Read:
    """A read that the leader has not answered yet."""

    __slots__ = ("context", "index", "origin", "round", "since")

    def __init__(self, context: bytes, origin: i64, since: i64) -> None:
        self.context: bytes = context
        self.origin: i64 = origin
        """Who asked: this node, or a follower."""
        self.since: i64 = since
        self.index: i64 = -1
        """What it will be served at, `-1` while the leader does not know what is committed."""
        self.round: i64 = 0
        """The round that confirms it, `0` until one has begun."""


@final
class Asked:
    """A read that this follower has asked the leader for."""

    __slots__ = ("context", "since")

    def __init__(self, context: bytes, since: i64) -> None:
        self.context: bytes = context
        self.since: i64 = since


@final
class Ready:
    """A read of this node that is confirmed, and waits for `index` to be applied."""

    __slots__ = ("context", "index")

    def __init__(self, context: bytes, index: i64) -> None:
        self.context: bytes = context
        self.index: i64 = index


@final
class Staging:
    """A snapshot that is arriving: `offset` bytes of it are there; `term` is that of its last sender."""

    __slots__ = ("meta", "offset", "term")

    def __init__(self, meta: SnapshotMeta, term: i64) -> None:
        self.meta: SnapshotMeta = meta
        self.term: i64 = term
        self.offset: i64 = 0


@final
class State:
    """Invariants, at the end of every `feed` and `drain`:

    1. `last_applied <= commit_index <= last_index` and `stable_index <= last_index`.
    2. `last_applied <= stable_index`: what is applied is durable here.
    3. A leader recognises itself, has one `Progress` for every other member, a seat for each and for itself,
       and its vote.
    4. A candidate has voted for itself and recognises no leader; nor does who asks for pre-votes.
    5. `last_index` and `last_term` are those of the log; `term` and `voted_for` those of its hard state.
    6. No entry is of a later term than `term`.
    7. The tickets that are out increase, and none vouches for more than the log holds.
    8. `membership` is the last of `history`, whose indexes increase strictly, from the snapshot's or
       less on.
    9. Only a leader hands over, waits with a change of membership, or has reads to confirm; only a follower
       has asked for reads.
    10. The snapshot is of what is applied, unless it waits to be restored.
    """

    __slots__ = (
        "asked",
        "campaigned",
        "check_quorum",
        "commit_index",
        "config",
        "deferred_sync",
        "dirty",
        "elapsed",
        "election_max",
        "election_min",
        "failed",
        "followers",
        "granted",
        "hard_synced",
        "hard_written",
        "heartbeat_due",
        "heartbeat_elapsed",
        "heartbeat_interval",
        "history",
        "id",
        "last_applied",
        "last_index",
        "last_term",
        "leader",
        "leader_round",
        "lease_length",
        "lease_reads",
        "lease_rounds",
        "lease_ticks",
        "lease_void",
        "log",
        "max_apply_bytes",
        "max_batch",
        "max_batch_bytes",
        "max_inflight",
        "max_inflight_bytes",
        "max_uncommitted_bytes",
        "membership",
        "next_ticket",
        "notices",
        "now",
        "outbox",
        "outgoing",
        "passive",
        "pending_change",
        "plain",
        "pre_vote",
        "prevoting",
        "quarantine",
        "quorum_check",
        "read_floor",
        "reads",
        "ready",
        "restoring",
        "rng",
        "role",
        "round",
        "seats",
        "sizes",
        "snapshot_asked",
        "snapshot_chunk",
        "snapshot_index",
        "snapshot_term",
        "snapshot_threshold",
        "stable_index",
        "staging",
        "tells_rounds",
        "term",
        "term_start",
        "tickets",
        "timeout",
        "transfer_sent",
        "transfer_since",
        "transfer_target",
        "uncommitted_bytes",
        "vote_write",
        "voted_for",
        "voters",
        "votes",
        "vouched",
        "work",
    )

    def __init__(self, config: RaftConfig, log: RaftLog, applied: i64, deferred_sync: bool) -> None:
        low, high = config.election_timeout
        self.config: RaftConfig = config
        self.id: i64 = config.id
        self.election_min: i64 = low
        self.election_max: i64 = high
        self.heartbeat_interval: i64 = config.heartbeat_interval
        self.max_batch: i64 = config.max_batch
        self.max_batch_bytes: i64 = config.max_batch_bytes
        self.max_inflight: i64 = config.max_inflight
        self.max_uncommitted_bytes: i64 = config.max_uncommitted_bytes
        self.max_apply_bytes: i64 = config.max_apply_bytes
        self.max_inflight_bytes: i64 = config.max_inflight_bytes
        self.pre_vote: bool = config.pre_vote
        self.check_quorum: bool = config.check_quorum
        self.lease_reads: bool = config.lease_reads
        self.lease_length: i64 = low - config.lease_margin
        """Ticks for which a lease lasts; not above 0: there is none."""
        self.snapshot_threshold: i64 = config.snapshot_threshold
        self.snapshot_chunk: i64 = config.snapshot_chunk
        self.deferred_sync: bool = deferred_sync

        hard = log.hard_state()
        self.term: i64 = hard.term
        self.voted_for: i64 = NOBODY if hard.voted_for is None else hard.voted_for
        self.role: Role = FOLLOWER
        self.leader: i64 = NOBODY

        self.log: RaftLog = log
        self.last_index: i64 = log.last_index()
        self.last_term: i64 = log.last_term()
        self.commit_index: i64 = applied
        self.last_applied: i64 = applied

        # Membership.
        self.history: list[Adopted] = []
        """The memberships that the log holds, the one in force last; the first is the one that the snapshot,
        or the configuration, begins with."""
        self.membership: Membership = Membership(())
        self.voters: list[int] = []
        self.outgoing: list[int] = []
        self.votes: bool = False
        """Whether this node is a voter, of either majority, as far as it knows."""
        self.pending_change: Membership | None = None
        """A change that waits until this leader has committed an entry of its own term."""

        self.passive: bool = False
        """It must not campaign, whatever its log says of the members."""

        # Candidates.
        self.prevoting: bool = False
        """Still a follower, but asking for pre-votes."""
        self.granted: list[int] = []
        """Who has granted a vote, or a pre-vote while `prevoting`."""
        self.vote_write: i64 = 0
        """The write of the hard state that holds this campaign's own vote."""
        self.campaigned: bool = False
        """A campaign has begun that no drain has seen yet."""

        # Leaders.
        self.followers: list[Progress] = []
        """Every other member, by ascending id."""
        self.seats: list[int] = []
        """In which majorities this node counts, then each of `followers` (flags of `quorum`)."""
        self.plain: bool = True
        """Whether all of them are just voters."""
        self.quorum_check: i64 = 0
        """The tick at which it must be seen whether a quorum was heard from."""
        self.term_start: i64 = 0
        """The first index of this leader's own term: only from there on does counting commit."""
        self.sizes: list[int] = []
        """Bytes of each uncommitted command proposed here, from index `last_index + 1 - len(sizes)` on."""
        self.uncommitted_bytes: i64 = 0

        self.transfer_target: i64 = NOBODY
        self.transfer_since: i64 = 0
        self.transfer_sent: i64 = -1
        """The tick at which the target was last told to campaign, `-1` if it was not."""

        # Reads.
        self.reads: list[Read] = []
        self.read_floor: i64 = 0
        """The leader's last index at its election: before that is committed it does not know what is."""
        self.round: i64 = 0
        """The leader's rounds in its term. Heartbeats tell them only where it matters (`tells_rounds`)."""
        self.tells_rounds: bool = False
        self.lease_void: bool = False
        """`TimeoutNow` was sent in this term: another leader may be elected at any moment."""
        self.lease_rounds: list[int] = []
        self.lease_ticks: list[int] = []
        """At which tick a round began; the rounds in between began in the same tick."""
        self.quarantine: i64 = config.election_timeout[0] if config.lease_reads and hard.term > 0 else 0
        """Until this tick nothing is granted: before it started this node may have vouched for a lease."""
        self.vouched: i64 = 0
        """With leases: until this tick nothing is granted unless a leader asked for it. What this node has
        answered to a leader counts there towards a lease, which does not end because this node learns of a
        later term; so that `leader`, which does, is not enough."""
        self.asked: list[Asked] = []
        self.ready: list[Ready] = []
        self.leader_round: i64 = 0
        """The last round that a follower has seen of its leader."""

        # Snapshots.
        snapshot = log.snapshot()
        self.snapshot_index: i64 = 0 if snapshot is None else snapshot.index
        self.snapshot_term: i64 = 0 if snapshot is None else snapshot.term
        self.snapshot_asked: i64 = 0
        """The index of the last `TakeSnapshot`; up to the snapshot's it says nothing any more."""
        self.staging: Staging | None = None
        self.restoring: Snapshot | None = None
        """What the state machine is to be reset to once it is durable here."""

        # Time.
        self.now: i64 = 0
        self.elapsed: i64 = 0
        self.timeout: i64 = 0
        """The election timeout, `0` until it is drawn: it is drawn when it first matters."""
        self.heartbeat_elapsed: i64 = 0
        self.heartbeat_due: bool = False
        self.rng: SplitMix64 = SplitMix64(config.seed)

        # Durability.
        self.dirty: bool = False
        """Something was written since the last sync, or the last ticket."""
        self.stable_index: i64 = self.last_index
        self.hard_written: i64 = 0
        self.hard_synced: i64 = 0
        self.tickets: list[Ticket] = []
        self.next_ticket: i64 = 1
        self.failed: StorageError | None = None

        # What the next drain will find.
        self.outbox: list[Send] = []
        self.notices: list[Action] = []
        self.work: bool = False

    def check(self) -> None:
        """Assert the invariants."""
        assert self.last_applied <= self.commit_index <= self.last_index, "1"
        assert self.last_applied <= self.stable_index <= self.last_index, "1, 2"
        if self.role is LEADER:
            self._check_leader()
        else:
            assert not self.followers and not self.reads and self.pending_change is None, "3, 9"
            assert self.transfer_target == NOBODY, "9"
        if self.role is CANDIDATE:
            assert self.voted_for == self.id and self.leader == NOBODY and not self.prevoting, "4"
        if self.prevoting:
            assert self.role is FOLLOWER and self.leader == NOBODY, "4"
        assert not self.asked or (self.role is FOLLOWER and self.leader != NOBODY), "9"
        hard = self.log.hard_state()
        assert hard.term == self.term, "5"
        assert (NOBODY if hard.voted_for is None else hard.voted_for) == self.voted_for, "5"
        assert self.last_index == self.log.last_index() and self.last_term == self.log.last_term(), "5"
        assert self.last_term <= self.term, "6"
        numbers = [int(ticket.number) for ticket in self.tickets]
        assert numbers == sorted(set(numbers)), "7"
        assert all(ticket.index <= self.last_index for ticket in self.tickets), "7"
        indexes = [int(adopted.index) for adopted in self.history]
        assert indexes == sorted(set(indexes)) and indexes[-1] <= self.last_index, "8"
        assert indexes[0] <= self.snapshot_index and self.membership == self.history[-1].membership, "8"
        if self.restoring is None:
            assert self.snapshot_index <= self.last_applied, "10"
        else:
            assert self.last_applied < self.restoring.index <= self.commit_index, "10"

    def _check_leader(self) -> None:
        assert self.leader == self.id == self.voted_for, "3"
        members = self.membership.voters | self.membership.learners | self.membership.outgoing
        ids = [int(f.id) for f in self.followers]
        assert ids == sorted(members - {int(self.id)}) and len(self.seats) == len(ids) + 1, "3"
        for follower in self.followers:
            follower.check(self.max_inflight, self.last_index)
        assert self.uncommitted_bytes == sum(self.sizes), "3"
