"""What the server's unit tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from raft_io import CommandError, StorageError
from raft_io.server import StateMachine


class Recorder(StateMachine):
    """Remembers every command and answers with how many there were. `refuse...` is refused, `die...` is a
    bug."""

    def __init__(self) -> None:
        self.history: list[bytes] = []
        self.times: list[int] = []
        self.wanted: int | None = None
        """When it wants to be told the time."""

    def apply(self, command: bytes) -> bytes:
        if command.startswith(b"die"):
            raise ZeroDivisionError(command.decode())
        self.history.append(command)
        if command.startswith(b"refuse"):
            raise CommandError(f"not {command.decode()}")
        return b"%d" % len(self.history)

    def advance(self, now: int) -> None:
        self.times.append(now)

    def due(self) -> int | None:
        return self.wanted

    def capture(self) -> Callable[[BinaryIO], None]:
        state = b"\n".join([command.hex().encode() for command in self.history])
        return lambda stream: stream.writelines([state])

    def restore(self, stream: BinaryIO) -> None:
        try:
            self.history = [bytes.fromhex(line.decode()) for line in stream.read().split(b"\n") if line]
        except ValueError:
            raise StorageError("restore a recorder", "no hexadecimal digits") from None


class Answers:
    """A waiter that insists on being answered at most once."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        self.done = False

    def succeeded(self, value: Any) -> None:
        assert not self.done, "answered twice"
        self.done = True
        self.value = value

    def failed(self, error: Exception) -> None:
        assert not self.done, "answered twice"
        self.done = True
        self.error = error
