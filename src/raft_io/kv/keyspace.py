"""The keys and their values, and the order in which SCAN visits them."""

from __future__ import annotations

from typing import Final, final
from zlib import crc32

__all__ = ["Keyspace"]

_SLOTS: Final = 1 << 14
_SHIFT: Final = 32 - 14

KEY_WORK: Final = 64
"""What looking at a key counts as, in bytes."""


def _slots() -> list[dict[bytes, None]]:
    return [{} for _ in range(_SLOTS)]


@final
class Keyspace:
    """A map from keys to values.

    Every key has a place, its CRC-32: the same on every node and in every process. SCAN walks the places in
    ascending order. So that it need not look at all keys, they are also kept by the upper bits of their
    place, in slots.

    Invariant: slot `i` holds exactly the keys of `values` whose place has the upper 14 bits `i`.

    The order of `values` is the order of insertion, and so the same on every node, too.
    """

    __slots__ = ("_by_slot", "values", "work")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self._by_slot: list[dict[bytes, None]] = _slots()
        self.work: int = 0
        """What commands did that their replies do not show, in bytes copied or looked at, roughly."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""
        if key not in self.values:
            self._by_slot[crc32(key) >> _SHIFT][key] = None
        self.values[key] = value

    def remove(self, key: bytes) -> bytes | None:
        """Delete `key`; its value, or `None` if there was no such key."""
        value = self.values.pop(key, None)
        if value is not None:
            del self._by_slot[crc32(key) >> _SHIFT][key]
        return value

    def clear(self) -> None:
        """Delete every key."""
        self.work += _SLOTS * KEY_WORK
        self.values = {}
        self._by_slot = _slots()

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """The keys whose place is at least `cursor`, in order of place, and the cursor to go on with.

        0 is the cursor to begin with, and the one returned when nothing is left. `count` keys are returned,
        more only if the last ones share a place, fewer only at the end.

        The cursor is all there is to an iteration: it may go on at any node, and after a restart. Keys that
        come and go move no other key, so a key that is there all the time is returned exactly once.

        Cost: `count` keys, and at most all the slots, and sorting one slot beyond what is returned (a slot
        holds one of 16384 keys).
        """
        found: list[bytes] = []
        last = -1
        for slot in range(cursor >> _SHIFT, _SLOTS):
            keys = self._by_slot[slot]
            if not keys:
                continue
            for place, key in sorted([(crc32(key), key) for key in keys]):
                if place < cursor:
                    continue
                if len(found) >= count and place != last:
                    return place, found
                found.append(key)
                last = place
        return 0, found
