"""Three nodes in one process elect a leader. This file is the network: it carries every message by hand.

python examples/in_memory_cluster.py
"""

from raft_io import MemoryTransport, Message, RaftConfig, RaftNode, Receive, Role, Send, Tick

IDS = (1, 2, 3)


class Cluster:
    """Three nodes and what is under way between them."""

    def __init__(self) -> None:
        self.nodes = {me: RaftNode(RaftConfig(me, IDS)) for me in IDS}
        self.network = MemoryTransport()

    def tick(self) -> list[tuple[int, Message]]:
        """Let one tick pass at every node, deliver until all is quiet. Returns what went to whom."""
        delivered: list[tuple[int, Message]] = []
        for node in self.nodes.values():
            self.step(node, Tick())
        while self.network.pending():
            for to, message in self.network.take():
                delivered.append((to, message))
                self.step(self.nodes[to], Receive(message))
        return delivered

    def step(self, node: RaftNode, event: Tick | Receive) -> None:
        """Hand a node an event, carry out what it asks for."""
        for action in node.step(event):
            if isinstance(action, Send):
                self.network.send(action.to, action.message)

    def leaders(self) -> list[RaftNode]:
        """The nodes that lead."""
        return [node for node in self.nodes.values() if node.is_leader]


def main() -> None:
    cluster = Cluster()
    assert all(node.role is Role.FOLLOWER for node in cluster.nodes.values())

    # Nobody hears from a leader. Every node drew another timeout; the one with the shortest stands for
    # election, and gets the votes of the others before they think of it.
    ticks = 0
    while not cluster.leaders():
        ticks += 1
        for to, message in cluster.tick():
            print(f"tick {ticks}, to node {to}: {message}")

    (leader,) = cluster.leaders()
    for node in cluster.nodes.values():
        print(f"node {node.id}: {node.role.value} in term {node.term}, recognises node {node.leader}")
        assert node.term == leader.term == 1 and node.leader == leader.id

    # Heartbeats keep the followers quiet: a hundred ticks later nothing has changed.
    for _ in range(100):
        cluster.tick()
    assert cluster.leaders() == [leader] and all(node.term == 1 for node in cluster.nodes.values())
    print(f"a hundred ticks later node {leader.id} still leads term {leader.term}")


if __name__ == "__main__":
    main()
