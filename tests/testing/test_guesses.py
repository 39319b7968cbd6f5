"""A guess at an order saves the search where it is right, and never changes what is found."""

from __future__ import annotations

import random
from itertools import islice, permutations

import pytest
from tests.testing.histories import answered, has_an_order, small

from raft_io.testing import draw, linearizability
from raft_io.testing.linearizability import Guess, KeyValueModel, Operation, check
from raft_io.testing.run import run

MODEL = KeyValueModel()


def guess_of(order: list[Operation]) -> Guess:
    """Each operation by its place in `order`; what is not there has none."""
    places = {id(operation): place for place, operation in enumerate(order)}
    return lambda operation: (places[id(operation)], 0) if id(operation) in places else None


def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("there was no need to search")

    monkeypatch.setattr(linearizability, "Search", refuse)


def write(client: int, value: bytes, called: float, returned: float) -> Operation:
    return Operation(client, b"k", "append", (value,), None, called, returned)


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_whatever_is_guessed_the_verdict_is_the_same(start: int) -> None:
    for seed in range(start, start + 50):
        rng = random.Random(seed)
        history = small(rng)
        sound = has_an_order(history, MODEL)
        for order in islice(permutations(history), 50):
            left_out = rng.randrange(2)
            guess = guess_of(list(order[left_out:]))
            assert (check(history, guess=guess) is None) == sound, f"seed {seed}"


def test_the_order_in_which_it_happened_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    no_search(monkeypatch)
    rng = random.Random(1)
    planned: list[tuple[float, Operation]] = []
    for number in range(500):
        effect = number + rng.random()
        called, returned = effect - 20 * rng.random(), effect + 20 * rng.random()
        returned = float("inf") if rng.random() < 0.1 else returned
        name = rng.choice(("append", "get", "incr", "delete"))
        arguments = (b"v%d" % number,) if name == "append" else ()
        planned.append((effect, Operation(number, b"k", name, arguments, None, called, returned)))
    history = answered(planned)
    order = [history[number] for number in sorted(range(500), key=lambda number: planned[number][0])]
    shuffled = rng.sample(history, len(history))
    assert check(shuffled, guess=guess_of(order)) is None


def test_a_guess_against_real_time_is_none() -> None:
    first, second = answered([(2.0, write(1, b"a", 0, 1)), (1.0, write(2, b"b", 2, 3))])
    # As if the second had come first: the results fit that order, which the times forbid.
    assert check([first, second], guess=guess_of([second, first])) is not None


def test_a_guess_that_leaves_an_answer_out_is_none() -> None:
    history = answered([(0.5, write(1, b"a", 0, 1)), (2.5, write(2, b"b", 2, 3))])
    late = [history[0], Operation(2, b"k", "append", (b"b",), 7, 2, 3)]
    assert check(late, guess=guess_of([late[0]])) is not None


def test_what_never_took_effect_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    no_search(monkeypatch)
    history = answered([(0.5, write(1, b"a", 0, 1)), (float("inf"), write(2, b"b", 0, float("inf")))])
    assert check(history, guess=guess_of([history[0]])) is None


def test_the_places_of_a_sound_run_explain_it(monkeypatch: pytest.MonkeyPatch) -> None:
    no_search(monkeypatch)
    outcome = run(draw(3))
    assert outcome.failure is None and outcome.operations >= 600
