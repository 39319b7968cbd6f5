"""The slots that keys are kept in, by their place: the same on every node and in every process."""

from __future__ import annotations

from typing import Final
from zlib import crc32

__all__ = ["SHIFT", "SLOTS", "slot_of"]

SLOTS: Final = 16384

SHIFT: Final = 18
"""The slot of a key is the upper 14 bits of its CRC-32."""


def slot_of(key: bytes) -> int:
    """The slot that `key` belongs to."""
    return crc32(key) >> SHIFT
