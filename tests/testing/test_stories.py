"""Stories: each is told by some seed, as it was written, and its plan can be carried out."""

from __future__ import annotations

from itertools import pairwise

import pytest

from raft_io.testing import Plan, draw
from raft_io.testing.plan import Load
from raft_io.testing.stories import STORIES, Story, tell
from raft_io.testing.timeline import stream


def told(story: Story, seed: int = 1) -> Plan:
    leases = {"lease_reads": True, "lease_margin": 4} if story.leases else {}
    plan = Plan(seed=seed, voters=5, options={"election_timeout": (10, 20), **leases}, load=Load(clients=2))
    return tell(stream(seed, "test"), story, plan)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name.replace(" ", "-"))
def test_a_story_is_told_over_and_over_in_a_plan_that_can_be(story: Story) -> None:
    plan = told(story)
    plan.check()
    counts = [sum(fault.kind == step.kind for fault in plan.faults) for step in story.steps]
    assert min(counts) >= 5
    assert all(before.at <= after.at for before, after in pairwise(plan.faults))
    assert all(0 < fault.at < plan.seconds for fault in plan.faults)
    assert {fault.who for fault in plan.faults} <= {0, *plan.nodes}
    for name, values in story.needs.items():
        section, _, key = name.rpartition(".")
        if section == "options":
            assert plan.options[key] in values
        else:
            assert getattr(plan.load if section else plan, key) in values


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name.replace(" ", "-"))
def test_a_story_is_told_by_one_seed_in_a_hundred_or_so(story: Story) -> None:
    kinds = {step.kind for step in story.steps}
    needs = {key.removeprefix("options.") for key in story.needs if key.startswith("options.")}
    tellers = [
        plan
        for plan in map(draw, range(1, 300))
        if kinds <= {fault.kind for fault in plan.faults}
        and needs <= plan.options.keys()
        and bool(plan.options.get("lease_reads")) == story.leases
        and ("voters" not in story.needs or plan.voters in story.needs["voters"])
    ]
    assert len(tellers) >= 2


def test_its_nodes_are_others_each_time() -> None:
    [story] = [story for story in STORIES if story.name == "a lease that ends"]
    isolated = [fault.who for fault in told(story).faults if fault.kind == "isolate"]
    assert set(isolated) == {1, 2, 3}
    assert told(story) == told(story)
    assert told(story) != told(story, 2)
