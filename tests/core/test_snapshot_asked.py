"""One `TakeSnapshot` at a time."""

from __future__ import annotations

import pytest
from tests.support import leader, step

from raft_io import Action, Propose, RaftNode, SnapshotTaken, TakeSnapshot

pytestmark = pytest.mark.core


def asked(actions: list[Action]) -> list[int]:
    return [action.index for action in actions if isinstance(action, TakeSnapshot)]


def propose(node: RaftNode, count: int) -> list[int]:
    """The indexes at which snapshots are asked for meanwhile."""
    return [index for _ in range(count) for index in asked(step(node, Propose(b"x")))]


def test_a_snapshot_that_comes_unasked_does_not_make_the_node_forget_what_it_has_asked_for() -> None:
    node = leader((), snapshot_threshold=4)
    assert propose(node, 6) == [4]
    assert asked(step(node, SnapshotTaken(2, b"an operator's"))) == []
    assert propose(node, 1) == [], "the one at 4 is still being written"
    step(node, SnapshotTaken(4, b"asked for"))
    assert propose(node, 1) == [8]


def test_one_that_is_never_answered_is_asked_for_again_later() -> None:
    node = leader((), snapshot_threshold=4)
    assert propose(node, 12) == [4, 8, 12]
