"""The keys that expire, in the order in which they do."""

from __future__ import annotations

from typing import final

__all__ = ["Timers"]


@final
class Timers:
    """A binary heap that knows where each key is, so that a change or a removal costs no more than its depth,
    and nothing stale is ever left in it.

    Invariants: `_places[_keys[i]] == i`; an item is not before its parent, by time and then by key. Which of
    two is first depends on times and keys alone: the order in which keys expire is the same on every node,
    however each came to its heap.

    Lists of numbers rather than objects: nothing for the garbage collector to walk.
    """

    __slots__ = ("_keys", "_places", "_times")

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._times: list[int] = []
        self._places: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def set(self, key: bytes, when: int) -> None:
        """`key` expires at `when`, whenever it did before."""
        place = self._places.get(key, -1)
        if place < 0:
            self._keys.append(key)
            self._times.append(when)
            self._up(len(self._keys) - 1, key, when)
        else:
            self._settle(place, self._keys[place], when)

    def drop(self, key: bytes) -> None:
        """`key` does not expire, if it did."""
        place = self._places.pop(key, -1)
        if place < 0:
            return
        last = self._keys.pop()
        when = self._times.pop()
        if place < len(self._keys):
            self._settle(place, last, when)

    def first(self) -> int | None:
        """The time at which the first key expires."""
        return self._times[0] if self._times else None

    def due(self, now: int) -> bytes | None:
        """The key that expires first, if it does so by `now`."""
        return self._keys[0] if self._times and self._times[0] <= now else None

    def count_due(self, now: int) -> int:
        """How many expire by `now`: costs as many steps."""
        count = 0
        waiting = [0] if self._times and self._times[0] <= now else []
        while waiting:
            place = waiting.pop()
            count += 1
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(self._times) and self._times[child] <= now:
                    waiting.append(child)
        return count

    def _settle(self, place: int, key: bytes, when: int) -> None:
        """Put `key` in at `place`, or above or below it."""
        parent = (place - 1) >> 1
        if place > 0 and self._before(when, key, parent):
            self._up(place, key, when)
        else:
            self._down(place, key, when)

    def _before(self, when: int, key: bytes, place: int) -> bool:
        other = self._times[place]
        return when < other or (when == other and key < self._keys[place])

    def _put(self, place: int, key: bytes, when: int) -> None:
        self._keys[place] = key
        self._times[place] = when
        self._places[key] = place

    def _up(self, place: int, key: bytes, when: int) -> None:
        while place > 0:
            parent = (place - 1) >> 1
            if not self._before(when, key, parent):
                break
            self._put(place, self._keys[parent], self._times[parent])
            place = parent
        self._put(place, key, when)

    def _down(self, place: int, key: bytes, when: int) -> None:
        size = len(self._keys)
        while True:
            child = 2 * place + 1
            if child >= size:
                break
            if child + 1 < size and self._before(self._times[child + 1], self._keys[child + 1], child):
                child += 1
            if self._before(when, key, child):
                break
            self._put(place, self._keys[child], self._times[child])
            place = child
        self._put(place, key, when)
