"""`raft-io restore`: a new cluster from a backup, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.cli.backups import backup_file, settings

from raft_io import HardState, Membership, SnapshotData, WalLog
from raft_io.cli import restore
from raft_io.cli.main import main
from raft_io.errors import StorageError
from raft_io.server.machine import StateMachine
from raft_io.server.sessions import Sessions
from raft_io.server.snapshots import restore as read_snapshot
from raft_io.storage import OsFileSystem, check_log, identity


class Machine(StateMachine):
    """Keeps what it was restored from."""

    content = b""

    def apply(self, command: bytes) -> bytes:
        return b""

    def capture(self) -> Callable[[BinaryIO], None]:
        raise NotImplementedError

    def restore(self, stream: BinaryIO) -> None:
        self.content = stream.read()


def error(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    """The line of a command that fails."""
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("raft-io: ") and captured.err.count("\n") == 1
    return captured.err.removeprefix("raft-io: ").strip()


def test_each_node_of_the_new_cluster_begins_with_the_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytes(range(256)) * 10_000
    backup = backup_file(tmp_path, content)
    configs = [f"--config={settings(tmp_path, node)}" for node in (1, 2, 3)]
    assert main(["restore", str(backup), *configs]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        f"node {node}: {tmp_path}/node-{node} holds cluster new at index 50" for node in (1, 2, 3)
    ]
    incarnations = set()
    for node in (1, 2, 3):
        folder = tmp_path / f"node-{node}"
        assert sorted(path.name for path in folder.iterdir()) == ["identity.json", "log"]
        found = identity.decode((folder / "identity.json").read_bytes(), "")
        assert (found.cluster_id, found.node_id, found.voters) == ("new", node, (1, 2, 3))
        incarnations.add(found.incarnation)
        check_log(OsFileSystem(), folder)
        with WalLog.open(folder / "log") as log:
            snapshot = log.snapshot()
            assert snapshot is not None
            assert (snapshot.index, snapshot.term, snapshot.membership) == (50, 4, Membership([1, 2, 3]))
            assert (log.last_index(), log.last_term(), log.hard_state()) == (50, 4, HardState(4))
            machine = Machine()
            sessions = Sessions(machine)
            read_snapshot(snapshot.data, sessions, machine)
            assert machine.content == content
            # The old nodes are not looked for, and their incarnations not asked of the new ones.
            assert sessions.members == {}
    assert len(incarnations) == 3


def test_other_voters_than_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = backup_file(tmp_path)
    assert main(["restore", str(backup), "--json", f"--config={settings(tmp_path, 7, nodes=7)}"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"cluster_id": "new", "voters": [1, 2, 3, 4, 5, 6, 7], "made": [7], "index": 50}
    with WalLog.open(tmp_path / "node-7" / "log") as log:
        snapshot = log.snapshot()
        assert snapshot is not None and snapshot.membership == Membership(range(1, 8))
        assert isinstance(snapshot.data, SnapshotData)


def test_what_is_still_to_be_done_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = backup_file(tmp_path)
    assert main(["restore", str(backup), f"--config={settings(tmp_path, 2)}"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "the same file must be restored for 1, 3 as well, before any of them starts"
    ]


def test_the_old_name_is_worth_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = backup_file(tmp_path)
    assert main(["restore", str(backup), f"--config={settings(tmp_path, 1, nodes=1, cluster_id='old')}"]) == 0
    assert capsys.readouterr().err == (
        "raft-io: the cluster_id is the old one, old: the old nodes must never run again\n"
    )


def test_what_goes_with_the_settings_may_be_there(tmp_path: Path) -> None:
    backup = backup_file(tmp_path)
    folder = tmp_path / "node-1"
    folder.mkdir()
    path = settings(folder, 1, nodes=1, more='pid_file = "pid"\n')
    path.write_text(path.read_text().replace('"node-1"', '"."'))
    (folder / "pid").write_text("1\n")
    (folder / "node.log").write_text("")
    assert main(["restore", str(backup), f"--config={path}"]) == 0


@pytest.mark.parametrize("name", ["identity.json", "log", "restoring", "holiday.jpg"])
def test_a_directory_that_is_not_empty_is_left_alone(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = backup_file(tmp_path)
    configs = [f"--config={settings(tmp_path, node)}" for node in (1, 2)]
    (tmp_path / "node-2" / name).mkdir(parents=True)
    text = error(capsys, "restore", str(backup), *configs)
    assert text == f"{tmp_path}/node-2 is not empty ({name}): restore into a new directory"
    assert not (tmp_path / "node-1").exists()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: data[:-1], "should have"),
        (lambda data: data[:-5] + b"x" + data[-4:], "do not match their checksum"),
        (lambda data: b"", "it is no backup"),
        (lambda data: b"something else" * 10, "it is no backup"),
    ],
)
def test_a_damaged_backup_makes_nothing(
    damage: object, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = backup_file(tmp_path)
    assert callable(damage)
    backup.write_bytes(damage(backup.read_bytes()))
    text = error(capsys, "restore", str(backup), f"--config={settings(tmp_path, 1)}")
    assert expected in text and str(backup) in text
    assert not (tmp_path / "node-1").exists()


def test_a_backup_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = error(capsys, "restore", str(tmp_path / "none"), f"--config={settings(tmp_path, 1)}")
    assert text == f"{tmp_path}/none: No such file or directory"


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = backup_file(tmp_path)
    (tmp_path / "node-1").write_text("a file")
    text = error(capsys, "restore", str(backup), f"--config={settings(tmp_path, 1)}")
    assert text == f"{tmp_path}/node-1: Not a directory"


@pytest.mark.parametrize(
    ("cluster_id", "nodes", "expected"),
    [("third", 3, "cluster_id differs from that in"), ("new", 2, "peers differs from that in")],
)
def test_settings_that_do_not_belong_together(
    cluster_id: str, nodes: int, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = backup_file(tmp_path)
    one = settings(tmp_path, 1)
    two = settings(tmp_path, 2, nodes=nodes, cluster_id=cluster_id)
    text = error(capsys, "restore", str(backup), f"--config={one}", f"--config={two}", status=2)
    assert text.startswith(f"{two}: {expected} {one}")
    assert not (tmp_path / "node-1").exists()


def test_a_node_that_is_named_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = backup_file(tmp_path)
    path = settings(tmp_path, 1)
    text = error(capsys, "restore", str(backup), f"--config={path}", f"--config={path}", status=2)
    assert text == f"{path}: node 1 was named before"


def test_a_node_that_joins_begins_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = backup_file(tmp_path)
    path = settings(tmp_path, 1)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("peers")]
    path.write_text("\n".join([*lines, 'listen = "7101"', 'join = "127.0.0.1:7102"']))
    text = error(capsys, "restore", str(backup), f"--config={path}", status=2)
    assert text == f"{path}: join makes no sense here: the node is one of those that begin"


def test_a_restore_that_was_cut_short_does_not_start_as_an_empty_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: object, sink: object) -> None:
        raise StorageError("write", "the disk is full")

    monkeypatch.setattr(restore, "without_members", fail)
    backup = backup_file(tmp_path)
    path = settings(tmp_path, 1)
    assert "the disk is full" in error(capsys, "restore", str(backup), f"--config={path}")
    monkeypatch.undo()
    folder = tmp_path / "node-1"
    assert sorted(each.name for each in folder.iterdir()) == ["identity.json", "restoring"]
    cut_short = f"node 1: a restore into {folder} was cut short; empty the directory and restore again"
    assert error(capsys, "serve", f"--config={path}") == cut_short
    (folder / "identity.json").unlink()
    assert error(capsys, "serve", f"--config={path}") == cut_short
    assert [each.name for each in folder.iterdir()] == ["restoring"]
    assert "is not empty" in error(capsys, "restore", str(backup), f"--config={path}")


def test_the_backup_is_looked_at_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = error(capsys, "restore", str(tmp_path / "none"), f"--config={tmp_path / 'no.toml'}")
    assert text.endswith("none: No such file or directory")
