"""The routes of a node: what they answer, what they refuse, and to whom they listen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from google_crc32c import value
from tests.server.operated import Pretended, hosted, status_of

from raft_io import Membership, Role, Snapshot, SnapshotData, Status
from raft_io.errors import (
    MembershipChangeInProgressError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    RemovedError,
    StorageError,
    TransferInProgressError,
)
from raft_io.server.address import Address
from raft_io.server.admin import status_fields
from raft_io.server.backup import BackupFile

JSON = {"content-type": "application/json"}


async def exchange(address: Address, request: bytes) -> tuple[int, bytes]:
    """Status and body of one answer."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(request)
        whole = b""
        with suppress(ConnectionResetError):
            while block := await reader.read(1 << 20):
                whole += block
        head, _, body = whole.partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()


def request(method: str, path: str, /, body: bytes = b"", **headers: str) -> bytes:
    """A request after which the connection closes."""
    given = {"host": "127.0.0.1", "connection": "close", "content-length": str(len(body))}
    given.update({name.replace("_", "-"): text for name, text in headers.items()})
    lines = [f"{method} {path} HTTP/1.1", *[f"{name}: {text}" for name, text in given.items() if text]]
    return "\r\n".join([*lines, "", ""]).encode() + body


def post(path: str, value: Any, **headers: str) -> bytes:
    """A request with a value as JSON."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return request("POST", path, body, **{"content_type": "application/json", **headers})


def answers(server: Pretended, *requests: bytes) -> list[tuple[int, Any]]:
    """What a node says to these requests."""

    async def test() -> list[tuple[int, Any]]:
        async with hosted(server) as address:
            found = [await exchange(address, each) for each in requests]
            return [(status, json.loads(body)) for status, body in found]

    return asyncio.run(asyncio.wait_for(test(), 20))


def answer(server: Pretended, data: bytes) -> tuple[int, Any]:
    """What a node says to a request."""
    return answers(server, data)[0]


def refusal(server: Pretended, data: bytes) -> tuple[int, str, str]:
    """Status, kind and message of a refusal, after which nothing was done."""
    status, body = answer(server, data)
    assert set(body) == {"error", "message", "retryable"}
    assert "\n" not in body["message"]
    return status, body["error"], body["message"]


def test_every_field_of_the_status() -> None:
    fields = status_fields(status_of(), "mine", {"resp": "127.0.0.1:7001"})
    assert json.loads(json.dumps(fields)) == {
        "id": 1,
        "cluster_id": "mine",
        "role": "leader",
        "term": 4,
        "leader": 1,
        "voted_for": 1,
        "commit_index": 60,
        "last_applied": 50,
        "last_index": 70,
        "last_term": 4,
        "stable_index": 65,
        "uncommitted_bytes": 100,
        "membership": {"voters": [1, 2, 3], "learners": [4], "outgoing": []},
        "followers": [
            {
                "id": 2,
                "state": "replicate",
                "match_index": 60,
                "next_index": 71,
                "inflight": 1,
                "part": "voter",
                "silent": 0,
                "snapshot_offset": 0,
            },
            {
                "id": 3,
                "state": "probe",
                "match_index": 0,
                "next_index": 1,
                "inflight": 0,
                "part": "voter",
                "silent": 30,
                "snapshot_offset": 0,
            },
            {
                "id": 4,
                "state": "snapshot",
                "match_index": 10,
                "next_index": 11,
                "inflight": 1,
                "part": "learner",
                "silent": 0,
                "snapshot_offset": 5,
            },
        ],
        "snapshot_index": 40,
        "snapshot_term": 3,
        "transfer_target": None,
        "address": {"resp": "127.0.0.1:7001"},
    }
    assert set(Status.__match_args__) <= set(fields)


def test_what_a_node_says_of_itself() -> None:
    server = Pretended()
    (ok, status), (_, members) = answers(server, request("GET", "/status"), request("GET", "/members"))
    assert ok == 200
    assert status["commit_index"] == 60
    assert status["addresses"]["4"] == "127.0.0.1:7104"
    assert status["address"]["http"].startswith("127.0.0.1:")
    assert members == {
        "voters": [1, 2, 3],
        "learners": [4],
        "outgoing": [],
        "addresses": {str(node): f"127.0.0.1:710{node}" for node in (1, 2, 3, 4)},
        "leader": 1,
    }


def test_a_node_that_runs_is_healthy() -> None:
    async def test() -> tuple[int, bytes]:
        async with hosted(Pretended()) as address:
            return await exchange(address, request("GET", "/healthz"))

    assert asyncio.run(test()) == (200, b"ok\n")


def test_a_node_tells_how_the_others_are() -> None:
    server = Pretended()
    server.silent = {2, 3}
    status, cluster = answer(server, request("GET", "/cluster?timeout=0.5"))
    assert (status, cluster["cluster_id"], cluster["asked"]) == (200, "shop", 1)
    assert [node["id"] for node in cluster["nodes"]] == [1, 2, 3, 4]
    assert [node["address"] for node in cluster["nodes"]] == [f"127.0.0.1:710{node}" for node in (1, 2, 3, 4)]
    states = [node["status"] for node in cluster["nodes"]]
    assert states[1] is None and states[2] is None
    assert (states[0]["role"], states[3]["role"], states[3]["id"]) == ("leader", "follower", 4)


def test_a_node_that_never_answers_costs_no_more_than_the_time_it_is_given() -> None:
    class Stuck(Pretended):
        async def ask(self, node: int, kind: str, body: Any, *, timeout: float = 10.0) -> Any:
            await asyncio.Event().wait()

    _, cluster = answer(Stuck(), request("GET", "/cluster?timeout=0.1"))
    assert [node["status"] is None for node in cluster["nodes"]] == [False, True, True, True]


def test_a_node_that_was_removed_still_tells_of_itself() -> None:
    server = Pretended()
    server.status = status_of(9, Role.FOLLOWER, followers=[])
    _, cluster = answer(server, request("GET", "/cluster"))
    assert [node["id"] for node in cluster["nodes"]] == [1, 2, 3, 4, 9]


def test_the_membership_is_changed_as_asked() -> None:
    server = Pretended()
    body = {"voters": [4, 1, 2], "learners": [5], "addresses": {"4": "10.0.0.4:7104", "5": "[::1]:7105"}}
    status, said = answer(server, post("/members?timeout=2.5", body))
    assert (status, said["voters"], said["learners"]) == (200, [1, 2, 4], [5])
    assert said["addresses"]["5"] == "[::1]:7105"
    assert server.asked == [("change", [1, 2, 4], [5], {4: "10.0.0.4:7104", 5: "[::1]:7105"}, 2.5)]


def test_a_part_of_the_membership_is_changed() -> None:
    server = Pretended()
    assert answer(server, post("/members", {"addresses": {"2": "10.0.0.2:7102"}}))[0] == 200
    assert answer(server, post("/members", {"learners": []}))[0] == 200
    assert [each[1:4] for each in server.asked] == [
        (None, None, {2: "10.0.0.2:7102"}),
        (None, [], {}),
    ]


def test_leadership_is_handed_over_as_asked() -> None:
    server = Pretended()
    said = answers(
        server, post("/transfer", {"target": 3}), post("/transfer", {}), post("/transfer", {"target": None})
    )
    assert said == [(200, {"leader": 3}), (200, {"leader": 2}), (200, {"leader": 2})]
    assert [each[1] for each in server.asked] == [3, None, None]


def test_a_snapshot_is_taken_as_asked() -> None:
    server = Pretended()
    assert answer(server, post("/snapshot?timeout=5", {})) == (200, {"id": 1, "index": 50})
    assert server.asked == [("snapshot", 5.0)]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/members", b"", (400, "the body is no JSON: ")),
        ("/members", b"{", (400, "the body is no JSON: ")),
        ("/members", b"\xff", (400, "the body is no JSON: ")),
        ("/members", b"[" * 60_000, (400, "the body is no JSON: ")),
        ("/members", b'{"voters": [1], "voters": [2]}', (400, "the body is no JSON: a name comes twice")),
        ("/members", b'{"voters": [NaN]}', (400, "the body is no JSON: NaN is no number")),
        ("/members", [1], (422, "the body must be a JSON object")),
        ("/members", {}, (422, "nothing to change was named")),
        ("/members", {"voter": [1]}, (422, "unknown member 'voter'")),
        ("/members", {"voters": []}, (422, "voters must name at least one node")),
        ("/members", {"voters": 1}, (422, "voters must be a list of ids")),
        ("/members", {"voters": ["1"]}, (422, "an id in voters must be a whole number")),
        ("/members", {"voters": [True]}, (422, "an id in voters must be a whole number")),
        ("/members", {"voters": [1.0]}, (422, "an id in voters must be a whole number")),
        ("/members", {"voters": [-1]}, (422, "an id in voters must be in 0 .. ")),
        ("/members", {"voters": [2**63]}, (422, "an id in voters must be in 0 .. ")),
        ("/members", {"voters": [1, 1]}, (422, "voters holds an id twice")),
        ("/members", {"voters": list(range(1001))}, (422, "voters must be a list of ids")),
        ("/members", {"voters": [1], "addresses": []}, (422, "addresses must be an object")),
        (
            "/members",
            {"voters": [1], "addresses": {"a": "a:1"}},
            (422, "addresses holds 'a', which is no id"),
        ),
        (
            "/members",
            {"voters": [1], "addresses": {"01": "a:1"}},
            (422, "addresses holds '01', which is no id"),
        ),
        (
            "/members",
            {"voters": [1], "addresses": {"1": "7101"}},
            (422, "the address of node 1 must be host:"),
        ),
        (
            "/members",
            {"voters": [1], "addresses": {"1": "a:0"}},
            (422, "the address of node 1 must be host:"),
        ),
        (
            "/members",
            {"voters": [1], "addresses": {"1": 5}},
            (422, "the address of node 1 must be host:port"),
        ),
        ("/members?timeout=0", {"voters": [1]}, (400, "timeout must be above 0")),
        ("/members?timeout=x", {"voters": [1]}, (400, "timeout must be above 0")),
        ("/members?timeout=nan", {"voters": [1]}, (400, "timeout must be above 0")),
        ("/members?later=1", {"voters": [1]}, (400, "there is no parameter 'later'")),
        ("/members?timeout", {"voters": [1]}, (400, "the query makes no sense")),
        ("/transfer", {"target": "2"}, (422, "target must be a whole number")),
        ("/transfer", {"to": 2}, (422, "unknown member 'to'")),
        ("/snapshot", {"now": True}, (422, "unknown member 'now'")),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_done(
    path: str, body: Any, expected: tuple[int, str]
) -> None:
    server = Pretended()
    status, _, message = refusal(server, post(path, body))
    assert status == expected[0]
    assert message.startswith(expected[1])
    assert server.asked == []


@pytest.mark.parametrize(
    "path", ["/status?x=1", "/members?x=1", "/cluster?x=1", "/backup?x=1", "/backup?local=1"]
)
def test_parameters_that_there_are_not_are_refused(path: str) -> None:
    assert refusal(Pretended(), request("GET", path))[0] == 400


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content_type": ""}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        # What a browser adds for a page of another site, of no site, and of a name that leads here.
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://127.0.0.1"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "http://evil.example:7201", "host": "evil.example:7201"}, 421),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example:7201"}, 421),
        ({"host": "[::1].evil.example"}, 421),
    ],
)
@pytest.mark.parametrize("path", ["/members", "/transfer", "/snapshot"])
def test_who_may_not_mean_it_is_refused(path: str, headers: dict[str, str], expected: int) -> None:
    server = Pretended()
    body = {"voters": [1]} if path == "/members" else {}
    assert refusal(server, post(path, body, **headers))[0] == expected
    assert server.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "Application/JSON; charset=utf-8"},
        {"origin": "http://127.0.0.1:7201", "host": "127.0.0.1:7201"},
        {"host": "localhost:1"},
        {"host": "DB1.internal:7201"},
        {"host": "10.1.2.3:7201"},
        {"host": "[fe80::1]:7201"},
        {"host": "[::1]"},
    ],
)
def test_who_means_it_may(headers: dict[str, str]) -> None:
    server = Pretended()
    assert answer(server, post("/snapshot", {}, **headers))[0] == 200


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"host": "evil.example"}])
def test_no_page_can_fetch_the_data_but_anybody_may_watch(headers: dict[str, str]) -> None:
    server = Pretended()
    assert refusal(server, request("GET", "/backup", b"", **headers))[0] in (403, 421)
    assert server.asked == []
    assert answer(server, request("GET", "/status", b"", **headers))[0] == 200


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotLeaderError(None), (503, "NotLeader", True)),
        (OverloadedError(), (503, "Overloaded", True)),
        (TransferInProgressError(), (503, "TransferInProgress", True)),
        (MembershipChangeInProgressError(), (409, "MembershipChangeInProgress", True)),
        (RemovedError(), (410, "Removed", False)),
        (StorageError("sync log", "device busy"), (500, "Storage", False)),
        (RaftError("the server stops"), (500, "Raft", False)),
        (TimeoutError(), (504, "Timeout", True)),
        (ValueError("node 9 is no voter"), (422, "Refused", False)),
    ],
)
@pytest.mark.parametrize(
    ("path", "body"), [("/members", {"voters": [1]}), ("/transfer", {}), ("/snapshot", {})]
)
def test_errors_of_the_node_are_told(
    error: Exception, expected: tuple[int, str, bool], path: str, body: Any
) -> None:
    server = Pretended()
    server.failure = error
    status, said = answer(server, post(path, body))
    assert (status, said["error"], said["retryable"]) == expected
    assert said["message"] == str(error) or isinstance(error, TimeoutError)


class Held(SnapshotData):
    """A snapshot's contents that are made as they are read."""

    PATTERN = bytes(range(251)) * 5000

    def __init__(self, size: int, checksum: int = 0, *, ends: int | None = None) -> None:
        self.size = size
        self.checksum = checksum
        self._ends = size if ends is None else ends

    def read(self, offset: int, size: int, /) -> bytes:
        start = offset % 251
        return self.PATTERN[start : start + max(0, min(size, self._ends - offset))]


def backed_up(server: Pretended, path: str = "/backup") -> tuple[int, bytes]:
    """The answer to a request for a backup."""

    async def test() -> tuple[int, bytes]:
        async with hosted(server) as address:
            return await exchange(address, request("GET", path))

    return asyncio.run(asyncio.wait_for(test(), 20))


@contextmanager
def opened(data: bytes, folder: Path) -> Iterator[BackupFile]:
    """The backup in these bytes."""
    path = folder / "backup"
    path.write_bytes(data)
    with path.open("rb") as file:
        yield BackupFile(file, str(path))


def test_a_backup_is_a_fresh_snapshot(tmp_path: Path) -> None:
    server = Pretended()
    held = Held(1_000_000)
    server.snapshot = Snapshot(50, 4, Membership([1, 2, 3], [4], [5]), held)
    status, body = backed_up(server, "/backup?timeout=7")
    assert status == 200
    # Nothing that was acknowledged before is missing: first a linearizable point, then the snapshot.
    assert server.asked == [("read", 7.0), ("snapshot", 7.0)]
    with opened(body, tmp_path) as found:
        found.verify()
        backup = found.backup
        assert (backup.cluster_id, backup.node, backup.index, backup.term) == ("shop", 1, 50, 4)
        assert backup.membership == Membership([1, 2, 3], [4], [5])
        assert found.read(0, 2_000_000) == held.read(0, 1_000_000)
        assert backup.total == len(body)


def test_a_backup_of_what_a_node_has_needs_no_leader(tmp_path: Path) -> None:
    server = Pretended()
    server.snapshot = Snapshot(50, 4, Membership([1]), b"state")
    _, body = backed_up(server, "/backup?local=true")
    assert [each[0] for each in server.asked] == ["snapshot"]
    with opened(body, tmp_path) as found:
        found.verify()
        assert found.read(1, 100) == b"tate"


def test_there_is_no_backup_of_nothing() -> None:
    assert refusal(Pretended(), request("GET", "/backup"))[0] == 409


def test_a_backup_without_a_leader_is_an_error() -> None:
    server = Pretended()
    server.failure = NotLeaderError(None)
    assert refusal(server, request("GET", "/backup"))[:2] == (503, "NotLeader")


@pytest.mark.parametrize(
    "held", [Held(1_000_000, 1 << 40 | 7), Held(1_000_000, ends=900_000)], ids=["damaged", "short"]
)
def test_a_snapshot_that_cannot_be_read_makes_no_whole_backup(
    held: Held, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Pretended()
    server.snapshot = Snapshot(50, 4, Membership([1]), held)
    status, body = backed_up(server)
    assert status == 200
    with pytest.raises(StorageError, match="should have"), opened(body, tmp_path):
        pass
    assert "cut short" in caplog.text


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (0, "it is no backup"),
        (8, "it has version 254"),
        (10, "its header makes no sense|its header is damaged"),
        (20, "its header is damaged"),
        (-1, "do not match their checksum"),
        (-500, "do not match their checksum"),
    ],
)
def test_a_backup_that_was_damaged_is_refused(place: int, message: str, tmp_path: Path) -> None:
    server = Pretended()
    server.snapshot = Snapshot(50, 4, Membership([1]), Held(10_000))
    data = bytearray(backed_up(server)[1])
    data[place] ^= 0xFF
    with pytest.raises(StorageError, match=message), opened(bytes(data), tmp_path) as found:
        found.verify()


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b"no JSON",
        b'{"cluster_id": 5}',
        b'{"cluster_id": "a", "voters": 1, "learners": [], "outgoing": []}',
        b'{"cluster_id": "a", "voters": [1], "learners": [], "outgoing": [], "node": "1"}',
    ],
)
def test_a_header_that_makes_no_sense_is_refused(header: bytes, tmp_path: Path) -> None:
    head = b"RAFTBKUP" + (1).to_bytes(2, "little") + len(header).to_bytes(4, "little") + header
    data = head + value(head).to_bytes(4, "little")
    with pytest.raises(StorageError, match="its header makes no sense"), opened(data, tmp_path):
        pass


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    data = b"RAFTBKUP" + (1).to_bytes(2, "little") + b"\xff" * 4
    with pytest.raises(StorageError, match="its header makes no sense"), opened(data, tmp_path):
        pass


@pytest.mark.parametrize("cut", [1, 4, 5000, 10_100])
def test_a_backup_that_was_cut_short_is_refused(cut: int, tmp_path: Path) -> None:
    server = Pretended()
    server.snapshot = Snapshot(50, 4, Membership([1]), Held(10_000))
    data = backed_up(server)[1][:-cut]
    with pytest.raises(StorageError), opened(data, tmp_path):
        pass
