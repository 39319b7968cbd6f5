"""What ends a command: one line for the person at the terminal, and an exit status."""

from __future__ import annotations

from typing import Final

__all__ = ["FAILED", "INTERRUPTED", "MISUSED", "CommandFailedError", "UsageError", "removal"]

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130
"""What shells have for a program that SIGINT ended."""


class CommandFailedError(Exception):
    """The command could not do what was asked. Its text is the line that is shown."""

    status = FAILED


class UsageError(CommandFailedError):
    """What was asked makes no sense: an option, or a setting in a file."""

    status = MISUSED


def removal(node: int) -> str:
    """What `raft-io serve` ends with once its node is no member any more."""
    return f"node {node} was removed from the cluster"
