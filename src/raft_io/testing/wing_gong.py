"""The search for an order of the operations of one key that explains all results.

Wing and Gong, "Testing and verifying concurrent objects" (1993): take any operation that no other one
precedes entirely, if the model allows its result; go on with the rest; go back where there is none. Lowe,
"Testing for linearizability" (2017): never look twice at the same set of operations taken and the same state.
As in Horn and Kroening, "Faster linearizability checking via P-compositionality" (2015), the calls and
returns that are left are a doubly linked list in the order of time: what is taken is lifted out of it, and
going back puts it in again.

An operation that can only have read is taken as soon as its result is possible, and nothing else is tried in
its place: in any order that takes it later it can as well come now. A state that somebody has yet to see is
not left if no operation remains that could bring it back.

Operations whose outcome is unknown are optional: they may be taken at any time after their call, or never.
Each could double the work. Four rules keep them cheap; each only leaves out orders for which another one
exists:

1. They come last: only where no answered operation leads on.
2. Whatever follows an optional operation must need it. If the next one is possible without it too, and leads
   to the same state, then the order without it is as good.
3. Of two with an equal effect, one called and returned no later than the other, only that one is tried: the
   other can stand in for it later.
4. Of two visits with the same answered operations taken and the same state, the one with fewer optional ones
   gone can do all that the other can: a visit after one that had as much left, or more, is cut short.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Final, final

from raft_io.testing.histories import Focusing, Model
from raft_io.testing.operation import Operation

__all__ = ["OutOfStepsError", "Search"]

HEAD: Final = 0

NEVER: Final = 2**62
"""The place of a return that does not come; all others are before it."""

NONE_LEFT: Final = -(2**62)
OUT_OF_CANDIDATES: Final[tuple[int, Hashable]] = (NONE_LEFT, None)

COMPARED: Final = 16
"""Comparisons of visits that count as one step."""

NOTHING: Final = object()
"""No state: the last operation taken was not optional."""


class OutOfStepsError(Exception):
    """The search took as many steps as it may, and has not decided."""


@final
class _Plain:
    """Any model, as one that knows nothing about its operations."""

    def __init__(self, model: Model) -> None:
        self.initial = model.initial
        self.step = model.step

    def effect(self, operation: Operation) -> Hashable:
        return (operation.name, operation.arguments)

    def only_reads(self, operation: Operation) -> bool:
        return False

    def exact(self) -> Mapping[Hashable, tuple[Sequence[int], Sequence[int]]]:
        return {}

    def is_lost(self, state: Hashable) -> bool:
        return False

    def ways_back(self) -> Sequence[int]:
        return ()


@final
class _Frame:
    """What to go back to: the visit from which `number` was taken."""

    __slots__ = ("candidates", "gone", "number", "removed", "state", "taken", "without")

    def __init__(
        self,
        number: int,
        candidates: Iterator[tuple[int, Hashable]],
        state: Hashable,
        without: object,
        taken: int,
        gone: int,
        removed: int,
    ) -> None:
        self.number = number
        self.candidates = candidates
        self.state = state
        self.without = without
        self.taken = taken
        self.gone = gone
        self.removed = removed


@final
class Search:
    """One search over the operations of one key. `run` says whether there is an order.

    Operations whose numbers are `relaxed` are optional as well, with any result, but take effect between
    their call and their return, or never.

    After `run`: `steps` tells how many operations were tried. If there is no order, `longest` are the numbers
    of the operations, in the order of the longest attempt: most of those that had to have a place.
    """

    def __init__(self, history: Sequence[Operation], model: Model, relaxed: Collection[int] = ()) -> None:
        self.steps = 0
        self.longest: list[int] = []
        self._operations = [
            operation.opened() if number in relaxed else operation for number, operation in enumerate(history)
        ]
        focus = model.focus(self._operations) if isinstance(model, Focusing) else _Plain(model)
        self._focus = focus
        self._initial = focus.initial(history[0].key) if history else None
        self._optional = [operation.is_open for operation in self._operations]
        self._effects: list[Hashable] = [
            focus.effect(operation) if operation.is_open else None for operation in self._operations
        ]
        self._reads = [
            not operation.is_open and focus.only_reads(operation) for operation in self._operations
        ]
        self._link(history)
        self._foresee()

    def _link(self, history: Sequence[Operation]) -> None:
        """Make the list of calls and returns. A call is its operation's number, a return the complement."""
        events: list[tuple[float, int, int]] = []
        for number, operation in enumerate(history):
            if self._optional[number] and self._effects[number] is None:
                continue
            # At one instant calls come before returns: those operations are concurrent.
            events.append((operation.called, 0, number))
            if not operation.is_open:
                events.append((operation.returned, 1, number))
        events.sort()
        size = len(history)
        self._numbers = [0, *(~number if is_return else number for _, is_return, number in events), ~size]
        # The end reads as the return of an operation that is not optional: nothing is taken past it.
        self._optional.append(False)
        last = len(events) + 1
        self._next = [*range(1, last + 1), last]
        self._previous = [0, *range(last)]
        self._call = [0] * size
        self._return = [NEVER] * size
        self._bit = [1 << number for number in range(size)]
        # What can no longer be taken once an operation is: the relaxed ones that returned before its call.
        self._over = [0] * size
        over = 0
        for place in range(1, last):
            number = self._numbers[place]
            if number >= 0:
                self._call[number] = place
                self._over[number] = over
            else:
                self._return[~number] = place
                if self._optional[~number]:
                    over |= self._bit[~number]

    def _foresee(self) -> None:
        """Note which operations need which states, and which lead to them, as sets of bits."""
        self._exact: dict[Hashable, tuple[int, int]] = {}
        self._makes: list[list[Hashable]] = [[] for _ in self._operations]
        self._all_readers = 0
        for state, (readers, writers) in self._focus.exact().items():
            if not readers:
                continue
            self._exact[state] = self._set_of(readers), self._set_of(writers)
            self._all_readers |= self._exact[state][0]
            for number in writers:
                self._makes[number].append(state)
        self._ways_back = self._set_of(self._focus.ways_back())

    def _set_of(self, numbers: Iterable[int]) -> int:
        return sum(self._bit[number] for number in numbers)

    def run(self, limit: int) -> bool:
        """Whether there is an order. Raises `OutOfStepsError` where it has to go back after `limit` steps."""
        operations, optional, bits = self._operations, self._optional, self._bit
        left = sum(1 for operation in operations if not operation.is_open)
        fewest = left + 1
        state, without = self._initial, NOTHING
        taken = gone = 0
        visited: dict[tuple[int, Hashable], list[int]] = {(0, state): [0]}
        frames: list[_Frame] = []
        removed: list[int] = []
        candidates = self._candidates(state, without)
        while left:
            number, after = next(candidates, OUT_OF_CANDIDATES)
            if number == NONE_LEFT:
                if left < fewest:
                    fewest, self.longest = left, [frame.number for frame in frames]
                if not frames:
                    return False
                frame = frames.pop()
                candidates, state, without = frame.candidates, frame.state, frame.without
                taken, gone = frame.taken, frame.gone
                while len(removed) > frame.removed:
                    self._put_back(removed.pop())
                left += not optional[frame.number]
                if self.steps > limit:
                    raise OutOfStepsError
                continue
            if number < 0:
                self._lift(~number)
                removed.append(~number)
                continue
            is_optional = optional[number]
            now_taken, now_gone = taken, gone | self._over[number]
            if is_optional:
                now_gone |= bits[number]
            else:
                now_taken |= bits[number]
            if self._strands(number, state, after, now_taken, now_gone):
                continue
            seen = visited.setdefault((now_taken, after), [])
            self.steps += len(seen) // COMPARED
            if any(other & now_gone == other for other in seen):
                continue
            seen.append(now_gone)
            frames.append(_Frame(number, candidates, state, without, taken, gone, len(removed)))
            without = state if is_optional else NOTHING
            state, taken, gone = after, now_taken, now_gone
            left -= not is_optional
            self._lift(number)
            removed.append(number)
            candidates = self._candidates(state, without)
        return True

    def _candidates(self, state: Hashable, without: object) -> Iterator[tuple[int, Hashable]]:
        """The operations that may be next, each with the state after it: those called before any return.

        The return of a relaxed operation is no end: it is given as its complement, and what comes after it
        may be next if that operation never takes effect.
        """
        numbers, after, optional, step = self._numbers, self._next, self._optional, self._focus.step
        operations, reads = self._operations, self._reads
        tried: dict[Hashable, int] = {}
        start = after[HEAD]
        while True:
            place = start
            possible: list[tuple[int, Hashable]] = []
            maybe: list[int] = []
            while (number := numbers[place]) >= 0:
                if optional[number]:
                    maybe.append(number)
                else:
                    self.steps += 1
                    fits, then = step(state, operations[number])
                    if fits:
                        if reads[number]:
                            yield number, then
                            return
                        possible.append((number, then))
                place = after[place]
            end = place
            for number, then in possible:
                if without is NOTHING or step(without, operations[number]) != (True, then):
                    yield number, then
            for number in maybe:
                # Those before it were called before it.
                effect, end_of_it = self._effects[number], self._return[number]
                if effect in tried and tried[effect] <= end_of_it:
                    continue
                tried[effect] = end_of_it
                self.steps += 1
                fits, then = step(state, operations[number])
                if fits and (without is NOTHING or step(without, operations[number]) != (True, then)):
                    yield number, then
            if not optional[~numbers[end]]:
                return
            start = after[end]
            yield numbers[end], None

    def _strands(self, number: int, before: Hashable, after: Hashable, taken: int, gone: int) -> bool:
        """Whether an operation that is still to be taken is possible only in a state that cannot come any
        more, now that operation `number` has led from `before` to `after`."""
        spent = taken | gone
        if self._all_readers & ~taken and not self._ways_back & ~spent and self._focus.is_lost(after):
            return True
        for state in (before, *self._makes[number]):
            if state != after and (exact := self._exact.get(state)) is not None:
                readers, writers = exact
                if readers & ~taken and not writers & ~spent:
                    return True
        return False

    def _lift(self, number: int) -> None:
        """Take an operation out of the list."""
        after, before = self._next, self._previous
        place = self._call[number]
        after[before[place]], before[after[place]] = after[place], before[place]
        if (place := self._return[number]) != NEVER:
            after[before[place]], before[after[place]] = after[place], before[place]

    def _put_back(self, number: int) -> None:
        """Undo the last `_lift` that is not undone."""
        after, before = self._next, self._previous
        if (place := self._return[number]) != NEVER:
            after[before[place]] = before[after[place]] = place
        place = self._call[number]
        after[before[place]] = before[after[place]] = place
