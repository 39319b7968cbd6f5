"""The commands that operate a cluster: what they ask, what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.nodes import dead, running
from tests.server.operated import Pretended, status_of

from raft_io import Membership, Role, Snapshot
from raft_io.cli.client import get_status
from raft_io.cli.main import main
from raft_io.cli.show import in_bytes
from raft_io.core.status import FollowerStatus
from raft_io.errors import MembershipChangeInProgressError, NotLeaderError, RaftError
from raft_io.server.address import Address
from raft_io.server.backup import BackupFile

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


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    """What a command prints: to standard output, or, when it fails, in one line to standard error."""
    assert main(arguments) == status
    captured = capsys.readouterr()
    if status:
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("raft-io: ")
        return [captured.err.removeprefix("raft-io: ").strip()]
    assert captured.err == ""
    return [" ".join(line.split()) for line in captured.out.splitlines()]


def error(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    """The line of a command that fails."""
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("raft-io: ") and captured.err.count("\n") == 1
    return captured.err.removeprefix("raft-io: ").strip()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


each_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@each_command
def test_a_node_that_is_not_there(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with dead() as address:
        assert error(capsys, *command, "--node", address) == f"cannot reach {address}: Connection refused"


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


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """Something that takes one connection after the other, and answers so; with `None` not at all."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                if answer is None:
                    held.append(peer)
                    continue
                with peer:
                    peer.recv(65536)
                    peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for peer in held:
            peer.close()


def response(status: int, body: bytes) -> bytes:
    """An answer over HTTP."""
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


@each_command
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"-ERR unknown command\r\n", "the answer was cut short, or is none"),
        (b"", "the answer was cut short, or is none"),
        (response(200, b"hello")[:-2], "the answer was cut short, or is none"),
        (response(404, b"not here"), "no answer of a raft-io node (status 404)"),
        (response(500, b'{"error": 1}'), "no answer of a raft-io node (status 500)"),
    ],
)
def test_what_answers_is_no_node(
    command: list[str], answer: bytes, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(answer) as address:
        assert error(capsys, *command, "--node", address) == f"{address}: {expected}"
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


def ready() -> Pretended:
    """A node that can do everything, and has a state to back up."""
    server = Pretended()
    caught_up(server)
    server.moved = caught_up
    server.snapshot = Snapshot(50, 4, Membership([1]), b"state")
    return server


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


# status


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


# members


def test_the_members(capsys: pytest.CaptureFixture[str]) -> None:
    with running(Pretended()) as node:
        for arguments in (["--node", node], ["list", "--node", node], ["--node", node, "list"]):
            lines = said(capsys, "members", *arguments)
            assert lines[0] == "node role address"
            assert lines[2:] == [
                "1 voter, leads 127.0.0.1:7101",
                "2 voter 127.0.0.1:7102",
                "3 voter 127.0.0.1:7103",
                "4 learner 127.0.0.1:7104",
            ]


def test_the_members_while_they_change(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    server.status = status_of(membership=Membership([1, 4, 6], [5], [1, 2, 6]))
    with running(server) as node:
        lines = said(capsys, "members", "--node", node)[2:]
    assert [line.rpartition(" ")[0] for line in lines] == [
        "1 voter, leads",
        "2 voter, leaving",
        "4 voter, joining",
        "5 learner, joining",
        "6 voter",
    ]


def test_the_members_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with running(Pretended()) as node:
        assert main(["members", "--json", "--node", node]) == 0
        assert json.loads(capsys.readouterr().out)["learners"] == [4]
        assert main(["members", "remove", "2", "--json", "--node", node]) == 0
        assert json.loads(capsys.readouterr().out)["voters"] == [1, 3]


def caught_up(server: Pretended) -> None:
    """The leader sees that every follower has all of the log."""
    membership = server.status.membership
    followers = [
        FollowerStatus(node, "replicate", 60, 71, 0)
        for node in sorted(membership.voters | membership.learners)
        if node > 1
    ]
    server.status = status_of(membership=membership, followers=followers)


def changes(server: Pretended) -> list[tuple[Any, ...]]:
    """What the membership was changed to, and the addresses that were told."""
    return [each[1:4] for each in server.asked if each[0] == "change"]


def test_a_voter_is_added_as_a_learner_first(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    server.moved = caught_up
    with running(server) as node:
        lines = said(capsys, "members", "add", "5", "10.0.0.5:7101", "--node", node)
    assert lines == ["node 5 is a learner", "node 5 is a voter"]
    assert changes(server) == [(None, [4, 5], {5: "10.0.0.5:7101"}), ([1, 2, 3, 5], [4], {})]


def test_a_learner_is_added(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    with running(server) as node:
        arguments = ["members", "add", "5", "10.0.0.5:7101", "--learner", "--node", node]
        assert said(capsys, *arguments) == ["node 5 is a learner"]
        assert said(capsys, *arguments) == ["node 5 is a learner"]
    assert changes(server) == [(None, [4, 5], {5: "10.0.0.5:7101"})]


def test_a_voter_that_does_not_catch_up_stays_a_learner(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    with running(server) as node:
        assert main(["members", "add", "4", "127.0.0.1:7104", "--timeout", "1.2", "--node", node]) == 1
    captured = capsys.readouterr()
    assert captured.out == "node 4 is a learner\nnode 4 catches up (50 entries are missing)\n"
    assert captured.err == (
        "raft-io: node 4 is a learner and has not caught up (50 entries are missing); "
        "later: raft-io members promote 4\n"
    )
    assert changes(server) == []


def test_a_node_that_the_server_promotes_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()

    def promote(server: Pretended) -> None:
        server.status = status_of(membership=Membership([1, 2, 3, 5], [4]))

    server.moved = promote
    with running(server) as node:
        lines = said(capsys, "members", "add", "5", "10.0.0.5:7101", "--node", node)
    assert lines == ["node 5 is a learner", "node 5 is a voter"]
    assert len(changes(server)) == 1


def test_an_address_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    with running(server) as node:
        arguments = ["members", "add", "2", "10.0.0.2:7101", "--node", node]
        assert said(capsys, *arguments) == ["node 2 has the address 10.0.0.2:7101", "node 2 is a voter"]
        assert said(capsys, *arguments) == ["node 2 is a voter"]
    assert changes(server) == [(None, None, {2: "10.0.0.2:7101"})]


def test_a_voter_is_not_made_a_learner_by_adding_it(capsys: pytest.CaptureFixture[str]) -> None:
    with running(Pretended()) as node:
        text = error(capsys, "members", "add", "2", "a:1", "--learner", "--node", node, status=2)
    assert text == "node 2 is a voter: remove it first, and add it as a learner then"


def test_a_learner_is_promoted(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    caught_up(server)
    with running(server) as node:
        assert said(capsys, "members", "promote", "4", "--node", node) == ["node 4 is a voter"]
        assert said(capsys, "members", "promote", "4", "--node", node) == ["node 4 is a voter"]
        assert error(capsys, "members", "promote", "9", "--node", node) == (
            "node 9 is no member; see raft-io members add"
        )
    assert changes(server) == [([1, 2, 3, 4], [], {})]


@pytest.mark.parametrize(("node_id", "expected"), [(2, ([1, 3], [4], {})), (4, ([1, 2, 3], [], {}))])
def test_a_member_is_removed(
    node_id: int, expected: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    server = Pretended()
    with running(server) as node:
        assert said(capsys, "members", "remove", str(node_id), "--node", node) == [
            f"node {node_id} is removed"
        ]
        assert (
            error(capsys, "members", "remove", str(node_id), "--node", node) == f"node {node_id} is no member"
        )
    assert changes(server) == [expected]


def test_the_only_voter_is_not_removed(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    server.status = status_of(membership=Membership([1], [4]))
    with running(server) as node:
        text = error(capsys, "members", "remove", "1", "--node", node)
    assert text == "node 1 is the only voter: there must be one"
    assert changes(server) == []


def test_one_change_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    server.failure = MembershipChangeInProgressError()
    with running(server) as node:
        text = error(capsys, "members", "remove", "2", "--node", node)
    assert text == "node 2 is not removed yet: a change of membership is in progress; try again later"


# transfer, snapshot


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


# backup


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
        (None, "the answer was cut short, or is none"),
        (RaftError("the server stops"), "the server stops"),
    ],
)
def test_a_backup_that_fails_leaves_nothing(
    failure: Exception | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ready()
    server.snapshot = Snapshot(50, 4, Membership([1]), Damaged())  # type: ignore[arg-type]
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
