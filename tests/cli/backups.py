"""Backups made without a cluster, and the settings of nodes that are made from them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from raft_io import Membership, Snapshot
from raft_io.server.backup import Backup, blocks
from raft_io.server.envelope import Member
from raft_io.server.sessions import State
from raft_io.server.snapshots import Capture

__all__ = ["backup_file", "settings", "snapshot_of"]

MEMBERS: Mapping[int, Member] = {node: Member(f"10.9.9.{node}:7101", 1000 + node) for node in (1, 2, 3)}


def snapshot_of(content: bytes, index: int = 50) -> Snapshot:
    """A snapshot of a server whose state machine writes `content`."""

    def write(stream: BinaryIO) -> None:
        stream.write(content)

    sink = io.BytesIO()
    machine: Callable[[BinaryIO], None] = write
    Capture(index, State([], [], [], 0, 0, dict(MEMBERS)), machine).write(sink)
    return Snapshot(index, 4, Membership([1, 2, 3]), sink.getvalue())


def backup_file(folder: Path, content: bytes = b"state", *, cluster_id: str = "old") -> Path:
    """A backup in a file."""

    async def whole() -> bytes:
        snapshot = snapshot_of(content)
        return b"".join([block async for block in blocks(Backup.of(snapshot, cluster_id, 1, 0.0), snapshot)])

    path = folder / "old.backup"
    path.write_bytes(asyncio.run(whole()))
    return path


def settings(folder: Path, node: int, *, nodes: int = 3, cluster_id: str = "new", more: str = "") -> Path:
    """The settings of a node, beside its data directory."""
    path = folder / f"node-{node}.toml"
    peers = ", ".join([f'{peer} = "127.0.0.1:710{peer}"' for peer in range(1, nodes + 1)])
    path.write_text(
        f'id = {node}\ncluster_id = "{cluster_id}"\ndata_dir = "node-{node}"\n'
        f'resp = "127.0.0.1:700{node}"\nhttp = "127.0.0.1:720{node}"\npeers = {{ {peers} }}\n{more}'
    )
    return path
