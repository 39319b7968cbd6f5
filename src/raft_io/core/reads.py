"""Linearizable reads without a log write (thesis, section 6.4): the leader shows that it still led after the
request came, by a round of heartbeats or by its lease, and then says how far a state machine must be."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from raft_io.core import quorum
from raft_io.core.actions import Action, ReadFailed, ReadReady, Send
from raft_io.core.messages import ReadIndexReply, ReadIndexRequest
from raft_io.core.progress import Progress
from raft_io.core.state import LEADER, Asked, Read, Ready, State

__all__ = [
    "advance",
    "answered_round",
    "ask",
    "begin_round",
    "emit_ready",
    "expire",
    "expire_asked",
    "handle_read_index_reply",
    "handle_read_index_request",
    "told_round",
]

MAX_FORWARDED: Final = 10_000
"""Reads that wait at a leader; above it followers' requests are dropped, as if lost on the way."""


def ask(st: State, context: bytes) -> None:
    """A read of this node: at a leader, or on its way to one."""
    if st.role is LEADER:
        st.reads.append(Read(context, st.id, st.now))
    else:
        st.asked.append(Asked(context, st.now))
        st.outbox.append(Send(st.leader, ReadIndexRequest(st.term, st.id, context)))
    st.work = True


def handle_read_index_request(st: State, message: ReadIndexRequest) -> None:
    """A read of a follower. It asks again when it is not answered."""
    if st.role is LEADER and message.term == st.term and len(st.reads) < MAX_FORWARDED:
        st.reads.append(Read(message.context, message.sender, st.now))
        st.work = True


def handle_read_index_reply(st: State, message: ReadIndexReply) -> None:
    """The leader has confirmed a read of this follower; one that was given up is not known any more."""
    if message.term != st.term:
        return
    for place in range(len(st.asked)):
        if st.asked[place].context == message.context:
            del st.asked[place]
            st.ready.append(Ready(message.context, message.index))
            st.work = True
            return


# Rounds.


def begin_round(st: State) -> None:
    """Every `AppendEntries` from here on belongs to a new round."""
    st.round += 1
    if st.lease_reads and (not st.lease_ticks or st.lease_ticks[-1] != st.now):
        st.lease_rounds.append(st.round)
        st.lease_ticks.append(st.now)
        # No lease reaches back further than an election timeout.
        if st.now - st.lease_ticks[0] > st.election_max:
            del st.lease_rounds[0]
            del st.lease_ticks[0]


def told_round(st: State) -> i64:
    """What an `AppendEntries` says of the round: nothing where nobody waits for it."""
    return st.round if st.tells_rounds or st.reads else 0


def answered_round(st: State, follower: Progress, number: i64) -> None:
    """`follower` still followed when round `number` began."""
    if number <= follower.round or number > st.round:
        return
    follower.round = number
    if st.reads:
        st.work = True
    place = len(st.lease_rounds)
    while place > 0:
        place -= 1
        if st.lease_rounds[place] <= number:
            follower.leased = st.lease_ticks[place] + 1
            return


def _confirmed_round(st: State) -> i64:
    rounds: list[int] = [st.round]
    for follower in st.followers:
        rounds.append(follower.round)
    return quorum.agreed(rounds, st.seats)


def _has_lease(st: State) -> bool:
    """Whether no other leader can have been elected yet: within the shortest election timeout, less a margin,
    of a round that a quorum answered, none of them votes for anybody (thesis, section 6.4.1)."""
    if not st.lease_reads or st.lease_void:
        return False
    ticks: list[int] = [st.now + 1]
    for follower in st.followers:
        ticks.append(follower.leased)
    basis = quorum.agreed(ticks, st.seats)
    return basis > 0 and st.now - (basis - 1) < st.lease_length


# The leader's side.


def advance(st: State) -> None:
    """Begin a round for the reads that came since the last, and answer what is confirmed.

    Before everything that was in the leader's log at its election is committed, it does not know what is:
    earlier leaders may have committed any of it (section 8).
    """
    knows = st.commit_index >= st.read_floor
    leased = knows and _has_lease(st)
    begun = False
    for read in st.reads:
        if knows and read.index < 0:
            read.index = st.commit_index
        if read.round == 0 and not leased:
            if not begun:
                begin_round(st)
                st.heartbeat_due = True
                begun = True
            read.round = st.round
    if not knows:
        return
    confirmed = st.round if leased else _confirmed_round(st)
    waiting: list[Read] = []
    for read in st.reads:
        if read.round > confirmed:
            waiting.append(read)
        elif read.origin == st.id:
            st.ready.append(Ready(read.context, read.index))
        else:
            st.outbox.append(Send(read.origin, ReadIndexReply(st.term, read.context, read.index)))
    st.reads = waiting


def expire(st: State) -> None:
    """Give up reads that no quorum has confirmed within the longest election timeout."""
    if st.now - st.reads[0].since <= st.election_max:
        return
    waiting: list[Read] = []
    for read in st.reads:
        if st.now - read.since <= st.election_max:
            waiting.append(read)
        elif read.origin == st.id:
            st.notices.append(ReadFailed(read.context))
            st.work = True
    st.reads = waiting


# The follower's side.


def expire_asked(st: State) -> None:
    """Give up reads that the leader has not answered within the longest election timeout."""
    if st.now - st.asked[0].since <= st.election_max:
        return
    waiting: list[Asked] = []
    for asked in st.asked:
        if st.now - asked.since <= st.election_max:
            waiting.append(asked)
        else:
            st.notices.append(ReadFailed(asked.context))
            st.work = True
    st.asked = waiting


def emit_ready(st: State, actions: list[Action]) -> None:
    """Let those reads be served whose index is applied."""
    waiting: list[Ready] = []
    for ready in st.ready:
        if ready.index <= st.last_applied:
            actions.append(ReadReady(ready.context, ready.index))
        else:
            waiting.append(ready)
    st.ready = waiting
