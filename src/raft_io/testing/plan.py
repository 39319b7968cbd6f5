"""What a run is: everything that is drawn from the seed before it begins.

A plan is data. It can be written down, replayed on its own and made smaller: a run of a part of its faults is
a run like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, final

from raft_io import RaftConfig

__all__ = ["TICK", "Fault", "Load", "Network", "Plan"]

TICK: Final = 0.025
"""Seconds of a tick."""

BETWEEN: Final = frozenset({"cut-link", "flap", "reconnect"})
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
        if self.kind == "slow-way":
            words.append(f"from {who} to node {self.whom}")
        elif self.kind in BETWEEN:
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


BOUNDS: Final = {
    "seconds": (0.001, 1e6),
    "voters": (1, 100),
    "spares": (0, 100),
    "segment": (512, 1e9),
    "tail": (0, 1e9),
    "slow_disk": (0, 1),
    "skew": (0, 1e6),
    "drift": (0, 0.99),
    "max_sessions": (1, 1e9),
    "max_keys": (1, 1e9),
    "clients": (1, 1000),
    "think": (0.001, 1000),
    "reads": (0, 1),
    "keyed": (0, 1),
    "keys": (1, 1e6),
    "patience": (0.001, 1e6),
    "longer": (0, 1e6),
    "fastest": (0, 1),
    "slowest": (0, 1),
    "lost": (0, 1),
    "doubled": (0, 1),
    "late": (0, 1),
    "at": (0, 1e9),
    "lasts": (0, 1e9),
    "who": (0, 1e9),
    "whom": (0, 1e9),
    "amount": (-1e9, 1e15),
}
"""The lowest and the highest value of each number of a plan."""

AMOUNTS: Final = {
    **dict.fromkeys(("slow-link", "slow-way", "echo", "slow-disk"), (0, 100)),
    "lossy": (0, 1),
    "drift": (0.01, 100),
}
"""Those of `amount`, for kinds that are particular."""


def _check_fields(part: Any) -> None:
    """The fields of a part of a plan are of the types of their defaults, and the numbers within bounds."""
    for each in fields(part):
        value, usual = getattr(part, each.name), each.default
        low, high = BOUNDS.get(each.name, (0, 0))
        if isinstance(usual, bool) or isinstance(value, bool):
            good = isinstance(value, bool) and isinstance(usual, bool)
        elif each.name not in BOUNDS:
            good = each.name != "seed" or isinstance(value, int)
        elif isinstance(usual, float) or each.name == "at":
            good = isinstance(value, (int, float)) and value == value
        else:
            good = isinstance(value, int)
        if not good:
            raise ValueError(f"{each.name} cannot be {value!r}")
        if each.name in BOUNDS and not low <= value <= high:
            raise ValueError(f"{each.name} is {value!r}, not between {low:g} and {high:g}")


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


NEEDED: Final = ("seed", "network", "load", "faults", "options")
"""What every plan in a file says; the rest may be as usual."""

SHOWN: Final = 40
"""Characters shown of a line that is no plan."""


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
            _check_fields(part)
        self._check_options()
        for fault in self.faults:
            if fault.kind not in KINDS:
                raise ValueError(f"unknown kind of fault: {fault.kind}")
            low, high = AMOUNTS.get(fault.kind, BOUNDS["amount"])
            if not low <= fault.amount <= high:
                raise ValueError(
                    f"amount of {fault.kind} is {fault.amount}, not between {low:g} and {high:g}"
                )
            if self.options.get("lease_reads") and fault.kind in NO_LEASES:
                raise ValueError(f"{fault.kind} breaks what leases go by, and the plan has lease_reads")

    def _check_options(self) -> None:
        if not isinstance(self.options, Mapping):
            raise TypeError(f"options cannot be {self.options!r}")
        owned = self.options.keys() & {"id", "peers", "seed", "joins"}
        if owned:
            raise ValueError(f"no options of a plan: {', '.join(sorted(owned))}")
        config = RaftConfig(1).replace(**self.options)
        shortest = config.election_timeout[0]
        if config.heartbeat_interval >= shortest:
            raise ValueError("heartbeat_interval must be below the election timeout: no leader would last")
        if not self.network.fastest <= self.network.slowest <= shortest * TICK / 4:
            raise ValueError(
                "a frame must take no more than a quarter of the shortest election timeout, which is "
                f"{shortest * TICK:g} s: slowest is {self.network.slowest}, fastest {self.network.fastest}"
            )
        kept = (shortest - config.lease_margin) * (1 + self.drift) <= (shortest - 1) * (1 - self.drift)
        if config.lease_reads and not kept:
            raise ValueError(f"drift is {self.drift}: clocks differ by more than lease_margin allows for")

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
            if not isinstance(given, dict):
                raise ValueError(f"not a plan: {text[:SHOWN]}")  # noqa: TRY004 - of what was read, not passed
            unknown = given.keys() - {each.name for each in fields(cls)}
            if unknown:
                raise ValueError(f"no part of a plan: {', '.join(sorted(unknown))}")
            missing = [name for name in NEEDED if name not in given]
            if missing:
                raise ValueError(f"not a whole plan: it has no {', '.join(missing)}")
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
