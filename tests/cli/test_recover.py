"""`raft-io recover`: loud, explicit, and only what was asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.logs import data_dir, entries, flip, membership

from raft_io import (
    EntryKind,
    HardState,
    LogEntry,
    Membership,
    WalLog,
    decode_membership,
    encode_membership,
)
from raft_io.cli.main import main

FLAG = "--yes-i-lost-a-majority"
SEGMENT = "0000000000000001.wal"


@pytest.fixture(autouse=True)
def no_leap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random part of a forced term is none here."""
    monkeypatch.setattr("secrets.randbelow", lambda bound: 0)


def everything(folder: Path) -> dict[Path, bytes]:
    """The contents of all files."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(folder: Path, *more: LogEntry) -> Path:
    """The directory of node 1 of three."""
    return data_dir(folder, batches=[entries(1, 9), more], state=HardState(1, 2))


def recover(where: Path, *arguments: str, node: int = 1) -> int:
    """The command's exit status."""
    return main(["recover", f"--data-dir={where}", f"--id={node}", *arguments])


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """The line of a command that has failed."""
    text = capsys.readouterr().err
    assert text.startswith("raft-io: ") and text.count("\n") == 1
    return text.removeprefix("raft-io: ").strip()


def test_without_the_flag_it_only_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = made(tmp_path)
    before = everything(where)
    assert recover(where, "--voters=1") == 1
    assert before == everything(where)
    captured = capsys.readouterr()
    assert captured.err == f"raft-io: nothing was changed; to go on, give {FLAG}\n"
    assert captured.out.splitlines()[:5] == [
        "node 1: the log ends with entry 9 of term 1",
        "members now:  voters 1, 2, 3",
        "members then: voter 1",
        "",
        "THIS GIVES UP NODES 2, 3 FOR GOOD.",
    ]


def test_the_members_are_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = made(tmp_path)
    assert recover(where, "--voters=1", FLAG) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "THIS GIVES UP NODES 2, 3 FOR GOOD." in captured.out
    assert captured.out.splitlines()[-2:] == [
        "DONE: by entry 10 of term 2 the voters are 1.",
        "Start node 1 as before.",
    ]
    with WalLog.open(where / "log") as log:
        # What it did is in the log.
        entry = log.entry(10)
        assert entry is not None and entry.kind is EntryKind.MEMBERSHIP
        assert decode_membership(entry.command) == Membership([1])
        assert log.hard_state() == HardState(2, 1)
        assert log.entries(1, 9) == entries(1, 9)
    record = json.loads((where / "recovery.json").read_text())
    assert (record["index"], record["membership"]["voters"]) == (10, [1])
    assert record["time"].startswith("20")


def test_the_members_that_the_log_ends_with_are_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = made(tmp_path, membership(10, 1, [1, 4, 5], [6]))
    assert recover(where, "--voters=1, 4") == 1
    out = capsys.readouterr().out
    assert "members now:  voters 1, 4, 5; learner 6" in out
    assert "THIS GIVES UP NODE 5 FOR GOOD." in out
    assert "- Learners 6 are no members then" in out
    assert "- Node 4 must be there too" in out


def test_a_log_that_begins_with_a_snapshot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = data_dir(tmp_path, voters=[1, 2], batches=[entries(1, 9)], snapshot=9)
    assert recover(where, "--voters=1", FLAG) == 0
    assert "members now:  voters 1, 2" in capsys.readouterr().out
    with WalLog.open(where / "log") as log:
        assert log.last_index() == 10


def test_a_change_under_way_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joint = LogEntry(1, 10, encode_membership(Membership([1, 4], [], [1, 2, 3])), EntryKind.MEMBERSHIP)
    assert recover(made(tmp_path, joint), "--voters=1") == 1
    out = capsys.readouterr().out
    assert "THIS GIVES UP NODES 2, 3, 4 FOR GOOD." in out
    assert "- A change of the members was under way; it is given up." in out


def test_a_node_that_never_joined_has_nothing_to_go_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = data_dir(tmp_path, voters=[])
    assert recover(where, "--voters=1", FLAG) == 1
    assert "knows of no members" in error(capsys)


def test_an_entry_that_is_no_membership(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = LogEntry(1, 10, b"nonsense", EntryKind.MEMBERSHIP)
    assert recover(made(tmp_path, strange), "--voters=1", FLAG) == 1
    assert error(capsys) == "entry 10 holds a membership of an unknown version"


def test_a_directory_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "identity.json").mkdir()
    assert recover(tmp_path, "--voters=1") == 1
    assert error(capsys) == f"{tmp_path}/identity.json: Is a directory"


def test_a_recovery_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = made(tmp_path)
    assert recover(where, "--voters=1", FLAG, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "id": 1,
        "index": 10,
        "term": 2,
        "voters": [1],
        "lost": [2, 3],
    }


@pytest.mark.parametrize("way", [["--voters=1", FLAG], ["--salvage"]])
def test_a_node_that_runs_is_left_alone(
    way: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = made(tmp_path)
    before = everything(where)
    with WalLog.open(where / "log"):
        assert recover(where, *way) == 1
    assert error(capsys) == "node 1 runs; stop it first"
    assert before == everything(where)


@pytest.mark.parametrize("way", [["--voters=2", FLAG], ["--salvage"]])
def test_another_nodes_directory_is_left_alone(
    way: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = made(tmp_path)
    before = everything(where)
    assert recover(where, *way, node=2) == 1
    assert error(capsys) == f"{where} is the data directory of node 1, not of 2"
    assert before == everything(where)


@pytest.mark.parametrize("way", [["--voters=1", FLAG], ["--salvage"]])
def test_what_is_no_data_directory(
    way: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recover(tmp_path / "none", *way) == 1
    assert error(capsys) == f"{tmp_path}/none is no data directory: there is no identity.json"
    where = made(tmp_path)
    for path in (where / "log").iterdir():
        path.unlink()
    assert recover(where, *way) == 1
    assert "there is no log" in error(capsys)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--voters=2,3", FLAG], "--voters must name node 1 too: it is the one that goes on"),
        (["--voters=1,2,3", FLAG], "--voters leaves out none of the voters 1, 2, 3"),
        (
            ["--voters=1,9", FLAG],
            "--voters names 9, by the log of node 1 no member: those are 1, 2, 3",
        ),
        (
            ["--voters=1,2,3,4", FLAG],
            "--voters names 4, by the log of node 1 no member: those are 1, 2, 3",
        ),
        (["--salvage", FLAG], f"{FLAG} goes with --voters: --salvage counts on the others"),
    ],
)
def test_what_makes_no_sense(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = made(tmp_path)
    before = everything(where)
    assert recover(where, *arguments) == 2
    assert error(capsys) == expected
    assert before == everything(where)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "one of the arguments --voters --salvage is required"),
        (["--voters=1", "--salvage"], "argument --salvage: not allowed with argument --voters"),
        (["--voters=1,x"], "argument --voters: 'x' is no id of a node"),
        (["--voters="], "argument --voters: '' is no id of a node"),
    ],
)
def test_misuse(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        recover(tmp_path, *arguments)
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and f": {expected}" in text


def test_a_damaged_log_is_not_forced_but_salvaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = data_dir(tmp_path, batches=[entries(1, 3), entries(4, 6), entries(7, 9)])
    flip(where / "log" / SEGMENT, 512 + 500)
    before = everything(where)
    assert recover(where, "--voters=1", FLAG) == 1
    text = error(capsys)
    assert SEGMENT in text and text.endswith("; see raft-io recover --salvage")
    assert before == everything(where)
    assert recover(where, "--salvage") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{where}/log/{SEGMENT}, byte ") and ": damage: " in said[0]
    assert f"set aside: {where}/identity.json.damaged-1" in said
    assert f"set aside: {where}/log/{SEGMENT}.damaged-1" in said
    assert said[-1] == "raft-io serve --config FILE --join HOST:PORT"
    # Nothing is deleted.
    kept = list(everything(where).values())
    assert all(content in kept for content in before.values())
    with WalLog.open(where / "log") as log:
        last = log.last_index()
        assert log.entries(1, last) == entries(1, last)
    assert f"node 1: entries up to {last} are left" in said
    assert recover(where, "--salvage") == 1
    assert error(capsys) == f"{where} is no data directory: there is no identity.json"


def test_a_sound_log_is_not_salvaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = made(tmp_path)
    before = everything(where)
    assert recover(where, "--salvage") == 0
    assert capsys.readouterr().out == "node 1: the log is not damaged; nothing was changed\n"
    assert before == everything(where)


def test_a_salvage_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = made(tmp_path)
    flip(where / "log" / SEGMENT, 100)
    assert recover(where, "--salvage", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"id", "last_index", "findings", "moved"}
    assert found["findings"]
