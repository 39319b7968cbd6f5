"""What `raft-io dev` writes, refuses and tells, without starting anything."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest
from rich.console import Console

from raft_io.cli.cluster import Cluster, Member, Observed, exclusive, plan, prepare
from raft_io.cli.config import read_file
from raft_io.cli.dev import Reporter, table
from raft_io.cli.errors import CommandFailedError
from raft_io.server.address import Address
from raft_io.storage import OsFileSystem, PeerFile

BASE = 9100


@pytest.fixture(autouse=True)
def _all_ports_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's ports are used for is not what most of these tests are about."""
    monkeypatch.setattr("raft_io.cli.cluster._check_free", lambda address: None)


def made(folder: Path, nodes: int = 3, base: int = BASE) -> list[Member]:
    """The members of a cluster whose files are written."""
    folder.mkdir(exist_ok=True)
    members = plan(folder, nodes, base)
    prepare(folder, members)
    return members


def refusal(folder: Path, nodes: int = 3) -> str:
    """Why a cluster cannot be prepared; nothing was written then."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(CommandFailedError) as error:
        made(folder, nodes)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return str(error.value)


def test_where_everything_is() -> None:
    member = plan(Path("d"), 3, 7000)[1]
    assert member == Member(
        2,
        Path("d/node-2"),
        Address("127.0.0.1", 7002),
        Address("127.0.0.1", 7102),
        Address("127.0.0.1", 7202),
    )
    assert member.config == Path("d/node-2/raft.toml")


def test_each_node_gets_its_settings(tmp_path: Path) -> None:
    members = made(tmp_path)
    first = read_file(members[0].config)
    assert first["cluster_id"].startswith("dev-")
    for member in members:
        assert read_file(member.config) == {
            "id": member.id,
            "cluster_id": first["cluster_id"],
            "data_dir": str(member.folder),
            "listen": f"127.0.0.1:{BASE + 100 + member.id}",
            "resp": f"127.0.0.1:{BASE + member.id}",
            "http": f"127.0.0.1:{BASE + 200 + member.id}",
            "peers": {node: f"127.0.0.1:{BASE + 100 + node}" for node in (1, 2, 3)},
            "pid_file": str(member.folder / "pid"),
        }


def test_settings_that_were_changed_by_hand_stay_and_ports_follow(tmp_path: Path) -> None:
    path = made(tmp_path)[1].config
    text = path.read_text() + "# mine\ntick_interval = 0.05\nelection_timeout = [20, 40]\n"
    path.write_text(text)
    made(tmp_path)
    assert path.read_text() == text
    made(tmp_path, base=BASE + 300)
    values = read_file(path)
    assert values["tick_interval"] == 0.05
    assert values["election_timeout"] == (20, 40)
    assert values["resp"] == f"127.0.0.1:{BASE + 302}"
    assert values["peers"][3] == f"127.0.0.1:{BASE + 403}"


def test_addresses_that_are_in_the_log_cannot_follow(tmp_path: Path) -> None:
    members = made(tmp_path)
    remembered = PeerFile(OsFileSystem(), members[1].folder)
    remembered.peers.members = {node: (f"127.0.0.1:{BASE + 100 + node}", 5) for node in (1, 2, 3)} | {
        4: ("10.0.0.4:7104", 6)
    }
    remembered.save()
    made(tmp_path)
    with pytest.raises(CommandFailedError) as error:
        made(tmp_path, base=BASE + 300)
    assert str(error.value) == (
        f"by the log of node 2, node 1 is at 127.0.0.1:{BASE + 101}, not at 127.0.0.1:{BASE + 401}: "
        f"use the --base-port that {tmp_path} was made with, or remove it to begin anew"
    )
    assert read_file(members[0].config)["resp"] == f"127.0.0.1:{BASE + 1}"


@pytest.mark.parametrize(("before", "now"), [(3, 5), (5, 3), (1, 3)])
def test_another_number_of_nodes_is_refused(tmp_path: Path, before: int, now: int) -> None:
    made(tmp_path, before)
    said = refusal(tmp_path, now)
    assert said == (
        f"{tmp_path / 'node-1' / 'raft.toml'} belongs to a cluster of {before} nodes; "
        f"use --nodes {before}, or remove {tmp_path} to begin anew"
    )


def test_a_node_that_is_missing_is_not_made_anew(tmp_path: Path) -> None:
    members = made(tmp_path)
    members[1].config.unlink()
    assert refusal(tmp_path).startswith(f"{members[1].folder} of a cluster of 3 is missing; put it back")


def test_directories_that_were_swapped_are_refused(tmp_path: Path) -> None:
    members = made(tmp_path)
    members[0].config.write_text(members[1].config.read_text())
    assert "is not the file of its directory's node" in refusal(tmp_path)


def test_a_file_that_was_broken_by_hand_is_named(tmp_path: Path) -> None:
    path = made(tmp_path)[2].config
    path.write_text(path.read_text() + "oops = 1\n")
    assert refusal(tmp_path).startswith(f'{path}: unknown setting "oops"')


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandFailedError, match="file"), exclusive(tmp_path / "file"):
        pass
    (tmp_path / "node-1").write_text("in the way")
    assert "node-1" in refusal(tmp_path)


def test_one_cluster_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    refused = pytest.raises(CommandFailedError, match="in use by another")
    with exclusive(folder), refused, exclusive(folder):
        pass
    with exclusive(folder):
        pass


def test_a_port_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandFailedError, match=f"^port {port} on 127.0.0.1: Address already in use; "):
            prepare(tmp_path, plan(tmp_path, 1, port - 1))
    assert not list(tmp_path.iterdir())


def status(node: int, role: str, leader: int | None = 1, term: int = 1) -> dict[str, object]:
    """What a node says of itself."""
    return {
        "id": node,
        "role": role,
        "term": term,
        "leader": leader,
        "commit_index": 123456789,
        "last_applied": 6,
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Three nodes, of which nothing was heard yet."""
    members = plan(tmp_path, 3, BASE)
    for member in members:
        member.folder.mkdir()
    return Cluster(members)


def test_what_is_told_is_what_changed(cluster: Cluster) -> None:
    reporter = Reporter(cluster)
    one, two, three = cluster.nodes
    assert reporter.news() == []
    one.answered(status(1, "follower", None, 0))
    two.answered(status(2, "candidate", None))
    assert reporter.news() == [
        "node 1: follower in term 0, redis on 127.0.0.1:9101",
        "node 2: candidate in term 1, redis on 127.0.0.1:9102",
    ]
    assert not reporter.ready
    one.answered(status(1, "leader"))
    two.answered(status(2, "follower"))
    assert reporter.news() == [
        "node 1: leader in term 1, redis on 127.0.0.1:9101",
        "node 2: follower in term 1, redis on 127.0.0.1:9102",
        "ready: node 1 leads; try: redis-cli -p 9101 set a 1",
    ]
    assert reporter.ready
    assert reporter.news() == []
    one.answered(None)
    one.exit = -9
    three.answered(status(3, "follower"))
    first, *rest = reporter.news()
    assert first.startswith("node 1: killed by SIGKILL; to start it again: ")
    assert first.endswith(f" serve --config {one.member.config}")
    assert rest == ["node 3: follower in term 1, redis on 127.0.0.1:9103"]
    two.answered(None)
    assert reporter.news() == ["node 2: does not answer"]
    one.answered(status(1, "follower", 3, 2))
    assert reporter.news() == ["node 1: follower in term 2, redis on 127.0.0.1:9101"]


def test_a_node_that_was_removed_is_not_started_again(cluster: Cluster) -> None:
    node = cluster.nodes[2]
    node.exit = 1
    node.member.log.write_text("a line\nraft-io: node 3 was removed from the cluster\n")
    assert Reporter(cluster).news() == ["node 3: exited with status 1: node 3 was removed from the cluster"]


def test_who_leads_is_what_a_majority_of_the_voters_says(cluster: Cluster) -> None:
    one, two, three = cluster.nodes
    members = {"voters": [1, 4, 5], "learners": [], "outgoing": []}
    one.answered({**status(1, "leader"), "membership": members})
    two.answered(status(2, "follower"))
    three.answered(status(3, "follower"))
    assert cluster.leader is None
    one.answered({**status(1, "leader"), "membership": {**members, "voters": [1]}})
    assert cluster.leader is one


@pytest.mark.parametrize(
    ("roles", "named", "expected"),
    [
        (["leader", "follower", "follower"], [1, 1, None], 1),
        (["leader", "follower", "follower"], [1, None, None], None),
        (["leader", "leader", "follower"], [1, 2, 2], 2),
        (["follower", "follower", "follower"], [1, 1, 1], None),
    ],
)
def test_who_leads_is_what_a_majority_says(
    cluster: Cluster, roles: list[str], named: list[int | None], expected: int | None
) -> None:
    for node, role, leader in zip(cluster.nodes, roles, named, strict=True):
        node.status = status(node.member.id, role, leader)
    found = cluster.leader
    assert (found.member.id if found else None) == expected


def test_how_a_process_ended(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    assert node.ending() == "running"
    node.exit = -15
    assert node.ending() == "killed by SIGTERM"
    node.exit = 0
    assert node.ending() == "exited with status 0"
    node.exit = 1
    assert node.ending() == "exited with status 1"
    node.member.log.write_text("an older line\nraft-io: node 1: it broke\n\n")
    assert node.ending() == "exited with status 1: node 1: it broke"


def test_the_table_shows_every_node(cluster: Cluster) -> None:
    cluster.nodes[0].status = status(1, "leader", term=42)
    cluster.nodes[1].status = status(2, "follower", term=42)
    output = io.StringIO()
    Console(width=80, file=output).print(table(cluster.nodes))
    rows = [line.split() for line in output.getvalue().splitlines() if "127.0.0.1" in line]
    assert rows == [
        ["1", "leader", "42", "123456789", "6", "127.0.0.1:9101", "127.0.0.1:9301"],
        ["2", "follower", "42", "123456789", "6", "127.0.0.1:9102", "127.0.0.1:9302"],
        ["3", "starting", "-", "-", "-", "127.0.0.1:9103", "127.0.0.1:9303"],
    ]


def test_a_node_is_starting_until_it_answers_or_ends() -> None:
    node = Observed(plan(Path("d"), 1, BASE)[0])
    assert node.role == "starting"
    node.answered(status(1, "follower"))
    assert node.role == "follower"
    node.answered(None)
    assert node.role == "down"
    assert Observed(node.member, exit=1).role == "down"
