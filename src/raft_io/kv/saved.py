"""The saved state of the store: written and read in blocks, in one pass.

    8 bytes     "raft-kv\n"
    4 bytes     version, 2
    8 bytes     number of keys
    8 bytes     the replicated time, in ms since the epoch
    8 bytes     the revision of the store
    8 bytes     the revision at which all keys were removed together
    two times (removals of the younger and of the older generation):
        4 bytes     number; then each, in the order of the keys:
        4 bytes     length of the key; 8 bytes revision; the key
    4 bytes     number of slots with older removals; then each, in order: 4 bytes slot, 8 bytes revision
    each key, in the order of the slots and then of the keys:
        4 bytes     length of the key; 4 bytes length of the value
        8 bytes     revision; 8 bytes time of expiry, 0 for never
        the key; the value
    4 bytes     CRC-32 of everything before

Numbers are little-endian. Equal states make equal bytes. Version 1, which is read but no longer written, had
after the number of keys only each key, in any order: the two lengths, the key, the value.
"""

from __future__ import annotations

import time
from struct import Struct
from typing import BinaryIO, Final
from zlib import crc32

from mypy_extensions import i64

from raft_io.errors import StorageError
from raft_io.kv import records
from raft_io.kv.keyspace import Capture, Keyspace
from raft_io.kv.slots import SLOTS, slot_of
from raft_io.kv.strings import MAX_VALUE

__all__ = ["check", "load", "save"]

VERSION: Final = 2
FIRST_VERSION: Final = 1

_MAGIC: Final = b"raft-kv\n"
_HEAD: Final = Struct("<8sIQ")
_TIMES: Final = Struct("<QQQ")
_COUNT: Final = Struct("<I")
_REMOVAL: Final = Struct("<IQ")
_LENGTHS: Final = Struct("<II")
_ENTRY: Final = Struct("<IIQQ")

_BLOCK: Final = 256 * 1024
"""Bytes read at a time."""

_BURST: Final = 64 * 1024
"""Bytes written at a time, without a pause."""

_BURST_KEYS: Final = 512
"""Keys written without a pause."""

_PAUSE: Final = 0.0002
"""Seconds between two bursts in which other threads run: the one that answers clients must not wait for this
one longer than a burst takes."""

_CONTEXT: Final = "restoring the key-value store"


# Writing.


class _Sink:
    """Writes blocks to a stream, and sums up what it wrote."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.checksum = 0
        self.block = bytearray()
        self.keys = 0

    def flush(self) -> None:
        """Write what has gathered."""
        self.checksum = crc32(self.block, self.checksum)
        self._stream.write(self.block)
        self.block = bytearray()
        self.keys = 0


def save(capture: Capture, stream: BinaryIO) -> None:
    """Write the state that was captured. Raises what the stream raises."""
    sink = _Sink(stream)
    sink.block += _HEAD.pack(_MAGIC, VERSION, capture.count)
    sink.block += _TIMES.pack(capture.now, capture.revision, capture.removals.everything)
    _save_removals(capture, sink)
    for items in capture.take():
        _save_slot(items, sink)
    sink.flush()
    stream.write(_COUNT.pack(sink.checksum))


def _save_removals(capture: Capture, sink: _Sink) -> None:
    for removed in (capture.removals.young, capture.removals.old):
        sink.block += _COUNT.pack(len(removed))
        for key, revision in sorted(removed.items()):
            sink.block += _REMOVAL.pack(len(key), revision)
            sink.block += key
    slots = capture.removals.slots
    sink.block += _COUNT.pack(len(slots))
    for slot, revision in sorted(slots.items()):
        sink.block += _REMOVAL.pack(slot, revision)


def _save_slot(items: list[tuple[bytes, bytes]], sink: _Sink) -> None:
    for key, record in items:
        value = records.value(record)
        sink.block += _ENTRY.pack(len(key), len(value), records.revision(record), records.when(record))
        sink.block += key
        sink.block += value
        sink.keys += 1
        if len(sink.block) >= _BURST or sink.keys >= _BURST_KEYS:
            sink.flush()
            time.sleep(_PAUSE)


# Reading.


class _Source:
    """Reads a stream in blocks, never more at once than was there last time, and sums up what was used."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._data = b""
        self._pos = 0
        self._summed = 0
        self._sum = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        self.skip(size)
        return self._data[self._pos - size : self._pos]

    def skip(self, size: int) -> None:
        """Pass over the next `size` bytes."""
        if self._pos + size > len(self._data):
            self._more(size)
        self._pos += size

    def _more(self, size: int) -> None:
        """Have at least `size` bytes."""
        self._sum = self.checksum()
        pieces = [self._data[self._pos :]]
        missing = size - len(pieces[0])
        while missing > 0:
            data = self._stream.read(_BLOCK)
            if not data:
                raise StorageError(_CONTEXT, f"the saved state ends {missing} bytes early")
            pieces.append(data)
            missing -= len(data)
        self._data = b"".join(pieces)
        self._pos = 0
        self._summed = 0

    def checksum(self) -> int:
        """The CRC-32 of all that was taken."""
        if self._pos > self._summed:
            self._sum = crc32(memoryview(self._data)[self._summed : self._pos], self._sum)
            self._summed = self._pos
        return self._sum

    def finish(self) -> None:
        """Check that the checksum follows, and nothing else."""
        checksum = self.checksum()
        if _COUNT.unpack(self.take(_COUNT.size))[0] != checksum:
            raise StorageError(_CONTEXT, "the checksum does not match")
        if self._pos < len(self._data) or self._stream.read(1):
            raise StorageError(_CONTEXT, "there are bytes behind the end")


def check(stream: BinaryIO) -> None:
    """Read a saved state and make nothing of it. Raises `StorageError` for anything else."""
    _read(stream, Keyspace(), keep=False)


def load(stream: BinaryIO) -> Keyspace:
    """The keys of a saved state. Raises `StorageError` for anything else."""
    keys = Keyspace()
    _read(stream, keys, keep=True)
    return keys


def _read(stream: BinaryIO, keys: Keyspace, keep: bool) -> None:
    source = _Source(stream)
    magic, version, count = _HEAD.unpack(source.take(_HEAD.size))
    if magic != _MAGIC:
        raise StorageError(_CONTEXT, "the bytes are not a saved key-value store")
    if version == FIRST_VERSION:
        _read_first(source, keys, count, keep)
    elif version == VERSION:
        now, revision, everything = _TIMES.unpack(source.take(_TIMES.size))
        if now >= 1 << 63 or revision >= 1 << 62 or everything > revision:
            raise StorageError(_CONTEXT, f"the time {now}, revisions {revision} and {everything}")
        keys.now = now
        keys.revision = revision
        keys.removals.everything = everything
        _read_removals(source, keys)
        _read_keys(source, keys, count, keep)
    else:
        raise StorageError(_CONTEXT, f"version {version} is unknown; this release reads up to {VERSION}")
    source.finish()


def _read_first(source: _Source, keys: Keyspace, count: int, keep: bool) -> None:
    """Version 1. No server ever saved one, so that no node can have other revisions than this one."""
    for _ in range(count):
        key_size, value_size = _LENGTHS.unpack(source.take(_LENGTHS.size))
        _check_sizes(key_size, value_size)
        key = source.take(key_size)
        value = source.take(value_size)
        slot = slot_of(key)
        if keys.holds(slot, key):
            raise StorageError(_CONTEXT, "a key is there twice")
        keys.load(slot, key, records.make(value if keep else b"", 0, 0))


def _read_keys(source: _Source, keys: Keyspace, count: int, keep: bool) -> None:
    last_slot = 0
    last = b""
    first = True
    revisions = keys.revision
    for _ in range(count):
        key_size, value_size, revision, when = _ENTRY.unpack(source.take(_ENTRY.size))
        _check_sizes(key_size, value_size)
        if revision > revisions or when >= 1 << 63:
            raise StorageError(_CONTEXT, f"a key of revision {revision} that expires at {when}")
        key = source.take(key_size)
        slot = slot_of(key)
        if not first and (slot < last_slot or (slot == last_slot and key <= last)):
            raise StorageError(_CONTEXT, "a key is there twice, or out of order")
        first = False
        last_slot = slot
        last = key
        if keep:
            keys.load(slot, key, records.make(source.take(value_size), revision, when))
        else:
            source.skip(value_size)


def _check_sizes(key_size: i64, value_size: i64) -> None:
    if key_size > MAX_VALUE or value_size > MAX_VALUE:
        raise StorageError(_CONTEXT, f"a key of {key_size} bytes with a value of {value_size}")


def _read_removals(source: _Source, keys: Keyspace) -> None:
    generations: list[dict[bytes, int]] = []
    for _ in range(2):
        removed: dict[bytes, int] = {}
        for _ in range(_COUNT.unpack(source.take(_COUNT.size))[0]):
            size, revision = _REMOVAL.unpack(source.take(_REMOVAL.size))
            _check_sizes(size, 0)
            removed[source.take(size)] = revision
        generations.append(removed)
    keys.removals.load(generations[0], generations[1])
    for _ in range(_COUNT.unpack(source.take(_COUNT.size))[0]):
        slot, revision = _REMOVAL.unpack(source.take(_REMOVAL.size))
        if slot >= SLOTS:
            raise StorageError(_CONTEXT, f"there is no slot {slot}")
        keys.removals.slots[slot] = revision
