"""Plans, and what is drawn from seeds."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from raft_io import RaftConfig
from raft_io.testing import Fault, Plan, draw
from raft_io.testing.faults import KINDS
from raft_io.testing.plan import Load, Network


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


def test_the_documentation_explains_every_kind_of_fault() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    told = {kind: " ".join((what.__doc__ or "").split()).rstrip(".") for kind, what in KINDS.items()}
    assert rows == [f"| `{kind}` | {text} |" for kind, text in told.items()]


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


def network(**fields: Any) -> dict[str, Any]:
    return {"network": Network(**fields)}


def load(**fields: Any) -> dict[str, Any]:
    return {"load": Load(**fields)}


def fault(kind: str = "crash", **fields: Any) -> dict[str, Any]:
    return {"faults": (Fault(**{"at": 1.0, "kind": kind, "who": 1, **fields}),)}


def options(**chosen: Any) -> dict[str, Any]:
    return {"options": chosen}


def refused(fields: dict[str, Any], text: str) -> None:
    """Such a plan is refused, and so is the line that says it."""
    plan = Plan(**{"seed": 1, **fields})
    with pytest.raises((TypeError, ValueError), match=text):
        plan.check()
    with pytest.raises(ValueError, match=text):
        Plan.from_json(plan.to_json())


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        *(({"seed": value}, "seed", value) for value in (True, "1", 1.5, None)),
        *(({"voters": value}, "voters", value) for value in (True, "3", 3.0, None)),
        *(({"seconds": value}, "seconds", value) for value in (True, "60", None, math.nan)),
        *(({"missing": value}, "missing", value) for value in (1, 0.0, "yes", None)),
        *((network(lost=value), "lost", value) for value in (False, "0", math.nan)),
        *((load(keys=value), "keys", value) for value in (True, "4", 4.0)),
        *((load(think=value), "think", value) for value in (True, "0.4", math.nan)),
        *((load(wanders=value), "wanders", value) for value in (1, "yes")),
        *((fault(at=value), "at", value) for value in (True, "1", None, math.nan)),
        *((fault(who=value), "who", value) for value in (True, "1", 1.0, None)),
        *((fault(whom=value), "whom", value) for value in (False, "2", 2.0)),
        *((fault(lasts=value), "lasts", value) for value in (True, "1", math.nan)),
        *((fault(amount=value), "amount", value) for value in (True, "1", math.nan)),
    ],
)
def test_a_plan_with_a_value_of_another_kind_is_refused(
    fields: dict[str, Any], name: str, value: object
) -> None:
    refused(fields, f"^{name} cannot be {re.escape(repr(value))}$")


@pytest.mark.parametrize(
    ("fields", "name", "value", "bounds"),
    [
        *(({"seconds": v}, "seconds", v, "0.001 and 1e+06") for v in (0, -1.0, 1_000_001, 10**400, math.inf)),
        *(({"voters": v}, "voters", v, "1 and 100") for v in (0, -1, 101)),
        *(({"spares": v}, "spares", v, "0 and 100") for v in (-1, 101)),
        *(({"segment": v}, "segment", v, "512 and") for v in (0, 511, 10**10)),
        *(({"tail": v}, "tail", v, "0 and") for v in (-1, 10**10)),
        *(({"max_sessions": v}, "max_sessions", v, "1 and") for v in (0, -1, 10**10)),
        *(({"max_keys": v}, "max_keys", v, "1 and") for v in (0, -1, 10**10)),
        *(({"drift": v}, "drift", v, "0 and 0.99") for v in (-0.1, 1.0, 2)),
        *(({"skew": v}, "skew", v, "0 and") for v in (-1.0, 1e308)),
        *(({"slow_disk": v}, "slow_disk", v, "0 and 1") for v in (-0.1, 5)),
        *((network(lost=v), "lost", v, "0 and 1") for v in (-0.1, 2)),
        *((load(clients=v), "clients", v, "1 and 1000") for v in (0, -1, 1001)),
        *((load(keys=v), "keys", v, "1 and") for v in (0, -1, 10**7)),
        *((load(think=v), "think", v, "0.001 and 1000") for v in (0, 0.0, 1001.0, math.inf)),
        *((load(patience=v), "patience", v, "0.001 and") for v in (0, 0.0, 1e7)),
        *((load(longer=v), "longer", v, "0 and") for v in (-5, 10**7)),
        *((fault(at=v), "at", v, "0 and") for v in (-1.0, 10**400, math.inf)),
        *((fault(lasts=v), "lasts", v, "0 and") for v in (-1.0, math.inf)),
        *((fault(who=v), "who", v, "0 and") for v in (-1, 10**10)),
        *((fault(amount=v), "amount", v, "-1e+09 and") for v in (-math.inf, 1e308)),
    ],
)
def test_a_plan_of_a_size_that_cannot_be_is_refused(
    fields: dict[str, Any], name: str, value: object, bounds: str
) -> None:
    refused(fields, re.escape(f"{name} is {value!r}, not between {bounds}"))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (options(id=2), "no options of a plan: id"),
        (options(peers=[2, 3]), "no options of a plan: peers"),
        (options(seed=7), "no options of a plan: seed"),
        (options(joins=True), "no options of a plan: joins"),
        (options(pre_vote=True, seed=7, id=2), "no options of a plan: id, seed"),
        (options(colour="red"), "'colour' is no option"),
        (options(max_inflight_bytes=-1), "max_inflight_bytes must be"),
        (options(max_batch="64"), "max_batch must be|int object expected"),
        (options(lease_reads=True, check_quorum=False), "check_quorum"),
        (fault("storm"), "unknown kind of fault: storm"),
        (options(heartbeat_interval=10), "heartbeat_interval must be below the election timeout"),
        (network(fastest=0.002, slowest=0.001), "slowest is 0.001, fastest 0.002"),
        (network(slowest=0.07), "no more than a quarter of .* 0.25 s: slowest is 0.07"),
        (options(lease_reads=True, lease_margin=2) | {"drift": 0.1}, "drift is 0.1: clocks differ by more"),
        *((fault("drift", amount=value), f"amount of drift is {value}, not") for value in (0, -1, 101)),
        *((fault("slow-disk", amount=value), "amount of slow-disk is") for value in (-1, 1e6)),
        *((fault("lossy", amount=value), "amount of lossy is") for value in (-1, 1.5)),
        (options(lease_reads=True) | fault("drift", amount=1.5), "drift breaks .* leases"),
        (options(lease_reads=True) | fault("reconfigure"), "reconfigure breaks .* leases"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(fields: dict[str, Any], text: str) -> None:
    refused(fields, text)


def test_one_bad_fault_among_many_is_refused() -> None:
    good = Fault(1.0, "crash", 1, lasts=1.0)
    refused({"faults": (good, Fault(2.0, "drift", 1, lasts=1.0), good)}, "amount of drift is 0.0, not")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"seed": -5, "seconds": 60, "drift": 0},
        {"seconds": 0.001, "voters": 1, "segment": 512, "max_sessions": 1, "max_keys": 1, "missing": True},
        {"seconds": 1e6, "voters": 100, "spares": 100, "segment": 10**9, "drift": 0.99, "tail": 0},
        network(lost=0, doubled=1.0),
        load(clients=1, keys=1, think=0.001, patience=0.001, wanders=False),
        load(clients=1000, keys=10**6, think=1000, patience=1e6),
        options(lease_reads=True, election_timeout=(20, 40)) | fault("crash"),
        options(lease_reads=False) | fault("drift", amount=2.0),
        fault("drift", amount=0.01),
        fault("drift", amount=100),
        fault("reconfigure", who=0, lasts=0),
        fault("wall-jump", at=0, amount=-30.0),
    ],
)
def test_a_plan_that_can_be_carried_out_passes(fields: dict[str, Any]) -> None:
    plan = Plan(**{"seed": 1, **fields})
    plan.check()
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(("before", "after"), [("[", "]"), ('{"a":', "}"), ('{"seed": 1, "faults": [', "]}")])
@pytest.mark.parametrize("closed", [True, False])
def test_what_is_nested_too_deeply_is_no_plan(before: str, after: str, closed: bool) -> None:
    inner = "1" + after * 100_000 if closed else ""
    with pytest.raises(ValueError, match=r"^not a plan, as a line of JSON: .*recursion"):
        Plan.from_json(before * 100_000 + inner)
