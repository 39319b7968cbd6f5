"""What a run is: everything that is drawn from the seed before it begins.

A plan is data. It can be written down, replayed on its own and made smaller: a run of a part of its faults is
a run like any other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, final

from raft_io import RaftConfig

__all__ = ["TICK", "Fault", "Load", "Network", "Plan"]

TICK: Final = 0.025
"""Seconds of a tick."""

BETWEEN: Final = frozenset({"cut-link", "flap", "reconnect", "slow-way"})
"""Kinds of faults that are about two nodes."""

EVERYWHERE: Final = frozenset(
    {"partition", "one-way", "lossy", "crash-all", "rolling", "reconfigure", "change", "rush"}
)
"""Kinds of faults that are about no node alone."""

INSTANT: Final = frozenset(
    (
        "reconnect",
        "crash-between",
        "kill-between",
        "crash-all",
        "wall-jump",
        "change",
        "remove",
        "join",
        "transfer",
        "snapshot",
    )
)
"""Kinds of faults that do not last."""

NO_LEASES: Final = frozenset({"drift", "reconfigure"})
"""Kinds of faults that break what leases go by."""

LEADER: Final = 0
"""Instead of a node: whoever leads when it happens."""


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is done to the cluster, at a time, to a node or between two, for a while.

    - `at`, `lasts`: simulated seconds.
    - `kind`: a name in `faults.KINDS`.
    - `who`, `whom`: a node's id; `0`: the leader; without one most kinds do nothing.
    - `amount`: how much of it, what that means is the kind's affair.
    """

    at: float
    kind: str
    who: int
    whom: int = 0
    lasts: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.text}"

    @property
    def text(self) -> str:
        """What happens, to whom and for how long, without when."""
        who = f"node {self.who}" if self.who else "the leader"
        words = []
        if self.kind in BETWEEN:
            words.append(f"{who} and node {self.whom}")
        elif self.kind == "transfer":
            words.append(f"to node {self.whom}")
        elif self.kind not in EVERYWHERE:
            words.append(who)
        if self.amount:
            words.append(f"{self.amount:.3g}")
        if self.kind not in INSTANT:
            words.append(f"for {self.lasts:.3f} s")
        return f"{self.kind}: {', '.join(words)}" if words else self.kind


def _check_types(part: Any) -> None:
    """The fields of a part of a plan are of the types of their defaults, and the numbers are some."""
    for each in fields(part):
        value, usual = getattr(part, each.name), each.default
        if isinstance(usual, bool) or isinstance(value, bool):
            good = isinstance(value, bool) and isinstance(usual, bool)
        elif isinstance(usual, int) or each.name in ("who", "seed"):
            good = isinstance(value, int)
        elif isinstance(usual, float) or each.name == "at":
            good = isinstance(value, (int, float)) and math.isfinite(value)
            good = good and (value >= 0 or each.name == "amount")
        else:
            continue
        if not good:
            raise ValueError(f"{each.name} cannot be {value!r}")


@final
@dataclass(frozen=True, slots=True)
class Network:
    """What the network always does. Latencies in seconds; the others are the share of frames."""

    fastest: float = 0.0002
    slowest: float = 0.003
    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    """Those that others overtake."""


@final
@dataclass(frozen=True, slots=True)
class Load:
    """What clients do. `think`: seconds between an answer and the next operation, on average."""

    clients: int = 5
    think: float = 0.4
    reads: float = 0.3
    keyed: float = 0.5
    """Share of the commands that are tried again under a key."""
    wanders: bool = True
    """Whether such a command is tried again at any node, or only where it was tried first. Where few keys are
    remembered, it is recognised only there (docs/sessions.md)."""
    keys: int = 4
    patience: float = 2.0
    """Seconds, at most, until an attempt is given up."""
    longer: int = 0
    """Bytes by which some values are longer, at most."""


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """One run, before it is run.

    `options` are those of `RaftConfig`. `voters` nodes are the cluster at first, `spares` others may join it.
    """

    seed: int
    seconds: float = 60.0
    voters: int = 3
    spares: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    segment: int = 64 * 1024
    tail: int = 64 * 1024
    network: Network = Network()
    slow_disk: float = 0.01
    """Share of the syncs that take long."""
    skew: float = 0.0
    """Seconds by which the nodes' clocks on the wall differ, at most."""
    drift: float = 0.0
    """Share by which a node's clock is fast or slow, at most."""
    max_sessions: int = 1024
    max_keys: int = 100_000
    """How many sessions, and keys of commands, the state machine remembers."""
    load: Load = Load()
    faults: tuple[Fault, ...] = ()
    missing: bool = False
    """Whether after the faults only a quorum is there at first: it must do without the others."""

    @property
    def nodes(self) -> list[int]:
        """The ids of all nodes."""
        return list(range(1, self.voters + self.spares + 1))

    def with_faults(self, faults: tuple[Fault, ...]) -> Plan:
        """The same run with other faults."""
        return replace(self, faults=faults)

    def check(self) -> None:
        """Raise `ValueError` or `TypeError` for a plan that cannot be carried out."""
        from raft_io.testing.faults import KINDS  # which goes by plans itself

        for part in (self, self.network, self.load, *self.faults):
            _check_types(part)
        for value, low, high in (
            *((self.seconds, 0.001, 1e6), (self.voters, 1, 100), (self.spares, 0, 100)),
            *((self.segment, 512, 1e9), (self.max_sessions, 1, 1e9), (self.max_keys, 1, 1e9)),
            *((self.load.clients, 1, 1000), (self.load.keys, 1, 1e6), (self.load.think, 0.001, 1000)),
            *((self.drift, 0, 0.99), (self.load.patience, 0.001, 1e6)),
        ):
            if not low <= value <= high:
                raise ValueError(f"{value!r} is not between {low:g} and {high:g}")
        owned = self.options.keys() & {"id", "peers", "seed", "joins"}
        if owned:
            raise ValueError(f"no options of a plan: {', '.join(sorted(owned))}")
        RaftConfig(1).replace(**self.options)
        for fault in self.faults:
            if fault.kind not in KINDS:
                raise ValueError(f"unknown kind of fault: {fault.kind}")
            if fault.kind == "drift" and not 0.01 <= fault.amount <= 100:
                raise ValueError(f"a clock cannot run {fault.amount:g} times as fast")
            if self.options.get("lease_reads") and fault.kind in NO_LEASES:
                raise ValueError(f"{fault.kind} breaks what leases go by, and the plan has lease_reads")

    def to_json(self) -> str:
        """The plan as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that a line says. Raises `ValueError` if it is none."""
        try:
            try:
                given = json.loads(text)
            except (RecursionError, ValueError) as error:
                raise ValueError(f"not a plan, as a line of JSON: {error}") from error
            unknown = given.keys() - {each.name for each in fields(cls)}
            if unknown:
                raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
            given["network"] = Network(**given["network"])
            given["load"] = Load(**given["load"])
            given["faults"] = tuple(Fault(**each) for each in given["faults"])
            given["options"] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in given["options"].items()
            }
            plan = cls(**given)
            plan.check()
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a plan: {type(error).__name__}: {error}") from error
        return plan
