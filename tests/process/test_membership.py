"""Clusters whose nodes come and go under load: nothing is lost, counted twice, or read too old."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process.load import Load
from tests.process.nodes import group

pytestmark = [pytest.mark.process, pytest.mark.timeout(150)]


def test_a_cluster_grows_from_one_to_five_under_load(tmp_path: Path) -> None:
    with group(tmp_path / "data", 1) as nodes:
        with Load(nodes) as load:
            for node in (2, 3, 4, 5):
                load.wait_acknowledged(50)
                # Through whichever: it need not be the leader.
                nodes.join(node, through=node - 1)
                nodes.wait_members(set(range(1, node + 1)))
                load.begin(node)
            load.wait_acknowledged(50)
            # All five count: any two may be lost.
            nodes.kill(1, 2)
            load.end(1, 2)
            nodes.leader(among={3, 4, 5})
            load.wait_acknowledged(50)
        # Who has joined needs not be told to again.
        nodes.start(1)
        nodes.start(2, options=[])
        nodes.wait_up(1, 2)
        nodes.wait_caught_up()
        load.check()


def test_every_member_is_replaced_under_load_until_none_of_the_first_is_left(tmp_path: Path) -> None:
    with group(tmp_path / "data", 3) as nodes:
        with Load(nodes) as load:
            for old, new in ((1, 4), (2, 5), (3, 6)):
                load.wait_acknowledged(30)
                nodes.join(new, old, "--learner")
                nodes.wait_members(set(nodes.nodes) - {new}, {new})
                nodes.operate("members", "promote", new, through=new)
                load.begin(new)
                load.end(old)
                # Asked for its own removal, leader or not.
                nodes.operate("members", "remove", old, through=old)
                assert nodes.ended(old, timeout=5) == 1
                assert nodes.said(old) == f"raft-io: node {old} was removed from the cluster"
                nodes.forget(old)
                nodes.wait_members(set(nodes.nodes))
            load.wait_acknowledged(30)
        nodes.wait_caught_up()
        load.check()
        nodes.kill(4, 5, 6)
        nodes.start(4, 5, 6)
        nodes.wait_up(4, 5, 6)
        nodes.leader()
        load.check()
        # Who was removed stays out.
        nodes.start(1)
        assert nodes.ended(1) == 1
        assert nodes.said(1) == "raft-io: node 1 was removed from the cluster"
