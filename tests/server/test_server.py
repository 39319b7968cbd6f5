"""`RaftServer`: three of them in one process, over real sockets and real disks."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from tests.server.hosts import TICK, Trio, eventually, lone, node_id, run, trio
from tests.server.support import Recorder

from raft_io import (
    CommandError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    StorageError,
)
from raft_io.server import RaftServer, frames, requests, settings
from raft_io.storage.memfs import MemoryFileSystem

# What it is for.


def test_every_node_proposes_and_reads_what_every_other_wrote(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            for place, (node, each) in enumerate(cluster.servers.items(), 1):
                assert await each.propose(b"from %d" % node) == b"%d" % place
                for other in cluster.servers.values():
                    assert await other.read(lambda machine: len(machine.history)) == place
            assert await each.wait_for_leader() == node_id(await cluster.leader())
            assert {machine.history[0] for machine in cluster.machines.values()} == {b"from 1"}

    run(test)


def test_ten_thousand_proposals_at_once_are_each_applied_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            servers = list(cluster.servers.values())
            calls = [servers[n % 3].propose(b"%d" % n, timeout=30) for n in range(10_000)]
            places = await asyncio.gather(*calls)
            assert sorted(map(int, places)) == list(range(1, 10_001))
            history = cluster.machines[1].history
            assert [history[int(place) - 1] for place in places] == [b"%d" % n for n in range(10_000)]

    run(test)


def test_a_lost_leader_is_replaced_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            acknowledged: list[bytes] = []

            async def write(name: bytes) -> None:
                for n in range(60):
                    command = b"%s %d" % (name, n)
                    each = list(cluster.servers.values())[n % len(cluster.servers)]
                    with contextlib.suppress(TimeoutError, RaftError):
                        await each.propose(command, timeout=10)
                        acknowledged.append(command)

            writers = [asyncio.create_task(write(b"w%d" % n)) for n in range(5)]
            await eventually(lambda: len(acknowledged) > 50)
            old = node_id(await cluster.leader())
            await cluster.stop(old)
            await asyncio.gather(*writers)
            assert node_id(await cluster.leader()) != old
            await cluster.start(old)
            total = await cluster.servers[old].read(lambda machine: list(machine.history), timeout=20)
            assert set(acknowledged) <= set(total)
            assert len(set(total)) == len(total), "a command was applied twice"
            assert len(acknowledged) > 200

    run(test, seconds=60)


def test_a_follower_that_was_away_catches_up_from_its_own_directory(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            leader = await cluster.leader()
            await leader.propose(b"before")
            away = node_id(cluster.followers(leader)[0])
            await cluster.stop(away)
            for n in range(20):
                await leader.propose(b"while away %d" % n)
            back = await cluster.start(away)
            assert await back.read(lambda machine: len(machine.history), timeout=20) == 21
            assert cluster.machines[away].history == cluster.machines[node_id(leader)].history

    run(test)


def test_all_of_them_stopped_and_started_again_know_everything(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            await cluster.servers[1].propose(b"a")
        async with trio(tmp_path) as cluster:
            pass

    async def again() -> None:
        cluster = Trio(tmp_path)
        for node in cluster.peers:
            await cluster.start(node)
        assert await cluster.servers[2].propose(b"b", timeout=20) == b"2"
        for node in list(cluster.servers):
            await cluster.stop(node)

    run(test)
    run(again)


LOOPS: dict[str, Any] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop") is not None:
    LOOPS["uvloop"] = importlib.import_module("uvloop").new_event_loop


@pytest.mark.parametrize("loop", LOOPS)
def test_any_loop_serves(tmp_path: Path, loop: str) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            calls = [each.propose(b"%d" % n) for n, each in cluster.servers.items()]
            assert sorted(await asyncio.gather(*calls)) == [b"1", b"2", b"3"]
            await cluster.stop(node_id(await cluster.leader()))
            survivor = next(iter(cluster.servers.values()))
            assert await survivor.read(lambda machine: len(machine.history), timeout=20) == 3

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(test())


# Keys and errors.


def test_one_key_is_one_command_on_any_node_as_text_or_bytes(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            calls = [each.propose(b"pay", key="k") for each in cluster.servers.values() for _ in range(3)]
            assert set(await asyncio.gather(*calls)) == {b"1"}
            assert await cluster.servers[2].propose(b"something else", key=b"k") == b"1"
            assert await cluster.servers[3].propose(b"pay", key="") == b"2"
            assert await cluster.servers[1].propose(b"pay", key=b"") == b"2"
            assert await cluster.servers[1].propose(b"pay") == b"3"
            assert cluster.machines[1].history == [b"pay"] * 3

    run(test)


def test_a_refused_command_goes_back_to_its_proposer_and_the_log_moves_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            for node, each in cluster.servers.items():
                with pytest.raises(CommandError, match=f"not refuse {node}"):
                    await each.propose(b"refuse %d" % node)
                assert await each.propose(b"ok") == b"%d" % (2 * node)
            for _ in range(2):
                with pytest.raises(CommandError, match="not refuse k"):
                    await cluster.servers[2].propose(b"refuse k", key="k")

    run(test)


def test_a_key_does_not_keep_the_frames_of_a_refusal(tmp_path: Path) -> None:
    class Witness(bytes):
        pass

    async def test() -> None:
        machine = Recorder()
        async with lone(tmp_path, machine) as node:
            for _ in range(3):
                with pytest.raises(CommandError) as caught:
                    await node.propose(b"refuse", key="k")
                depth = 0
                trace = caught.value.__traceback__
                while trace is not None:
                    depth, trace = depth + 1, trace.tb_next
                assert depth < 8, "the traceback grows with every answer"
                assert all(frame.name != "apply" for frame in caught.traceback)

    run(test)


def test_any_other_exception_of_apply_stops_each_node_that_meets_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Sturdy(Recorder):
        def apply(self, command: bytes) -> bytes:
            return super().apply(command.replace(b"die", b"live"))

    async def test() -> None:
        cluster = Trio(tmp_path)
        await cluster.start(1)
        for node in (2, 3):
            await cluster.start(node, machine=Sturdy())
        await cluster.leader()
        with pytest.raises(TimeoutError):
            await cluster.servers[1].propose(b"die now")
        with pytest.raises(ZeroDivisionError):
            await cluster.servers[1].wait_stopped()
        with pytest.raises(RaftError, match="die now"):
            await cluster.servers[1].propose(b"x")
        with pytest.raises(RaftError, match="die now"):
            await cluster.servers[1].read(len)
        assert await cluster.servers[2].propose(b"go on", timeout=20) == b"2"
        assert cluster.machines[1].history == []
        for node in list(cluster.servers):
            await cluster.stop(node)

    run(test)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "bug" in record.getMessage()
    assert record.exc_info


def test_a_disk_that_fails_ends_the_node_with_one_clear_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        disk = MemoryFileSystem()
        disk.mkdir("/d")
        node = RaftServer(
            1, Recorder(), listen="127.0.0.1:0", peers={}, data_dir="/d/n", fs=disk, tick_interval=TICK
        )
        async with node:
            await node.propose(b"a")

            def fault(operation: str, path: str) -> None:
                if operation == "sync":
                    raise OSError(5, "Input/output error")

            disk.fault = fault
            with pytest.raises(TimeoutError):
                await node.propose(b"b")
            with pytest.raises(StorageError):
                await node.wait_stopped()
            with pytest.raises(StorageError, match="Input/output"):
                await node.propose(b"c")

    run(test)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    where = "/d/n/log/0000000000000001.wal"
    assert (
        errors[0]
        .getMessage()
        .endswith(f"log storage error while syncing the log: writing {where}: Input/output error")
    )
    assert not errors[0].exc_info


def test_what_a_query_raises_goes_to_its_caller_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with lone(tmp_path) as node:
            await node.propose(b"a")
            outcomes = await asyncio.gather(
                node.read(lambda machine: next(iter(()))),
                node.read(lambda machine: machine.history[7]),
                node.read(lambda machine: machine.history[0]),
                node.propose(b"b"),
                return_exceptions=True,
            )
            assert isinstance(outcomes[0], RuntimeError)
            assert isinstance(outcomes[0].__cause__, StopIteration)
            assert isinstance(outcomes[1], IndexError)
            assert list(outcomes[2:]) == [b"a", b"2"]

    run(test)


def test_a_waiter_that_raises_takes_nobody_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def succeeded(self, value: Any) -> None:
            raise ValueError("broken waiter")

        def failed(self, error: Exception) -> None:
            raise ValueError("broken waiter")

    async def test() -> None:
        async with lone(tmp_path) as node:
            await node.wait_for_leader()
            for data in (b"a", b"refuse"):
                node.submit(requests.Request(Broken(), node.deadline(5), data))
            assert await node.propose(b"b") == b"3"
            node.submit(requests.Request(Broken(), node.deadline(5), b"c"))

    run(test)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 3
    assert all(record.exc_info and "broken waiter" in str(record.exc_info[1]) for record in errors)


# Limits and misuse.


def test_the_longest_command_passes_through_any_node_and_a_longer_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME", 2 * 1024 * 1024)
    monkeypatch.setattr(settings, "MAX_FRAME", 2 * 1024 * 1024)

    async def test() -> None:
        async with trio(tmp_path, max_command_bytes=1024 * 1024, max_batch_bytes=256 * 1024) as cluster:
            follower = cluster.followers(await cluster.leader())[0]
            largest = bytes(1024 * 1024)
            assert await follower.propose(largest, key=b"k" * 1024, timeout=25) == b"1"
            with pytest.raises(ValueError, match="at most 1048576 are accepted"):
                await follower.propose(largest + b"x")
            assert await follower.propose(b"after", timeout=20) == b"2"

    run(test)


def test_what_cannot_be_proposed_is_refused_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with lone(tmp_path) as node:
            propose: Any = node.propose
            for command in ("text", None, 5, bytearray(b"x")):
                with pytest.raises(TypeError, match="command must be bytes"):
                    await propose(command)
            for key in (5, bytearray(b"x"), ("a",)):
                with pytest.raises(TypeError, match="key must be bytes or str"):
                    await propose(b"x", key=key)
            with pytest.raises(ValueError, match="a key of 1025 bytes; at most 1024 are accepted"):
                await propose(b"x", key=b"k" * 1025)
            for timeout in (float("nan"), -1):
                with pytest.raises(ValueError, match="timeout"):
                    await propose(b"x", timeout=timeout)
            assert await propose(b"x", timeout=float("inf")) == b"1"

    run(test)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"machine": object()}, TypeError),
        ({"tick_interval": 0}, ValueError),
        ({"tick_interval": 1e-6}, ValueError),
        ({"tick_interval": 0.00099}, ValueError),
        ({"tick_interval": 10.1}, ValueError),
        ({"tick_interval": 1e300}, ValueError),
        ({"tick_interval": float("nan")}, ValueError),
        ({"lease_reads": True, "lease_margin": 10}, ValueError),
        ({"lease_reads": True, "lease_margin": 0}, ValueError),
        ({"lease_reads": True, "election_timeout": (2, 20)}, ValueError),
        ({"max_command_bytes": 0}, ValueError),
        ({"max_command_bytes": 33 * 1024 * 1024}, ValueError),
        ({"listen": "nonsense"}, ValueError),
        ({"peers": {2: "nonsense"}}, ValueError),
        ({"no_such_option": 1}, TypeError),
        ({"cluster_id": ""}, ValueError),
        ({"cluster_id": "x" * 256}, ValueError),
        ({"cluster_id": 7}, TypeError),
        ({"max_batch_bytes": 64 * 1024 * 1024}, ValueError),
        ({"max_batch": 2_000_000}, ValueError),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_the_constructor(
    tmp_path: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    arguments: dict[str, Any] = {"machine": Recorder(), "listen": 0, "peers": {}, **options}
    with pytest.raises(error):
        RaftServer(1, data_dir=tmp_path, **arguments)


def test_one_turn_is_bounded_unless_told_otherwise(tmp_path: Path) -> None:
    config = lone(tmp_path).config
    assert config.max_inflight * config.max_batch_bytes <= 4 * 1024 * 1024
    assert config.max_apply_bytes <= 1024 * 1024
    told = lone(tmp_path, max_inflight=99, max_batch_bytes=9999, max_apply_bytes=0).config
    assert (told.max_inflight, told.max_batch_bytes, told.max_apply_bytes) == (99, 9999, 0)


def test_before_the_start_and_after_the_stop_every_call_is_a_clear_error(tmp_path: Path) -> None:
    async def test() -> None:
        node = lone(tmp_path)
        for _ in range(2):
            with pytest.raises(RaftError, match="not running"):
                await node.propose(b"x")
            with pytest.raises(RaftError, match="not running"):
                await node.read(len)
            with pytest.raises(RaftError, match="not running"):
                await node.wait_for_leader()
            assert node.leader is None
            await node.stop()
            if not hasattr(node, "address"):
                with pytest.raises(RaftError, match="not running"):
                    _ = node.status
                with pytest.raises(RaftError, match="not running"):
                    await node.wait_stopped()
                await node.start()
                await node.stop()
        assert node.status.id == 1

    run(test)


def test_more_than_fits_is_overload_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_WAITING_BYTES", 20_000)

    async def test() -> None:
        async with lone(tmp_path) as node:
            calls = [node.propose(b"x" * 1000) for _ in range(50)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
            assert 0 < len(refused) < 50
            assert len(refused) + len([o for o in outcomes if isinstance(o, bytes)]) == 50
            assert await node.propose(b"x") == b"%d" % (51 - len(refused))

    run(test)


# Time.


def test_without_a_majority_nothing_is_said_to_have_failed_that_may_not(tmp_path: Path) -> None:
    async def test() -> None:
        cluster = Trio(tmp_path)
        alone = await cluster.start(1)
        began = time.monotonic()
        with pytest.raises(NotLeaderError):
            await alone.propose(b"never sent", timeout=0.2)
        with pytest.raises(NotLeaderError):
            await alone.read(len, timeout=0.2)
        with pytest.raises(TimeoutError):
            await alone.wait_for_leader(timeout=0.1)
        assert time.monotonic() - began < 3
        await cluster.stop(1)

    run(test)


def test_a_leader_without_followers_answers_timeout_and_may_apply_it_later(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            leader = await cluster.leader()
            await leader.propose(b"a")
            for follower in [node_id(each) for each in cluster.followers(leader)]:
                await cluster.stop(follower)
            with pytest.raises(TimeoutError):
                await leader.propose(b"b", timeout=0.2)
            for follower in {1, 2, 3} - {node_id(leader)}:
                await cluster.start(follower)
            assert await leader.propose(b"c", timeout=20) in (b"2", b"3")

    run(test)


def test_a_caller_that_goes_away_disturbs_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            for each in cluster.servers.values():
                gone: list[asyncio.Future[Any]] = []
                gone += [asyncio.ensure_future(each.propose(b"gone")) for _ in range(20)]
                gone += [asyncio.ensure_future(each.read(lambda m: b"")) for _ in range(20)]
                gone += [asyncio.ensure_future(each.wait_stopped())]
                await asyncio.sleep(0)
                for call in gone:
                    call.cancel()
                assert int(await each.propose(b"stays")) > 0
                assert all(call.cancelled() for call in gone)
            waiting = asyncio.ensure_future(lone(tmp_path).wait_for_leader())
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    run(test)


def test_a_loop_that_was_blocked_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with trio(tmp_path) as cluster:
            calls = [asyncio.create_task(each.propose(b"x")) for each in cluster.servers.values()]
            await asyncio.sleep(0)
            time.sleep(1.0)  # noqa: ASYNC251 - a hundred ticks in which nobody hears anybody
            assert sorted(await asyncio.gather(*calls)) == [b"1", b"2", b"3"]
            assert await cluster.servers[1].read(lambda machine: len(machine.history)) == 3

    run(test)


def test_a_clock_that_goes_backwards_or_leaps_breaks_nothing(tmp_path: Path) -> None:
    offset = 0.0

    async def test() -> None:
        nonlocal offset
        async with lone(tmp_path, clock=lambda: time.monotonic() + offset) as node:
            assert await node.propose(b"a") == b"1"
            offset = -5.0
            assert await node.propose(b"b") == b"2"
            offset = 1e6
            assert await node.propose(b"c", timeout=1e7) == b"3"

    run(test)
