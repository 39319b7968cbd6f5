"""The operating system's limits on a process."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

__all__ = ["raise_open_files"]

OPEN_FILES: Final = 65_536


def raise_open_files() -> None:
    """Let the process have as many connections as it may: the usual limit of 1024 files is meant for programs
    that use `select`, and a thousand clients reach it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # there may be a lower limit that nobody tells of
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
