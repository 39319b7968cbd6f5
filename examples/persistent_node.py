"""A node on a durable log: what was committed is there after a restart, and so are the term and the vote.

    python examples/persistent_node.py [DIRECTORY]

Without a directory it uses a temporary one. With one, run it again: it goes on where it was.
"""

import sys
import tempfile

from raft_io import Apply, Event, Propose, RaftConfig, RaftNode, StorageError, Tick, WalLog


def run(path: str, command: bytes) -> tuple[int, list[str]]:
    """One life of the node: commit `command`. Returns its term, and every command applied in this life."""
    state: list[str] = []
    with WalLog.open(path) as log:
        node = RaftNode.with_log(RaftConfig.single(1), log)
        print(f"recovered: {log.last_index()} entries, term {node.term}, vote {log.hard_state().voted_for}")

        # One at a time: two nodes on one log could vote twice in a term.
        try:
            WalLog.open(path)
        except StorageError as error:
            print(f"a second open is refused: {error}")
        else:
            raise AssertionError("the log was opened twice")

        def step(event: Event) -> None:
            for action in node.step(event):
                if isinstance(action, Apply):
                    state.append(action.command.decode())

        # The log does not say what is committed. The node learns it when it leads: a NOOP of its new term
        # carries over the entries that it recovered, and they are applied again, from the first one on.
        while not node.is_leader:
            step(Tick())
        step(Propose(command))
        print(f"applied in term {node.term}: {state}")
        return node.term, state


def main(path: str) -> None:
    first_term, before = run(path, b"first")
    term, after = run(path, b"second")
    assert term == first_term + 1, "the term was forgotten"
    assert after == [*before, "second"], "a committed command was forgotten"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(f"{directory}/log")
