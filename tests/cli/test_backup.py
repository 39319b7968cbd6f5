"""`raft-io backup`: a file that is whole, or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.nodes import error, listening, ready, response, running, said

from raft_io import Membership, Snapshot
from raft_io.cli import backup
from raft_io.cli.client import download
from raft_io.cli.main import main
from raft_io.errors import NotLeaderError, RaftError
from raft_io.server.address import Address
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


def test_of_two_backups_to_one_name_the_first_that_is_complete_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shop.backup"
    made: list[bytes] = []

    async def overtaken(node: Address, target: str, take: Callable[[bytes], object], **times: float) -> None:
        """While the first one has a part of it, another one is made from beginning to end."""

        def take_one(block: bytes) -> None:
            take(block[:100])
            if not made:
                made.append(b"")
                assert main(["backup", str(path), "--local", "--node", str(node)]) == 0
                made[0] = path.read_bytes()
            take(block[100:])

        await download(node, target, take_one, **times)

    monkeypatch.setattr(backup, "download", overtaken)
    with running(ready()) as node:
        assert main(["backup", str(path), "--local", "--node", node]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"raft-io: {path} is there already\n"
    assert captured.out.count("\n") == 1
    assert path.read_bytes() == made[0]
    assert [each.name for each in tmp_path.iterdir()] == ["shop.backup"]


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
        (NotLeaderError(), "no leader: a majority of the voters must run; see raft-io status; --local takes"),
        (TimeoutError(), "not done in time; it may still come to pass"),
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
