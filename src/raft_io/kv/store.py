"""The key-value state machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, Final

from raft_io.kv import saved
from raft_io.kv.batch import decode_batch
from raft_io.kv.commands import READ, execute, kind_of, transact
from raft_io.kv.keyspace import Capture, Keyspace
from raft_io.server.machine import StateMachine

__all__ = ["KeyValueStore"]

CLOCK: Final = 1000
"""Milliseconds after which the time is wanted anew while there are keys that expire: what they have left, as
TTL tells it, is then no more than about that old."""


class KeyValueStore(StateMachine):
    """Keys and values, both bytes. A command is a batch (`batch.encode_batch`), its result the RESP replies.

    >>> from raft_io.kv.batch import encode_batch
    >>> store = KeyValueStore()
    >>> store.apply(encode_batch([[b"SET", b"a", b"1"], [b"INCR", b"a"]], 2))
    b'+OK\\r\\n:2\\r\\n'
    >>> store.query([[b"GET", b"a"]], 2)
    b'$1\\r\\n2\\r\\n'
    """

    def __init__(self) -> None:
        self._keys = Keyspace()

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._keys)

    def advance(self, now: int) -> None:
        """It is `now`, in ms since the epoch: what expires by then is gone."""
        self._keys.advance(now)

    def due(self) -> int | None:
        """When the time is wanted, if nobody proposes anything before: when the next key expires, and every
        second while some key does; at once while there is something to clear away."""
        keys = self._keys
        if keys.behind:
            return keys.now + 1
        first = keys.next_expiry()
        return None if first is None else min(first, keys.now + CLOCK)

    def apply(self, command: bytes) -> bytes:
        """Carry out a batch, its commands one after the other with nothing between them.

        Raises `CommandError`, and has done nothing, if it is not a batch. An error in one of the commands
        is its reply.
        """
        batch = decode_batch(command)
        if batch.watched is not None:
            return transact(self._keys, batch.commands, batch.watched, batch.protocol, batch.version)
        return execute(self._keys, batch.commands, batch.protocol, batch.version)

    def query(self, commands: Sequence[list[bytes]], protocol: int) -> bytes:
        """The replies to commands that only read, from this copy as it is now.

        Raises `ValueError`, and does nothing, if one of them is not of kind `READ`.
        """
        for args in commands:
            if kind_of(args) is not READ:
                raise ValueError(f"{args[0]!r} is no command that only reads")
        return execute(self._keys, commands, protocol)

    def answer(self, commands: list[list[bytes]], protocol: int) -> bytes:
        """The same as `query`, for commands that are known to be of kind `READ`."""
        return execute(self._keys, commands, protocol)

    def revision(self) -> int:
        """The number of the last change. A transaction that goes by it is aborted if a key that it watches is
        changed later."""
        return self._keys.revision

    def capture(self) -> Callable[[BinaryIO], None]:
        """Remember the state as it is now, without copying it; the function writes it.

        What changes meanwhile is kept as it was, until it is written or the function is gone.
        """
        return _Writer(self._keys.capture())

    def restore(self, stream: BinaryIO) -> None:
        """Replace all keys by the saved ones. Raises `StorageError`, and changes nothing, on damage.

        A stream that can go back is read twice: once to see that it is whole, then, with the keys that were
        here gone already, to keep what it holds. Of any other both are in memory for a while.
        """
        if stream.seekable():
            start = stream.tell()
            saved.check(stream)
            stream.seek(start)
            self._keys = Keyspace()
        self._keys = saved.load(stream)


class _Writer:
    """Writes what was captured, once."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    def __call__(self, stream: BinaryIO) -> None:
        assert not self._capture.done, "what was captured can be written once"
        try:
            saved.save(self._capture, stream)
        finally:
            self._capture.done = True

    def __del__(self) -> None:
        self._capture.done = True
