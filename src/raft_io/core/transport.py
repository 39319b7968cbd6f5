"""The transport as a caller of the core may shape it, and one that lives in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from mypy_extensions import mypyc_attr

from raft_io.core.messages import Message
from raft_io.core.types import NodeId

__all__ = ["MemoryTransport", "RaftTransport"]


@mypyc_attr(allow_interpreted_subclasses=True)
class RaftTransport(ABC):
    """Delivers messages to peers. Raft tolerates loss, reordering and duplication."""

    __slots__ = ()

    @abstractmethod
    def send(self, to: NodeId, message: Message) -> None:
        """Deliver `message` to the node `to`, or lose it."""


@final
class MemoryTransport(RaftTransport):
    """Keeps what is sent, for a test to deliver, reorder or lose by hand."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: list[tuple[NodeId, Message]] = []

    def send(self, to: NodeId, message: Message) -> None:
        self._sent.append((to, message))

    def take(self) -> list[tuple[NodeId, Message]]:
        """Everything sent since the last `take`, in order."""
        sent = self._sent
        self._sent = []
        return sent

    def pending(self) -> int:
        """How many messages wait to be taken."""
        return len(self._sent)
