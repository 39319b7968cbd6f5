"""Answers as whoever awaits them gets them."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from raft_io.errors import RaftError

__all__ = ["FutureWaiter", "raisable"]


class FutureWaiter:
    """Hands an answer to whoever awaits it."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future

    def succeeded(self, value: Any) -> None:
        """The result."""
        if not self._future.done():
            self._future.set_result(value)

    def failed(self, error: Exception) -> None:
        """The error."""
        if not self._future.done():
            self._future.set_exception(_own(error))


def _own(error: Exception) -> Exception:
    """The error for one caller. A raised exception keeps the frames that it passed through, and this one may
    stay in a session for long, or be told to others as well."""
    if not isinstance(error, RaftError):
        return raisable(error)
    try:
        return copy.copy(error)
    except Exception:  # the application's own, which wants other arguments than it keeps
        return error


def raisable(error: Exception) -> Exception:
    """A future cannot hold a `StopIteration`."""
    if not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("StopIteration was raised")
    wrapped.__cause__ = error
    return wrapped
