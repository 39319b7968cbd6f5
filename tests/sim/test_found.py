"""What the simulation has found, kept for ever: as the smallest trace, and as the seeds that showed it."""

from __future__ import annotations

import pytest
from tests.sim.schedules import run, seeded

from raft_io import Action, Apply, Propose, RaftConfig, RaftNode, Tick

pytestmark = pytest.mark.core


@pytest.mark.parametrize("seed", [26, 66, 156])
def test_seed(seed: int) -> None:
    run(*seeded(seed, 300))


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
