"""Show every node of a cluster.

Asks one node, which asks all the others: only that one need be within reach of this command. A node that does
not answer the one that was asked is marked.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any, Final

from raft_io.cli.operate import Operator, add_node_options, print_json
from raft_io.cli.show import listed, number_of, print_table

__all__ = ["add_arguments", "run"]

GLANCE: Final = 1.0
"""Seconds that each of the others gets at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io status`."""
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    """Show the cluster."""
    operator = Operator(options)
    glance = min(GLANCE, operator.timeout / 2)
    cluster = asyncio.run(operator.get(f"/cluster?timeout={glance:g}"))
    if options.json:
        print_json(cluster)
        return 0
    titles = ("node", "role", "term", "commit", "applied", "lag", "snapshot", "address")
    print_table(titles, rows(cluster))
    print()
    for line in summary(cluster):
        print(line)
    return 0


def rows(cluster: dict[str, Any]) -> list[list[object]]:
    """A row a node."""
    states = [node["status"] for node in cluster["nodes"] if node["status"] is not None]
    leading = [state for state in states if state["id"] == leader_of(cluster)]
    commit = max([state["commit_index"] for state in leading or states], default=0)
    made: list[list[object]] = []
    for node in cluster["nodes"]:
        state = node["status"]
        if state is None:
            made.append([node["id"], "no answer", None, None, None, None, None, node["address"]])
            continue
        made.append(
            [
                node["id"],
                role_of(node["id"], state["role"], cluster["members"]),
                state["term"],
                state["commit_index"],
                state["last_applied"],
                max(0, commit - state["last_applied"]),
                state.get("snapshot_index") or None,
                node["address"],
            ]
        )
    return made


def role_of(node: int, role: str, members: dict[str, Any]) -> str:
    """Its role, with what it is in the membership where that says more."""
    if role != "follower" or node in members["voters"] or node in members["outgoing"]:
        return role
    return "learner" if node in members["learners"] else "no member"


def leader_of(cluster: dict[str, Any]) -> int | None:
    """Who leads, by what the nodes say of themselves: the one of the highest term."""
    leaders = [node["status"] for node in cluster["nodes"] if (node["status"] or {}).get("role") == "leader"]
    return max(leaders, key=lambda state: int(state["term"]))["id"] if leaders else None


def summary(cluster: dict[str, Any]) -> list[str]:
    """What the table amounts to, a line each."""
    states = {node["id"]: node["status"] for node in cluster["nodes"]}
    members = cluster["members"]
    leader = leader_of(cluster)
    answering = [node for node in members["voters"] if states.get(node) is not None]
    voters = number_of(len(members["voters"]), "voter")
    if leader is None:
        first = f"cluster {cluster['cluster_id']}: no leader"
    else:
        first = f"cluster {cluster['cluster_id']}: node {leader} leads in term {states[leader]['term']}"
    lines = [f"{first}; {len(answering)} of {voters} answer node {cluster['asked']}"]
    silent = [node for node, state in states.items() if state is None]
    if silent:
        lines.append(f"no answer: {listed(silent)}")
    majority = len(members["voters"]) // 2 + 1
    if len(answering) < majority:
        lines.append("a majority of the voters is needed, and does not answer")
    elif silent and len(answering) == majority:
        lines.append("the cluster goes on, but stops when another voter is lost")
    if members["outgoing"]:
        before, after = listed(members["outgoing"]), listed(members["voters"])
        lines.append(f"the membership is changing: voters {before} become {after}")
    if leader is not None and states[leader].get("transfer_target") is not None:
        lines.append(f"leadership is being handed over to node {states[leader]['transfer_target']}")
    return lines
