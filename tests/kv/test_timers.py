"""The order in which keys expire."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raft_io.kv.timers import Timers

KEY = st.integers(0, 12).map(lambda number: b"%d" % number)
CHANGE = st.tuples(KEY, st.one_of(st.none(), st.integers(0, 9)))


def drained(timers: Timers, now: int = 10**9) -> list[bytes]:
    """The keys in the order in which they expire, all of them removed."""
    keys = []
    while (key := timers.due(now)) is not None:
        keys.append(key)
        timers.drop(key)
    return keys


def test_nothing_is_due_of_nothing() -> None:
    timers = Timers()
    timers.drop(b"a")
    assert (timers.first(), timers.due(9), timers.count_due(9), len(timers)) == (None, None, 0, 0)


def test_a_key_is_due_at_its_time_and_not_before() -> None:
    timers = Timers()
    timers.set(b"a", 5)
    assert (timers.due(4), timers.due(5), timers.first()) == (None, b"a", 5)


@given(st.lists(CHANGE, max_size=60))
def test_keys_expire_in_order_of_time_and_key_however_they_came(
    changes: list[tuple[bytes, int | None]],
) -> None:
    timers = Timers()
    model: dict[bytes, int] = {}
    for key, when in changes:
        if when is None:
            timers.drop(key)
            model.pop(key, None)
        else:
            timers.set(key, when)
            model[key] = when
        assert len(timers) == len(model)
        assert timers.first() == min(model.values(), default=None)
        for now in (0, 4, 9):
            assert timers.count_due(now) == sum(when <= now for when in model.values())
    assert drained(timers) == [key for _, key in sorted((when, key) for key, when in model.items())]


def test_a_time_that_is_set_again_and_again_takes_no_room() -> None:
    timers = Timers()
    for when in range(10_000):
        timers.set(b"a", when)
    assert len(timers._keys) == len(timers._times) == len(timers._places) == 1
