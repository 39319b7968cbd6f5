"""One run from beginning to end: faults, then healing, then quiet, then everything is compared."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Final, final

from raft_io import Index, NodeId
from raft_io.kv.store import KeyValueStore
from raft_io.server import StateMachine, sessions
from raft_io.testing.checks import ALL, ViolationError
from raft_io.testing.checks.base import CALM, CRASH, PROGRESS, told
from raft_io.testing.faults import KINDS
from raft_io.testing.plan import Fault, Plan
from raft_io.testing.timeline import stream
from raft_io.testing.watcher import Watcher
from raft_io.testing.workload import StoreWorkload, Workload, WorkloadError
from raft_io.testing.world import World

__all__ = ["CALM", "CRASH", "LIVENESS", "PROGRESS", "Outcome", "run"]

# What simulated nodes tell of their faults is in the trace; without this it would go to the terminal.
logging.getLogger("raft_io").addHandler(logging.NullHandler())

PATIENCE: Final = 60.0
"""Simulated seconds within which a healed cluster must be whole again."""

CUT_OFF: Final = 2.0
"""Seconds for which a node is cut off from a leader that keeps its office."""

QUIET: Final = 4.0
"""Seconds through which nothing may change, where all is well."""

SERVED: Final = 20
"""Operations that a healed cluster must serve."""

OPERATIONS: Final = 10.0
"""Operations for each second with faults that are served in all, if need be after the faults, unless that
takes too long: a cluster that forgets sessions all the time is slow."""

LIVENESS: Final = frozenset({PROGRESS, CALM})
"""What failures of liveness are reported under; all others but `CRASH` are of safety."""


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `failure` is `None` if all went well."""

    plan: Plan
    failure: ViolationError | None
    seconds: float
    """Simulated."""
    operations: int
    """That were acknowledged."""
    messages: int
    """That were delivered."""
    faults: int
    digest: str
    """Stands for everything that happened."""


def run(
    plan: Plan,
    machine: Callable[[], StateMachine] = KeyValueStore,
    workload: Callable[[], Workload] | None = None,
    watcher: Watcher | None = None,
) -> Outcome:
    """Carry out a plan."""
    with _ALONE, _patience(), _limits(plan), _few_collections():
        return _run(plan, machine, workload, watcher)


_ALONE: Final = threading.Lock()
"""What a run sets for the whole process is for one run at a time, also where threads carry them out."""


@contextlib.contextmanager
def _limits(plan: Plan) -> Iterator[None]:
    """What a state machine remembers of sessions is no setting: every node must have the same. A cluster in
    which little is forgotten shows little."""
    before = (sessions.MAX_SESSIONS, sessions.MAX_KEYS)
    sessions.MAX_SESSIONS, sessions.MAX_KEYS = plan.max_sessions, plan.max_keys
    try:
        yield
    finally:
        sessions.MAX_SESSIONS, sessions.MAX_KEYS = before


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """What a run makes is soon free without the garbage collector, which else takes a tenth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Ctrl-C waits for the end of the run, a second or so: in the middle of compiled code an interrupt may
    abort the process. Who does not want to wait presses it twice."""
    usual = signal.default_int_handler
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            usual(number, frame)
        pressed = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt


def _run(
    plan: Plan,
    machine: Callable[[], StateMachine],
    workload: Callable[[], Workload] | None,
    watcher: Watcher | None,
) -> Outcome:
    made = (
        workload()
        if workload is not None
        else StoreWorkload(plan.load.keys, plan.load.reads, plan.load.longer)
    )
    failure: ViolationError | None = None
    world = World(plan, machine, made, ALL, watcher)
    try:
        world.run(plan.seconds)
        world.heal()
        if plan.missing:
            _do_without(world)
        _recover(world)
        _cut_off(world)
        _rest(world)
        world.ended()
    except ViolationError as error:
        failure = error
    except WorkloadError:
        raise
    except Exception as error:
        failure = ViolationError.of_run(CRASH, told(error), world.now)
        failure.__cause__ = error
    return Outcome(
        plan,
        failure,
        world.now,
        world.clients.count,
        world.network.delivered,
        world.injected,
        world.digest,
    )


def _do_without(world: World) -> None:
    """A quorum elects a leader and serves, whoever else is missing: reads also if nobody writes; and whatever
    it was asked for before it had one is answered."""
    clients = world.clients
    target = _interrupt(world)
    clients.reading = not target
    served, begun = clients.count + SERVED, world.now + 1.0
    end = world.now + PATIENCE
    missing = world.leave_out(target)
    while clients.count < served or clients.waiting_since < begun:
        if world.now >= end:
            names = ", ".join(str(process.id) for process in missing)
            text = f"a quorum does not serve {PATIENCE:g} s after the last fault, without {names}"
            raise ViolationError.of_run(PROGRESS, f"{text}: {_story(world)}", world.now)
        world.run(0.5)
    clients.reading = False
    for process in missing:
        process.held_down -= 1


def _interrupt(world: World) -> NodeId:
    """Have the leader begin something that it will not see the end of; or let one node fall behind and
    restart everybody, with pre-votes if there were none. Returns whom the leader hands over to, if that one
    is to be lost."""
    rng = stream(world.plan.seed, "interrupt")
    kind = rng.choice(("", "change", "change", "transfer", "transfer", "restart", "restart"))
    node = rng.choice(world.plan.nodes)
    if kind == "restart":
        mend = KINDS["isolate"](world, Fault(world.now, "isolate", node, 0, 0.0))
        world.run(rng.uniform(0.0, 3.0))
        if mend is not None:
            mend()
        world.options["pre_vote"] = True
        for process in world.processes.values():
            process.stop(power=False)
    elif kind:
        KINDS[kind](world, Fault(world.now, kind, 0, node, 0.0, float(rng.randrange(1, 1000))))
    leader = world.leader
    if kind == "transfer" and leader is not None and rng.random() < 0.7:
        voters = leader.driver.node.membership.voters
        if node in voters and node != leader.id and len(voters) > 2:
            world.run(rng.uniform(0.0, 0.004))
            return node
    world.run(rng.uniform(0.0, 0.03))
    return 0


def _recover(world: World) -> None:
    """There is a leader, it has all the members it should have, all have everything, and clients are
    served."""
    clients = world.clients
    served, wanted = clients.count + SERVED, int(world.plan.seconds * OPERATIONS)
    clients.hurry += 1
    end = world.now + PATIENCE
    reached = _reached(world)
    while world.now < end:
        if clients.working:
            reached = _reached(world)
        world.run(0.5)
        hurried = clients.count >= wanted or world.now > end - PATIENCE / 2
        clients.working = clients.count < served or not hurried
        if not clients.working and not clients.open and is_whole(world, reached):
            return
    text = f"not whole {PATIENCE:g} s after the last fault: {_story(world)}"
    raise ViolationError.of_run(PROGRESS, text, world.now)


def _story(world: World) -> str:
    return "; ".join(
        f"{p.id}: {p.driver.node.status}" if p.up else f"{p.id}: down" for p in world.processes.values()
    )


def _reached(world: World) -> tuple[Index, int]:
    """How far the leader's log goes, and the history of commands."""
    leader = world.leader
    return (0 if leader is None else leader.log.last_index()), len(world.ledger.history)


def is_whole(world: World, reached: tuple[Index, int]) -> bool:
    """Whether every member is there and has applied what there was when `reached` was noted: a machine that
    wants the time has always something under way."""
    leader = world.leader
    if leader is None:
        return False
    if not leader.is_settled:
        return False
    if any(process.members.is_joining and process.id in world.operator.wanted for process in world.running):
        return False
    last, place = reached
    return all(
        member.up and member.driver.node.last_applied >= last and member.machine.place >= place
        for member in world.members
    )


def _cut_off(world: World) -> None:
    """With pre-votes, who is cut off from the leader alone does not depose it (thesis, section 9.6)."""
    leader = world.leader
    assert leader is not None
    node = leader.driver.node
    voters = sorted(node.membership.voters - {leader.id})
    if len(voters) < 2 or not all(process.config.pre_vote for process in world.running):
        return
    term, voter = node.term, stream(world.plan.seed, "cut off").choice(voters)
    mend = KINDS["cut-link"](world, Fault(world.now, "cut-link", leader.id, voter))
    world.run(CUT_OFF)
    if not leader.up or not node.is_leader or node.term != term:
        text = f"node {leader.id} of term {term} lost its office, as node {voter} was cut off from it alone"
        raise ViolationError.of_run(CALM, text, world.now)
    assert mend is not None
    mend()
    world.run(1.0)


def _rest(world: World) -> None:
    """Nobody stands for election where nothing is wrong."""
    leader = world.leader
    assert leader is not None
    term = leader.driver.node.term
    world.resting = True
    world.run(QUIET / 2)
    world.ledger.still = True
    world.run(QUIET / 2)
    end = world.now + PATIENCE
    while not is_whole(world, _reached(world)) and world.now < end:
        world.run(0.5)
    now = world.leader
    if now is not leader or now.driver.node.term != term:
        text = f"node {leader.id} of term {term} lost its office, though all was well"
        raise ViolationError.of_run(CALM, text, world.now)
    if not is_whole(world, _reached(world)):
        raise ViolationError.of_run(PROGRESS, "not whole any more, though all was well", world.now)
