"""Every field of a node, grouped as the TLA+ specification of Raft groups its variables. No behaviour.

Numbered invariants stand on `State`; `check` asserts them and is called after every step by the tests.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import i64

from raft_io.core.actions import Send
from raft_io.core.config import RaftConfig
from raft_io.core.log import RaftLog
from raft_io.core.progress import Progress
from raft_io.core.rng import SplitMix64
from raft_io.core.types import NOBODY, Role
from raft_io.errors import StorageError

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "State", "Ticket"]

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
class State:
    """Invariants, at the end of every `feed` and `drain`:

    1. `last_applied <= commit_index <= last_index` and `stable_index <= last_index`.
    2. `last_applied <= stable_index`: what is applied is durable here.
    3. A leader recognises itself, has one `Progress` for every other voter, and its vote.
    4. A candidate has voted for itself and recognises no leader.
    5. `last_index` and `last_term` are those of the log; `term` and `voted_for` those of its hard state.
    6. No entry is of a later term than `term`.
    7. The tickets that are out increase, and none vouches for more than the log holds.
    """

    __slots__ = (
        "campaigned",
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
        "id",
        "last_applied",
        "last_index",
        "last_term",
        "leader",
        "log",
        "max_apply_bytes",
        "max_batch",
        "max_batch_bytes",
        "max_inflight",
        "max_uncommitted_bytes",
        "next_ticket",
        "now",
        "outbox",
        "rng",
        "role",
        "sizes",
        "stable_index",
        "term",
        "term_start",
        "tickets",
        "timeout",
        "uncommitted_bytes",
        "vote_write",
        "voted_for",
        "voters",
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
        self.deferred_sync: bool = deferred_sync
        self.voters: list[int] = sorted([config.id, *config.peers])

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

        # Candidates.
        self.granted: list[int] = []
        self.vote_write: i64 = 0
        """The write of the hard state that holds this campaign's own vote."""
        self.campaigned: bool = False
        """A campaign has begun that no drain has seen yet."""

        # Leaders.
        self.followers: list[Progress] = []
        self.term_start: i64 = 0
        """The first index of this leader's own term: only from there on does counting commit."""
        self.sizes: list[int] = []
        """Bytes of each uncommitted command proposed here, from index `last_index + 1 - len(sizes)` on."""
        self.uncommitted_bytes: i64 = 0

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
        self.work: bool = False

    def check(self) -> None:
        """Assert the invariants."""
        assert self.last_applied <= self.commit_index <= self.last_index, "1"
        assert self.last_applied <= self.stable_index <= self.last_index, "1, 2"
        if self.role is LEADER:
            assert self.leader == self.id == self.voted_for, "3"
            assert [int(f.id) for f in self.followers] == [v for v in self.voters if v != self.id], "3"
            for follower in self.followers:
                follower.check(self.max_inflight, self.last_index)
            assert self.uncommitted_bytes == sum(self.sizes), "3"
        if self.role is CANDIDATE:
            assert self.voted_for == self.id and self.leader == NOBODY, "4"
        hard = self.log.hard_state()
        assert hard.term == self.term, "5"
        assert (NOBODY if hard.voted_for is None else hard.voted_for) == self.voted_for, "5"
        assert self.last_index == self.log.last_index() and self.last_term == self.log.last_term(), "5"
        assert self.last_term <= self.term, "6"
        numbers = [int(ticket.number) for ticket in self.tickets]
        assert numbers == sorted(set(numbers)), "7"
        assert all(ticket.index <= self.last_index for ticket in self.tickets), "7"
