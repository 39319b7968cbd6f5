"""Simulated time."""

from __future__ import annotations

from raft_io.testing.timeline import Timeline, stream


def test_things_happen_in_the_order_of_their_time_and_of_asking() -> None:
    timeline = Timeline()
    seen: list[tuple[str, float]] = []

    def note(what: str) -> None:
        seen.append((what, timeline.now))

    timeline.after(2.0, note, "last")
    timeline.after(1.0, note, "first")
    timeline.at(1.0, note, "second")
    timeline.run_until(1.5)
    assert seen == [("first", 1.0), ("second", 1.0)]
    assert timeline.now == 1.5
    timeline.run_until(3.0)
    assert seen[-1] == ("last", 2.0)


def test_what_is_late_happens_at_once_and_time_does_not_go_back() -> None:
    timeline = Timeline()
    timeline.run_until(5.0)
    seen: list[float] = []
    timeline.at(1.0, lambda: seen.append(timeline.now))
    timeline.run_until(5.0)
    assert seen == [5.0]


def test_what_happens_may_ask_for_more() -> None:
    timeline = Timeline()
    seen: list[float] = []

    def again() -> None:
        seen.append(timeline.now)
        timeline.after(1.0, again)

    timeline.after(0.0, again)
    timeline.run_until(3.0)
    assert seen == [0.0, 1.0, 2.0, 3.0]


def test_streams_are_the_same_for_a_seed_and_a_purpose_and_else_differ() -> None:
    assert stream(1, "disk", 2).random() == stream(1, "disk", 2).random()
    drawn = {stream(seed, name).random() for seed in (1, 2) for name in ("disk", "network")}
    assert len(drawn) == 4
