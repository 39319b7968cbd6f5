"""The commands that operate a cluster: what they ask, what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.nodes import dead, error, listening, ready, response, running, said
from tests.server.operated import Pretended, status_of

from raft_io import Membership, Role
from raft_io.cli.client import get_status
from raft_io.cli.main import main
from raft_io.cli.show import in_bytes
from raft_io.errors import NotLeaderError
from raft_io.server.address import Address

COMMANDS = [
    ["status"],
    ["members"],
    ["members", "list"],
    ["members", "add", "5", "127.0.0.1:7105"],
    ["members", "remove", "2"],
    ["members", "promote", "4"],
    ["transfer"],
    ["snapshot"],
    ["backup", "file"],
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


REFUSED = "cannot reach {}: Connection refused; is the node running? --node HOST:PORT asks another one"
NOT_HTTP = " does not answer as HTTP: give a node's http address"

each_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@each_command
def test_a_node_that_is_not_there(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with dead() as address:
        assert error(capsys, *command, "--node", address) == REFUSED.format(address)


@each_command
def test_nodes_that_are_not_there(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with dead() as one, dead() as two:
        text = error(capsys, *command, "--node", one, "--node", two)
        assert text == f"cannot reach {one}: Connection refused; cannot reach {two}: Connection refused"


def test_an_answer_without_end_is_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(response(200, b" " * 5_000_000)) as address:
        assert error(capsys, "status", "--node", address) == f"{address}: the answer is far too long"


def test_a_status_is_none_where_there_is_no_such_answer() -> None:
    for answer in (response(200, b"[]"), response(404, b""), b""):
        with listening(answer) as address:
            assert asyncio.run(get_status(Address.parse(address))) is None
    with running(Pretended()) as node:
        status = asyncio.run(get_status(Address.parse(node)))
        assert status is not None and status["id"] == 1


def test_sizes_as_people_read_them() -> None:
    assert [in_bytes(size) for size in (5, 2048, 3 << 20, 4 << 30, 5 << 40)] == [
        "5 bytes",
        "2.0 KiB",
        "3.0 MiB",
        "4.0 GiB",
        "5.0 TiB",
    ]


def test_a_host_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert error(capsys, "status", "--node", "no.such.host.invalid:7201").startswith(
        "cannot reach no.such.host.invalid:7201: "
    )


@each_command
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"-ERR unknown command\r\n", NOT_HTTP),
        (b"", NOT_HTTP),
        (response(200, b"hello")[:-2], ": the answer was cut short"),
        (response(404, b"not here"), ": no answer of a raft-io node (status 404)"),
        (response(500, b'{"error": 1}'), ": no answer of a raft-io node (status 500)"),
    ],
)
def test_what_answers_is_no_node(
    command: list[str], answer: bytes, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(answer) as address:
        assert error(capsys, *command, "--node", address) == f"{address}{expected}"
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", [["status"], ["members"], ["backup", "file"]])
def test_a_node_that_hangs(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with listening(None) as address:
        text = error(capsys, *command, "--node", address, "--timeout", "0.2")
        assert text == f"{address} does not answer within 0.2 seconds"


@each_command
def test_the_next_node_is_asked(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    server = ready()
    with dead() as nobody, running(server) as node:
        assert main([*command, "--node", nobody, "--node", node]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", [["transfer"], ["snapshot"], ["backup", "file"]], ids=" ".join)
def test_a_node_that_cannot_do_it_now_is_not_the_last_word(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = ready()
    stopped.failure = NotLeaderError(None)
    with running(stopped) as other, running(ready()) as node:
        assert main([*command, "--node", other, "--node", node]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", [["transfer"], ["members", "remove", "2"]], ids=" ".join)
def test_a_cluster_without_a_leader(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    server = ready()
    server.failure = NotLeaderError(None)
    with running(server) as node:
        text = error(capsys, *command, "--node", node)
    assert text.endswith("no leader: a majority of the voters must run; see raft-io status")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "--node", "host"], "argument --node: 'host' is no address"),
        (["status", "--timeout", "0"], "argument --timeout: '0' is no number of seconds above 0"),
        (["status", "--timeout", "nan"], "argument --timeout: 'nan' is no number of seconds above 0"),
        (["members", "add", "x", "a:1"], "argument ID: 'x' is no id of a node"),
        (["members", "add", "-1", "a:1"], "argument ID: '-1' is no id of a node"),
        (["members", "add", "99999999999999999999", "a:1"], "argument ID: '99999999999999999999' is no id"),
        (["members", "add", "4"], "the following arguments are required: HOST:PORT"),
        (["members", "add", "4", "host:0"], "argument HOST:PORT: 'host:0' has no port"),
        (["members", "add", "4", "host"], "argument HOST:PORT: 'host' is no address"),
        (["members", "drop", "4"], "argument ACTION: invalid choice: 'drop'"),
        (["members", "remove"], "the following arguments are required: ID"),
        (["transfer", "you"], "argument ID: 'you' is no id of a node"),
        (["backup"], "the following arguments are required: FILE"),
    ],
)
def test_misuse(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert f": {expected}" in text


def test_the_status_of_every_node(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    with running(server) as node:
        lines = said(capsys, "status", "--node", node)
    assert [line for line in lines if line and "─" not in line and "━" not in line] == [
        "node role term commit applied lag snapshot address",
        "1 leader 4 60 50 10 40 127.0.0.1:7101",
        "2 follower 4 55 45 15 40 127.0.0.1:7102",
        "3 no answer - - - - - 127.0.0.1:7103",
        "4 learner 4 55 45 15 40 127.0.0.1:7104",
        "cluster shop: node 1 leads in term 4; 2 of 3 voters answer node 1",
        "no answer: 3",
        "the cluster goes on, but stops when another voter is lost",
    ]


def test_the_table_fits_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    server.status = status_of(commit_index=10_000_055, last_applied=10_000_055, snapshot_index=9_999_999)
    server.addresses = {node: f"192.168.100.10{node}:17101" for node in (1, 2, 3, 4)}
    with running(server) as node:
        main(["status", "--node", node])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80, "\n".join(lines)


@pytest.mark.parametrize(
    ("changes", "silent", "expected"),
    [
        (
            {"role": Role.FOLLOWER, "leader": None},
            {2, 3, 4},
            "cluster shop: no leader; 1 of 3 voters answer node 1",
        ),
        ({}, {2, 3, 4}, "a majority of the voters is needed, and does not answer"),
        ({"transfer_target": 2}, set(), "leadership is being handed over to node 2"),
        (
            {"membership": Membership([1, 4], [], [1, 2, 3])},
            set(),
            "the membership is changing: voters 1, 2, 3 become 1, 4",
        ),
    ],
)
def test_what_the_status_amounts_to(
    changes: dict[str, Any], silent: set[int], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Pretended()
    server.silent = silent
    server.status = status_of(**changes)
    with running(server) as node:
        assert expected in said(capsys, "status", "--node", node)


def test_a_status_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with running(Pretended()) as node:
        assert main(["status", "--node", node, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(each["id"], each["status"] is None) for each in found["nodes"]] == [
        (1, False),
        (2, False),
        (3, True),
        (4, False),
    ]


def test_leadership_is_handed_over(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    with running(server) as node:
        assert said(capsys, "transfer", "3", "--node", node) == ["node 3 leads"]
        assert said(capsys, "transfer", "--node", node, "--timeout", "3") == ["node 2 leads"]
        assert main(["transfer", "--json", "--node", node]) == 0
        assert json.loads(capsys.readouterr().out) == {"leader": 2}
        server.failure = ValueError("node 9 is no voter")
        assert error(capsys, "transfer", "9", "--node", node) == "node 9 is no voter"
    assert server.asked[1] == ("transfer", None, 3.0)


def test_there_is_no_snapshot_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Empty(Pretended):
        async def take_snapshot(self, *, timeout: float = 10.0) -> int:
            return 0

    with running(Empty()) as node:
        (line,) = said(capsys, "snapshot", "--node", node)
    assert line == "node 1: nothing was written yet, so there is nothing to take a snapshot of"


def test_a_snapshot_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    with running(server) as node:
        assert said(capsys, "snapshot", "--node", node) == ["node 1: snapshot at index 50"]
        assert main(["snapshot", "--json", "--node", node]) == 0
        assert json.loads(capsys.readouterr().out) == {"id": 1, "index": 50}
