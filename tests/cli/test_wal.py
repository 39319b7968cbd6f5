"""`raft-io wal`: what is in a log, and what is wrong with it; nothing is changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.logs import data_dir, entries, flip, membership

from raft_io import EntryKind, HardState, LogEntry, Membership, Snapshot, WalLog
from raft_io.cli.main import main

SEGMENT = "0000000000000001.wal"


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Path]:
    """A log with a bit of everything, which no command changes."""
    batches = [entries(1, 3), entries(4, 4, 2), [membership(5, 2, [1, 2, 3], [4])]]
    made = data_dir(tmp_path, batches=batches, snapshot=2, state=HardState(2, 3))
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    yield made
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}


def lines(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    """What a command prints."""
    assert main(["wal", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.err == ""
    return [" ".join(line.split()) for line in captured.out.splitlines() if line.strip(" ─━")]


def test_what_is_in_a_log(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (where, where / "log"):
        assert lines(capsys, "inspect", str(path)) == [
            str(where / "log"),
            "snapshot index term size voters",
            "0000000000000000002.snap 2 1 500 bytes 1, 2, 3",
            "segment format records first last size",
            f"{SEGMENT} 2 4 1 5 16.0 MiB",
            "term 2, vote for 3; last entry 5 of term 2",
            "members as of 5: voters 1, 2, 3; learner 4",
        ]


def test_the_records_and_entries_of_a_log(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, "inspect", str(where), "--records", "--entries")
    start = found.index(f"{SEGMENT}: from record 1, behind entry 0")
    assert [line.partition(" bytes: ")[2] or line for line in found[start + 1 : start + 10]] == [
        "term 2, vote for 3",
        "entries 1 to 3",
        "1 of term 1, normal: 9 bytes",
        "2 of term 1, normal: 9 bytes",
        "3 of term 1, normal: 9 bytes",
        "entry 4",
        "4 of term 2, normal: 9 bytes",
        "entry 5",
        "5 of term 2, membership: voters 1, 2, 3; learner 4",
    ]


def test_what_was_cut_off_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = data_dir(tmp_path, batches=[entries(1, 9)])
    with WalLog.open(where / "log") as log:
        log.truncate(4)
        log.append(entries(4, 4, 3))
        log.sync()
        log.truncate(4)
        log.sync()
    found = lines(capsys, "inspect", str(where), "--records")
    told = [line.partition(" bytes: ")[2] for line in found]
    assert "entries from 4 on removed; entry 4" in told
    assert "entries from 4 on removed" in told
    assert "term 0, no vote; last entry 3 of term 1" in found


def test_a_log_that_a_snapshot_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = data_dir(tmp_path, batches=[[*entries(1, 9), membership(10, 1, [1])]])
    with WalLog.open(where / "log") as log:
        log.save_snapshot(Snapshot(50, 4, Membership([1, 2], [], [3]), b"state"))
        log.append(entries(51, 52, 4))
        log.sync()
    found = lines(capsys, "inspect", str(where), "--records")
    told = [line.partition(" bytes: ")[2] for line in found]
    assert "emptied, goes on behind entry 50 of term 4; entries 51 to 52" in told
    assert "term 0, no vote; last entry 52 of term 4" in found
    assert "members as of 50: voters 1, 2; outgoing 3" in found
    main(["wal", "inspect", str(where), "--records", "--json"])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"index": 50, "term": 4} in [record.get("reset") for record in records]


def test_a_log_of_several_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with WalLog.open(tmp_path / "log", segment_size=4096) as log:
        for start in range(1, 100, 10):
            log.append([LogEntry(start, index, b"x" * 50) for index in range(start, start + 10)])
            log.sync()
    found = lines(capsys, "inspect", str(tmp_path))
    rows = [line.split() for line in found if ".wal " in line]
    assert len(rows) > 2
    assert sum(int(row[2]) for row in rows) == 10
    assert [int(row[3]) for row in rows][1:] == [int(row[4]) + 1 for row in rows][:-1]
    assert {row[5] for row in rows} == {"4.0"}
    assert "term 0, no vote; last entry 100 of term 91" in found


def test_an_entry_that_is_no_membership_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = LogEntry(1, 1, b"nonsense", EntryKind.MEMBERSHIP)
    where = data_dir(tmp_path, batches=[[strange]])
    found = lines(capsys, "inspect", str(where), "--entries")
    assert "1 of term 1, membership: a membership of an unknown version" in found


def test_a_log_for_programs(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wal", "inspect", str(where), "--json", "--records", "--entries"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["what"] for item in found] == ["snapshot", "segment", *["record"] * 4, "summary"]
    assert (found[0]["index"], found[0]["size"], found[0]["voters"]) == (2, 500, [1, 2, 3])
    assert (found[1]["format"], found[1]["number"]) == (2, 1)
    assert found[1]["before"] == {"last_index": 0, "last_term": 0, "term": 0, "voted_for": None}
    assert (found[2]["term"], found[2]["voted_for"], found[2]["first"]) == (2, 3, None)
    assert (found[3]["first"], found[3]["last"]) == (1, 3)
    assert bytes.fromhex(found[3]["entries"][0]["command"]) == b"command 1"
    assert main(["wal", "inspect", str(where), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["what"] for item in found] == ["snapshot", "segment", "summary"]
    assert found[2] == {
        "what": "summary",
        "path": str(where / "log"),
        "in_use": False,
        "term": 2,
        "voted_for": 3,
        "last_index": 5,
        "last_term": 2,
        "members": {"index": 5, "voters": [1, 2, 3], "learners": [4], "outgoing": []},
        "snapshots": 1,
        "segments": 1,
        "findings": 0,
    }


def test_a_log_that_is_in_use_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = data_dir(tmp_path, batches=[entries(1, 3)])
    with WalLog.open(where / "log") as log:
        assert lines(capsys, "inspect", str(where))[0] == f"{where}/log (in use by a node that runs)"
        assert lines(capsys, "verify", str(where)) == [f"{where}/log: no damage"]
        log.append(entries(4, 4))
        log.sync()


def test_a_sound_log(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "verify", str(where)) == [f"{where}/log: no damage"]
    assert lines(capsys, "verify", str(where), "--json") == []


def test_every_damage_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches = [entries(1, 3), entries(4, 6), entries(7, 9), entries(10, 12)]
    where = data_dir(tmp_path, batches=batches, snapshot=2)
    main(["wal", "inspect", str(where), "--json", "--records"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    offsets = [item["offset"] for item in found if item["what"] == "record"]
    segment = where / "log" / SEGMENT
    snapshot = where / "log" / "0000000000000000002.snap"
    flip(segment, offsets[1] + 40)
    flip(snapshot, 600)
    said = lines(capsys, "verify", str(where), status=1)
    assert len(said) == 2
    assert said[0].startswith(f"{snapshot}, byte ")
    assert said[1].startswith(f"{segment}, byte {offsets[1]}: damage: ")
    assert main(["wal", "verify", str(where), "--json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(item["path"], item["kind"]) for item in found] == [
        (str(snapshot), "damage"),
        (str(segment), "damage"),
    ]
    assert found[1]["offset"] == offsets[1]
    # It can still be looked at, as far as it is good.
    assert f"{segment}, byte {offsets[1]}: damage: a damaged record, and more are behind it" in lines(
        capsys, "inspect", str(where)
    )


def test_what_a_crash_leaves_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = data_dir(tmp_path, batches=[entries(1, 3), [*entries(4, 100)]])
    segment = where / "log" / SEGMENT
    data = bytearray(segment.read_bytes())
    end = len(data.rstrip(b"\0"))
    data[end - 1024 - end % 512 : end] = bytes(1024 + end % 512)
    segment.write_bytes(data)
    said = lines(capsys, "verify", str(where))
    assert said[-1] == f"{where}/log: no damage"
    assert ": torn: " in said[0]


@pytest.mark.parametrize("action", ["inspect", "verify"])
def test_a_path_without_a_log(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "none"):
        assert main(["wal", action, str(path)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err == f"raft-io: there is no log in {path}\n"


def test_a_log_of_a_newer_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = data_dir(tmp_path, batches=[entries(1, 3)])
    segment = where / "log" / SEGMENT
    data = bytearray(segment.read_bytes())
    data[12] = 99
    from google_crc32c import value

    data[8:12] = value(bytes(data[:8] + data[12:512])).to_bytes(4, "little")
    segment.write_bytes(data)
    assert main(["wal", "verify", str(where)]) == 1
    assert "version 99" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: ACTION"),
        (["mend", "x"], "argument ACTION: invalid choice: 'mend'"),
        (["verify"], "the following arguments are required: PATH"),
    ],
)
def test_misuse(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["wal", *arguments])
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and f": {expected}" in text


def test_entries_for_programs_are_part_of_records(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wal", "inspect", str(where), "--json", "--entries"]) == 0
    alone = capsys.readouterr().out
    assert main(["wal", "inspect", str(where), "--json", "--entries", "--records"]) == 0
    assert alone == capsys.readouterr().out
    assert '"entries": [{"index": 1,' in alone


@pytest.mark.parametrize("options", [["--records", "--entries"], ["--json", "--entries"]])
def test_who_reads_no_further_is_no_error(options: list[str], tmp_path: Path) -> None:
    where = data_dir(tmp_path, batches=[entries(1, 5000)])
    command = [sys.executable, "-m", "raft_io.cli", "wal", "inspect", str(where), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1
