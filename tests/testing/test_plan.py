"""Plans, and what is drawn from seeds."""

from __future__ import annotations

import json

import pytest

from raft_io import RaftConfig
from raft_io.testing import Plan, draw
from raft_io.testing.faults import KINDS


def test_a_seed_is_always_the_same_plan() -> None:
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_a_plan_is_the_same_after_it_was_written_down() -> None:
    for seed in range(1, 30):
        plan = draw(seed)
        text = plan.to_json()
        assert "\n" not in text
        assert Plan.from_json(text) == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seed": 1}', '{"seed": 1, "colour": 2}', "\x00"])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Plan.from_json(text)


def test_a_fault_that_is_none_is_refused() -> None:
    fields = json.loads(draw(1).to_json())
    fields["faults"] = [{"at": 1.0}]
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_json(json.dumps(fields))


def test_every_kind_of_fault_and_every_option_is_drawn_by_some_seed() -> None:
    kinds: set[str] = set()
    options: set[str] = set()
    sizes: set[tuple[int, int]] = set()
    for seed in range(1, 200):
        plan = draw(seed)
        kinds |= {fault.kind for fault in plan.faults}
        options |= plan.options.keys()
        sizes.add((plan.voters, plan.spares))
        assert all(0 < fault.at < plan.seconds for fault in plan.faults)
        assert list(plan.faults) == sorted(plan.faults, key=lambda fault: fault.at)
        RaftConfig(1, range(1, plan.voters + 1)).replace(**plan.options)
    assert kinds == KINDS.keys()
    assert {"lease_reads", "pre_vote", "check_quorum", "max_batch", "max_apply_bytes"} <= options
    assert {voters for voters, _ in sizes} == {1, 2, 3, 4, 5, 7}


def test_with_leases_clocks_differ_by_less_than_the_margin() -> None:
    steady = [plan for plan in map(draw, range(1, 200)) if plan.options.get("lease_reads")]
    assert len(steady) > 20
    for plan in steady:
        shortest, margin = plan.options["election_timeout"][0], plan.options["lease_margin"]
        lease = (shortest - margin) / (1 - plan.drift)
        assert lease + 1 / (1 - plan.drift) < shortest / (1 + plan.drift)
        assert not any(fault.kind == "drift" for fault in plan.faults)
