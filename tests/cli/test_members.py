"""`raft-io members`: what it asks for, in which order, and when it gives up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cli.nodes import caught_up, error, running, said
from tests.server.operated import Pretended, status_of

from raft_io import Membership
from raft_io.cli.main import main
from raft_io.errors import MembershipChangeInProgressError, RaftError, RemovedError


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


def test_a_node_that_is_asked_to_remove_itself(capsys: pytest.CaptureFixture[str]) -> None:
    server = Pretended()
    server.failure = RemovedError()
    with running(server) as node:
        assert said(capsys, "members", "remove", "1", "--node", node) == ["node 1 is removed"]
        text = error(capsys, "members", "remove", "2", "--node", node)
        assert text == "node 2 is not removed yet: this node was removed from the cluster"
        server.failure = RaftError("the server stops")
        text = error(capsys, "members", "remove", "1", "--node", node)
        assert text.startswith("node 1 was asked to remove itself, and what came of it is not known: ")
