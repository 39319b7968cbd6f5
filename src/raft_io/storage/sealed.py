"""Small files beside the log: one checksummed line of JSON each, replaced as a whole and durably."""

from __future__ import annotations

import json
from typing import Any, Final

from google_crc32c import value

from raft_io.errors import CorruptLogError, StorageError
from raft_io.storage.disk import read_up_to
from raft_io.storage.fs import FileSystem

__all__ = ["read_sealed", "seal", "unseal"]

MAX_SIZE: Final = 1 << 20


def seal(fields: dict[str, Any]) -> bytes:
    """The contents of a file: JSON, and the CRC32C of everything before it as the last member."""
    text = json.dumps(fields).encode()[:-1]
    return text + b', "crc32c": "%08x"}\n' % value(text)


def unseal(data: bytes, what: str, path: str, version: int) -> dict[str, Any]:
    """The fields in `data`. `what` is read, from `path`. Raises `CorruptLogError` naming the path, and
    `StorageError` for a newer version."""
    text, mark, tail = data.rpartition(b', "crc32c": "')
    if not mark or tail != b'%08x"}\n' % value(text):
        raise CorruptLogError(f"reading {what}", "it is damaged", path, 0)
    try:
        fields: dict[str, Any] = json.loads(data)
        found = fields["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLogError(f"reading {what}", f"it makes no sense: {error!r}", path, 0) from error
    if found != version:
        raise StorageError(
            f"reading {path}", f"it has version {found}; this version of raft-io knows {version}"
        )
    return fields


def read_sealed(fs: FileSystem, path: str, what: str) -> bytes:
    """The contents of the file, which is no larger than such a file can be. Raises `OSError`."""
    file = fs.open(path)
    try:
        size = file.size()
        if size > MAX_SIZE:
            raise CorruptLogError(f"reading {what}", "it is far too large", path, 0)
        return read_up_to(file, size, 0)
    finally:
        file.close()
