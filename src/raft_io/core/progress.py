"""One follower as the leader sees it (thesis, section 10.2.1; the states are those of etcd's `tracker`)."""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import i64

__all__ = ["PROBE", "REPLICATE", "Progress"]

PROBE: Final = "probe"
"""It is not known where the follower's log agrees: one `AppendEntries` with entries at a time."""

REPLICATE: Final = "replicate"
"""The follower agrees through `match`: entries are sent without waiting for what was sent before."""


@final
class Progress:
    """Invariants:

    1. `match < next`: what is known to agree is never sent again.
    2. The indexes in `inflight` never decrease; in `REPLICATE` they are above `match` and below `next`.
    3. At most one is in flight in `PROBE`, never more than the configured window in `REPLICATE`.
    """

    __slots__ = ("commit_sent", "id", "inflight", "match", "next", "state")

    def __init__(self, id: i64, next: i64) -> None:  # noqa: A002
        self.id: i64 = id
        self.match: i64 = 0
        self.next: i64 = next
        self.state: str = PROBE
        self.inflight: list[int] = []
        """The last index of every unacknowledged `AppendEntries` that carried entries."""
        self.commit_sent: i64 = 0
        """The commit index that the follower was told last."""

    def can_send(self, window: i64) -> bool:
        """Whether one more `AppendEntries` with entries may be under way."""
        if self.state is PROBE:
            return not self.inflight
        return len(self.inflight) < window

    def sent(self, last: i64) -> None:
        """Entries through `last` are under way."""
        self.inflight.append(last)
        if self.state is REPLICATE:
            self.next = last + 1

    def acknowledged(self, match: i64) -> bool:
        """The follower agrees through `match`. Returns whether that was news."""
        if self.state is PROBE:
            self.state = REPLICATE
            self.inflight.clear()
            self.next = max(self.match, match) + 1
        elif match >= self.next:
            self.next = match + 1
        arrived = 0
        for last in self.inflight:
            if last > match:
                break
            arrived += 1
        if arrived:
            del self.inflight[:arrived]
        if match <= self.match:
            return False
        self.match = match
        return True

    def refused(self, next: i64) -> bool:  # noqa: A002
        """The follower does not agree before `next`. Returns whether that was news: a refusal that asks for
        no less than what is being probed is an old one."""
        if next <= self.match:
            next = self.match + 1  # noqa: A001
        if self.state is PROBE and next >= self.next:
            return False
        self.state = PROBE
        self.inflight.clear()
        self.next = min(next, self.next)
        return True

    def check(self, window: i64, last_index: i64) -> None:
        """Assert the invariants."""
        assert self.match < self.next <= last_index + 1, self
        assert self.inflight == sorted(self.inflight), self
        if self.state is PROBE:
            assert len(self.inflight) <= 1, self
        else:
            assert len(self.inflight) <= window, self
            assert all(self.match < last < self.next for last in self.inflight), self

    def __repr__(self) -> str:
        return (
            f"Progress(id={self.id}, state={self.state!r}, match={self.match}, next={self.next}, "
            f"inflight={self.inflight})"
        )
