"""Memberships as bytes: what a `MEMBERSHIP` entry holds, and part of an `InstallSnapshot`.

    version (1 byte, 1), then for voters, learners and outgoing each: count (4 bytes), the ids (8 bytes each,
    ascending)

Little-endian. Canonical: what decodes re-encodes to the same bytes.
"""

from __future__ import annotations

from typing import Final

from raft_io.core.types import MAX, Membership

__all__ = ["decode_membership", "encode_membership"]

VERSION: Final = 1


def encode_membership(membership: Membership) -> bytes:
    """The bytes of `membership`."""
    parts: list[bytes] = [bytes((VERSION,))]
    for ids in (membership.voters, membership.learners, membership.outgoing):
        parts.append(len(ids).to_bytes(4, "little"))
        for node in sorted(ids):
            parts.append(node.to_bytes(8, "little"))
    return b"".join(parts)


def decode_membership(data: bytes) -> Membership:
    """The membership in `data`. Raises `ValueError` for anything that `encode_membership` does not make."""
    if not data or data[0] != VERSION:
        raise ValueError("a membership of an unknown version")
    groups: list[list[int]] = []
    pos = 1
    for _ in range(3):
        if pos + 4 > len(data):
            raise ValueError("a membership that ends early")
        count = int.from_bytes(data[pos : pos + 4], "little")
        pos += 4
        if count > (len(data) - pos) // 8:
            raise ValueError("a membership that ends early")
        ids: list[int] = []
        for _ in range(count):
            node = int.from_bytes(data[pos : pos + 8], "little")
            if node > MAX or (ids and node <= ids[-1]):
                raise ValueError("a membership whose ids do not ascend")
            ids.append(node)
            pos += 8
        groups.append(ids)
    if pos != len(data):
        raise ValueError("a membership with bytes behind its end")
    return Membership(groups[0], groups[1], groups[2])
