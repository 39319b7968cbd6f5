"""When keys were removed: what a watched key that is absent is compared with."""

from __future__ import annotations

from typing import Final, final

from raft_io.kv.slots import slot_of

__all__ = ["Removals"]

MAX_KEYS: Final = 8192
"""Removals of one generation."""

MAX_BYTES: Final = 1024 * 1024
"""Bytes of the keys of one generation."""


@final
class Removals:
    """The revisions at which keys were removed, in bounded memory.

    Of the last ones, 8192 at least unless their keys are long, the keys are known. Of older ones only the
    slot that they were in: an absent key is taken for changed if any key of its slot was removed since. That
    errs to one side only: no removal is ever missed.

    Two generations: when the younger one is full, the older one goes into the slots.

    Replicated state: it changes by entries alone, alike on every node.
    """

    __slots__ = ("_bytes", "everything", "old", "slots", "young")

    def __init__(self) -> None:
        self.young: dict[bytes, int] = {}
        self.old: dict[bytes, int] = {}
        self.slots: dict[int, int] = {}
        """Of each slot that a forgotten key was in, the last removal."""
        self.everything: int = 0
        """The revision at which all keys were removed together."""
        self._bytes: int = 0
        """Of the keys in `young`."""

    def note(self, key: bytes, revision: int) -> None:
        """`key` was removed."""
        if key not in self.young:
            self._bytes += len(key)
        self.young[key] = revision
        if len(self.young) >= MAX_KEYS or self._bytes >= MAX_BYTES:
            for each, removed in self.old.items():
                slot = slot_of(each)
                self.slots[slot] = max(self.slots.get(slot, 0), removed)
            self.old = self.young
            self.young = {}
            self._bytes = 0

    def clear(self, revision: int) -> None:
        """All keys were removed."""
        self.young = {}
        self.old = {}
        self.slots = {}
        self.everything = revision
        self._bytes = 0

    def last(self, key: bytes) -> int:
        """No removal of `key` is later than this revision."""
        found = self.young.get(key, 0)
        if found == 0:
            found = self.old.get(key, 0)
        return max(found, self.slots.get(slot_of(key), 0), self.everything)

    def copy(self) -> Removals:
        """These removals, as they are now."""
        copied = Removals()
        copied.young = self.young.copy()
        copied.old = self.old.copy()
        copied.slots = self.slots.copy()
        copied.everything = self.everything
        copied._bytes = self._bytes
        return copied

    def load(self, young: dict[bytes, int], old: dict[bytes, int]) -> None:
        """The generations of a saved state."""
        self.young = young
        self.old = old
        self._bytes = sum([len(key) for key in young])
