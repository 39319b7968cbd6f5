"""Replication: what a follower takes in and acknowledges, and what the leader makes of it."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "replication"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="stale-append-truncates",
        area=AREA,
        file="core/append.py",
        old="""\
                if term_of(st, entry.index) != entry.term:
                    durability.truncate(st, entry.index)
                    break
""",
        new="""\
                durability.truncate(st, entry.index)
                break
""",
        bug="A follower cuts its log wherever a message begins, also where it agrees. One that was delayed "
        "removes entries that came after it and were acknowledged: the leader has counted them, and when it "
        "fails, who lacks them can be elected.",
        source="paper, figure 2, AppendEntries, 3 (only a conflicting entry is deleted); "
        "https://github.com/databendlabs/openraft/pull/509",
    ),
    Mutant(
        name="previous-term-not-checked",
        area=AREA,
        file="core/append.py",
        old="        if term != message.prev_log_term:\n",
        new="        if term > message.term:\n",
        bug="Entries are taken in behind an entry of another term. The log does not match the leader's below "
        "them, and what is committed there differs between nodes.",
        source="https://github.com/ktoso/akka-raft/issues/32; paper, figure 2, AppendEntries, 2",
    ),
    Mutant(
        name="append-of-an-older-term-taken",
        area=AREA,
        file="core/append.py",
        old="""\
    if message.term < st.term:
        _refuse(st, message, 0, 0)
        return
    if st.role is LEADER""",
        new="""\
    if st.role is LEADER""",
        bug="A follower that has entered a later term still obeys the leader of an earlier one. Its late "
        "message cuts off entries of the later term that were acknowledged and committed.",
        source="https://github.com/vesoft-inc/nebula/issues/685; paper, figure 2, AppendEntries, 1",
    ),
    Mutant(
        name="append-acknowledged-before-fsync",
        area=AREA,
        file="core/durability.py",
        old="        return message.success and message.match_index > st.stable_index\n",
        new="        return False\n",
        bug="A follower acknowledges entries before they are durable. The leader commits and answers; both "
        "lose power, and a leader without the entry is elected.",
        source="https://github.com/tikv/tikv/issues/994; https://github.com/camunda/camunda/issues/4160",
    ),
    Mutant(
        name="truncation-keeps-stable-index",
        area=AREA,
        file="core/durability.py",
        old="""\
    _vouch_no_further(st, last)
    st.dirty = True
""",
        new="""\
    st.dirty = True
""",
        bug="What replaces entries that were durable counts as durable at once, and so it is acknowledged "
        "before its own sync. A loss of power then takes back an entry that the leader has committed.",
        source="https://github.com/etcd-io/etcd/pull/1809; https://github.com/etcd-io/etcd/issues/1690",
    ),
    Mutant(
        name="ack-reports-last-index",
        area=AREA,
        file="core/append.py",
        old="AppendEntriesReply(st.term, True, st.id, match, 0, 0, message.round)",
        new="AppendEntriesReply(st.term, True, st.id, st.last_index, 0, 0, message.round)",
        bug="A follower acknowledges its whole log, with a tail of an earlier term that the leader has not "
        "looked at. The leader commits entries that are not there.",
        source="https://github.com/ravendb/ravendb/pull/9325; https://github.com/etcd-io/etcd/pull/1367",
    ),
    Mutant(
        name="ack-of-an-earlier-term-counted",
        area=AREA,
        file="core/replicate.py",
        old="    if st.role is not LEADER or message.term != st.term:\n",
        new="    if st.role is not LEADER:\n",
        bug="A node that leads again counts an acknowledgement from its first time. The follower has "
        "replaced those entries in between: what it does not have is committed by its vote.",
        source="paper, section 5.1 (a message with a stale term is rejected)",
    ),
    Mutant(
        name="lost-append-never-sent-again",
        area=AREA,
        file="core/replicate.py",
        old="    first = entries[0].index if entries else follower.next\n",
        new="    first = entries[0].index if entries else max(follower.match, st.snapshot_index) + 1\n",
        bug="Heartbeats ask only for what is known to agree, so that a lost message is not noticed before "
        "the next proposal. The last request before a silence, its messages lost, stays without an "
        "answer for ever, in a healthy network.",
        source="https://github.com/etcd-io/etcd/issues/13951; https://github.com/etcd-io/etcd/issues/1366; "
        "paper, section 5.3 (retries indefinitely)",
    ),
)
