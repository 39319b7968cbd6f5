"""Five nodes, split in two: the minority stalls, the majority commits, and the heal repairs the logs.

python examples/partition_recovery.py
"""

from raft_io import Apply, Event, Message, Propose, RaftConfig, RaftNode, Receive, Send, Tick

IDS = (1, 2, 3, 4, 5)


class Cluster:
    """Five nodes and the network between them."""

    def __init__(self) -> None:
        self.nodes = {me: RaftNode(RaftConfig(me, IDS)) for me in IDS}
        self.applied: dict[int, list[str]] = {me: [] for me in IDS}
        self.side = dict.fromkeys(IDS, 0)
        """The part of the network that each node is in; messages between parts are lost."""
        self.under_way: list[tuple[int, int, Message]] = []

    def step(self, me: int, event: Event) -> None:
        """Hand a node an event, carry out what it asks for."""
        for action in self.nodes[me].step(event):
            match action:
                case Send(to, message):
                    self.under_way.append((me, to, message))
                case Apply(_, _, command):
                    self.applied[me].append(command.decode())

    def tick(self, ticks: int) -> None:
        """Let time pass, and deliver every message that the network lets through."""
        for _ in range(ticks):
            for me in IDS:
                self.step(me, Tick())
            while self.under_way:
                sender, to, message = self.under_way.pop(0)
                if self.side[sender] == self.side[to]:
                    self.step(to, Receive(message))

    def leaders(self, side: int) -> list[int]:
        """Who believes to lead in a part of the network."""
        return [me for me in IDS if self.side[me] == side and self.nodes[me].is_leader]


def main() -> None:
    cluster = Cluster()
    cluster.tick(50)
    (old,) = cluster.leaders(0)
    old_term = cluster.nodes[old].term
    cluster.step(old, Propose(b"before"))
    cluster.tick(10)
    assert all(commands == ["before"] for commands in cluster.applied.values())
    print(f"node {old} leads term {old_term}; all five have applied 'before'")

    # Cut the leader off, with one follower.
    companion = next(me for me in IDS if me != old)
    for me in (old, companion):
        cluster.side[me] = 1
    print(f"the network splits: nodes {old} and {companion} | the other three")

    # It appends what it is asked to, but two of five are no majority: nothing is committed.
    cluster.step(old, Propose(b"lost"))
    cluster.tick(100)
    assert cluster.applied[old] == cluster.applied[companion] == ["before"]
    assert cluster.nodes[old].log.last_index() > cluster.nodes[old].commit_index
    print(f"node {old} holds 'lost', uncommitted: nobody is told that it happened")

    # The three elect a leader of a later term, and go on.
    (new,) = cluster.leaders(0)
    assert cluster.nodes[new].term > old_term
    cluster.step(new, Propose(b"after"))
    cluster.tick(10)
    majority = [me for me in IDS if cluster.side[me] == 0]
    assert all(cluster.applied[me] == ["before", "after"] for me in majority)
    print(f"node {new} leads term {cluster.nodes[new].term}; the three have applied 'after'")

    # Healed: the old leader learns of the later term and follows; what it alone held is replaced.
    cluster.side = dict.fromkeys(IDS, 0)
    cluster.tick(50)
    assert cluster.leaders(0) == [new]
    assert all(commands == ["before", "after"] for commands in cluster.applied.values())
    logs = [[entry.command for entry in node.log.entries(1, 99)] for node in cluster.nodes.values()]
    assert all(log == logs[0] for log in logs) and b"lost" not in logs[0]
    print(f"healed: node {old} follows, and all five have applied {cluster.applied[old]}")


if __name__ == "__main__":
    main()
