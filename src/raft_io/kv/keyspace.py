"""The keys and their values: which are there, what changed when, and the order in which SCAN visits them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final
from zlib import crc32

from raft_io.kv import records
from raft_io.kv.removals import Removals
from raft_io.kv.slots import SHIFT, SLOTS
from raft_io.kv.timers import Timers

__all__ = ["Capture", "Keyspace"]

KEY_WORK: Final = 64
"""What looking at a key counts as, in bytes."""

SWEEP: Final = 256
"""Keys that are removed at most when the time moves. The others that are past their time are as good as
absent until their turn comes."""

FREED: Final = 64
"""Slots that FLUSHDB emptied that are freed when the time moves: to free millions of keys at once would be a
pause."""

_FLAG: Final = 8
"""How far from the end of a record the byte is that tells whether the key expires."""


_NOTHING: Final[dict[bytes, bytes]] = {}
"""Stands for every slot that never held a key, so that a keyspace is cheap to make. It stays empty."""


def _empty() -> list[dict[bytes, bytes]]:
    return [_NOTHING] * SLOTS


@final
class Capture:
    """The keys as they were at one moment, for another thread to read while commands change them.

    Nothing is copied at that moment. Later a change of a key first leaves the old record here, as long as
    its slot was not taken: memory is needed for what changes meanwhile, not for what is there. Slots are
    taken in ascending order.

    Without a lock: the thread copies the slot first, then says that it did, then looks at what was left. A
    change before the copy has left the old record; one after it is not in the copy, and what it may leave is
    what the copy holds.
    """

    __slots__ = ("_left", "_slots", "count", "done", "now", "removals", "revision", "taken")

    def __init__(
        self, slots: list[dict[bytes, bytes]], count: int, now: int, revision: int, removals: Removals
    ) -> None:
        self._slots = slots
        self._left: list[dict[bytes, bytes | None] | None] = [None] * SLOTS
        self.count = count
        self.now = now
        self.revision = revision
        self.removals = removals
        self.taken = 0
        """Slots below this one have been taken."""
        self.done = False
        """Whether nothing more is wanted; set by whoever reads."""

    def leave(self, slot: int, key: bytes, record: bytes | None) -> None:
        """`key`, of which `record` is kept now, is about to change."""
        left = self._left[slot]
        if left is None:
            left = self._left[slot] = {}
        left.setdefault(key, record)

    def take(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """The keys and records of each slot that has some, in the order of the keys."""
        slot = -1
        while (slot := self._next(slot + 1)) < SLOTS:
            kept = self._slots[slot]
            found = kept.copy() if kept else None
            self.taken = slot + 1
            left = self._left[slot]
            if left is not None:
                self._left[slot] = None
                found = {} if found is None else found
                for key, record in left.copy().items():
                    if record is None:
                        found.pop(key, None)
                    else:
                        found[key] = record
            if found:
                yield sorted(found.items())

    def _next(self, slot: int) -> int:
        """The first slot from `slot` on that holds something, or did; `SLOTS` if there is none."""
        slots, left = self._slots, self._left
        while slot < SLOTS and not slots[slot] and left[slot] is None:
            slot += 1
        return slot


@final
class _Savepoint:
    """What is needed to take back every change since the savepoint was made."""

    __slots__ = ("captures", "cleared", "count", "garbage", "records", "slots", "timers")

    def __init__(self, garbage: int) -> None:
        self.records: dict[bytes, bytes | None] = {}
        """Of each key that has changed the record that it had, `None` of one that was absent."""
        self.garbage = garbage
        """How many slots were to be freed."""
        self.cleared = False
        """Whether all keys were removed together. What they were kept in is below; what has changed since
        then is thrown away with what it was kept in, and so is not in `records`."""
        self.slots: list[dict[bytes, bytes]] = []
        self.captures: list[Capture] = []
        self.timers = Timers()
        self.count = 0


@final
class Keyspace:
    """A map from keys to values that may expire, and the time that decides on it.

    Every key has a place, its CRC-32: the same on every node and in every process. SCAN walks the places in
    ascending order, and KEYS the slots, which are the upper bits of the places. No reply depends on the order
    in which keys came.

    `now` is the replicated time. A key is there until the moment of its expiry; from then on `find` does not
    find it, whether it was removed yet or not.

    Every change of a key takes the next `revision`, and notes it: with the key, or, if it is gone, in
    `Removals`. So whether a key has changed since some revision is known of every key at any time, and
    nobody needs to say beforehand that it will be asked.

    Invariants: slot `i` holds the keys whose place has the upper bits `i`, `count` in all. `_timers` has the
    keys whose record expires, with that time. All but `_captures`, `_garbage` and `_savepoint` is replicated
    state.
    """

    __slots__ = (
        "_captures",
        "_garbage",
        "_savepoint",
        "_slots",
        "_timers",
        "count",
        "now",
        "removals",
        "revision",
        "work",
    )

    def __init__(self) -> None:
        self._slots = _empty()
        self._garbage: list[dict[bytes, bytes]] = []
        self._timers = Timers()
        self._captures: list[Capture] = []
        self._savepoint: _Savepoint | None = None
        self.removals = Removals()
        self.count: int = 0
        """Keys that are kept, those that are past their time and not removed yet among them."""
        self.now: int = 0
        self.revision: int = 0
        self.work: int = 0
        """What commands did that their replies do not show, in bytes copied or looked at, roughly."""

    # Looking.

    def find(self, key: bytes) -> bytes | None:
        """The record of `key`, if it is there."""
        record = self._slots[crc32(key) >> SHIFT].get(key)
        if record is None or (record[len(record) - _FLAG] & 1 == 1 and records.when(record) <= self.now):
            return None
        return record

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, if it is there."""
        record = self.find(key)
        return None if record is None else records.value(record)

    def __len__(self) -> int:
        return self.count - self.past()

    def past(self) -> int:
        """How many keys are past their time and not removed yet."""
        return self._timers.count_due(self.now)

    def expiring(self) -> int:
        """How many keys have an expiry."""
        return len(self._timers)

    def next_expiry(self) -> int | None:
        """When the next key expires, or did without having been removed yet."""
        return self._timers.first()

    def changed(self, key: bytes, since: int) -> bool:
        """Whether `key` was changed after `since`, an earlier revision: set, removed, expired, or given
        another time to expire. Where memory is at an end, also when another key of its slot was removed.

        A key that is past its time and not removed yet counts as changed.
        """
        record = self._slots[crc32(key) >> SHIFT].get(key)
        if record is None:
            return self.removals.last(key) > since
        return records.revision(record) > since or self.find(key) is None

    def names(self) -> list[bytes]:
        """All keys."""
        found: list[bytes] = []
        for slot in self._slots:
            if slot:
                found += sorted(slot)
        return [key for key in found if self.find(key) is not None] if self.past() else found

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """The keys whose place is at least `cursor`, in order of place, and the cursor to go on with.

        0 is the cursor to begin with, and the one returned when nothing is left. `count` keys are returned,
        more only if the last ones share a place, fewer only at the end.

        The cursor is all there is to an iteration: it may go on at any node, and after a restart. Keys that
        come and go move no other key, so a key that is there all the time is returned exactly once.

        Cost: `count` keys, and at most all the slots, and sorting one slot beyond what is returned.
        """
        found: list[bytes] = []
        last = -1
        for slot in range(cursor >> SHIFT, SLOTS):
            keys = self._slots[slot]
            if not keys:
                continue
            for place, key in sorted([(crc32(key), key) for key in keys]):
                if place < cursor or self.find(key) is None:
                    continue
                if len(found) >= count and place != last:
                    return place, found
                found.append(key)
                last = place
        return 0, found

    # Changing.

    def put(self, key: bytes, value: bytes, when: int = 0) -> None:
        """Set `key` to `value`; it expires at `when`, or never."""
        slot = crc32(key) >> SHIFT
        keys = self._room(slot)
        old = keys.get(key)
        self._replacing(slot, key, old)
        if old is None:
            self.count += 1
        if when != 0:
            self._timers.set(key, when)
        elif old is not None and old[len(old) - _FLAG] & 1 == 1:
            self._timers.drop(key)
        self.revision += 1
        keys[key] = records.make(value, self.revision, when)

    def expire(self, key: bytes, record: bytes, when: int) -> None:
        """`key`, whose record is `record`, expires at `when`, or never."""
        slot = crc32(key) >> SHIFT
        self._replacing(slot, key, record)
        if when != 0:
            self._timers.set(key, when)
        else:
            self._timers.drop(key)
        self.revision += 1
        self.work += len(record)
        self._slots[slot][key] = records.renewed(record, self.revision, when)

    def remove(self, key: bytes) -> bytes | None:
        """Delete `key`; its record, or `None` if there was no such key."""
        slot = crc32(key) >> SHIFT
        record = self._slots[slot].get(key)
        if record is None:
            return None
        self._replacing(slot, key, record)
        del self._slots[slot][key]
        self.count -= 1
        self.revision += 1
        self.removals.note(key, self.revision)
        if record[len(record) - _FLAG] & 1 == 1:
            self._timers.drop(key)
            if records.when(record) <= self.now:
                return None
        return record

    def clear(self) -> None:
        """Delete every key."""
        self.work += SLOTS * KEY_WORK
        if self.count == 0:
            return
        savepoint = self._savepoint
        if savepoint is not None and not savepoint.cleared:
            savepoint.cleared = True
            savepoint.slots = self._slots
            savepoint.captures = self._captures
            savepoint.timers = self._timers
            savepoint.count = self.count
        # Whoever captured the keys has the old slots for itself.
        self._captures = []
        self._garbage += [slot for slot in self._slots if slot]
        self._slots = _empty()
        self._timers = Timers()
        self.count = 0
        self.revision += 1
        self.removals.clear(self.revision)

    def advance(self, now: int) -> None:
        """It is `now`: remove keys that are past their time, the earliest first, up to `SWEEP` of them."""
        if now > self.now:
            self.now = now
        for _ in range(SWEEP):
            key = self._timers.due(self.now)
            if key is None:
                break
            self.remove(key)
        if self._garbage:
            del self._garbage[-FREED:]

    @property
    def behind(self) -> bool:
        """Whether there is more to do when the time moves next."""
        return len(self._garbage) > 0 or self._timers.due(self.now) is not None

    # Taking changes back.

    def begin(self) -> None:
        """Remember what is changed from now on, until `keep` or `undo`. The time must not move meanwhile."""
        self._savepoint = _Savepoint(len(self._garbage))

    def keep(self) -> None:
        """The changes since `begin` stand."""
        self._savepoint = None

    def undo(self) -> None:
        """Take back every change of a key since `begin`.

        Their revisions are not given out again, and the removals stay noted: a transaction that watches a key
        that is absent may be aborted without need, and no change is ever missed.
        """
        savepoint = self._savepoint
        assert savepoint is not None, "begin comes first"
        self._savepoint = None
        if savepoint.cleared:
            self._slots = savepoint.slots
            self._captures = savepoint.captures
            self._timers = savepoint.timers
            self.count = savepoint.count
        del self._garbage[savepoint.garbage :]
        for key, record in savepoint.records.items():
            self._put_back(key, record)

    def _put_back(self, key: bytes, record: bytes | None) -> None:
        slot = crc32(key) >> SHIFT
        keys = self._slots[slot]
        now = keys.get(key)
        if self._captures:
            self._leave(slot, key, now)
        if now is not None:
            self.count -= 1
            if records.expires(now):
                self._timers.drop(key)
        if record is None:
            keys.pop(key, None)
            return
        self.load(slot, key, record)

    # Saving and loading.

    def capture(self) -> Capture:
        """All of it as it is now."""
        capture = Capture(self._slots, self.count, self.now, self.revision, self.removals.copy())
        self._captures.append(capture)
        return capture

    def load(self, slot: int, key: bytes, record: bytes) -> None:
        """Put a record of a saved state in, as it is. `slot` is the key's."""
        self._room(slot)[key] = record
        self.count += 1
        if records.expires(record):
            self._timers.set(key, records.when(record))

    def holds(self, slot: int, key: bytes) -> bool:
        """Whether anything is kept of `key`. `slot` is the key's."""
        return key in self._slots[slot]

    def _room(self, slot: int) -> dict[bytes, bytes]:
        """What is kept in `slot`, to put something in."""
        keys = self._slots[slot]
        if keys is _NOTHING:
            keys = self._slots[slot] = {}
        return keys

    def _replacing(self, slot: int, key: bytes, record: bytes | None) -> None:
        """`key`, of which `record` is kept now, is about to change."""
        if self._captures:
            self._leave(slot, key, record)
        savepoint = self._savepoint
        if savepoint is not None and not savepoint.cleared:
            savepoint.records.setdefault(key, record)

    def _leave(self, slot: int, key: bytes, record: bytes | None) -> None:
        finished = False
        for capture in self._captures:
            if capture.done:
                finished = True
            elif slot >= capture.taken:
                capture.leave(slot, key, record)
        if finished:
            self._captures = [capture for capture in self._captures if not capture.done]
