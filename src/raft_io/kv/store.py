"""The key-value state machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import BinaryIO, Final
from zlib import crc32

from raft_io.errors import StorageError
from raft_io.kv.batch import decode_batch
from raft_io.kv.commands import READ, execute, kind_of
from raft_io.kv.keyspace import Keyspace
from raft_io.kv.strings import MAX_VALUE
from raft_io.server.machine import StateMachine

__all__ = ["KeyValueStore"]

# The saved state: this, then for each key its length and its value's, the key, the value; then the CRC-32
# of everything before it. All little-endian.
_HEAD: Final = Struct("<8sIQ")
_MAGIC: Final = b"raft-kv\n"
_VERSION: Final = 1
_LENGTHS: Final = Struct("<II")
_CHECKSUM: Final = Struct("<I")

_BLOCK: Final = 1024 * 1024
_CONTEXT: Final = "restoring the key-value store"


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
        return len(self._keys.values)

    def apply(self, command: bytes) -> bytes:
        """Carry out a batch, its commands one after the other with nothing between them.

        Raises `CommandError`, and has done nothing, if it is not a batch. An error in one of the commands
        is its reply.
        """
        commands, protocol = decode_batch(command)
        return execute(self._keys, commands, protocol)

    def query(self, commands: Sequence[list[bytes]], protocol: int) -> bytes:
        """The replies to commands that only read, from this copy as it is now.

        Raises `ValueError`, and does nothing, if one of them is not of kind `READ`.
        """
        for args in commands:
            if kind_of(args) is not READ:
                raise ValueError(f"{args[0]!r} is no command that only reads")
        return execute(self._keys, commands, protocol)

    def capture(self) -> Callable[[BinaryIO], None]:
        """Copy the references to keys and values (some 40 ms a million keys); the function writes them."""
        values = dict(self._keys.values)
        return lambda stream: _save(values, stream)

    def restore(self, stream: BinaryIO) -> None:
        """Replace all keys by the saved ones. Raises `StorageError`, and changes nothing, on damage."""
        self._keys = _load(stream)


def _save(values: dict[bytes, bytes], stream: BinaryIO) -> None:
    block = bytearray(_HEAD.pack(_MAGIC, _VERSION, len(values)))
    checksum = 0
    for key, value in values.items():
        block += _LENGTHS.pack(len(key), len(value))
        block += key
        block += value
        if len(block) >= _BLOCK:
            checksum = crc32(block, checksum)
            stream.write(block)
            block = bytearray()
    checksum = crc32(block, checksum)
    stream.write(block + _CHECKSUM.pack(checksum))


class _Source:
    """Reads a stream, never more at once than was there last time, and sums up what it read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.checksum = 0

    def take(self, size: int) -> bytes:
        data = self._stream.read(min(size, _BLOCK))
        if len(data) < size:
            pieces = [data]
            missing = size - len(data)
            while missing > 0 and data:
                data = self._stream.read(min(missing, _BLOCK))
                pieces.append(data)
                missing -= len(data)
            if missing > 0:
                raise StorageError(_CONTEXT, f"the saved state ends {missing} bytes early")
            data = b"".join(pieces)
        self.checksum = crc32(data, self.checksum)
        return data


def _load(stream: BinaryIO) -> Keyspace:
    source = _Source(stream)
    magic, version, count = _HEAD.unpack(source.take(_HEAD.size))
    if magic != _MAGIC:
        raise StorageError(_CONTEXT, "the bytes are not a saved key-value store")
    if version != _VERSION:
        raise StorageError(_CONTEXT, f"version {version} is unknown; this release reads {_VERSION}")
    keys = Keyspace()
    for _ in range(count):
        key_size, value_size = _LENGTHS.unpack(source.take(_LENGTHS.size))
        if key_size > MAX_VALUE or value_size > MAX_VALUE:
            raise StorageError(_CONTEXT, f"a key of {key_size} bytes with a value of {value_size}")
        key = source.take(key_size)
        keys.put(key, source.take(value_size))
    checksum = source.checksum
    if _CHECKSUM.unpack(source.take(_CHECKSUM.size))[0] != checksum:
        raise StorageError(_CONTEXT, "the checksum does not match")
    if len(keys.values) != count:
        raise StorageError(_CONTEXT, "a key is there twice")
    if stream.read(1):
        raise StorageError(_CONTEXT, "there are bytes behind the end")
    return keys
