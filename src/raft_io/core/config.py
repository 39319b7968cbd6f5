"""The configuration of one node: who it is, who its peers are, and its timing in logical ticks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core.types import NodeId, Value, checked, checked_bool

__all__ = ["RaftConfig"]

_MIB: Final = 1024 * 1024


def _at_least(value: int, minimum: int, name: str) -> i64:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    return checked(max(value, minimum), name)


@final
@mypyc_attr(acyclic=True)
class RaftConfig(Value):
    """The configuration of one node. Immutable: every `with_...` and `replace` returns a new one.

    `peers` drops the node's own id and duplicates, and keeps its order. Time is in logical ticks; the
    caller decides how long a tick is.

    - `election_timeout`: `(min, max)`, both included; each timeout is drawn anew between them, which
      breaks split votes (paper, section 5.2). Normalised to `min >= 1` and `max >= min`.
    - `heartbeat_interval`: ticks between a leader's heartbeats, `>= 1`; keep it well below the minimum
      timeout.
    - `max_batch`, `max_batch_bytes`: the most entries, and bytes of commands, that one `AppendEntries`
      carries. A single larger entry travels alone.
    - `max_inflight`: unacknowledged `AppendEntries` with entries per follower; one while it is not known
      where the follower's log agrees.
    - `max_inflight_bytes`: bytes of commands in those; one message always fits; `0`: no limit.
    - `max_uncommitted_bytes`: above it a leader refuses proposals with `OverloadedError`; `0`: no limit. A
      single proposal always fits when nothing is uncommitted. An empty command counts as one byte.
    - `max_apply_bytes`: bytes of commands that one `drain` returns as `Apply`, at least one command; the
      rest stays `pending`; `0`: no limit.
    - `seed`: of the generator of election timeouts; the id unless told otherwise.
    - `pre_vote`: ask whether an election could be won before disturbing anybody (thesis, section 9.6).
    - `check_quorum`: a leader that has not heard from a quorum for the maximum election timeout steps down,
      and who heard from a leader within the minimum election timeout ignores candidates (thesis, sections 6.2
      and 4.2.3).
    - `lease_reads`: answer `ReadIndex` from the leader's lease (thesis, section 6.4.1). It relies on clocks
      that tick alike, requires `check_quorum`, and the same settings on every voter.
    - `lease_margin`: ticks by which a lease is shorter than the minimum election timeout.
    - `snapshot_threshold`: entries applied since the last snapshot at which `TakeSnapshot` is emitted; `0`:
      never.
    - `snapshot_chunk`: bytes of a snapshot in one `InstallSnapshot`.
    - `joins`: there are no voters yet. The node never campaigns until a leader has told it the membership.

    >>> RaftConfig(1, [2, 3]).with_election_timeout(30, 10).election_timeout
    (30, 30)
    """

    __slots__ = (
        "_check_quorum",
        "_election_timeout",
        "_heartbeat_interval",
        "_id",
        "_joins",
        "_lease_margin",
        "_lease_reads",
        "_max_apply_bytes",
        "_max_batch",
        "_max_batch_bytes",
        "_max_inflight",
        "_max_inflight_bytes",
        "_max_uncommitted_bytes",
        "_peers",
        "_pre_vote",
        "_seed",
        "_snapshot_chunk",
        "_snapshot_threshold",
    )
    __match_args__: ClassVar[tuple[str, ...]] = (
        "id",
        "peers",
        "election_timeout",
        "heartbeat_interval",
        "max_batch",
        "max_batch_bytes",
        "max_inflight",
        "max_uncommitted_bytes",
        "max_apply_bytes",
        "seed",
        "pre_vote",
        "check_quorum",
        "lease_reads",
        "lease_margin",
        "snapshot_threshold",
        "snapshot_chunk",
        "joins",
        "max_inflight_bytes",
    )

    def __init__(
        self,
        id: NodeId,  # noqa: A002 - the name of the field
        peers: Iterable[NodeId] = (),
        election_timeout: Iterable[int] = (10, 20),
        heartbeat_interval: int = 3,
        max_batch: int = 64,
        max_batch_bytes: int = _MIB,
        max_inflight: int = 256,
        max_uncommitted_bytes: int = 64 * _MIB,
        max_apply_bytes: int = 0,
        seed: int | None = None,
        pre_vote: bool = True,
        check_quorum: bool = True,
        lease_reads: bool = False,
        lease_margin: int = 2,
        snapshot_threshold: int = 0,
        snapshot_chunk: int = _MIB,
        joins: bool = False,
        max_inflight_bytes: int = 64 * _MIB,
    ) -> None:
        self._id: i64 = checked(id, "id")
        unique: dict[int, None] = {}
        for peer in peers:
            unique[int(checked(peer, "an id in peers"))] = None
        unique.pop(int(self._id), None)
        self._peers: tuple[int, ...] = tuple(unique)
        bounds = tuple(election_timeout)
        if len(bounds) != 2:
            raise TypeError(f"election_timeout must be a pair (min, max), not {bounds!r}")
        low, high = bounds
        shortest = _at_least(low, 1, "the minimum of election_timeout")
        longest = _at_least(high, 1, "the maximum of election_timeout")
        self._election_timeout: tuple[int, int] = (int(shortest), int(max(shortest, longest)))
        self._heartbeat_interval: i64 = _at_least(heartbeat_interval, 1, "heartbeat_interval")
        self._max_batch: i64 = _at_least(max_batch, 1, "max_batch")
        self._max_batch_bytes: i64 = _at_least(max_batch_bytes, 1, "max_batch_bytes")
        self._max_inflight: i64 = _at_least(max_inflight, 1, "max_inflight")
        self._max_inflight_bytes: i64 = checked(max_inflight_bytes, "max_inflight_bytes")
        self._max_uncommitted_bytes: i64 = checked(max_uncommitted_bytes, "max_uncommitted_bytes")
        self._max_apply_bytes: i64 = checked(max_apply_bytes, "max_apply_bytes")
        if seed is not None and not isinstance(seed, int):
            raise TypeError(f"seed must be an int, not {type(seed).__name__}")
        self._seed: int = int(self._id) if seed is None else seed
        self._pre_vote: bool = checked_bool(pre_vote, "pre_vote")
        self._check_quorum: bool = checked_bool(check_quorum, "check_quorum")
        self._lease_reads: bool = checked_bool(lease_reads, "lease_reads")
        if lease_reads and not check_quorum:
            raise ValueError("lease_reads requires check_quorum")
        self._lease_margin: i64 = checked(lease_margin, "lease_margin")
        self._snapshot_threshold: i64 = checked(snapshot_threshold, "snapshot_threshold")
        self._snapshot_chunk: i64 = _at_least(snapshot_chunk, 1, "snapshot_chunk")
        self._joins: bool = checked_bool(joins, "joins")
        if joins and self._peers:
            raise ValueError("a node that joins has no peers yet: a leader tells it the membership")

    @classmethod
    def single(cls, id: NodeId) -> RaftConfig:  # noqa: A002
        """A cluster of one: no peers, a quorum of one."""
        return RaftConfig(id)

    @classmethod
    def joining(cls, id: NodeId) -> RaftConfig:  # noqa: A002
        """A node that is to join a cluster: no voters yet. It never campaigns until a leader has told it the
        membership."""
        return RaftConfig(id, joins=True)

    def replace(self, **options: object) -> RaftConfig:
        """A copy in which the named options (any of the constructor's) have other values.

        Raises `TypeError` for a name that is no option.
        """
        fields: dict[str, object] = {name: getattr(self, name) for name in self.__match_args__}
        for name in options:
            if name not in fields:
                raise TypeError(f"{name!r} is no option of RaftConfig; the options are {', '.join(fields)}")
        fields.update(options)
        if "id" in options and "seed" not in options and self._seed == int(self._id):
            fields["seed"] = None
        make: type = RaftConfig
        replaced: RaftConfig = make(**fields)
        return replaced

    def with_election_timeout(self, min: int, max: int) -> RaftConfig:  # noqa: A002 - the reference's names
        """With the election timeout drawn from `min` to `max` ticks, both included."""
        return self.replace(election_timeout=(min, max))

    def with_heartbeat_interval(self, interval: int) -> RaftConfig:
        """With a heartbeat every `interval` ticks."""
        return self.replace(heartbeat_interval=interval)

    def with_max_batch(self, max_batch: int) -> RaftConfig:
        """With at most `max_batch` entries in one `AppendEntries`."""
        return self.replace(max_batch=max_batch)

    def with_seed(self, seed: int) -> RaftConfig:
        """With election timeouts drawn from `seed`."""
        return self.replace(seed=seed)

    @property
    def id(self) -> NodeId:
        """The node's own id."""
        return self._id

    @property
    def peers(self) -> tuple[NodeId, ...]:
        """The other initial voters."""
        return self._peers

    @property
    def election_timeout(self) -> tuple[int, int]:
        """The shortest and the longest election timeout, in ticks."""
        return self._election_timeout

    @property
    def heartbeat_interval(self) -> int:
        """Ticks between heartbeats."""
        return self._heartbeat_interval

    @property
    def max_batch(self) -> int:
        """The most entries in one `AppendEntries`."""
        return self._max_batch

    @property
    def max_batch_bytes(self) -> int:
        """The most bytes of commands in one `AppendEntries`, one entry excepted."""
        return self._max_batch_bytes

    @property
    def max_inflight(self) -> int:
        """The most unacknowledged `AppendEntries` with entries, per follower."""
        return self._max_inflight

    @property
    def max_uncommitted_bytes(self) -> int:
        """Bytes of uncommitted commands above which a leader refuses proposals; `0`: no limit."""
        return self._max_uncommitted_bytes

    @property
    def max_apply_bytes(self) -> int:
        """Bytes of commands applied per drain; `0`: no limit."""
        return self._max_apply_bytes

    @property
    def seed(self) -> int:
        """The seed of the election timeouts."""
        return self._seed

    @property
    def max_inflight_bytes(self) -> int:
        """The most bytes of commands in unacknowledged `AppendEntries`, per follower; `0`: no limit."""
        return self._max_inflight_bytes

    @property
    def pre_vote(self) -> bool:
        """Whether a node asks before it campaigns."""
        return self._pre_vote

    @property
    def check_quorum(self) -> bool:
        """Whether a leader that hears from no quorum steps down, and who hears one ignores candidates."""
        return self._check_quorum

    @property
    def lease_reads(self) -> bool:
        """Whether reads are answered from the leader's lease."""
        return self._lease_reads

    @property
    def lease_margin(self) -> int:
        """Ticks by which a lease is shorter than the minimum election timeout."""
        return self._lease_margin

    @property
    def snapshot_threshold(self) -> int:
        """Entries applied since the last snapshot at which the next is due; `0`: never."""
        return self._snapshot_threshold

    @property
    def snapshot_chunk(self) -> int:
        """Bytes of a snapshot in one `InstallSnapshot`."""
        return self._snapshot_chunk

    @property
    def joins(self) -> bool:
        """Whether the node has no voters yet; see `joining`."""
        return self._joins
