"""What clients asked of an object, and were answered."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, final

__all__ = ["Operation"]


@final
@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client on one key.

    `called` and `returned` are in seconds, of one clock for all clients; `returned` is `math.inf` if the
    answer never came: whether and when it took effect is unknown, and `result` is ignored. `arguments` are
    hashable.

    Raises `ValueError` for an operation that returned before it was called, or times that are not numbers.
    """

    client: int
    key: bytes
    name: str
    arguments: tuple[Any, ...]
    result: Any
    called: float
    returned: float

    def __post_init__(self) -> None:
        if not self.called <= self.returned or math.isinf(self.called):
            raise ValueError(
                f"{self.name} of client {self.client}: called {self.called}, returned {self.returned}"
            )

    @property
    def is_open(self) -> bool:
        """Whether the outcome is unknown."""
        return self.returned == math.inf

    def opened(self) -> Operation:
        """The same operation, as it is before its answer comes."""
        return replace(self, result=None, returned=math.inf)
