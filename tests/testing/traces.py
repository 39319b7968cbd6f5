"""Made-up traces for the page: what a cluster with troubles could look like, of any length."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from raft_io.testing.trace import (
    Called,
    Event,
    Fault,
    LifeChanged,
    MembersChanged,
    MessageSent,
    Progressed,
    Returned,
    RoleChanged,
    SyncChanged,
    Trace,
    Violated,
)

NODES = [1, 2, 3, 4, 5]
HEARTBEAT = 0.05


class Play:
    """Imitates a cluster: a leader that replicates what clients write, and each few seconds a trouble."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.events: list[Event] = []
        self.now = 0.0
        self.term = 0
        self.leader = 0
        self.index = 0
        self.operations = 0
        self.down: set[int] = set()
        self.cut: set[int] = set()

    def start(self, node: int) -> None:
        self.down.discard(node)
        self.events.append(LifeChanged(self.now, node, "start"))
        self.events.append(RoleChanged(self.now, node, "follower", self.term))

    def send(
        self, at: float, sender: int, to: int, what: str, text: str, heartbeat: bool = False
    ) -> float | None:
        """The time of arrival, or `None` if it was lost."""
        delay = 0.001 + self.random.expovariate(1 / 0.003)
        lost: Literal["lost", "cut", "receiver down"] | None = None
        if (sender in self.cut) != (to in self.cut):
            lost = "cut"
        elif to in self.down:
            lost = "receiver down"
        elif self.random.random() < 0.01:
            lost = "lost"
        arrival = None if lost else at + delay
        self.events.append(MessageSent(at, sender, to, what, arrival, text, lost, heartbeat=heartbeat))
        if arrival and self.random.random() < 0.01:
            again = arrival + 0.01
            self.events.append(
                MessageSent(at, sender, to, what, again, text, duplicate=True, heartbeat=heartbeat)
            )
        return arrival

    def others(self, node: int) -> list[int]:
        return [other for other in NODES if other != node]

    def elect(self, node: int) -> None:
        """A pre-vote, then a vote, which succeed."""
        rounds: tuple[tuple[Literal["pre_candidate", "candidate"], str], ...] = (
            ("pre_candidate", "PreVote"),
            ("candidate", "RequestVote"),
        )
        for role, what in rounds:
            self.term += role == "candidate"
            asked = self.term + (role == "pre_candidate")
            self.events.append(RoleChanged(self.now, node, role, self.term))
            replies = []
            for other in self.others(node):
                text = f"term={asked} last_log_index={self.index} last_log_term={max(self.term - 1, 0)}"
                arrival = self.send(self.now, node, other, what, text)
                if arrival is None:
                    continue
                if role == "candidate":
                    self.events.append(RoleChanged(arrival, other, "follower", self.term))
                granted = f"term={asked} granted=True"
                replies.append(self.send(arrival + 0.0005, other, node, f"{what}Reply", granted))
            self.now = max((reply for reply in replies if reply), default=self.now + 0.01)
        self.leader = node
        self.events.append(RoleChanged(self.now, node, "leader", self.term))

    def sync(self, node: int, at: float) -> float:
        done = at + 0.001 + self.random.expovariate(1 / 0.002)
        self.events.append(SyncChanged(at, node, "begun"))
        self.events.append(SyncChanged(done, node, "done"))
        return done

    def progress(self, node: int, at: float) -> None:
        self.events.append(Progressed(at, node, "commit", self.index))
        self.events.append(Progressed(at + 0.0004, node, "apply", self.index))
        if self.index % 20 == 0:
            self.events.append(Progressed(at + 0.002, node, "snapshot taken", self.index))

    def replicate(self) -> None:
        """A client's write goes through the leader to the followers."""
        client = 1 + self.operations % 3
        self.operations += 1
        self.index += 1
        text = f"SET key{self.random.randrange(9)} {self.operations}"
        self.events.append(Called(self.now, client, text, self.operations))
        sent = self.now + 0.001
        acknowledged = [self.sync(self.leader, sent)]
        told = f"term={self.term} prev={self.index - 1} entries=[{self.index}] commit={self.index - 1}"
        for other in self.others(self.leader):
            arrival = self.send(sent, self.leader, other, "AppendEntries", told)
            if arrival is None:
                continue
            synced = self.sync(other, arrival)
            reply = f"term={self.term} success=True match={self.index}"
            returned = self.send(synced, other, self.leader, "AppendEntriesReply", reply)
            self.progress(other, arrival + HEARTBEAT)
            if returned is not None:
                acknowledged.append(returned)
        if len(acknowledged) < 3:
            self.index -= 1
            self.events.append(Returned(self.now + 0.4, client, None, self.operations))
            return
        committed = sorted(acknowledged)[2]
        self.progress(self.leader, committed)
        self.events.append(Returned(committed + 0.001, client, "OK", self.operations))

    def beat(self) -> None:
        for other in self.others(self.leader):
            text = f"term={self.term} prev={self.index} entries=[] commit={self.index}"
            arrival = self.send(self.now, self.leader, other, "AppendEntries", text, heartbeat=True)
            if arrival is not None:
                reply = f"term={self.term} success=True match={self.index}"
                self.send(arrival, other, self.leader, "AppendEntriesReply", reply, heartbeat=True)
        self.now += HEARTBEAT

    def serve(self, beats: int) -> None:
        for _ in range(beats):
            start = self.now
            if self.random.random() < 0.7:
                self.replicate()
            self.beat()
            self.now = start + HEARTBEAT + self.random.random() * 0.004

    def successor(self) -> int:
        choices = [n for n in NODES if n != self.leader and n not in self.down and n not in self.cut]
        return self.random.choice(choices)

    def crash_the_leader(self) -> None:
        old = self.leader
        self.down.add(old)
        self.events.append(LifeChanged(self.now, old, "crash", "power loss; 2 entries were not synced"))
        self.now += 0.2
        self.elect(self.successor())
        self.serve(8)
        self.start(old)

    def part_the_leader(self) -> None:
        old, since = self.leader, self.now
        self.cut = {old, NODES[old % 5]}
        links = tuple((a, b) for a in sorted(self.cut) for b in NODES if b not in self.cut)
        self.serve(3)
        self.now += 0.12
        self.elect(self.successor())
        self.serve(8)
        sides = f"{sorted(self.cut)} | {sorted(set(NODES) - self.cut)}"
        self.events.append(Fault(since, self.now, f"partition {sides}", tuple(sorted(self.cut)), links))
        self.cut = set()
        self.events.append(RoleChanged(self.now + 0.004, old, "follower", self.term))

    def slow_disk(self) -> None:
        node = self.random.choice(NODES)
        self.events.append(Fault(self.now, self.now + 0.6, f"slow disk: node {node}, 40 ms a sync", (node,)))
        self.serve(4)

    def pause_a_follower(self) -> None:
        node = self.successor()
        self.events.append(LifeChanged(self.now, node, "pause"))
        self.serve(5)
        self.events.append(LifeChanged(self.now, node, "resume"))

    def wipe_a_follower(self) -> None:
        node = self.successor()
        self.events.append(LifeChanged(self.now, node, "kill"))
        self.down.add(node)
        self.serve(3)
        self.events.append(LifeChanged(self.now, node, "wipe", "its disk is lost"))
        self.serve(3)
        self.start(node)
        self.events.append(RoleChanged(self.now + 0.001, node, "learner", self.term))
        self.send(
            self.now, self.leader, node, "InstallSnapshot", f"term={self.term} index={self.index} offset=0"
        )
        self.events.append(Progressed(self.now + 0.02, node, "snapshot restored", self.index))
        self.serve(4)
        self.events.append(MembersChanged(self.now, node, f"voters {NODES}"))
        self.events.append(RoleChanged(self.now, node, "follower", self.term))


def sample(count: int, seed: int = 7, violation: bool = True) -> Trace:
    """A trace of about `count` events, 500 at least; it ends with a violation if one is asked for."""
    play = Play(seed)
    for node in NODES:
        play.start(node)
    play.now = 0.15
    play.elect(2)
    play.serve(10)
    troubles: list[Callable[[], None]] = [
        *(play.slow_disk, play.part_the_leader, play.crash_the_leader),
        *(play.pause_a_follower, play.wipe_a_follower),
    ]
    while len(play.events) < count:
        troubles[play.random.randrange(len(troubles))]()
        play.serve(12)
    failure = None
    if violation:
        failure = f"State Machine Safety: nodes 2 and 4 applied different entries at index {play.index}"
        play.events.append(Violated(play.now - 0.03, failure, (2, 4)))
    return Trace(f"sample of {count} events", seed, NODES, play.now, failure, play.events)
