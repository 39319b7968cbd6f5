"""What an application implements to be replicated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import BinaryIO

__all__ = ["StateMachine"]


class StateMachine(ABC):
    """The state that every node holds a copy of (paper, section 2).

    Every node is given the same commands in the same order, so the copies stay equal as long as what
    `apply` does depends on nothing but the state and the command: no clock, no random numbers, no
    environment, no order of a set.

    The methods are called one at a time, never two at once.

    >>> class Counter(StateMachine):
    ...     def __init__(self) -> None:
    ...         self.total = 0
    ...     def apply(self, command: bytes) -> bytes:
    ...         self.total += int(command)
    ...         return b"%d" % self.total
    ...     def capture(self) -> Callable[[BinaryIO], None]:
    ...         total = self.total
    ...         return lambda stream: stream.write(b"%d" % total) and None
    ...     def restore(self, stream: BinaryIO) -> None:
    ...         self.total = int(stream.read())
    >>> Counter().apply(b"5")
    b'5'
    """

    @abstractmethod
    def apply(self, command: bytes) -> bytes:
        """Carry out a committed command and return what goes back to whoever proposed it.

        Raise `CommandError` to refuse a command: it goes back to the proposer, and the log moves on, on
        every node alike; the state must then be as it was before. Any other exception stops this node,
        since its copy may differ from the others' from here on.
        """

    def advance(self, now: int) -> None:  # noqa: B027 - most state machines have no use for the time
        """It is `now`, in ms since the epoch: the leader's clock, as an entry of the log tells it.

        Called before `apply` whenever that time has moved: never back, and with the same times between the
        same commands on every node. A state machine that needs the time takes it from here.
        """

    def due(self) -> int | None:
        """The time, in ms since the epoch, at which `advance` is wanted even if nobody proposes anything by
        then; `None`: none. Asked often, so it must be quick.

        When the leader's clock reaches it, it tells the time to every node by an entry of its own.
        """
        return None

    @abstractmethod
    def capture(self) -> Callable[[BinaryIO], None]:
        """Take the state as it is now; return a function that writes it to a stream.

        Runs between two calls of `apply` and must be quick. The function runs later, in another thread,
        while `apply` goes on: it must not read what `apply` changes. It may raise any exception; the
        state is then not saved, and nothing else is lost.
        """

    @abstractmethod
    def restore(self, stream: BinaryIO) -> None:
        """Replace the whole state by one that a captured function wrote, perhaps on another node.

        Raise `StorageError` if the bytes are not such a state; the state must then be as it was before.
        """
