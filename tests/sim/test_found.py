"""What the simulation has found, kept for ever: as the smallest trace and as the example that showed it."""

from __future__ import annotations

import pytest
from tests.sim.cluster import Move, Op, Setup
from tests.sim.member import Mode
from tests.sim.schedules import leased, run

from raft_io import Action, Apply, Propose, RaftConfig, RaftNode, Tick

pytestmark = pytest.mark.core


EXAMPLES = [
    (
        Setup((Mode.BATCH,), (("max_apply_bytes", 1),)),
        [Move(Op.TIME_OUT, 0, 0), Move(Op.DRAIN, 0, 0), Move(Op.PROPOSE, 0, 4), Move(Op.PROPOSE, 0, 3)],
    ),
]
"""As hypothesis would hand them over."""


@pytest.mark.parametrize(("setup", "moves"), EXAMPLES)
def test_example(setup: Setup, moves: list[Move]) -> None:
    run(setup, moves)


def test_a_snapshot_of_its_own_ends_the_one_that_is_arriving() -> None:
    """A log may drop what it has staged when it saves a snapshot: the node went on as if it had it."""
    run(*leased(10318, 5))


def test_an_empty_command_does_not_let_one_that_is_too_large_pass_with_it() -> None:
    node = RaftNode(RaftConfig(1).replace(max_apply_bytes=1))
    while not node.is_leader:
        node.step(Tick())
    node.feed(Propose(b""))
    node.feed(Propose(b"too large"))
    drained: list[list[Action]] = []
    while node.pending:
        drained.append(node.drain())
    assert [actions for actions in drained if actions] == [[Apply(1, 1, b"")], [Apply(2, 1, b"too large")]]
