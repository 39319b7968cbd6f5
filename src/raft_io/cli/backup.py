"""Write a backup of a cluster to a file.

The node that is asked takes a fresh snapshot: every write is in it that was acknowledged before. The file
appears once it is complete and checked. See raft-io restore.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO, Final

from raft_io.cli.client import NodeRefusedError, download
from raft_io.cli.errors import CommandFailedError
from raft_io.cli.operate import MARGIN, Operator, add_node_options, print_json
from raft_io.cli.show import in_bytes
from raft_io.errors import StorageError
from raft_io.server.address import Address
from raft_io.server.backup import Backup, BackupFile

__all__ = ["add_arguments", "run"]

TIMEOUT: Final = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io backup`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write it; must not be there yet")
    parser.add_argument(
        "--local",
        action="store_true",
        help="what the node has, for when there is no leader: the last writes may be missing",
    )
    add_node_options(parser, timeout=TIMEOUT)


def run(options: argparse.Namespace) -> int:
    """Fetch it, check it, and give it its name."""
    path: Path = options.file
    if path.exists():
        raise CommandFailedError(f"{path} is there already")
    operator = Operator(options)
    target = f"/backup?timeout={operator.timeout:g}" + ("&local=true" if options.local else "")
    # Of this process alone: another backup may be on its way to the same name.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("x+b") as file:
                asyncio.run(_fetch_first(operator, target, file, options.local))
                file.flush()
                os.fsync(file.fileno())
                backup = _check(file, path)
            _name(temporary, path)
        except OSError as error:
            raise CommandFailedError(f"{path}: {error.strerror}") from error
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _tell(path, backup, as_json=options.json)
    return 0


async def _fetch(node: Address, target: str, file: BinaryIO, timeout: float) -> None:
    def take(block: bytes) -> None:
        try:
            file.write(block)
        except OSError as error:
            raise CommandFailedError(f"{file.name}: {error.strerror}") from error

    file.seek(0)
    file.truncate()
    await download(node, target, take, timeout=timeout, margin=MARGIN)


async def _fetch_first(operator: Operator, target: str, file: BinaryIO, local: bool) -> None:
    """From the first node that has an answer. A node that has none for want of a leader says so; what to do
    then is said here."""
    try:
        await operator.first(lambda node: _fetch(node, target, file, operator.timeout))
    except NodeRefusedError as error:
        if local or error.kind != "NotLeader":
            raise
        raise CommandFailedError(
            f"{error}; --local takes what the node has, without the last writes perhaps"
        ) from error


def _check(file: BinaryIO, path: Path) -> Backup:
    file.seek(0)
    try:
        found = BackupFile(file, str(path))
        found.verify()
    except StorageError as error:
        raise CommandFailedError(f"what the node sent is no backup: {error}") from error
    return found.backup


def _name(temporary: Path, path: Path) -> None:
    """Give the file its name. Raises `CommandFailedError` if another one has got it meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise CommandFailedError(f"{path} is there already") from None
    except OSError:  # a file system without links
        os.rename(temporary, path)
    else:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _tell(path: Path, backup: Backup, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "file": str(path),
                "cluster_id": backup.cluster_id,
                "node": backup.node,
                "index": backup.index,
                "term": backup.term,
                "bytes": backup.total,
            }
        )
    else:
        of = f"cluster {backup.cluster_id} at index {backup.index}, from node {backup.node}"
        print(f"{path}: {in_bytes(backup.total)}, {of}")
