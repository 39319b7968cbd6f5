"""What an object should answer, one operation after the other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from raft_io.testing.operation import Operation

__all__ = ["Focus", "Focusing", "Model"]


class Model(Protocol):
    """What one key does, one operation after the other. Deterministic: the state, and an operation's name and
    arguments, give the next state. States are compared and hashed."""

    def initial(self, key: bytes) -> Hashable:
        """The state of a key that nobody has touched."""
        ...

    def step(self, state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
        """Whether `operation` with its result is possible in `state`, and the state after it. With an unknown
        outcome any result is possible."""
        ...


class Focus(Model, Protocol):
    """A model for the operations of one history alone: it takes for one what these cannot tell apart."""

    def effect(self, operation: Operation) -> Hashable:
        """What an operation of unknown outcome does: those of equal effect can stand for each other in every
        state. `None`: the history is linearizable with it if and only if it is without."""
        ...

    def only_reads(self, operation: Operation) -> bool:
        """Whether an answered operation changes nothing in any state in which its result is possible."""
        ...

    def exact(self) -> Mapping[Hashable, tuple[Sequence[int], Sequence[int]]]:
        """By state: the numbers of the answered operations that are possible in no other one, and those of
        all operations that may lead to it. States may be missing."""
        ...

    def is_lost(self, state: Hashable) -> bool:
        """Whether `state` is one from which only `ways_back` lead to any of those in `exact`."""
        ...

    def ways_back(self) -> Sequence[int]:
        """The numbers of these operations."""
        ...


@runtime_checkable
class Focusing(Model, Protocol):
    """What a model can know besides, so that the search is shorter and the counter-example reads well."""

    def focus(self, operations: Sequence[Operation]) -> Focus:
        """The model for these operations of one key; every state they lead to is one of its own."""
        ...

    def saw(self, operation: Operation) -> Hashable:
        """What an answered operation shows that another one must have written; `None`: nothing."""
        ...

    def left(self, operation: Operation, seen: Hashable) -> bool:
        """Whether `operation` may be the write that left what was `seen`."""
        ...
