"""Users' own state machines."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pytest

from raft_io import CommandError
from raft_io.server import StateMachine
from raft_io.testing import Operation, Plan, SimulationFailedError, WorkloadError, draw, run, simulate
from raft_io.testing.plan import Network
from raft_io.testing.process import Process
from raft_io.testing.sweep import Summary
from raft_io.testing.world import World


class Counter(StateMachine):
    """Adds up. Children of it have bugs."""

    def __init__(self) -> None:
        self.total = 0
        self.count = 0

    def apply(self, command: bytes) -> bytes:
        self.total += int(command)
        self.count += 1
        return b"%d" % self.total

    def capture(self) -> Callable[[BinaryIO], None]:
        text = b"%d %d" % (self.total, self.count)
        return lambda stream: stream.writelines([text])

    def restore(self, stream: BinaryIO) -> None:
        self.total, self.count = map(int, stream.read().split())


def add(rng: random.Random, client: int) -> bytes:
    return b"%d" % rng.randrange(10)


def test_a_machine_that_is_right_passes() -> None:
    told: list[Summary] = []
    report = simulate(Counter, add, seeds=[4, 5], on_run=told.append)
    assert report.runs == 2
    assert report.seconds > 120
    assert report.operations > 500
    assert [each.seed for each in told] == [4, 5]


class Random(Counter):
    """Depends on more than its commands."""

    def apply(self, command: bytes) -> bytes:
        self.total += random.randrange(10)
        return super().apply(command)


class Forgets(Counter):
    """Does not save all of it."""

    def capture(self) -> Callable[[BinaryIO], None]:
        text = b"%d 0" % self.total
        return lambda stream: stream.writelines([text])

    def apply(self, command: bytes) -> bytes:
        return super().apply(command) + b" as number %d" % self.count


class Shares(Counter):
    """What it saves changes after it was captured."""

    def capture(self) -> Callable[[BinaryIO], None]:
        return lambda stream: stream.writelines([b"%d %d" % (self.total, self.count)])


class Quiet(Counter):
    """Its results are right, its state is not."""

    def apply(self, command: bytes) -> bytes:
        self.count += id(self) % 97
        return super().apply(command)


class Fails(Counter):
    """An exception that is no refusal."""

    def apply(self, command: bytes) -> bytes:
        if self.count == 30:
            raise ZeroDivisionError("not this one")
        return super().apply(command)


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (Random, "another result"),
        (Forgets, "another result"),
        (Shares, "result"),
        (Quiet, "different states"),
        (Fails, "not this one"),
    ],
)
def test_a_bug_is_found_and_the_seed_is_told(machine: type[Counter], text: str) -> None:
    with pytest.raises(SimulationFailedError, match=text) as caught:
        simulate(machine, add, seeds=30)
    seed = caught.value.seed
    assert f"seeds=[{seed}]" in str(caught.value)
    with pytest.raises(SimulationFailedError):
        simulate(machine, add, seeds=[seed])


def test_a_failure_is_shrunk_and_shown(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(SimulationFailedError, match="not this one") as caught:
        simulate(Fails, add, seeds=[4], shrink=True, trace=page)
    seed, plan = caught.value.seed, caught.value.plan
    assert len(plan.faults) == 0 < len(draw(seed).faults)
    assert "not this one" in page.read_text()
    assert str(caught.value).endswith(f"{page} shows it")
    again = run(plan, Fails, Adds)
    assert str(again.failure) == caught.value.failure


class Adds:
    """As `add` does."""

    def next(self, rng: random.Random, client: int) -> bytes:
        return add(rng, client)


def test_a_failure_without_more_tells_its_whole_plan() -> None:
    with pytest.raises(SimulationFailedError) as caught:
        simulate(Fails, add, seeds=[4])
    assert caught.value.plan == draw(4)
    assert 'simulate(..., seeds=[4], shrink=True, trace="4.html")' in str(caught.value)


class Moody(Counter):
    """Fails once in a process."""

    failed = False

    def apply(self, command: bytes) -> bytes:
        if not Moody.failed:
            Moody.failed = True
            raise ZeroDivisionError("this time")
        return super().apply(command)


def test_a_failure_that_does_not_come_again_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moody, "failed", False)
    with pytest.raises(SimulationFailedError, match=r"this time.*run again it does not fail") as caught:
        simulate(Moody, add, seeds=[4], shrink=True)
    assert caught.value.plan == draw(4)


class Couple:
    """Needs two clients: with less there is nothing to draw from."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def next(self, rng: random.Random, client: int) -> bytes:
        self.seen.add(client)
        if rng.random() < 0.02:
            rng.sample(sorted(self.seen), 2)
        return add(rng, client)


def test_a_workload_that_cannot_be_made_smaller_hides_no_failure() -> None:
    with pytest.raises(SimulationFailedError, match="not this one"):
        simulate(Fails, Couple(), seeds=[4], shrink=True)


def test_where_no_page_can_be_written_nothing_is_run(tmp_path: Path) -> None:
    told: list[Summary] = []
    with pytest.raises(FileNotFoundError):
        simulate(Fails, add, seeds=[4], trace=tmp_path / "missing" / "page.html", on_run=told.append)
    assert not told
    assert simulate(Counter, add, seeds=[4], trace=tmp_path / "page.html").runs == 1
    assert not list(tmp_path.iterdir())


def test_a_shrink_that_is_interrupted_tells_what_had_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("raft_io.testing.users.shrunk", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        simulate(Fails, add, seeds=[4], shrink=True)
    assert "seed 4 failed: crash" in caught.value.__notes__[0]


def test_a_run_leaves_nothing_behind() -> None:
    """A reference that is counted twice would keep the whole world of each run."""

    def there() -> int:
        gc.collect()
        return sum(isinstance(each, (World, Process)) for each in gc.get_objects())

    # Other tests may have left some.
    before = there()
    for seed in (1, 4):
        assert run(draw(seed)).failure is None
    assert there() <= before


class Reads:
    """A workload with reads, and a fingerprint of its own."""

    def __init__(self) -> None:
        self.read: list[Any] = []

    def next(self, rng: random.Random, client: int) -> Operation:
        if rng.random() < 0.5:
            return Operation("total", query=lambda machine: machine.total)
        return Operation("add 1", command=b"1")

    def fingerprint(self, machine: Counter) -> Hashable:
        return machine.total, machine.count

    def history(self, calls: Sequence[Any]) -> Sequence[Any]:
        return ()


def test_a_workload_may_read_and_say_what_is_equal() -> None:
    report = simulate(Counter, Reads(), seeds=[3])
    assert report.operations > 300


def test_an_operation_is_a_command_or_a_query() -> None:
    with pytest.raises(ValueError, match="either"):
        Operation("nothing")
    with pytest.raises(ValueError, match="either"):
        Operation("both", command=b"", query=len)
    with pytest.raises(TypeError, match="a command is bytes, not str"):
        Operation("text", command="add")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a query is a function of the machine, not int"):
        Operation("number", query=3)  # type: ignore[arg-type]


class Raises(Reads):
    """A workload that knows no more after a while."""

    def next(self, rng: random.Random, client: int) -> Operation:
        self.read.append(client)
        if len(self.read) == 30:
            raise LookupError("no thirtieth")
        return super().next(rng, client)


def fails(rng: random.Random, client: int) -> bytes:
    raise LookupError("no first")


@pytest.mark.parametrize(
    ("workload", "text"), [(fails, "LookupError: no first"), (Raises(), "LookupError: no thirtieth")]
)
def test_a_workload_that_raises_is_told_as_such(workload: Any, text: str) -> None:
    with pytest.raises(WorkloadError, match=f"the workload raised {text}") as caught:
        simulate(Counter, workload, seeds=[1])
    assert isinstance(caught.value.__cause__, LookupError)


class Gives(Reads):
    """A workload of one answer."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.given = given

    def next(self, rng: random.Random, client: int) -> Operation:
        given: Operation = self.given
        return given


@pytest.mark.parametrize(("given", "kind"), [("1", "str"), (None, "NoneType"), (1, "int"), ([b"1"], "list")])
def test_a_workload_that_returns_something_else_is_told_as_such(given: Any, kind: str) -> None:
    with pytest.raises(WorkloadError, match=f"the workload returned {kind};.* Operation"):
        simulate(Counter, lambda rng, client: given, seeds=[1])
    with pytest.raises(WorkloadError, match=f"the workload returned {kind};.* Operation"):
        simulate(Counter, Gives(given), seeds=[1])


def test_a_machine_or_a_workload_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="called to make each replica: pass Counter, not one that is made"):
        simulate(Counter(), add, seeds=[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pass Plain\(\), not the class"):
        simulate(Counter, Plain, seeds=[1])  # type: ignore[arg-type]


class Text(Counter):
    """Answers in text."""

    def apply(self, command: bytes) -> bytes:
        return super().apply(command).decode()  # type: ignore[return-value]


class Saved(Counter):
    """Saves at once what it should save later."""

    def capture(self) -> Callable[[BinaryIO], None]:
        return b"%d" % self.total  # type: ignore[return-value]


def test_a_machine_that_returns_what_it_must_not_is_told_by_its_name() -> None:
    with pytest.raises(SimulationFailedError, match=r"Text\.apply must return bytes, not str"):
        simulate(Text, add, seeds=[1])
    with pytest.raises(SimulationFailedError, match=r"Saved\.capture must return a function that writes"):
        simulate(Saved, add, seeds=range(1, 5))


class Odd(Reads):
    """Does not know what to say of a state."""

    def fingerprint(self, machine: Counter) -> Hashable:
        raise LookupError("no such state")


def test_a_fingerprint_that_raises_is_told_as_such() -> None:
    text = "the workload's fingerprint raised LookupError: no such state"
    with pytest.raises(WorkloadError, match=text) as caught:
        simulate(Counter, Odd(), seeds=[1])
    assert isinstance(caught.value.__cause__, LookupError)


class Plain:
    """No more than the next command, as bytes."""

    def next(self, rng: random.Random, client: int) -> bytes:
        return b"1"


def test_a_workload_need_not_be_more_than_its_next_command() -> None:
    assert simulate(Counter, Plain(), seeds=[1]).runs == 1


class Locked(Reads):
    """Of what it holds there is no copy."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Unique(Reads):
    """Does not want to be copied."""

    def __deepcopy__(self, memo: object) -> Unique:
        raise LookupError("there is one of me")


@pytest.mark.parametrize(
    ("workload", "text"), [(Locked(), "TypeError: .*lock"), (Unique(), "LookupError: there is one of me")]
)
def test_a_workload_that_cannot_be_copied_is_told_as_such(workload: Reads, text: str) -> None:
    with pytest.raises(WorkloadError, match=f"copy of the workload.* raised {text}"):
        simulate(Counter, workload, seeds=[1])


def refuse(machine: Counter) -> NoReturn:
    raise CommandError(f"not with a total of {machine.total}")


class Refused(Reads):
    """No read is answered but by a refusal."""

    def next(self, rng: random.Random, client: int) -> Operation:
        operation = super().next(rng, client)
        return operation if operation.query is None else Operation("total", query=refuse)


def test_a_query_that_refuses_is_answered() -> None:
    """Also where nothing else is asked for, as by a quorum that has to do without the others."""
    seed = next(seed for seed in range(1, 50) if draw(seed).missing)
    report = simulate(Counter, Refused(), seeds=[seed, seed + 1])
    assert report.runs == 2
    assert report.operations >= 1200


class Watching(Counter):
    """Wants the time again and again; what it answers depends on it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.told = 0

    def advance(self, now: int) -> None:
        self.now = now
        self.told += 1

    def due(self) -> int:
        return self.now + 100

    def apply(self, command: bytes) -> bytes:
        return super().apply(command) + b" at %d" % self.now

    def capture(self) -> Callable[[BinaryIO], None]:
        text = b"%d %d %d %d" % (self.total, self.count, self.now, self.told)
        return lambda stream: stream.writelines([text])

    def restore(self, stream: BinaryIO) -> None:
        self.total, self.count, self.now, self.told = map(int, stream.read().split())


def test_a_machine_that_always_wants_the_time_passes() -> None:
    report = simulate(Watching, add, seeds=[4, 21, 24])
    assert report.runs == 3
    assert report.operations > 1000


class Additions(Reads):
    """No reads: whatever a client asks for goes with the time."""

    def next(self, rng: random.Random, client: int) -> Operation:
        return Operation("add 1", command=b"1")


@pytest.mark.parametrize("seed", range(1, 5))
def test_where_the_time_is_always_under_way_to_some_the_cluster_is_whole_all_the_same(seed: int) -> None:
    made: list[Watching] = []

    def make() -> Watching:
        made.append(Watching())
        return made[-1]

    plan = Plan(seed=seed, seconds=5.0, network=Network(fastest=0.04, slowest=0.06))
    outcome = run(plan, make, Additions)
    assert outcome.failure is None
    assert len(made) == 4, "three nodes, and one that is never restored"
    assert all(machine.told > 1.5 * machine.count > 0 for machine in made)


class Garbled(Counter):
    """Its refusals are no text that UTF-8 has."""

    def apply(self, command: bytes) -> bytes:
        if command in b"0369":
            raise CommandError(f"not \udc80 {command.decode()}")
        return super().apply(command)


def test_a_refusal_that_is_no_proper_text_is_an_answer_like_any_other() -> None:
    report = simulate(Garbled, add, seeds=[1, 2])
    assert report.runs == 2
    assert report.operations > 1000
