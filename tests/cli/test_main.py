"""The command line itself: help, misuse in one line, exit statuses."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import socket
import subprocess
import sys

import pytest

from raft_io.cli import main as cli
from raft_io.cli import serve
from raft_io.cli.errors import CommandFailedError, UsageError
from raft_io.cli.serve import LineFormatter


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if f"\n    {name} " not in said] == []


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: raft-io {command} ")
    assert max(len(line) for line in said.splitlines()) <= 79


@pytest.mark.parametrize(
    "command",
    [f"members {name}" for name in ("list", "add", "remove", "promote")] + ["wal inspect", "wal verify"],
)
def test_each_action_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    usage, about, *_ = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: raft-io {command} ")
    assert not about.startswith(("options:", "positional arguments:"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "raft-io: the following arguments are required: COMMAND; see raft-io --help\n"),
        (["--nodes"], "raft-io: "),
        (["unknown"], "raft-io: "),
        (["dev", "--nodes", "0"], "raft-io dev: argument --nodes: must be 1 to 9, not 0;"),
        (["dev", "--nodes", "10"], "raft-io dev: argument --nodes: must be 1 to 9, not 10;"),
        (["dev", "--nod", "3"], "raft-io dev: unrecognized arguments: --nod 3; see raft-io dev --help\n"),
        (["dev", "--base-port", "x"], "raft-io dev: argument --base-port: invalid int value: 'x'"),
        (["bench", "disk"], "raft-io bench: argument what: invalid choice: 'disk' "),
    ],
)
def test_misuse_is_one_line_and_status_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(expected)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dev", "--base-port", "0"], "raft-io: --base-port must be in 1 .. 65332, not 0\n"),
        (["dev", "--base-port", "65333"], "raft-io: --base-port must be in 1 .. 65332, not 65333\n"),
        (["serve"], "raft-io: --id is missing; give it, or a file with --config\n"),
        (["serve", "--config", "/none"], "raft-io: /none: No such file or directory\n"),
    ],
)
def test_wrong_settings_are_one_line_and_status_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == expected


NODE = ["serve", "--id=1", "--data-dir=/none", "--listen=1", "--resp=1", "--http=1"]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--tick-interval=0", "--tick-interval must be in 0.001 .. 10 seconds, not 0.0"),
        ("--max-command-bytes=0", "--max-command-bytes must be in 1 .."),
        ("--id=-1", "--id must be in 0 .."),
    ],
)
def test_values_that_the_server_refuses_are_misuse(
    option: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*NODE, option]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"raft-io: {expected}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CommandFailedError("it broke"), 1, "raft-io: it broke\n"),
        (UsageError("not so"), 2, "raft-io: not so\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_a_command_ends(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(options: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli.COMMANDS["dev"], "run", fail)
    assert cli.main(["dev"]) == status
    assert capsys.readouterr().err == said


def test_the_package_installs_the_command() -> None:
    entries = importlib.metadata.entry_points(group="console_scripts", name="raft-io")
    assert all(entry.load() is cli.main for entry in entries)
    done = subprocess.run([sys.executable, "-m", "raft_io.cli", "--help"], capture_output=True, check=False)
    assert done.returncode == 0


def test_a_log_line_stays_one_line_whatever_is_in_it() -> None:
    record = logging.makeLogRecord({"msg": "node %s says %s", "args": (1, "a\nb\r\x1b[m")})
    assert LineFormatter("log: %(message)s").format(record) == r"log: node 1 says a\nb\r\x1b[m"


def test_a_host_that_is_not_known_is_told_without_a_number() -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    said = str(serve._cannot_listen("node 1", "http", {"http": "foo:7915"}, unknown))
    assert said == "node 1: cannot listen on foo:7915 (http): Name or service not known"
