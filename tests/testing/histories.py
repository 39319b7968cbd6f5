"""Histories to check: small and random ones, long ones of a store that does its work, and a slow checker."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace

from raft_io.testing.key_value import apply
from raft_io.testing.linearizability import Model, Operation

NAMES = ("get", "set", "setnx", "setxx", "delete", "getdel", "append", "incr")
WITH_ARGUMENT = frozenset({"set", "setnx", "setxx", "append"})


def has_an_order(history: Sequence[Operation], model: Model, relaxed: Collection[int] = ()) -> bool:
    """All orders are tried, one by one, as the definition says. What is open or relaxed may be left out."""
    numbers = range(len(history))
    asked = [history[number].opened() if number in relaxed else history[number] for number in numbers]

    def goes_on(state: Hashable, done: frozenset[int], gone: frozenset[int]) -> bool:
        left = [number for number in numbers if number not in done | gone]
        if all(asked[number].is_open for number in left):
            return True
        for number in left:
            before = [other for other in left if history[other].returned < history[number].called]
            if not all(asked[other].is_open for other in before):
                continue
            possible, after = model.step(state, asked[number])
            if possible and goes_on(after, done | {number}, gone.union(before)):
                return True
        return False

    return goes_on(model.initial(history[0].key) if history else None, frozenset(), frozenset())


def run(
    rng: random.Random, count: int, *, keys: int, clients: int, unknown: float, names: Sequence[str] = NAMES
) -> list[Operation]:
    """A history of a store: each operation takes effect at a moment between its call and its return. Of the
    `unknown` share no client hears again; half of them take effect, some of these late. No value is written
    twice.
    """
    planned: list[tuple[float, Operation]] = []
    free = [rng.random() for _ in range(clients)]
    for number in range(count):
        client = min(range(clients), key=free.__getitem__)
        called = free[client]
        effect = called + rng.expovariate(1.0)
        returned = effect + rng.expovariate(1.0)
        free[client] = returned + rng.expovariate(4.0)
        if rng.random() < unknown:
            effect = rng.choice((effect, called + rng.expovariate(0.01), math.inf, math.inf))
            returned = math.inf
        name = rng.choice(names)
        arguments = (b"v%d." % number,) if name in WITH_ARGUMENT else ()
        key = b"key %d" % rng.randrange(keys)
        planned.append((effect, Operation(client, key, name, arguments, None, called, returned)))
    return answered(planned)


def answered(planned: Sequence[tuple[float, Operation]]) -> list[Operation]:
    """The operations, with the results that they have if they take effect at the times that are planned."""
    history = [operation for _, operation in planned]
    values: dict[bytes, bytes | None] = {}
    for number in sorted(range(len(planned)), key=lambda number: planned[number][0]):
        effect, operation = planned[number]
        if effect < math.inf:
            values[operation.key], result = apply(values.get(operation.key), operation)
            history[number] = replace(operation, result=result)
    return history


def small(rng: random.Random) -> list[Operation]:
    """A few operations on one key at whole times, many of them equal; the results may or may not fit."""
    names = rng.sample(NAMES, rng.randint(1, 4))
    values = rng.sample((b"a", b"b", b"ab", b"1", b"10", b""), rng.randint(1, 3))
    planned: list[tuple[float, Operation]] = []
    for number in range(rng.randint(1, 7)):
        name = rng.choice(names)
        called = rng.randrange(6)
        returned = math.inf if rng.random() < 0.25 else called + rng.randrange(4)
        effect = called + rng.random() * min(10, returned - called)
        arguments = (rng.choice(values),) if name in WITH_ARGUMENT else ()
        planned.append((effect, Operation(number, b"k", name, arguments, None, called, returned)))
    history = answered(planned)
    for _ in range(rng.choice((0, 1, 1, 2))):
        number = rng.randrange(len(history))
        other = rng.choice(history)
        result = rng.choice((other.result, None, 0, 1, 2, rng.choice(values)))
        if history[number].name != "set":
            history[number] = replace(history[number], result=result)
    return history
