"""One follower as the leader sees it (thesis, section 10.2.1; the states are those of etcd's `tracker`)."""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import i64

from raft_io.core.types import Snapshot, data_checksum, data_size

__all__ = ["PROBE", "REPLICATE", "SNAPSHOT", "Progress"]

PROBE: Final = "probe"
"""It is not known where the follower's log agrees: one `AppendEntries` with entries at a time."""

REPLICATE: Final = "replicate"
"""The follower agrees through `match`: entries are sent without waiting for what was sent before."""

SNAPSHOT: Final = "snapshot"
"""The entries that the follower lacks are compacted away: it is sent a snapshot, one piece at a time, and no
entries until it has all of it."""

WIDE: Final = 1 << 20
"""A window beyond any limit."""

CALM: Final = 256
"""So many messages have to arrive between two refusals that do not narrow the window."""


@final
class Progress:
    """Invariants:

    1. `match < next`: what is known to agree is never sent again.
    2. The indexes in `inflight` never decrease; in `REPLICATE` they are above `match` and below `next`.
    3. At most one is in flight in `PROBE`, never more than the configured window in `REPLICATE`, none in
       `SNAPSHOT`.
    4. `inflight_bytes` is the sum of `sizes`, one for each of `inflight`.
    5. There is a `snapshot` if and only if the state is `SNAPSHOT`, and `offset` lies within it.
    """

    __slots__ = (
        "calm",
        "checksum",
        "commit_sent",
        "heard",
        "id",
        "inflight",
        "inflight_bytes",
        "leased",
        "match",
        "next",
        "offset",
        "piece_sent",
        "round",
        "sizes",
        "snapshot",
        "state",
        "window",
    )

    def __init__(self, id: i64, next: i64, now: i64) -> None:  # noqa: A002
        self.id: i64 = id
        self.match: i64 = 0
        self.next: i64 = next
        self.state: str = PROBE
        self.inflight: list[int] = []
        """The last index of every unacknowledged `AppendEntries` that carried entries."""
        self.sizes: list[int] = []
        """Bytes of commands in each of them."""
        self.inflight_bytes: i64 = 0
        self.window: i64 = WIDE
        """How many of them there may be, within the limit: one where they are refused again and again, and
        twice as many with each that arrives. Where messages overtake each other every window has some that
        are refused; to send a whole one again for each would feed on itself."""
        self.calm: i64 = CALM
        """How many have arrived since one was refused."""
        self.commit_sent: i64 = 0
        """The commit index that the follower was told last."""
        self.heard: i64 = now
        """The tick at which the leader last heard from it, or began to wait for it."""
        self.round: i64 = 0
        """The last round that it has answered."""
        self.leased: i64 = 0
        """One more than the tick at which that round began, if leases are on; `0`: none."""
        self.snapshot: Snapshot | None = None
        self.checksum: i64 = 0
        """That of the snapshot."""
        self.offset: i64 = 0
        """The next byte of the snapshot to send; while a piece is in flight, where that begins."""
        self.piece_sent: i64 = -1
        """The tick at which the piece in flight was sent, `-1` if there is none."""

    def can_send(self, window: i64, window_bytes: i64) -> bool:
        """Whether one more `AppendEntries` with entries may be under way."""
        if self.state is REPLICATE:
            return len(self.inflight) < min(window, self.window) and (
                window_bytes == 0 or self.inflight_bytes < window_bytes or not self.inflight
            )
        return self.state is PROBE and not self.inflight

    def sent(self, last: i64, size: i64) -> None:
        """Entries through `last`, of `size` bytes, are under way."""
        self.inflight.append(last)
        self.sizes.append(size)
        self.inflight_bytes += size
        if self.state is REPLICATE:
            self.next = last + 1

    def _forget_inflight(self) -> None:
        self.inflight.clear()
        self.sizes.clear()
        self.inflight_bytes = 0

    def acknowledged(self, match: i64) -> bool:
        """The follower agrees through `match`. Returns whether that was news."""
        if self.state is REPLICATE:
            if match >= self.next:
                self.next = match + 1
            arrived: i64 = 0
            for last in self.inflight:
                if last > match:
                    break
                self.inflight_bytes -= self.sizes[arrived]
                arrived += 1
            if arrived:
                del self.inflight[:arrived]
                del self.sizes[:arrived]
        elif self.snapshot is None or match >= self.snapshot.index:
            self.state = REPLICATE
            self.snapshot = None
            self._forget_inflight()
            self.next = max(self.match, match) + 1
        if match <= self.match:
            return False
        self.match = match
        self.window = min(2 * self.window, WIDE)
        self.calm += 1
        return True

    def refused(self, next: i64) -> bool:  # noqa: A002
        """The follower does not agree before `next`. Returns whether that was news: a refusal that asks for
        no less than what is being probed is an old one, and one that is sent a snapshot is known to lag."""
        if self.state is SNAPSHOT:
            return False
        if next <= self.match:
            next = self.match + 1  # noqa: A001
        if self.state is PROBE and next >= self.next:
            return False
        if self.state is REPLICATE:
            if self.calm < CALM:
                self.window = 1
            self.calm = 0
        self.state = PROBE
        self._forget_inflight()
        self.next = min(next, self.next)
        return True

    def begin_snapshot(self, snapshot: Snapshot) -> None:
        """The follower is to get `snapshot` from its first byte on."""
        self.state = SNAPSHOT
        self._forget_inflight()
        self.snapshot = snapshot
        self.checksum = data_checksum(snapshot.data)
        self.offset = 0
        self.piece_sent = -1
        self.next = max(self.match, snapshot.index) + 1

    def wants(self, index: i64, offset: i64) -> bool:
        """The follower asks for the byte at `offset` of the snapshot at `index`. Returns whether that is
        news: one that asks for the piece in flight will get it."""
        snapshot = self.snapshot
        if snapshot is None or snapshot.index != index or offset > data_size(snapshot.data):
            return False
        if self.piece_sent >= 0 and offset == self.offset:
            return False
        self.offset = offset
        self.piece_sent = -1
        return True

    def check(self, window: i64, last_index: i64) -> None:
        """Assert the invariants."""
        assert self.match < self.next <= last_index + 1, self
        assert self.inflight == sorted(self.inflight), self
        assert len(self.sizes) == len(self.inflight) and self.inflight_bytes == sum(self.sizes), self
        assert (self.state is SNAPSHOT) == (self.snapshot is not None), self
        if self.snapshot is not None:
            assert self.offset <= data_size(self.snapshot.data) and not self.inflight, self
        elif self.state is PROBE:
            assert len(self.inflight) <= 1, self
        else:
            assert len(self.inflight) <= window, self
            assert all(self.match < last < self.next for last in self.inflight), self

    def __repr__(self) -> str:
        return (
            f"Progress(id={self.id}, state={self.state!r}, match={self.match}, next={self.next}, "
            f"inflight={self.inflight})"
        )
