"""Membership: who counts, from when on, and what a change may look like."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "membership"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="learners-in-the-quorum",
        area=AREA,
        file="core/adoption.py",
        old="    return (quorum.VOTER if node in membership.voters else 0) | (\n",
        new="    return (quorum.VOTER if node in membership.voters | membership.learners else 0) | (\n",
        bug="A learner's acknowledgement counts towards a commit. Of three voters and two learners the "
        "leader and the learners are enough; cut off from them, the other two voters elect a leader "
        "that overwrites what was committed. And a single voter commits nothing while its learner is "
        "down.",
        source="thesis, section 4.2.1 (a new server is not counted in majorities while it catches up); "
        "https://github.com/RedisLabs/raft/pull/13",
    ),
    Mutant(
        name="joint-commit-by-the-union",
        area=AREA,
        file="core/quorum.py",
        old="""\
        if seat & VOTER:
            voters.append(value)
        if seat & OUTGOING:
            outgoing.append(value)
""",
        new="""\
        if seat:
            voters.append(value)
""",
        bug="While a membership is joint, a majority of all together commits, without one of the old voters "
        "or of the new. The old voters, cut off, elect a leader of their own that knows nothing of it.",
        source="https://github.com/redpanda-data/redpanda/issues/4187 (a majority of the unique ids); "
        "paper, section 6",
    ),
    Mutant(
        name="joint-election-by-the-union",
        area=AREA,
        file="core/quorum.py",
        old="    return _has_majority(voters, granted) and "
        "(not outgoing or _has_majority(outgoing, granted))\n",
        new="    return _has_majority(sorted({*voters, *outgoing}), granted)\n",
        bug="While a membership is joint, a majority of all together elects. It need not hold one of the old "
        "voters, nor of the new: committed entries are lost, or two lead in one term.",
        source="https://github.com/redpanda-data/redpanda/issues/4187; paper, section 6",
    ),
    Mutant(
        name="joint-phase-left-before-it-is-committed",
        area=AREA,
        file="core/membership.py",
        old="    if st.role is not LEADER or st.history[-1].index > st.commit_index:\n",
        new="    if st.role is not LEADER:\n",
        bug="The commit of an earlier entry makes the leader append the final membership while the joint one "
        "is not committed. The new voters alone then commit both, and a majority of the old ones, which have "
        "neither, elects another leader.",
        source="https://github.com/camunda/camunda/issues/60086",
    ),
    Mutant(
        name="change-before-own-term-is-committed",
        area=AREA,
        file="core/membership.py",
        old="""\
    if st.commit_index < st.term_start:
        return
    current = st.membership
""",
        new="""\
    current = st.membership
""",
        bug="A new leader begins a change before it has committed an entry of its term. An earlier leader's "
        "uncommitted change, of which it does not know, has other majorities: each of the two can commit "
        "without the other (four voters, a split after an election).",
        source="Ongaro, bug in single-server membership changes, raft-dev, 2015; "
        "https://github.com/atomix/copycat/issues/23; https://github.com/baidu/braft/issues/182",
    ),
    Mutant(
        name="two-changes-at-once",
        area=AREA,
        file="core/membership.py",
        old="    return st.pending_change is not None or len(st.outgoing) > 0 "
        "or st.history[-1].index > st.commit_index\n",
        new="    return st.pending_change is not None or len(st.outgoing) > 0\n",
        bug="A leader takes a second change while the first is not committed. Three voters become five in "
        "one go as far as the majorities are concerned: two of the old three elect one leader, the others "
        "commit under another.",
        source="thesis, section 4.1; https://github.com/etcd-io/etcd/pull/11046 (several attempts at once)",
        more=(
            (
                "core/membership.py",
                "    if st.role is not LEADER or st.history[-1].index > st.commit_index:\n",
                "    if st.role is not LEADER or (st.outgoing and st.history[-1].index > st.commit_index):\n",
            ),
        ),
    ),
    Mutant(
        name="a-voter-replaced-in-one-step",
        area=AREA,
        file="core/membership.py",
        old="        if len(current.voters ^ target.voters) > 1:\n",
        new="        if len(current.voters ^ target.voters) > 2:\n",
        bug="One voter is exchanged for another without a joint phase. Of 1, 2, 3 and 1, 2, 4 the majorities "
        "2, 3 and 1, 4 have no node in common: two leaders, two histories.",
        source="thesis, section 4.1 (one server at a time); https://github.com/etcd-io/etcd/pull/10889",
    ),
    Mutant(
        name="no-rollback-of-a-truncated-membership",
        area=AREA,
        file="core/durability.py",
        old="""\
    st.work = True
    adoption.truncated(st, first)
""",
        new="""\
    st.work = True
""",
        bug="A membership stays in force although its entry was removed as a conflict. The node counts "
        "majorities of voters that never were: it leads, or waits for votes, by the wrong ones.",
        source="https://github.com/canonical/raft/issues/250; "
        "https://github.com/camunda/camunda/issues/57393",
    ),
    Mutant(
        name="membership-forgotten-on-restart",
        area=AREA,
        file="core/adoption.py",
        old="""\
    for entry in st.log.membership_entries():
        st.history.append(Adopted(entry.index, decode_membership(entry.command)))
""",
        new="",
        bug="A node that restarts is back in the membership of its snapshot or of its configuration, "
        "whatever its log says. It elects and commits by voters who have left, and leaves out those who "
        "came.",
        source="https://github.com/camunda/camunda/pull/58304; "
        "https://github.com/deventlab/d-engine/issues/431",
    ),
    Mutant(
        name="voter-that-is-removed-never-stands",
        area=AREA,
        file="core/adoption.py",
        old="    return st.id in before.voters or st.id in before.outgoing\n",
        new="    return st.id in st.voters or st.id in st.outgoing\n",
        bug="A leader that removes itself from two voters restarts before the entry is anywhere else. It "
        "does not stand for election, and votes for nobody with a shorter log: both are up and "
        "connected, and there is no leader, ever.",
        source="https://github.com/cowsql/raft/issues/150; thesis, section 4.2.2",
    ),
    Mutant(
        name="learner-refuses-to-vote",
        area=AREA,
        file="core/election.py",
        old="""\
        message.term == st.term
        and st.role is FOLLOWER
""",
        new="""\
        message.term == st.term
        and st.votes
        and st.role is FOLLOWER
""",
        bug="A node that does not know yet that it was made a voter refuses its vote. One voter makes a "
        "second, and restarts before the other has the entry: neither can win without the other's vote, "
        "which it does not get. No leader, ever.",
        source="https://github.com/tikv/raft-rs/issues/57",
    ),
)
