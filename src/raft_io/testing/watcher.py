"""Who wants to be told what happens in a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from raft_io import Index, NodeId
from raft_io.testing.plan import Fault

if TYPE_CHECKING:
    from raft_io.testing.clients import Call
    from raft_io.testing.process import Process

__all__ = ["Watcher"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Watcher:
    """Is told what a trace needs; does nothing with it."""

    def fault(self, now: float, fault: Fault) -> None:
        """A fault happens."""

    def note(self, now: float, node: NodeId, text: str) -> None:
        """A remark."""

    def started(self, now: float, node: NodeId) -> None:
        """A node starts."""

    def paused(self, now: float, node: NodeId, paused: bool) -> None:
        """A node stands still, or goes on."""

    def sent(self, now: float, source: NodeId, target: NodeId, frame: bytes, arrival: float | None) -> None:
        """A frame is on its way, until `arrival`; `None`: it is lost."""

    def stopped(self, now: float, node: NodeId, power: bool) -> None:
        """A node ends."""

    def turned(self, now: float, process: Process) -> None:
        """A node took a turn."""

    def captured(self, now: float, node: NodeId, index: Index) -> None:
        """A node has taken a snapshot of what it has applied up to `index`."""

    def called(self, now: float, call: Call) -> None:
        """A client asks."""

    def returned(self, now: float, call: Call) -> None:
        """A client is done."""
