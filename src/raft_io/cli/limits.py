"""The operating system's limits on a process."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from raft_io.server.http import MAX_CONNECTIONS
from raft_io.server.transport import BACKLOG, MAX_STRANGERS

__all__ = ["max_clients", "raise_open_files"]

OPEN_FILES: Final = 65_536

RESERVE: Final = MAX_CONNECTIONS + MAX_STRANGERS + BACKLOG + 64
"""Open files that clients must leave: for status over HTTP, for connections to the port of the peers that are
none of peers, for the log and the peers themselves."""


def raise_open_files() -> None:
    """Let the process have as many connections as it may: the usual limit of 1024 files is meant for programs
    that use `select`, and a thousand clients reach it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # there may be a lower limit that nobody tells of
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_clients(most: int) -> int:
    """`most`, or fewer where the process may not open as many files: a log that cannot be opened stops the
    node."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return most
    return max(1, min(most, soft - min(RESERVE, soft * 3 // 4)))
