"""Whether what clients saw can be explained by a store that does one operation after the other.

A history is linearizable if each operation can be given one moment between its call and its return, so that
done in the order of these moments, one by one, they have the results that the clients saw. An operation whose
answer never came may have taken effect at any time after its call, or never. Keys are independent of each
other, and are checked one by one.

An operation that returned at the very instant at which another one was called is not before it: the two count
as concurrent. A clock that is too coarse can so hide a violation, but never makes one up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Final, final

from raft_io.testing.histories import Focus, Focusing, Model
from raft_io.testing.key_value import KeyValueModel
from raft_io.testing.operation import Operation
from raft_io.testing.wing_gong import OutOfStepsError, Search

__all__ = [
    "Focus",
    "Focusing",
    "KeyValueModel",
    "Model",
    "Nonlinearizable",
    "Operation",
    "UndecidedError",
    "check",
]

MODEL: Final = KeyValueModel()

LIMIT: Final = 2_000_000
"""Steps of the search of one key. They take some seconds, and up to a few hundred MB."""

LONGEST_SHOWN: Final = 80
"""Characters of a value in a text."""


class UndecidedError(Exception):
    """The search of `key` ended after `limit` steps: whether its history is linearizable is not known.

    No `RaftError`: who expects those of a cluster under test must not take this for one of them.
    """

    def __init__(self, key: bytes, limit: int) -> None:
        super().__init__(key, limit)
        self.key = key
        self.limit = limit

    def __str__(self) -> str:
        return f"undecided after {self.limit} steps: the operations on key {self.key!r}"


@final
class Nonlinearizable:
    """Operations of one key that no order explains, by the times of their calls: the counter-example.

    They are no less of one for what was left out: no order explains them even if each operation that is not
    here had any result, and took effect at any time between its call and its return, or never. Leaving out
    any one more would change that; or it is the write that left a value that another one saw.

    `is_minimal`: false if the steps ran out before all of that was tried; some may then be needless.
    """

    def __init__(self, key: bytes, operations: list[Operation], is_minimal: bool, model: Model) -> None:
        self.key = key
        self.operations = operations
        self.is_minimal = is_minimal
        self._order: list[int] = []
        self._state = model.initial(key)
        self._explain(model)

    def _explain(self, model: Model) -> None:
        search = Search(self.operations, model)
        try:
            search.run(LIMIT)
        except OutOfStepsError:
            return
        self._order = search.longest
        for number in self._order:
            _, self._state = model.step(self._state, self.operations[number])

    def __str__(self) -> str:
        lines = [f"not linearizable: no order of these operations on key {self.key!r} explains their results"]
        width = max(len(f"{operation.returned:.6f}") for operation in self.operations)
        for number, operation in enumerate(self.operations, start=1):
            arguments = ", ".join(_show(argument) for argument in operation.arguments)
            returned = "never" if operation.is_open else f"{operation.returned:.6f}"
            result = "unknown" if operation.is_open else _show(operation.result)
            times = f"{operation.called:>{width}.6f} .. {returned:>{width}}"
            call = f"{operation.name}({arguments}) -> {result}"
            lines.append(f"  {number:>3}  client {operation.client:<3}  {times}  {call}")
        lines.append(self._verdict())
        return "\n".join(lines)

    def _verdict(self) -> str:
        rest = [
            str(number)
            for number, operation in enumerate(self.operations, start=1)
            if number - 1 not in self._order and not operation.is_open
        ]
        if not self._order:
            return f"none of them can be the first: the state is {_show(self._state)}"
        order = ", ".join(str(number + 1) for number in self._order)
        state = _show(self._state)
        return f"the longest order that holds is {order}: it leads to {state}, without {', '.join(rest)}"

    def __repr__(self) -> str:
        return f"Nonlinearizable(key={self.key!r}, operations={self.operations!r})"


Guess = Callable[[Operation], tuple[int, int] | None]
"""Where an operation may have taken effect among the others, as something to sort by; `None`: nowhere."""


def check(
    history: Sequence[Operation], model: Model = MODEL, *, limit: int = LIMIT, guess: Guess | None = None
) -> Nonlinearizable | None:
    """The first key's counter-example, in the order in which the keys appear, or `None`: it is linearizable.

    `model` is what one key does, by default `KeyValueModel`. `limit` bounds the steps of the search of each
    key, and a quarter of it those for a small counter-example. Raises `UndecidedError` if a key needs more
    and no other one has a counter-example.

    Whoever has watched the object may know an order that explains all: `guess` tells it. It is held against
    the results like any other, and saves the search if it is one; if not, the search decides, as without it.
    """
    keys: dict[bytes, list[Operation]] = {}
    for operation in history:
        keys.setdefault(operation.key, []).append(operation)
    undecided: UndecidedError | None = None
    for key, operations in keys.items():
        operations.sort(key=lambda operation: operation.called)
        if guess is not None and _is_explained(operations, model, guess):
            continue
        search = Search(operations, model)
        try:
            if not search.run(limit):
                return _Reduction(operations, model, limit // 4, search.steps).result()
        except OutOfStepsError:
            undecided = undecided or UndecidedError(key, limit)
    if undecided is not None:
        raise undecided
    return None


def _is_explained(operations: Sequence[Operation], model: Model, guess: Guess) -> bool:
    """Whether the operations of one key, sorted by their calls, have their results in the order of the
    guess, and none comes before one that had returned when it was called."""
    order: list[tuple[tuple[int, int], Operation]] = []
    for operation in operations:
        place = guess(operation)
        if place is not None:
            order.append((place, operation))
        elif not operation.is_open:
            return False
    order.sort(key=itemgetter(0))
    latest = -math.inf
    state = model.initial(operations[0].key)
    for _, operation in order:
        if operation.returned < latest:
            return False
        latest = max(latest, operation.called)
        fits, state = model.step(state, operation)
        if not fits:
            return False
    return True


@final
class _Reduction:
    """Makes a counter-example small, and keeps it honest.

    Without a write, a read of its value would be a failure that never happened. So an operation is never
    taken away as if nobody had asked for it, but relaxed: it may still take effect in its time, with any
    result, or not. If the history were linearizable, it would be so with any of its operations relaxed. Hence
    what remains does not fail for the lack of what was left out.

    Relaxing more never makes an order impossible. So what could not be relaxed once need not be tried again,
    except where the steps ran out.
    """

    def __init__(self, operations: list[Operation], model: Model, limit: int, steps: int) -> None:
        self._history = operations
        self._operations = operations
        self._model = model
        self._left = limit
        self._at_most = 10 * steps + 10_000
        self._relaxed: set[int] = set()
        self._is_minimal = True

    def result(self) -> Nonlinearizable:
        self._cut()
        needed = self._needed()
        shown = self._trimmed([*needed, *self._writers(needed)])
        operations = [self._operations[number] for number in shown]
        return Nonlinearizable(operations[0].key, operations, self._is_minimal, self._model)

    def _fails(self, operations: list[Operation], relaxed: set[int]) -> bool:
        """Whether there is surely no order."""
        search = Search(operations, self._model, relaxed)
        try:
            return not search.run(min(self._left, self._at_most))
        except OutOfStepsError:
            self._is_minimal = False
            return False
        finally:
            self._left = max(0, self._left - search.steps)

    def _until(self, time: float) -> tuple[list[Operation], set[int]]:
        """What was called by then; and what was not answered yet is relaxed."""
        operations = [operation for operation in self._history if operation.called <= time]
        return operations, {
            number for number, operation in enumerate(operations) if operation.returned > time
        }

    def _cut(self) -> None:
        """Keep what was called up to the first answer that no order explains."""
        times = sorted({operation.returned for operation in self._operations if not operation.is_open})
        low, high = 0, len(times) - 1
        while low < high:
            middle = (low + high) // 2
            if self._fails(*self._until(times[middle])):
                high = middle
            else:
                low = middle + 1
        self._operations, self._relaxed = self._until(times[high])

    def _needed(self) -> list[int]:
        """The operations that cannot be relaxed: first large parts are tried, then smaller ones."""
        needed = [number for number in range(len(self._operations)) if number not in self._relaxed]
        size = (len(needed) + 1) // 2
        while size:
            at = 0
            while at < len(needed):
                relaxed = self._relaxed.union(needed[at : at + size])
                if self._fails(self._operations, relaxed):
                    self._relaxed = relaxed
                    del needed[at : at + size]
                else:
                    at += size
            size //= 2
        return needed

    def _writers(self, needed: list[int]) -> list[int]:
        """For each operation that saw what none of these wrote: the last one called that may have."""
        added: list[int] = []
        for reader in needed:
            writers = self._writers_for(reader, range(len(self._operations)))
            if writers and not {*writers} & {*needed, *added}:
                added.append(writers[-1])
        return added

    def _writers_for(self, reader: int, numbers: Iterable[int]) -> list[int]:
        """Those that may have left what `reader` saw."""
        if not isinstance(self._model, Focusing):
            return []
        operation = self._operations[reader]
        seen = None if operation.is_open else self._model.saw(operation)
        if seen is None:
            return []
        return [
            number
            for number in numbers
            if number != reader
            and self._operations[number].called <= operation.returned
            and self._model.left(self._operations[number], seen)
        ]

    def _trimmed(self, shown: list[int]) -> list[int]:
        """Without those that are needless now that the writers are there, with their results."""
        shown = sorted(shown)
        # The writers may have returned later than all that was looked at: what was called until then counts.
        ends = [self._operations[number].returned for number in shown]
        self._operations, _ = self._until(max(end for end in ends if end < math.inf))
        before: list[int] = []
        while before != shown:
            before = shown
            for number in reversed(before):
                rest = [other for other in shown if other != number]
                if any(self._writers_for(reader, shown) == [number] for reader in rest):
                    continue
                if self._fails(self._operations, {*range(len(self._operations))}.difference(rest)):
                    shown = rest
        return shown


def _show(value: object) -> str:
    """The value as Python writes it, the middle left out if it is long."""
    text = repr(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    half = LONGEST_SHOWN // 2
    return f"{text[:half]}...{text[-half:]} ({len(text)} characters)"
