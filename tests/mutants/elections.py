"""Elections: votes, their durability, who may win."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "elections"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="vote-sent-before-durable",
        area=AREA,
        file="core/durability.py",
        old="""\
    if st.hard_synced != st.hard_written:
        return True
    if isinstance(message, AppendEntriesReply):
""",
        new="""\
    if isinstance(message, AppendEntriesReply):
""",
        bug="A vote leaves before it is on disk. The voter loses power, forgets it and votes for another "
        "candidate of the same term: two leaders in one term.",
        source="https://github.com/etcd-io/etcd/issues/14143; paper, figure 2 (persistent state is updated "
        "before responding)",
    ),
    Mutant(
        name="vote-not-persisted",
        area=AREA,
        file="core/roles.py",
        old="""\
    st.voted_for = candidate
    durability.save_hard_state(st)
""",
        new="""\
    st.voted_for = candidate
""",
        bug="A vote is kept in memory only. After a restart in the same term the node votes again: two "
        "leaders in one term.",
        source="https://github.com/datatechnology/cornerstone/issues/65",
    ),
    Mutant(
        name="own-vote-not-recorded",
        area=AREA,
        file="core/roles.py",
        old="    st.voted_for = st.id\n",
        new="    st.voted_for = NOBODY\n",
        bug="A candidate does not write down that it votes for itself. Back in the follower's role in the "
        "same term, by a restart or by another leader, it gives its vote away a second time: two leaders in "
        "one term.",
        source="https://github.com/vesoft-inc/nebula/pull/3415",
    ),
    Mutant(
        name="second-vote-in-one-term",
        area=AREA,
        file="core/election.py",
        old="""\
        and st.role is FOLLOWER
        and (st.voted_for == NOBODY or st.voted_for == message.candidate)
""",
        new="""\
        and st.role is FOLLOWER
""",
        bug="A follower votes for every candidate of a term: two that stand at once are both elected.",
        source="https://github.com/camunda/camunda/issues/5356",
    ),
    Mutant(
        name="vote-forgotten-in-the-same-term",
        area=AREA,
        file="core/roles.py",
        old="""\
    follow(st, leader)
    if term > st.term:
        st.term = term
        st.voted_for = NOBODY
        durability.save_hard_state(st)
""",
        new="""\
    follow(st, leader)
    st.voted_for = NOBODY
    if term > st.term:
        st.term = term
        durability.save_hard_state(st)
""",
        bug="Whoever steps down without a new term forgets its vote in this one. A late request of the "
        "term's other candidate is then granted: two leaders in one term.",
        source="https://github.com/microsoft/CCF/pull/8094; https://github.com/ktoso/akka-raft/issues/56",
    ),
    Mutant(
        name="votes-counted-by-number",
        area=AREA,
        file="core/election.py",
        old="    if voter in st.granted or (voter not in st.voters and voter not in st.outgoing):\n",
        new="    if voter not in st.voters and voter not in st.outgoing:\n",
        bug="A reply that the network doubles counts as two votes: with two of five voters a candidate wins, "
        "and another may win the same term with the other three.",
        source="https://github.com/xnnyygn/xraft/issues/27",
        more=(
            (
                "core/quorum.py",
                """\
    for voter in voters:
        if voter in granted:
            count += 1
""",
                """\
    for _ in granted:
        count += 1
""",
            ),
        ),
    ),
    Mutant(
        name="stale-vote-counted",
        area=AREA,
        file="core/election.py",
        old="    if st.role is CANDIDATE and message.term == st.term and message.vote_granted:\n",
        new="    if st.role is CANDIDATE and message.vote_granted:\n",
        bug="A vote of an earlier term, late on its way, counts in the term in which the candidate stands "
        "now, where its voter may have elected somebody else: two leaders in one term.",
        source="https://github.com/andreev-io/little-raft/issues/44; "
        "https://github.com/eatonphil/raft-rs/issues/3",
    ),
    Mutant(
        name="candidate-keeps-votes",
        area=AREA,
        file="core/roles.py",
        old="""\
    st.voted_for = st.id
    st.granted = []
""",
        new="""\
    st.voted_for = st.id
""",
        bug="What was granted before a campaign, pre-votes or the votes of the term before, counts in it. Of "
        "five voters two are enough to win; and of three with one down nobody ever wins, since a vote that "
        "was counted as a pre-vote is no news.",
        source="https://github.com/ktoso/akka-raft/issues/45 (votes of an earlier term still counted)",
    ),
    Mutant(
        name="up-to-date-by-index-only",
        area=AREA,
        file="core/election.py",
        old="""\
    if last_term != st.last_term:
        return last_term > st.last_term
    return last_index >= st.last_index
""",
        new="""\
    return last_index >= st.last_index
""",
        bug="The longer log wins, whatever its terms. A deposed leader with a long tail that nobody has is "
        "elected, and overwrites what was committed after it.",
        source="https://github.com/sile/noraft/pull/22; paper, section 5.4.1",
    ),
    Mutant(
        name="up-to-date-by-term-only",
        area=AREA,
        file="core/election.py",
        old="""\
    if last_term != st.last_term:
        return last_term > st.last_term
    return last_index >= st.last_index
""",
        new="""\
    return last_term >= st.last_term
""",
        bug="A vote is granted to a shorter log of the same last term. Who lacks the last committed entries "
        "is elected and overwrites them.",
        source="https://github.com/markwylde/liferaft/issues/8; paper, section 5.4.1",
    ),
    Mutant(
        name="pre-vote-raises-term",
        area=AREA,
        file="core/election.py",
        old="    reply = PreVoteReply(message.term if grant else st.term, grant, st.id)\n",
        new="""\
    if message.term > st.term:
        roles.become_follower(st, message.term, NOBODY)
    reply = PreVoteReply(message.term if grant else st.term, grant, st.id)
""",
        bug="To be asked for a pre-vote is to enter its term. A follower that is cut off from the leader "
        "alone then deposes it, through the others, with every election timeout: terms grow without end, "
        "and the leader that reaches a quorum cannot stay.",
        source="thesis, section 9.6; https://github.com/versity/scoutfs/pull/328",
    ),
    Mutant(
        name="pre-vote-refusal-ignored",
        area=AREA,
        file="core/election.py",
        old="""\
    if not message.vote_granted:
        if message.term > st.term:
            roles.become_follower(st, message.term, NOBODY)
    elif""",
        new="""\
    if not message.vote_granted:
        return
    elif""",
        bug="A node asks for pre-votes in a term that is over, and does not learn that from the refusals. "
        "If it has the longest log, nobody else can win either: a quorum is up and connected, and no leader "
        "is ever elected.",
        source="https://github.com/canonical/raft/pull/280",
    ),
)
