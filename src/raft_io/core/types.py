"""Values: what a log holds and what a node is. Plain, typed, compared by value."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, ClassVar, Final, TypeAlias, final

from mypy_extensions import i64, mypyc_attr

from raft_io.core._contents import SnapshotData

__all__ = [
    "Contents",
    "EntryKind",
    "HardState",
    "Index",
    "LogEntry",
    "Membership",
    "NodeId",
    "Role",
    "Snapshot",
    "SnapshotData",
    "SnapshotMeta",
    "Term",
]

NodeId: TypeAlias = int
Term: TypeAlias = int
Index: TypeAlias = int

MAX: Final = 2**63 - 1
"""The largest id, term and index. A term or an index of it is refused, so that there is always a next one."""

NOBODY: Final = -1
"""Inside the core: no leader, no vote."""


_SMALL: Final = 2**62 - 1
"""Compiled, integers up to here are compared without a call."""


def checked(value: int, name: str) -> i64:
    """`value` if it is an integer in `0 .. 2**63 - 1`; `TypeError` or `ValueError` otherwise."""
    if type(value) is int and 0 <= value <= _SMALL:
        return value
    return _checked_slowly(value, name)


def _checked_slowly(value: int, name: str) -> i64:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 0 or value > MAX:
        raise ValueError(f"{name} must be in 0 .. 2**63 - 1, not {value}")
    return int(value)


def checked_bytes(value: bytes, name: str) -> bytes:
    """`value` if it is `bytes`; `TypeError` otherwise."""
    if not isinstance(value, bytes):
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    return value


def checked_bool(value: bool, name: str) -> bool:
    """`value` if it is a `bool`; `TypeError` otherwise."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value


@mypyc_attr(acyclic=True)
class Value:
    """Equality, hash, `repr`, copying and pickling from the constructor's arguments (`__match_args__`).

    Values hold no reference back to themselves, so that the garbage collector need not visit them
    (`acyclic`): a collection does not walk a million log entries.
    """

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def _fields(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self.__match_args__])

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__match_args__)

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._fields()))

    def __repr__(self) -> str:
        fields = [f"{name}={getattr(self, name)!r}" for name in self.__match_args__]
        return f"{type(self).__name__}({', '.join(fields)})"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), self._fields()


class Role(enum.Enum):
    """The role a node plays; it is always in exactly one (paper, section 5.1)."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"

    def __repr__(self) -> str:
        return f"Role.{self.name}"


class EntryKind(enum.IntEnum):
    """What a log entry is for. Only `NORMAL` entries reach the state machine."""

    NORMAL = 0
    MEMBERSHIP = 1
    NOOP = 2

    def __repr__(self) -> str:
        return f"EntryKind.{self.name}"


NORMAL: Final = EntryKind.NORMAL
MEMBERSHIP: Final = EntryKind.MEMBERSHIP
NOOP: Final = EntryKind.NOOP


@final
@mypyc_attr(acyclic=True)
class LogEntry(Value):
    """One entry of the replicated log; `term` and `index` together identify it (paper, section 5.3).

    `command` is opaque bytes. Indexes count from 1.

    >>> LogEntry(2, 7, b"put k v")
    LogEntry(term=2, index=7, command=b'put k v', kind=EntryKind.NORMAL)
    """

    __slots__ = ("command", "index", "kind", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("term", "index", "command", "kind")

    def __init__(self, term: Term, index: Index, command: bytes = b"", kind: EntryKind = NORMAL) -> None:
        self.term: i64 = checked(term, "term")
        self.index: i64 = checked(index, "index")
        self.command: bytes = checked_bytes(command, "command")
        if kind is not NORMAL and not isinstance(kind, EntryKind):
            raise TypeError(f"kind must be an EntryKind, not {type(kind).__name__}")
        self.kind: EntryKind = kind


@final
@mypyc_attr(acyclic=True)
class HardState(Value):
    """What must survive a crash besides the log: the current term and the vote in it (paper, figure 2).

    >>> HardState()
    HardState(term=0, voted_for=None)
    """

    __slots__ = ("term", "voted_for")
    __match_args__: ClassVar[tuple[str, ...]] = ("term", "voted_for")

    def __init__(self, term: Term = 0, voted_for: NodeId | None = None) -> None:
        self.term: i64 = checked(term, "term")
        self.voted_for: int | None = None if voted_for is None else checked(voted_for, "voted_for")


def checked_ids(ids: Iterable[NodeId], name: str) -> frozenset[int]:
    """The ids, each of them checked."""
    return frozenset([int(checked(node, f"an id in {name}")) for node in ids])


def listed(ids: frozenset[int]) -> str:
    """The ids in ascending order, as a list is written."""
    return f"[{', '.join([str(node) for node in sorted(ids)])}]"


@final
@mypyc_attr(acyclic=True)
class Membership(Value):
    """Who takes part: `voters` decide, `learners` only receive; `outgoing`, when not empty, are the voters
    of the old half of a joint membership (paper, section 6).

    >>> Membership([1, 2, 3])
    Membership(voters=[1, 2, 3], learners=[], outgoing=[])
    """

    __slots__ = ("learners", "outgoing", "voters")
    __match_args__: ClassVar[tuple[str, ...]] = ("voters", "learners", "outgoing")

    def __init__(
        self,
        voters: Iterable[NodeId],
        learners: Iterable[NodeId] = (),
        outgoing: Iterable[NodeId] = (),
    ) -> None:
        self.voters: frozenset[int] = checked_ids(voters, "voters")
        self.learners: frozenset[int] = checked_ids(learners, "learners")
        self.outgoing: frozenset[int] = checked_ids(outgoing, "outgoing")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Membership):
            return NotImplemented
        same = self.voters == other.voters and self.learners == other.learners
        return same and self.outgoing == other.outgoing

    def __hash__(self) -> int:
        return hash((self.voters, self.learners, self.outgoing))

    def __repr__(self) -> str:
        return (
            f"Membership(voters={listed(self.voters)}, learners={listed(self.learners)}, "
            f"outgoing={listed(self.outgoing)})"
        )


Contents: TypeAlias = Any
"""What a snapshot holds: `bytes`, or anything that has what a `SnapshotData` has. Not spelled as a union, for
compiled code would take that at its word."""

_PRIME: Final = 2**63 - 25


def checked_data(data: Contents) -> Contents:
    """`data` if it is `bytes` or has what a `SnapshotData` has; `TypeError` or `ValueError` otherwise."""
    if isinstance(data, bytes):
        return data
    if not hasattr(data, "read"):
        raise TypeError(f"data must be bytes or a SnapshotData, not {type(data).__name__}")
    for name in ("size", "checksum"):
        number: object = getattr(data, name, None)
        if not isinstance(number, int):
            raise TypeError(f"data.{name} must be an int, not {type(number).__name__}")
        checked(number, f"data.{name}")
    return data


def data_size(data: Contents) -> i64:
    """Bytes of a snapshot's contents."""
    size: i64 = len(data) if isinstance(data, bytes) else data.size
    return size


def data_checksum(data: Contents) -> i64:
    """The checksum by which two transfers of the same snapshot are told from those of different ones."""
    if isinstance(data, bytes):
        # The bytes as one number, modulo a prime: a fingerprint that needs nothing but integers.
        fingerprint: i64 = int.from_bytes(data, "little") % _PRIME
        return fingerprint
    checksum: i64 = data.checksum
    return checksum


def read_data(data: Contents, offset: i64, size: i64) -> bytes:
    """Up to `size` bytes of a snapshot's contents."""
    piece: bytes = data[offset : offset + size] if isinstance(data, bytes) else data.read(offset, size)
    return piece


@final
@mypyc_attr(acyclic=True)
class Snapshot(Value):
    """The state machine's state at `index`, an entry of `term`, and the membership as of there (paper,
    section 7).

    `data` is opaque: `bytes`, or a `SnapshotData` where it is too large to be held in memory.
    """

    __slots__ = ("data", "index", "membership", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("index", "term", "membership", "data")

    def __init__(self, index: Index, term: Term, membership: Membership, data: Contents) -> None:
        self.index: i64 = checked(index, "index")
        self.term: i64 = checked(term, "term")
        if not isinstance(membership, Membership):
            raise TypeError(f"membership must be a Membership, not {type(membership).__name__}")
        self.membership: Membership = membership
        self.data: Contents = checked_data(data)


@final
@mypyc_attr(acyclic=True)
class SnapshotMeta(Value):
    """A snapshot on its way, without its contents: they are `size` bytes (`0`: not told) with `checksum`."""

    __slots__ = ("checksum", "index", "membership", "size", "term")
    __match_args__: ClassVar[tuple[str, ...]] = ("index", "term", "membership", "size", "checksum")

    def __init__(
        self, index: Index, term: Term, membership: Membership, size: int = 0, checksum: int = 0
    ) -> None:
        self.index: i64 = checked(index, "index")
        self.term: i64 = checked(term, "term")
        self.membership: Membership = membership
        self.size: i64 = checked(size, "size")
        self.checksum: i64 = checked(checksum, "checksum")
