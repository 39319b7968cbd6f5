"""The arguments of a server, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from raft_io.core.config import RaftConfig
from raft_io.core.types import NodeId
from raft_io.server.address import Address
from raft_io.server.frames import MAX_FRAME
from raft_io.wire import ENTRY_HEADER

__all__ = ["DEFAULTS", "Settings", "configured"]

MAX_NAME: Final = 255
"""Bytes of a cluster's id, and of an address."""

MIN_TICK: Final = 0.001
MAX_TICK: Final = 10.0
"""Seconds of a tick. A loop that ticks more often does little else; a cluster that ticks less often takes
minutes to elect a leader."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "max_apply_bytes": 1024 * 1024,
    "max_batch_bytes": 256 * 1024,
    "max_inflight": 16,
    "snapshot_chunk": 256 * 1024,
    "snapshot_threshold": 100_000,
}
"""Options of `RaftConfig` that differ here. The first ones bound what one turn applies, and what it sends to
a follower that is far behind: a turn that lasts longer than an election timeout costs the leader its office.
A snapshot every 100,000 entries keeps the log, and the time that a restart takes, from growing."""

WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - they are refused as addresses of a member


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server was told. `others` are the addresses of the other initial voters, `join` is whom to ask
    to be let in, `advertise` where peers reach this node (`None`: where it turns out to listen)."""

    cluster_id: str
    listen: Address
    others: dict[NodeId, Address]
    join: Address | None
    learner: bool
    advertise: Address | None
    data_dir: Path
    tick_interval: float
    max_command_bytes: int

    def __post_init__(self) -> None:
        if not MIN_TICK <= self.tick_interval <= MAX_TICK:
            raise ValueError(
                f"tick_interval must be in {MIN_TICK:g} .. {MAX_TICK:g} seconds, not {self.tick_interval}"
            )
        if not 0 < self.max_command_bytes <= MAX_FRAME // 2:
            raise ValueError(
                f"max_command_bytes must be in 1 .. {MAX_FRAME // 2}, not {self.max_command_bytes}"
            )
        if not isinstance(self.cluster_id, str):
            raise TypeError(f"cluster_id must be a str, not {type(self.cluster_id).__name__}")
        size = len(self.cluster_id.encode())
        if not 0 < size <= MAX_NAME:
            raise ValueError(f"cluster_id must have 1 to {MAX_NAME} bytes, not {size}")
        if self.join is not None and self.others:
            raise ValueError("a node begins a cluster with its peers, or joins one: not both")


def configured(
    id: NodeId,  # noqa: A002 - the name that everything else uses
    peers: Mapping[NodeId, str],
    joins: bool,
    options: Mapping[str, Any],
) -> RaftConfig:
    """The configuration of the node. Raises `ValueError` where its messages would be too large, or leases
    never in force."""
    begin = RaftConfig.joining(id) if joins else RaftConfig(id, peers)
    config = begin.replace(**{**DEFAULTS, **options})
    largest = max(config.max_batch_bytes + config.max_batch * ENTRY_HEADER, config.snapshot_chunk)
    if largest > MAX_FRAME // 2:
        raise ValueError(
            f"max_batch_bytes, max_batch and snapshot_chunk allow messages of {largest} bytes; "
            f"at most {MAX_FRAME // 2} are accepted"
        )
    shortest = config.election_timeout[0]
    if config.lease_reads and config.lease_margin >= shortest:
        raise ValueError(
            f"lease_margin ({config.lease_margin} ticks) must be below the minimum of election_timeout "
            f"({shortest} ticks), or no lease is ever in force"
        )
    if config.lease_reads and config.lease_margin == 0:
        raise ValueError(
            "lease_margin must be at least 1 tick with lease_reads: nodes do not tick at the same moment"
        )
    return config


def advertised(listen: Address, advertise: str | int | None, own: str | None) -> Address | None:
    """Where peers reach this node: what is advertised, or its own entry among the peers."""
    if advertise is None and own is None:
        if listen.host in WILDCARDS:
            raise ValueError(f"advertise is needed with listen={listen}: peers cannot dial {listen.host}")
        return None
    address = Address.parse(advertise if advertise is not None else str(own))
    if address.host in WILDCARDS:
        raise ValueError(f"{address} is no address for peers: they cannot dial {address.host}")
    if len(str(address).encode()) > MAX_NAME:
        raise ValueError(f"an address of {len(str(address).encode())} bytes; at most {MAX_NAME} are accepted")
    return address if address.port else None
