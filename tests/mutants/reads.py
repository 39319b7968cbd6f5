"""Reads: none may miss what was answered before it began."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "reads"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="read-before-the-own-term-is-committed",
        area=AREA,
        file="core/reads.py",
        old="    knows = st.commit_index >= st.read_floor\n",
        new="    knows = True\n",
        bug="A new leader answers reads by a commit index that is behind what the leader before it has "
        "committed and answered: a stale read right after an election.",
        source="https://github.com/etcd-io/etcd/issues/7331; https://github.com/tikv/tikv/pull/6340; "
        "thesis, section 6.4, 1",
    ),
    Mutant(
        name="read-without-a-round",
        area=AREA,
        file="core/reads.py",
        old="    confirmed = st.round if leased else _confirmed_round(st)\n",
        new="    confirmed = st.round\n",
        bug="A leader answers reads without hearing from a quorum. One that is cut off does not know yet "
        "that another leads, and answers with old values.",
        source="https://github.com/andrewjstone/rafter/issues/8; "
        "https://jepsen.io/analyses/redis-raft-1b3fbf6 (stale reads)",
    ),
    Mutant(
        name="read-joins-an-earlier-round",
        area=AREA,
        file="core/reads.py",
        old="""\
            if not begun:
                begin_round(st)
""",
        new="""\
            if not begun and _confirmed_round(st) >= st.round:
                begin_round(st)
""",
        bug="A read that comes while a round of heartbeats is under way is confirmed by it. The answers may "
        "have left before the read came, and a new leader may have committed in between: a stale read where "
        "messages are slow.",
        source="https://github.com/etcd-io/etcd/issues/20418; https://github.com/antflydb/antfly/pull/599",
    ),
    Mutant(
        name="read-before-it-is-applied",
        area=AREA,
        file="core/reads.py",
        old="        if ready.index <= st.last_applied:\n",
        new="        if ready.index <= st.commit_index:\n",
        bug="A read is served as soon as its index is known to be committed here, not when it is applied. "
        "With a slow disk, or while it catches up, a node answers with what was before.",
        source="thesis, section 6.4, 3 (waits for its state machine to advance at least as far)",
    ),
    Mutant(
        name="follower-reads-at-its-own-commit-index",
        area=AREA,
        file="core/reads.py",
        old="            st.ready.append(Ready(message.context, message.index))\n",
        new="            st.ready.append(Ready(message.context, st.commit_index))\n",
        bug="A follower asks the leader for a read point, and then serves at its own commit index, which is "
        "at least a message behind: stale reads from followers.",
        source="https://github.com/tikv/tikv/pull/9239 (an index other than the one that was checked)",
    ),
    Mutant(
        name="read-joins-a-batch-that-was-asked-for",
        area=AREA,
        file="server/reads.py",
        old="        self._queue.append(request)\n",
        new="        (next(iter(self._asked.values())).requests if self._asked else self._queue)"
        ".append(request)\n",
        bug="A read that comes while a read point is on its way is served at it. That point was fixed before "
        "the read began, so that a write answered in between is missed.",
        source="https://github.com/etcd-io/etcd/issues/20418; thesis, section 6.4, 2 (the index is saved "
        "after the read has arrived)",
    ),
    Mutant(
        name="lease-counted-from-the-answer",
        area=AREA,
        file="core/reads.py",
        old="            follower.leased = st.lease_ticks[place] + 1\n",
        new="            follower.leased = st.now + 1\n",
        bug="A lease begins when the answer arrives, not when the heartbeat was sent. With an answer that "
        "took long, followers have elected another leader before it ends: stale reads under leases.",
        source="https://github.com/yugabyte/yugabyte-db/issues/16; thesis, section 6.4.1",
    ),
    Mutant(
        name="lease-without-a-margin",
        area=AREA,
        file="core/state.py",
        old="        self.lease_length: i64 = low - config.lease_margin\n",
        new="        self.lease_length: i64 = low\n",
        bug="A lease lasts as long as the shortest election timeout, whatever the clocks do. A leader whose "
        "clock is slower than a voter's, by less than the margin allows for, still answers when another has "
        "been elected.",
        source="https://github.com/etcd-io/etcd/issues/6005; https://github.com/tikv/tikv/pull/1127; "
        "thesis, section 6.4.1 (bounded clock drift)",
    ),
    Mutant(
        name="lease-forgotten-with-the-leader",
        area=AREA,
        file="core/election.py",
        old="    return st.now < st.quarantine or (not force and st.now < st.vouched)\n",
        new="    return st.now < st.quarantine\n",
        bug="A voter that learns of a later term knows no leader any more, and votes at once, although what "
        "it has answered to the leader still counts there towards a lease: a stale read under leases.",
        source="https://github.com/yugabyte/yugabyte-db/issues/16 (whoever follows must let the lease end)",
    ),
    Mutant(
        name="lease-forgotten-on-restart",
        area=AREA,
        file="core/state.py",
        old="        self.quarantine: i64 = config.election_timeout[0] "
        "if config.lease_reads and hard.term > 0 else 0\n",
        new="        self.quarantine: i64 = 0\n",
        bug="A voter that restarts quickly votes at once, although before it has answered heartbeats that "
        "count towards a lease: another leader is elected while the lease lasts, and the old one answers "
        "reads.",
        source="thesis, section 6.4.1 (no election within the timeout after a heartbeat round); "
        "https://github.com/yugabyte/yugabyte-db/issues/16",
    ),
)
