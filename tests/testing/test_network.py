"""The simulated network."""

from __future__ import annotations

from itertools import permutations

import pytest

from raft_io.kv.store import KeyValueStore
from raft_io.server.frames import FORWARD, MESSAGE, encode
from raft_io.testing import plan
from raft_io.testing.network import Network
from raft_io.testing.timeline import Timeline, stream
from raft_io.testing.workload import StoreWorkload
from raft_io.testing.world import World


def framed(body: bytes) -> bytes:
    return encode(MESSAGE, body)


class Room:
    """A network between three nodes, and what arrived."""

    def __init__(self, conditions: plan.Network | None = None, seed: int = 1) -> None:
        self.timeline = Timeline()
        self.arrived: list[tuple[int, int, bytes]] = []
        self.restored: list[tuple[int, int]] = []
        self.network = Network(
            self.timeline,
            stream(seed, "network"),
            conditions or plan.Network(),
            [1, 2, 3],
            lambda source, target, frames: self.arrived.extend([(source, target, each) for each in frames]),
            lambda source, target: self.restored.append((source, target)),
        )

    def send(self, count: int) -> list[bytes]:
        """Send so many frames from 1 to 2, each by itself."""
        frames = [framed(b"%d" % number) for number in range(count)]
        for frame in frames:
            self.network.send(1, 2, [frame])
        return frames

    def got(self, seconds: float = 10.0) -> list[bytes]:
        """What has arrived after a while."""
        self.timeline.run_until(self.timeline.now + seconds)
        return [frame for _, _, frame in self.arrived]


def test_frames_arrive_once_in_order_and_not_at_once() -> None:
    room = Room()
    frames = room.send(50)
    assert room.got(0.0) == []
    assert room.got() == frames
    assert room.network.delivered == 50
    assert room.network.under_way == 0


def test_a_cut_keeps_everything_that_is_sent_and_another_direction_is_open() -> None:
    room = Room()
    room.network.cut(1, 2)
    room.send(3)
    room.network.send(2, 1, [framed(b"back")])
    assert room.got() == [framed(b"back")]


def test_two_cuts_need_two_mends_and_then_the_connection_is_made_anew() -> None:
    room = Room()
    room.network.cut(1, 2)
    room.network.cut(1, 2)
    room.network.mend(1, 2)
    assert room.restored == []
    room.network.mend(1, 2)
    assert room.restored == [(1, 2)]
    assert room.got() == []
    frames = room.send(2)
    assert room.got() == frames


def test_what_a_broken_connection_held_is_lost_late_or_there() -> None:
    fates = set()
    for seed in range(20):
        room = Room(seed=seed)
        room.send(1)
        room.network.reconnect(1, 2)
        soon = bool(room.got(0.01))
        fates.add((soon, bool(room.got())))
    assert fates == {(True, True), (False, True), (False, False)}


def test_conditions_lose_double_and_reorder() -> None:
    room = Room(plan.Network(lost=0.2, doubled=0.2, late=0.2))
    frames = room.send(500)
    got = room.got()
    assert 300 < len(set(got)) < 500
    assert len(got) > len(set(got))
    first = list(dict.fromkeys(got))
    assert first != [frame for frame in frames if frame in set(got)]


def test_a_slow_connection_is_slow() -> None:
    room = Room()
    room.network.connections[1, 2].slow = 0.5
    frames = room.send(1)
    assert room.got(0.4) == []
    assert room.got() == frames


def test_healing_ends_cuts_and_losses_and_makes_all_connections_anew() -> None:
    room = Room(plan.Network(lost=1.0))
    room.network.cut(1, 3)
    room.network.heal()
    assert len(room.restored) == 6
    frames = room.send(10)
    assert room.got() == frames


def test_whoever_watches_is_told_of_all_frames_and_when_they_arrive() -> None:
    room = Room()
    seen: list[tuple[bytes, float | None]] = []
    room.network.saw = lambda source, target, frame, arrival: seen.append((frame, arrival))
    room.send(1)
    room.network.cut(1, 2)
    room.network.send(1, 2, [framed(b"lost")])
    [(first, arrival), second] = seen
    assert first == framed(b"0")
    assert arrival is not None and arrival > 0
    assert second == (framed(b"lost"), None)


def test_a_request_that_is_passed_on_never_arrives_twice() -> None:
    room = Room(plan.Network(doubled=0.9))
    for connection in room.network.connections.values():
        connection.echo = 1.0
    frames = [encode(FORWARD, b"%d" % number) for number in range(50)]
    room.network.send(1, 2, frames)
    assert room.got() == frames
    room.send(50)
    assert len(room.got()) > 150


def test_nothing_arrives_from_or_at_a_node_that_was_sent_before_its_disk_was_replaced() -> None:
    room = Room()
    before, after = framed(b"before"), framed(b"after")
    for source, target in permutations((1, 2, 3), 2):
        room.network.send(source, target, [before])
    assert room.network.under_way == 6
    room.network.replaced_disk(2)
    room.network.send(1, 2, [after])
    room.network.send(2, 1, [after])
    room.got()
    assert sorted(room.arrived) == [(1, 2, after), (1, 3, before), (2, 1, after), (3, 1, before)]
    assert room.network.under_way == 0
    assert room.network.delivered == 4


@pytest.mark.parametrize("replaced", [1, 2])
def test_what_is_late_or_comes_twice_does_not_outlast_a_disk_either(replaced: int) -> None:
    room = Room(plan.Network(doubled=0.5, late=0.5))
    room.network.connections[1, 2].echo = 1.0
    room.send(100)
    room.network.lost_node(replaced)
    came = len(room.got(0.01))
    assert 0 < came < room.network.under_way
    room.network.replaced_disk(replaced)
    assert len(room.got()) == came
    assert room.network.under_way == 0


def test_a_node_that_comes_with_an_empty_disk_hears_nothing_old(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(plan.Plan(seed=1, load=plan.Load(think=0.05)), KeyValueStore, StoreWorkload(4, 0.3), ())
    world.run(5.0)
    node = next(process for process in world.running if process is not world.leader)
    heard: list[tuple[int, int, float]] = []

    def hears(source: int, target: int, frames: list[bytes]) -> None:
        heard.append((source, target, world.now))

    monkeypatch.setattr(world.network, "_deliver", hears)
    for connection in world.network.connections.values():
        connection.slow = 1.0
    world.run(0.9)
    node.held_down += 1
    node.stop(power=True)
    node.wipe()
    replaced = world.now
    # What is sent from now on arrives later.
    world.run(0.9)
    late = [(source, target) for source, target, now in heard if now > replaced]
    assert late
    assert not [pair for pair in late if node.id in pair]
