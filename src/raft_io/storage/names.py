"""The names of the files in a log's directory."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LOCK_NAME", "NAME", "SNAPSHOT_NAME", "SNAPSHOT_SUFFIX", "SUFFIX", "segment_name", "snapshot_name"]

LOCK_NAME: Final = "LOCK"
SUFFIX: Final = ".wal"
SNAPSHOT_SUFFIX: Final = ".snap"
NAME: Final = re.compile(r"(\d{16})\.wal", re.ASCII)
SNAPSHOT_NAME: Final = re.compile(r"(\d{19})\.snap", re.ASCII)


def segment_name(number: int) -> str:
    """The file name of segment `number`."""
    return f"{number:016d}{SUFFIX}"


def snapshot_name(index: int) -> str:
    """The file name of the snapshot at `index`."""
    return f"{index:019d}{SNAPSHOT_SUFFIX}"
