"""Disks that hang: what is to be durable waits, and does not come back with an error either."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.process.load import Load
from tests.process.nodes import group, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

HANGING = """
import os
import time


def hanging(sync):
    def waits(file):
        while os.path.exists(os.environ["HANGING_DISK"]):
            time.sleep(0.01)
        sync(file)

    return waits


for name in ("fsync", "fdatasync"):
    setattr(os, name, hanging(getattr(os, name)))
"""
"""What Python runs at its start where it finds it as `sitecustomize`."""


@pytest.mark.parametrize("whose", ["leader", "follower"])
def test_a_disk_that_hangs_costs_a_leader_its_office_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    hanging = tmp_path / "hanging"
    monkeypatch.setenv("HANGING_DISK", str(tmp_path / "never"))
    with group(tmp_path / "data", 3) as nodes:
        # Only this one looks for the file.
        victim = nodes.leader() if whose == "leader" else min(nodes.others(nodes.leader()))
        nodes.kill(victim)
        monkeypatch.setenv("HANGING_DISK", str(hanging))
        nodes.start(victim)
        nodes.wait_up(victim)
        leader = nodes.leader()
        if whose == "leader" and leader != victim:
            nodes.operate("transfer", victim, through=leader)
            leader = victim
        if whose == "follower" and leader == victim:
            nodes.operate("transfer", min(nodes.others(victim)), through=leader)
            leader = nodes.leader()
        term = nodes.state(leader)["term"]
        with Load(nodes) as load:
            load.wait_acknowledged(20)
            hanging.touch()
            if whose == "leader":
                nodes.leader(among=nodes.others(victim))
            else:
                wait_for("it is behind", lambda: "follower" in nodes.state(victim)["role"])
            load.wait_acknowledged(50)
            if whose == "follower":
                assert nodes.state(leader)["term"] == term, "nobody was disturbed"
            # It answers all the time, and stands for nothing.
            assert nodes.state(victim)["role"] == "follower"
            hanging.unlink()
            load.wait_acknowledged(20)
        nodes.wait_caught_up()
        load.check()
