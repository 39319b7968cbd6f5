"""Begin a new cluster with what is in a backup.

Makes the data directory of each node whose settings are given. All nodes of the new cluster must be made from
the same file, here or each on its own machine, before the first of them is started. The nodes of the old
cluster must never run again under the same cluster_id: give the new cluster another one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from raft_io.cli import config
from raft_io.cli.errors import CommandFailedError, UsageError
from raft_io.cli.operate import print_json
from raft_io.cli.show import listed
from raft_io.core.types import HardState, Membership, Snapshot
from raft_io.errors import RaftError
from raft_io.server.backup import BackupFile
from raft_io.server.snapshots import without_members
from raft_io.storage import OsFileSystem, WalLog, open_identity
from raft_io.storage.identity import RESTORING

__all__ = ["add_arguments", "run"]

HARMLESS: Final = ("node.log",)
"""What `raft-io dev` writes beside the settings."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io restore`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the backup")
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="the settings of a node of the new cluster; may be given for several",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Check everything, then make the directories."""
    try:
        with options.file.open("rb") as file:
            source = BackupFile(file, str(options.file))
            nodes = [config.complete(config.read_file(path), str(path)) for path in options.config]
            _check_one_cluster(nodes, options.config)
            for path, values in zip(options.config, nodes, strict=True):
                _check_empty(path, values)
            source.verify()
            for values in nodes:
                _make(values, source)
    except OSError as error:
        raise CommandFailedError(f"{error.filename or options.file}: {error.strerror}") from error
    except RaftError as error:
        raise CommandFailedError(str(error)) from error
    _tell(nodes, source, as_json=options.json)
    return 0


def _check_one_cluster(nodes: Sequence[config.Values], paths: Sequence[Path]) -> None:
    first = nodes[0]
    for values, path in zip(nodes, paths, strict=True):
        if "join" in values:
            raise UsageError(f"{path}: join makes no sense here: the node is one of those that begin")
        for name in ("cluster_id", "peers"):
            if values.get(name) != first.get(name):
                raise UsageError(f"{path}: {name} differs from that in {paths[0]}")
    ids = [values["id"] for values in nodes]
    for place, node in enumerate(ids):
        if node in ids[:place]:
            raise UsageError(f"{paths[place]}: node {node} was named before")


def _check_empty(path: Path, values: config.Values) -> None:
    """Raise `CommandFailedError` if the data directory holds more than what goes with the settings."""
    folder = Path(values["data_dir"])
    allowed = {path.resolve(), *[(folder / name).resolve() for name in HARMLESS]}
    if "pid_file" in values:
        allowed.add(Path(values["pid_file"]).resolve())
    with contextlib.suppress(FileNotFoundError):
        try:
            for found in sorted(folder.iterdir()):
                if found.resolve() not in allowed:
                    raise CommandFailedError(
                        f"{folder} is not empty ({found.name}): restore into a new directory"
                    )
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise CommandFailedError(f"{folder}: {error.strerror}") from error


def _make(values: config.Values, source: BackupFile) -> None:
    """Make a node's data directory."""
    disk = OsFileSystem()
    folder = Path(values["data_dir"])
    voters = sorted({values["id"], *values.get("peers", {})})
    cluster_id = values.get("cluster_id", config.CLUSTER_ID)
    open_identity(disk, folder, cluster_id, values["id"], voters, lambda: 1 + secrets.randbelow(2**63 - 1))
    backup = source.backup
    with WalLog.open(folder / RESTORING / "log", fs=disk) as log:
        sink = log.snapshot_writer()
        try:
            without_members(source, sink)
        except BaseException:
            sink.abort()
            raise
        log.set_hard_state(HardState(backup.term))
        log.save_snapshot(Snapshot(backup.index, backup.term, Membership(voters), sink.finish()))
        log.sync()
    os.rename(folder / RESTORING / "log", folder / "log")
    (folder / RESTORING).rmdir()
    disk.sync_dir(str(folder))


def _tell(nodes: Sequence[config.Values], source: BackupFile, *, as_json: bool) -> None:
    backup = source.backup
    voters = sorted({nodes[0]["id"], *nodes[0].get("peers", {})})
    cluster_id = nodes[0].get("cluster_id", config.CLUSTER_ID)
    made = [values["id"] for values in nodes]
    if as_json:
        print_json({"cluster_id": cluster_id, "voters": voters, "made": made, "index": backup.index})
    else:
        for values in nodes:
            state = f"cluster {cluster_id} at index {backup.index}"
            print(f"node {values['id']}: {values['data_dir']} holds {state}")
        missing = [node for node in voters if node not in made]
        if missing:
            names = listed(missing)
            print(f"the same file must be restored for {names} as well, before any of them starts")
    if cluster_id == backup.cluster_id:
        print(
            f"raft-io: the cluster_id is the old one, {cluster_id}: the old nodes must never run again",
            file=sys.stderr,
        )
