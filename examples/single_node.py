"""One node: elect it, propose to it, apply what it commits.

python examples/single_node.py
"""

from raft_io import Apply, NotLeaderError, Propose, RaftConfig, RaftNode, Role, Tick


def main() -> None:
    node = RaftNode(RaftConfig.single(1))
    assert node.role is Role.FOLLOWER

    # A node that does not lead takes no proposals. The error names the leader, if there is one.
    try:
        node.step(Propose(b"x=0"))
    except NotLeaderError as error:
        print(f"refused: {error}")
        known = error.leader
    else:
        raise AssertionError("a follower took a proposal")
    assert known is None

    # Time is counted in ticks. After an election timeout without a leader the node stands for election, and
    # alone it is its own majority.
    ticks = 0
    while not node.is_leader:
        node.step(Tick())
        ticks += 1
    print(f"leader of term {node.term} after {ticks} ticks")
    shortest, longest = RaftConfig.single(1).election_timeout
    assert shortest <= ticks <= longest and node.term == 1

    # A proposal comes back as `Apply` once it is committed: carry it out.
    state: dict[str, str] = {}
    for command in (b"x=1", b"y=2", b"x=3"):
        for action in node.step(Propose(command)):
            match action:
                case Apply(index, term, data):
                    name, _, value = data.decode().partition("=")
                    state[name] = value
                    print(f"applied index {index} of term {term}: {data.decode()}")
                case _:
                    raise AssertionError("a node without peers sends nothing")

    print(f"state: {state}")
    assert state == {"x": "3", "y": "2"}
    assert node.commit_index == node.last_applied == 3


if __name__ == "__main__":
    main()
