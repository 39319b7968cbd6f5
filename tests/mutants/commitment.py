"""Commitment: what counts as committed, and what follows from it."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "commitment"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="older-term-committed-by-counting",
        area=AREA,
        file="core/commit.py",
        old="    if index > st.commit_index and index >= st.term_start:\n",
        new="    if index > st.commit_index:\n",
        bug="A leader commits entries of earlier terms as soon as a majority has them, before one of its "
        "own. Another, whose last entry is of a later term, can still be elected and overwrite them "
        "(figure 8).",
        source="https://github.com/logcabin/logcabin/issues/44; "
        "https://github.com/bakwc/PySyncObj/issues/169; paper, section 5.4.2",
    ),
    Mutant(
        name="leader-counts-what-it-has-not-synced",
        area=AREA,
        file="core/commit.py",
        old="""\
    index = st.stable_index
    if st.followers""",
        new="""\
    index = st.last_index
    if st.followers""",
        bug="The leader counts its own copy before it is durable. With one follower it commits; it loses "
        "power, and comes back without the entry: with the third node it is a majority that does not know "
        "what was committed.",
        source="https://github.com/goraft/raft/pull/150 (the leader need not fsync, it was thought); "
        "thesis, section 10.2.1",
    ),
    Mutant(
        name="commit-beyond-match",
        area=AREA,
        file="core/append.py",
        old="    commit.commit_to(st, min(message.leader_commit, match))\n",
        new="    commit.commit_to(st, min(message.leader_commit, st.last_index))\n",
        bug="A follower takes the leader's commit index for its whole log, not for what the message has "
        "shown to agree. A heartbeat makes it apply its own conflicting tail: replicas differ.",
        source="https://github.com/atomix/copycat/issues/265; "
        "https://github.com/scylladb/scylladb/issues/9965",
    ),
    Mutant(
        name="commit-index-goes-back",
        area=AREA,
        file="core/commit.py",
        old="""\
    if index > st.commit_index:
        st.commit_index = index
        st.work = True
""",
        new="""\
    st.commit_index = index
    st.work = True
""",
        bug="A follower takes over a lower commit index, of a new leader or of a message that is late: it "
        "falls below what it has applied, and committed entries are no longer protected there.",
        source="https://github.com/bakwc/PySyncObj/issues/166; "
        "https://github.com/ongardie/raft.tla/issues/19",
    ),
    Mutant(
        name="half-is-a-quorum",
        area=AREA,
        file="core/quorum.py",
        old="    return voters // 2 + 1\n",
        new="    return (voters + 1) // 2\n",
        bug="Of an even number of voters, half are enough. While a cluster has two or four, each half of a "
        "split elects a leader and commits.",
        source="https://github.com/apache/geode/pull/7126; thesis, section 4.1 (majorities must overlap)",
    ),
    Mutant(
        name="no-entry-at-election",
        area=AREA,
        file="core/roles.py",
        old="""\
    st.quorum_check = st.now + st.election_max
    if st.last_index > st.commit_index:
        durability.append_own(st, NOOP, b"")
""",
        new="""\
    st.quorum_check = st.now + st.election_max
""",
        bug="A new leader adds no entry of its own term, so that what earlier leaders have left stays "
        "uncommitted until somebody proposes. Where nobody does, no read is ever answered.",
        source="https://github.com/PikaLabs/floyd/issues/17; https://github.com/RedisLabs/redisraft/pull/22; "
        "thesis, section 6.4",
    ),
)
