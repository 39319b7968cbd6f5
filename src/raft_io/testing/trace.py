"""What happened in a simulated cluster, as plain data, to be shown by `raft_io.testing.page`.

All times are simulated seconds since the run began. Events may be listed in any order; those of one moment
are taken in the order of the list.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

__all__ = [
    "Called",
    "Event",
    "Fault",
    "LifeChanged",
    "MembersChanged",
    "MessageSent",
    "Progressed",
    "Returned",
    "RoleChanged",
    "SyncChanged",
    "Trace",
    "Violated",
    "to_plain",
]

EXACT = 2**53 - 1
"""The largest integer that JavaScript keeps exactly. A larger one is written as text."""


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """A node took a role, or came to another term in the same role."""

    kind: ClassVar[str] = "role"
    at: float
    node: int
    role: Literal["follower", "pre_candidate", "candidate", "leader", "learner"]
    term: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class MessageSent:
    """A message. `arrival` is `None` if it did not arrive: `lost` says why, `lost_at` when, if that is known;
    without `lost` it was under way when the run ended. A second copy has `duplicate`. A `heartbeat` carries
    nothing: AppendEntries without entries, or the reply to one. `what` is its type, `text` its contents."""

    kind: ClassVar[str] = "message"
    at: float
    sender: int
    to: int
    what: str
    arrival: float | None
    text: str = ""
    lost: Literal["lost", "cut", "receiver down"] | None = None
    lost_at: float | None = None
    duplicate: bool = False
    heartbeat: bool = False


@dataclass(frozen=True, slots=True)
class LifeChanged:
    """A node was started, killed (its disk keeps all), crashed (power loss: what was not synced is gone),
    wiped (it is down and its disk is empty), paused or resumed."""

    kind: ClassVar[str] = "life"
    at: float
    node: int
    what: Literal["start", "kill", "crash", "wipe", "pause", "resume"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something was wrong from `at` to `until`; `None`: to the end of the run. `nodes` and `links` (sender,
    receiver) are those concerned."""

    kind: ClassVar[str] = "fault"
    at: float
    until: float | None
    text: str
    nodes: tuple[int, ...] = ()
    links: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Progressed:
    """A node's commit index or applied index is now `index`, or its snapshot stands for all up to it."""

    kind: ClassVar[str] = "progress"
    at: float
    node: int
    what: Literal["commit", "apply", "snapshot taken", "snapshot restored"]
    index: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class SyncChanged:
    """A sync of a node's disk began, was done, or failed. A node has one at a time; it ends with the node."""

    kind: ClassVar[str] = "sync"
    at: float
    node: int
    what: Literal["begun", "done", "failed"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """A node took another membership for the one in force, or saw one committed."""

    kind: ClassVar[str] = "members"
    at: float
    node: int
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A client called an operation. `operation` tells it from others that the client has open."""

    kind: ClassVar[str] = "call"
    at: float
    client: int
    text: str
    operation: int = 0


@dataclass(frozen=True, slots=True)
class Returned:
    """A client's operation returned. `result` is `None` if its outcome is unknown."""

    kind: ClassVar[str] = "return"
    at: float
    client: int
    result: str | None
    operation: int = 0


@dataclass(frozen=True, slots=True)
class Violated:
    """An invariant was found broken."""

    kind: ClassVar[str] = "violation"
    at: float
    text: str
    nodes: tuple[int, ...] = ()


Event: TypeAlias = (
    RoleChanged
    | MessageSent
    | LifeChanged
    | Fault
    | Progressed
    | SyncChanged
    | MembersChanged
    | Called
    | Returned
    | Violated
)


@dataclass(frozen=True, slots=True)
class Trace:
    """A run of a simulated cluster. `nodes` is in the order in which they are to be shown, `end` is the
    length of the run, `failure` says in a line why it failed; `None`: it did not."""

    title: str
    seed: int
    nodes: list[int]
    end: float
    failure: str | None
    events: list[Event]


def to_plain(trace: Trace) -> dict[str, Any]:
    """The trace as values that JSON knows. Each event is an object with its `kind` and its fields, less those
    that are `None` or at their default. Integers above 2**53 - 1 become text."""
    return {
        "title": trace.title,
        "seed": _exact(trace.seed),
        "nodes": _exact(trace.nodes),
        "end": trace.end,
        "failure": trace.failure,
        "events": [_plain_event(event) for event in trace.events],
    }


_FIELDS: dict[type[Event], tuple[tuple[str, Any], ...]] = {
    type_: tuple((field.name, field.default) for field in fields(type_))
    for type_ in (
        *(RoleChanged, MessageSent, LifeChanged, Fault, Progressed, SyncChanged, MembersChanged),
        *(Called, Returned, Violated),
    )
}


def _plain_event(event: Event) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": event.kind}
    for name, default in _FIELDS[type(event)]:
        value = getattr(event, name)
        if value is not None and value != default:
            plain[name] = _exact(value)
    return plain


def _exact(value: Any) -> Any:
    if isinstance(value, int) and not -EXACT <= value <= EXACT:
        return str(value)
    if isinstance(value, list | tuple):
        return [_exact(each) for each in value]
    return value
