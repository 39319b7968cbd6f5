"""What a large snapshot holds. Not compiled, as its name sees to: a compiled class that is not native
does not take interpreted children for its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["SnapshotData"]


class SnapshotData(ABC):
    """The contents of a snapshot that need not be in memory: `size` in bytes, a `checksum` of all of it, and
    `read`. Two with the same size and checksum hold the same bytes.

    Anything with these three is taken for one; deriving from this class is not needed.
    """

    size: int
    checksum: int

    @abstractmethod
    def read(self, offset: int, size: int, /) -> bytes:
        """The `size` bytes from `offset` on; fewer only at the end. Raises `StorageError`."""
