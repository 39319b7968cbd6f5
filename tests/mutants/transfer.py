"""Transfers of leadership: who may be told to campaign, what that allows, and how it ends."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "transfer"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="transfer-to-a-learner",
        area=AREA,
        file="core/node.py",
        old="""\
    if target not in st.voters:
        raise ValueError(f"node {target} is no voter; leadership can be handed over to one of {st.voters}")
""",
        new="",
        bug="Leadership is handed over to a learner, which obeys, is elected by the voters and leads, "
        "although it is no voter; and steps down, so that there is no leader where there was a good one.",
        source="https://github.com/tikv/raft-rs/issues/164; "
        "https://github.com/databendlabs/openraft/issues/1805",
        more=(("core/election.py", "        or not adoption.may_lead(st)\n", ""),),
    ),
    Mutant(
        name="lease-across-a-transfer",
        area=AREA,
        file="core/transfer.py",
        old="""\
            st.transfer_sent = st.now
            st.lease_void = True
""",
        new="""\
            st.transfer_sent = st.now
""",
        bug="A leader that has told another to campaign goes on to answer reads from its lease. The other is "
        "elected at once, past the timeout that the lease relies on, and commits: a stale read.",
        source="https://github.com/tikv/tikv/issues/1593; thesis, section 6.4.1",
    ),
    Mutant(
        name="transfer-never-given-up",
        area=AREA,
        file="core/transfer.py",
        old="    if st.now - st.transfer_since < st.election_max:\n",
        new="    if st.now - st.transfer_since < st.election_max or st.transfer_sent >= 0:\n",
        bug="Once its target was told to campaign, a transfer never ends. If the target has crashed, the "
        "leader refuses every proposal for ever, in a cluster with a healthy quorum.",
        source="https://github.com/etcd-io/etcd/pull/4916; "
        "https://github.com/databendlabs/openraft/issues/2088; thesis, section 3.10",
    ),
    Mutant(
        name="old-order-to-campaign-obeyed",
        area=AREA,
        file="core/election.py",
        old="""\
        message.term != st.term
        or st.role is not FOLLOWER
        or (st.leader != message.leader and st.leader != NOBODY)
        or (message.round != 0 and message.round < st.leader_round)
""",
        new="""\
        message.term > st.term
        or st.role is not FOLLOWER
""",
        bug="An order to campaign that was late on its way is obeyed, of whatever term and leader. It gets "
        "past the promises that the lease of the leader of today relies on: that one is deposed, and answers "
        "stale reads until it notices.",
        source="https://github.com/tikv/tikv/issues/1593; https://github.com/tikv/raft-rs/issues/144 "
        "(an order must be told from earlier ones)",
    ),
    Mutant(
        name="forced-vote-ignores-the-log",
        area=AREA,
        file="core/election.py",
        old="""\
        and _up_to_date(st, message.last_log_term, message.last_log_index)
    )
    if grant:
""",
        new="""\
        and (message.force or _up_to_date(st, message.last_log_term, message.last_log_index))
    )
    if grant:
""",
        bug="Who was sent by a leader gets the vote whatever its log, for the leader has seen to that. But "
        "an order may be late: the transfer was given up, entries were committed without the target, "
        "and it is elected and overwrites them.",
        source="https://github.com/hashicorp/raft/pull/487 (a target behind is refused); thesis, section "
        "3.10",
    ),
    Mutant(
        name="postponed-request-forgotten",
        area=AREA,
        file="server/driver.py",
        old="            self._requests.postponed(sequence)\n",
        new="            pass\n",
        bug="A request of the leader's own callers during a transfer is taken for sent, though it is not. "
        "When the transfer is given up nobody sends it again: it is never answered, in a healthy cluster.",
        source="https://github.com/hashicorp/raft/pull/487; "
        "https://github.com/databendlabs/openraft/issues/2088",
    ),
)
