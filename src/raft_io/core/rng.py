"""The random numbers of a node: SplitMix64, so that a seed gives the same run on every platform.

It is not compiled: CPython looks for signals in the middle of long multiplications, and compiled code takes
what their handlers raise there for a lack of memory.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["SplitMix64"]

_MASK: Final = 2**64 - 1


@final
class SplitMix64:
    """Steele, Lea and Flood's SplitMix64 ("Fast splittable pseudorandom number generators", 2014)."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state: int = seed & _MASK

    def next(self) -> int:
        """The next number, in `0 .. 2**64 - 1`."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def between(self, low: int, high: int) -> int:
        """A number in `low .. high`, both included. The spans used here are far too small to show a bias."""
        return low + self.next() % (high - low + 1)
