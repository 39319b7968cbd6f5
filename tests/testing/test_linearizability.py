"""Good histories pass; bad ones are refused with a small, honest counter-example; hard ones are named."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest
from tests.testing.histories import NAMES, WITH_ARGUMENT, has_an_order, run, small

from raft_io.kv import resp
from raft_io.kv.commands import execute
from raft_io.kv.keyspace import Keyspace
from raft_io.testing.key_value import apply
from raft_io.testing.linearizability import KeyValueModel, Nonlinearizable, Operation, UndecidedError, check
from raft_io.testing.wing_gong import Search

MODEL = KeyValueModel()


def op(
    times: str, name: str, *arguments: bytes, gives: Any = None, client: int = 0, key: bytes = b"k"
) -> Operation:
    """`times`: `"1-2"`, or `"1-"` if the answer never came."""
    called, _, returned = times.partition("-")
    return Operation(client, key, name, arguments, gives, float(called), float(returned or "inf"))


SET_A = op("0-1", "set", b"a")
SET_B = op("2-3", "set", b"b")

BAD = {
    "stale read": [SET_A, SET_B, op("4-5", "get", gives=b"a")],
    "reads go back": [
        SET_A,
        op("2-9", "set", b"b"),
        op("3-4", "get", gives=b"b"),
        op("5-6", "get", gives=b"a"),
    ],
    "lost update": [op("0-1", "incr", gives=1), op("2-5", "incr", gives=2), op("3-6", "incr", gives=2)],
    "value from nowhere": [op("4-5", "get", gives=b"x")],
    "write that began later": [op("0-1", "get", gives=b"a"), op("2-3", "set", b"a")],
    "acknowledged write lost": [SET_A, op("2-3", "get", gives=None)],
    "incr done twice": [op("0-1", "incr", gives=1), op("2-3", "get", gives=b"2")],
    "append done twice": [op("0-1", "append", b"x", gives=1), op("2-3", "get", gives=b"xx")],
    "unanswered append done twice": [op("0-", "append", b"x"), op("2-3", "get", gives=b"xx")],
    "unanswered write undone": [
        SET_A,
        op("2-", "set", b"b"),
        op("3-4", "get", gives=b"b"),
        op("5-6", "get", gives=b"a"),
    ],
    "unanswered write before its call": [op("0-1", "get", gives=b"a"), op("2-", "set", b"a")],
    "two first ones": [op("0-5", "setnx", b"a", gives=1), op("1-6", "setnx", b"b", gives=1)],
    "deleted twice": [SET_A, op("2-5", "delete", gives=1), op("3-6", "getdel", gives=b"a")],
    "set although missing": [op("0-1", "setxx", b"a", gives=True)],
    "not set although there": [SET_A, op("2-3", "setxx", b"b", gives=None)],
    "length of nothing": [op("0-1", "append", b"abc", gives=4)],
    "error of an integer": [op("0-1", "set", b"7"), op("2-3", "incr", gives="error")],
    "result of another kind": [op("0-1", "incr", gives=b"1")],
}
"""Each of them is its own smallest counter-example, but for those in `NEEDLESS`."""

NEEDLESS = {"write that began later": 1, "unanswered write before its call": 1, "incr done twice": 1}
"""How many."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_refused(name: str) -> None:
    history = BAD[name]
    found = check(history)
    assert found is not None
    assert found.is_minimal
    assert set(found.operations) <= set(history)
    assert len(found.operations) == len(history) - NEEDLESS.get(name, 0)


NOISE = [
    op("0.1-0.2", "get", gives=None, client=5),
    op("10-11", "set", b"z", client=6),
    op("12-13", "get", gives=b"z", client=7),
    op("14-", "set", b"y", client=8),
    op("15-16", "get", gives=b"z", client=7),
]


@pytest.mark.parametrize(
    "name", ["stale read", "acknowledged write lost", "append done twice", "reads go back"]
)
def test_a_counter_example_holds_nothing_of_the_rest(name: str) -> None:
    bare, noisy = check(BAD[name]), check([*NOISE, *BAD[name], op("0-1", "set", b"other", key=b"other")])
    assert bare is not None
    assert noisy is not None
    assert bare.operations == noisy.operations
    assert noisy.key == b"k"


GOOD = {
    "nothing at all": [],
    "unknown write seen late": [
        op("0-", "set", b"u"),
        SET_B,
        op("4-5", "get", gives=b"b"),
        op("9-9", "get", gives=b"u"),
    ],
    "unknown write never seen": [SET_A, op("2-", "set", b"u"), op("3-4", "get", gives=b"a")],
    "unknown append seen by its length": [op("0-", "append", b"xy"), op("9-9", "append", b"z", gives=3)],
    "unknown write seen by its being there": [
        op("0-", "set", b"u"),
        op("1-2", "setnx", b"a", gives=1),
        op("3-4", "delete", gives=1),
        op("5-6", "setnx", b"b", gives=0),
    ],
    "unknown delete between two": [SET_A, op("2-", "delete"), op("3-4", "setnx", b"b", gives=1)],
    "unknown delete then write": [
        op("0-", "delete"),
        SET_A,
        op("2-3", "get", gives=None),
        op("4-5", "setnx", b"c", gives=1),
    ],
    "unknown setxx needs another unknown write": [
        op("0-", "set", b"u"),
        op("0-", "setxx", b"v"),
        op("1-2", "get", gives=None),
        op("3-4", "get", gives=b"v"),
    ],
    "unknown increments, each once": [op("0-", "incr"), op("0-", "incr"), op("1-2", "incr", gives=3)],
    "concurrent writes, first one first": [
        op("0-9", "set", b"a"),
        op("1-9", "set", b"b"),
        op("2-3", "get", gives=b"a"),
        op("4-5", "get", gives=b"b"),
    ],
    "concurrent writes, last one first": [
        op("0-9", "set", b"a"),
        op("1-9", "set", b"b"),
        op("2-3", "get", gives=b"b"),
        op("4-5", "get", gives=b"a"),
    ],
    "read of a write that is not answered yet": [op("0-9", "set", b"a"), op("1-2", "get", gives=b"a")],
    "the same value once more": [SET_A, SET_B, op("4-5", "set", b"a"), op("6-7", "get", gives=b"a")],
    "returned as the other was called": [SET_A, op("1-2", "get", gives=None)],
    "keys apart": [SET_A, op("2-3", "get", gives=None, key=b"other")],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name: str) -> None:
    assert check(GOOD[name]) is None


@pytest.mark.parametrize("name", ["unknown write seen late", "concurrent writes, last one first"])
def test_the_order_in_which_a_history_is_listed_has_no_part(name: str) -> None:
    assert check(GOOD[name][::-1]) is None
    assert check(BAD["stale read"][::-1]) is not None


def test_the_text_tells_what_happened() -> None:
    stale = [replace(operation, client=number) for number, operation in enumerate(BAD["stale read"])]
    assert str(check(stale)) == (
        "not linearizable: no order of these operations on key b'k' explains their results\n"
        "    1  client 0    0.000000 .. 1.000000  set(b'a') -> None\n"
        "    2  client 1    2.000000 .. 3.000000  set(b'b') -> None\n"
        "    3  client 2    4.000000 .. 5.000000  get() -> b'a'\n"
        "the longest order that holds is 1: it leads to b'a', without 2, 3"
    )
    assert str(check(BAD["value from nowhere"])).endswith("none of them can be the first: the state is None")
    text = str(check([op("0-", "append", b"x"), op("2-3", "get", gives=b"x" * 500)]))
    assert "never  append(b'x') -> unknown" in text
    assert "(503 characters)" in text
    assert max(len(line) for line in text.splitlines()) < 200


def test_the_writer_of_what_was_seen_is_shown_even_if_nothing_depends_on_it() -> None:
    found = check([*(op(f"{n}-{n}.5", "incr", gives=n) for n in range(1, 30)), op("40-41", "incr", gives=29)])
    assert found is not None
    assert [operation.result for operation in found.operations] == [28, 29, 29]


def holds(found: Nonlinearizable, history: list[Operation]) -> bool:
    """Whether this is a counter-example whatever the rest did, and none of it is needless."""
    kept = [number for number, one in enumerate(history) if any(one is other for other in found.operations)]
    rest = {*range(len(history))}.difference(kept)
    if has_an_order(found.operations, MODEL) or has_an_order(history, MODEL, rest):
        return False
    return all(
        has_an_order(history, MODEL, rest | {number}) or is_a_writer(history[number], found.operations)
        for number in kept
    )


def is_a_writer(one: Operation, operations: list[Operation]) -> bool:
    """Whether it alone may have left what another one saw."""
    for reader in operations:
        seen = None if reader.is_open else MODEL.saw(reader)
        if seen is not None and reader is not one:
            others = [
                other for other in operations if other is not reader and other.called <= reader.returned
            ]
            if [other for other in others if MODEL.left(other, seen)] == [one]:
                return True
    return False


@pytest.mark.parametrize("start", range(0, 6000, 1000))
def test_small_histories_are_judged_as_all_their_orders_are(start: int) -> None:
    good = bad = 0
    for seed in range(start, start + 1000):
        history = small(random.Random(seed))
        found = check(history)
        assert (found is None) == has_an_order(history, MODEL), f"seed {seed}: {history}"
        if found is None:
            good += 1
        else:
            bad += 1
            assert found.is_minimal
            assert holds(found, history), f"seed {seed}: {history}\n{found}"
    assert good > 300
    assert bad > 300


class Plain:
    """The model, without all that it knows besides."""

    def initial(self, key: bytes) -> Hashable:
        return MODEL.initial(key)

    def step(self, state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
        return MODEL.step(state, operation)


def test_relaxed_operations_take_effect_in_their_time_or_never() -> None:
    outcomes = [0, 0]
    for seed in range(3000):
        rng = random.Random(seed)
        history = small(rng)
        relaxed = {number for number in range(len(history)) if rng.random() < 0.4}
        expected = has_an_order(history, MODEL, relaxed)
        assert Search(history, MODEL, relaxed).run(10**6) == expected, f"seed {seed}"
        assert Search(history, Plain(), relaxed).run(10**6) == expected, f"seed {seed}"
        outcomes[expected] += 1
    assert min(outcomes) > 300


def test_a_relaxed_operation_that_ends_later_does_not_stand_for_one_that_ends_soon() -> None:
    history = [
        op("0-9", "incr"),
        op("0.5-2", "incr"),
        op("3-4", "incr", gives=2),
        op("5-6", "incr", gives=4),
    ]
    assert has_an_order(history, MODEL, {0, 1})
    assert Search(history, MODEL, {0, 1}).run(1000)


def test_a_writer_that_returned_late_is_judged_with_all_that_was_called_until_then() -> None:
    history = [
        op("1-3", "incr", gives=1),
        op("1-4", "incr", gives=4),
        op("2-2", "incr", gives=None),
        op("3-5", "incr", gives=3),
    ]
    found = check(history)
    assert found is not None
    assert history[2] in found.operations
    assert holds(found, history)


def test_a_model_of_ones_own() -> None:
    assert check(BAD["stale read"], Plain()) is not None
    assert check(GOOD["unknown write seen late"], Plain()) is None


MIXES = {
    "all": NAMES,
    "registers": ("get", "get", "set"),
    "lists": ("get", "append"),
    "counters": ("get", "incr"),
    "locks": ("get", "setnx", "delete"),
}


@pytest.mark.parametrize("mix", MIXES)
def test_a_long_history_is_checked_in_a_moment(mix: str) -> None:
    history = run(random.Random(1), 10_000, keys=20, clients=10, unknown=0.1, names=MIXES[mix])
    began = time.process_time()
    assert check(history) is None
    taken = time.process_time() - began
    print(f"{mix}: {taken:.2f} s")
    assert taken < 10


def with_a_stale_read(count: int, keys: int) -> tuple[list[Operation], Operation]:
    """A history in which the last read of a key is answered as the first one was, and that read."""
    history = run(random.Random(2), count, keys=keys, clients=10, unknown=0.1, names=("get", "set"))
    reads = [
        number
        for number, one in enumerate(history)
        if one.name == "get" and one.key == b"key 0" and not one.is_open and one.result is not None
    ]
    history[reads[-1]] = replace(history[reads[-1]], result=history[reads[0]].result)
    return history, history[reads[-1]]


def test_a_stale_read_in_a_long_history_is_cut_out() -> None:
    history, stale = with_a_stale_read(4000, keys=8)
    found = check(history)
    assert found is not None
    assert found.is_minimal
    assert [one.name for one in found.operations] == ["set", "set", "get"]
    assert found.operations[-1] is stale


def test_a_counter_example_that_may_be_too_long_says_so() -> None:
    history, stale = with_a_stale_read(300, keys=1)
    search = Search(history, MODEL)
    assert not search.run(10**6)
    found = check(history, limit=search.steps)
    assert found is not None
    assert not found.is_minimal
    assert len(found.operations) > 3
    assert stale in found.operations
    assert not Search(found.operations, MODEL).run(10**6)


def hard() -> list[Operation]:
    """Nothing but the search of all subsets tells that these lengths do not add up."""
    pieces = [op("0-", "append", b"x" * (2 * number + 2)) for number in range(40)]
    return [*pieces, op("1-2", "append", b"y", gives=1002)]


def test_what_takes_too_long_is_said_to_be_undecided() -> None:
    with pytest.raises(UndecidedError) as caught:
        check(hard(), limit=5000)
    assert (caught.value.key, caught.value.limit) == (b"k", 5000)
    assert str(caught.value) == "undecided after 5000 steps: the operations on key b'k'"


def test_a_violation_of_another_key_counts_more_than_an_undecided_one() -> None:
    elsewhere = [replace(operation, key=b"other") for operation in BAD["stale read"]]
    found = check([*hard(), *elsewhere], limit=5000)
    assert found is not None
    assert found.key == b"other"


@pytest.mark.parametrize(
    ("called", "returned"), [(2.0, 1.0), (math.nan, 1.0), (1.0, math.nan), (math.inf, math.inf)]
)
def test_times_that_cannot_be_are_refused(called: float, returned: float) -> None:
    with pytest.raises(ValueError, match=r"get of client 3: called .*, returned .*"):
        Operation(3, b"k", "get", (), None, called, returned)


def test_a_name_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="no operation of a key: 'gte'"):
        check([op("0-1", "gte")])


COMMANDS = {"setxx": "SET", "delete": "DEL"}


def reply(name: str, result: Any) -> bytes:
    """How the store says it."""
    if result == "error":
        return b"-ERR "
    if name == "set" or result is True:
        return resp.OK
    if result is None:
        return resp.null(2)
    return resp.integer(result) if isinstance(result, int) else resp.bulk(result)


def test_the_model_does_what_the_store_does() -> None:
    rng = random.Random(7)
    values = [b"", b"a", b"0", b"-0", b"007", b"-", b"-1", b" 1", b"+1", b"1_0", b"9223372036854775806"]
    values += [b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808"]
    errors = 0
    for _ in range(300):
        space, value = Keyspace(), None
        for _ in range(20):
            name = rng.choice((*NAMES, "incr"))
            arguments = (rng.choice(values),) if name in WITH_ARGUMENT else ()
            value, result = apply(value, op("0-1", name, *arguments))
            words = [COMMANDS.get(name, name.upper()).encode(), b"k", *arguments]
            got = execute(space, [[*words, b"XX"] if name == "setxx" else words], 2)
            assert got.startswith(reply(name, result)), (name, arguments)
            assert space.get(b"k") == value
            errors += result == "error"
    assert errors > 100
