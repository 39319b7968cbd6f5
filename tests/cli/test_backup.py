"""`raft-io backup`: a file that is whole, or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.nodes import error, listening, ready, response, running, said

from raft_io import Membership, Snapshot
from raft_io.cli.main import main
from raft_io.errors import RaftError
from raft_io.server.backup import BackupFile


def test_a_backup_appears_when_it_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = ready()
    path = tmp_path / "shop.backup"
    with running(server) as node:
        (line,) = said(capsys, "backup", str(path), "--node", node)
        assert line.startswith(f"{path}: ")
        assert line.endswith(" bytes, cluster shop at index 50, from node 1")
        with path.open("rb") as file:
            BackupFile(file, "").verify()
        before = path.read_bytes()
        assert error(capsys, "backup", str(path), "--node", node) == f"{path} is there already"
        assert path.read_bytes() == before
        assert main(["backup", str(tmp_path / "two"), "--json", "--local", "--node", node]) == 0
        assert json.loads(capsys.readouterr().out)["index"] == 50
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shop.backup", "two"]
    assert [each[0] for each in server.asked] == ["read", "snapshot", "snapshot"]


class Damaged:
    """Contents that do not match their checksum."""

    size = 5
    checksum = 1 << 40 | 1

    def read(self, offset: int, size: int, /) -> bytes:
        return b"state"[offset : offset + size]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (None, "the answer was cut short"),
        (RaftError("the server stops"), "the server stops"),
    ],
)
def test_a_backup_that_fails_leaves_nothing(
    failure: Exception | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ready()
    server.snapshot = Snapshot(50, 4, Membership([1]), Damaged())
    server.failure = failure
    with running(server) as node:
        assert expected in error(capsys, "backup", str(tmp_path / "file"), "--node", node)
    assert not list(tmp_path.iterdir())


def test_a_backup_to_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none" / "file"
    with running(ready()) as node:
        assert error(capsys, "backup", str(path), "--node", node) == f"{path}: No such file or directory"


def test_what_is_no_backup_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(response(200, b"x" * 1000)) as address:
        text = error(capsys, "backup", str(tmp_path / "file"), "--node", address)
    assert text.startswith("what the node sent is no backup: ")
    assert not list(tmp_path.iterdir())
