"""Three nodes agree on a log: propose to the leader, and every node applies the same commands in order.

python examples/replicated_log.py
"""

from raft_io import (
    Apply,
    Event,
    MemoryTransport,
    NotLeaderError,
    Propose,
    RaftConfig,
    RaftNode,
    Receive,
    Send,
    Tick,
)

IDS = (1, 2, 3)


def main() -> None:
    nodes = {me: RaftNode(RaftConfig(me, IDS)) for me in IDS}
    applied: dict[int, list[str]] = {me: [] for me in IDS}
    network = MemoryTransport()

    def step(node: RaftNode, event: Event) -> None:
        """Hand the node an event, carry out what it asks for, in order."""
        for action in node.step(event):
            match action:
                case Send(to, message):
                    network.send(to, message)
                case Apply(index, term, command):
                    applied[node.id].append(command.decode())
                    print(f"  node {node.id} applies {index} (term {term}): {command.decode()}")

    def deliver() -> None:
        """Deliver what is under way, and what is sent in answer, until all is quiet."""
        while network.pending():
            for to, message in network.take():
                step(nodes[to], Receive(message))

    while not any(node.is_leader for node in nodes.values()):
        for node in nodes.values():
            step(node, Tick())
        deliver()
    leader = next(node for node in nodes.values() if node.is_leader)
    follower = next(node for node in nodes.values() if not node.is_leader)
    print(f"node {leader.id} leads term {leader.term}")

    # Only the leader takes proposals; the others say who it is.
    try:
        step(follower, Propose(b"lost"))
    except NotLeaderError as error:
        print(f"node {follower.id}: {error}")
        named = error.leader
    else:
        raise AssertionError("a follower took a proposal")
    assert named == leader.id

    # Nothing is applied before a majority has it: with the messages still under way, nobody applies.
    step(leader, Propose(b"first"))
    assert network.pending() == 2 and not any(applied.values())
    print("proposed; two messages are under way, nothing is applied")
    deliver()

    # Proposals need not wait for each other.
    for number in range(2, 5):
        step(leader, Propose(f"command {number}".encode()))
    deliver()

    expected = ["first", "command 2", "command 3", "command 4"]
    assert all(commands == expected for commands in applied.values())
    assert all(node.commit_index == 4 for node in nodes.values())
    logs = [list(node.log.entries(1, node.log.last_index())) for node in nodes.values()]
    assert logs[0] == logs[1] == logs[2]
    print("all three logs are equal")


if __name__ == "__main__":
    main()
