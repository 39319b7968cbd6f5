"""Simulated time, and random numbers that belong to a purpose."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

__all__ = ["Timeline", "stream"]


def stream(seed: int, *names: object) -> random.Random:
    """Random numbers of their own for a purpose: what one purpose draws does not change what another gets, so
    that a schedule with one fault less still resembles the one with it."""
    return random.Random("/".join([str(seed), *map(str, names)]))


MOST: Final = 100_000
"""Things that may happen at one moment."""


@final
class Timeline:
    """What is to happen, in the order of its time; what is due at the same time, in the order it was asked
    for.

    Times are in simulated seconds from 0 on.

    >>> timeline = Timeline()
    >>> timeline.after(0.5, print, "later")
    >>> timeline.after(0.1, print, "soon")
    >>> timeline.run_until(1.0)
    soon
    later
    >>> timeline.now
    1.0

    """

    __slots__ = ("_count", "_heap", "_soon", "now", "steps")

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        """How many things have happened at this moment."""
        self._count = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        """What is due later, when it was asked for."""
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        """What is due now and was asked for now: it comes after all in `_heap` that is due now. That is half
        of everything, and it need not be sorted."""

    def at(self, when: float, action: Callable[..., object], *arguments: Any) -> None:
        """Call `action(*arguments)` at `when`, or at once if that has passed."""
        self._put(when, action, arguments)

    def after(self, delay: float, action: Callable[..., object], *arguments: Any) -> None:
        """Call `action(*arguments)` in `delay` seconds."""
        self._put(self.now + delay, action, arguments)

    def _put(self, when: float, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if when <= self.now:
            self._soon.append((action, arguments))
        else:
            self._count += 1
            heapq.heappush(self._heap, (when, self._count, action, arguments))

    def run_until(self, end: float) -> None:
        """Let time pass. What raises ends it at that time."""
        heap, soon = self._heap, self._soon
        pop = heapq.heappop
        while soon or (heap and heap[0][0] <= end):
            if soon and not (heap and heap[0][0] <= self.now):
                action, arguments = soon.popleft()
            else:
                when, _, action, arguments = pop(heap)
                if when > self.now:
                    self.now = when
                    self.steps = 0
            self.steps += 1
            if self.steps > MOST:
                raise RuntimeError(f"more than {MOST} things happen at one moment, and it never ends")
            action(*arguments)
        self.now = end
