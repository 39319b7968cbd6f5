"""Which membership is in force: the last one in the log, committed or not (thesis, section 4.1).

`State.history` keeps those that the log holds, so that a truncation rolls back, however many of them it
removes.
"""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import quorum
from raft_io.core.actions import MembershipChanged
from raft_io.core.members import decode_membership
from raft_io.core.progress import Progress
from raft_io.core.state import LEADER, Adopted, State
from raft_io.core.types import MEMBERSHIP, NOBODY, LogEntry, Membership

__all__ = ["appended", "as_of", "compacted", "installed", "may_lead", "recover", "refit", "truncated"]


def recover(st: State) -> None:
    """Adopt what the log holds: the snapshot's membership, then that of every entry behind it; without either
    the configuration's. Raises `ValueError` for an entry that holds none."""
    snapshot = st.log.snapshot()
    if snapshot is not None:
        st.history.append(Adopted(snapshot.index, snapshot.membership))
    else:
        voters = () if st.config.joins else (st.config.id, *st.config.peers)
        st.history.append(Adopted(0, Membership(voters)))
    for entry in st.log.membership_entries():
        st.history.append(Adopted(entry.index, decode_membership(entry.command)))
    _enforce(st)


def appended(st: State, entries: tuple[LogEntry, ...]) -> None:
    """Adopt what these entries bring, at once: a membership counts from the moment it is in the log."""
    for entry in entries:
        if entry.kind is MEMBERSHIP:
            st.history.append(Adopted(entry.index, decode_membership(entry.command)))
            _adopt(st)


def truncated(st: State, first: i64) -> None:
    """Roll back what the entries from `first` on had brought."""
    if st.history[-1].index < first:
        return
    while st.history[-1].index >= first:
        st.history.pop()
    _adopt(st)


def as_of(st: State, index: i64) -> Membership:
    """The membership that the entries through `index` bring about."""
    found = st.history[0]
    for adopted in st.history:
        if adopted.index > index:
            break
        found = adopted
    return found.membership


def may_lead(st: State) -> bool:
    """Whether this node may stand for election: a voter, or one that an uncommitted change removes.

    Such a one may be the only node that can bring about the commit of its own removal (thesis, 4.2.2). It
    does not count itself. One level is enough: a change is begun only once the one before is committed.
    """
    if st.votes:
        return True
    if st.history[-1].index <= st.commit_index or len(st.history) < 2:
        return False
    before = st.history[-2].membership
    return st.id in before.voters or st.id in before.outgoing


def compacted(st: State, index: i64) -> None:
    """The entries through `index` are gone, and with them the way back to before."""
    passed: i64 = 0
    for adopted in st.history:
        if adopted.index > index:
            break
        passed += 1
    del st.history[: max(passed - 1, 0)]


def installed(st: State, index: i64, membership: Membership) -> None:
    """A snapshot has replaced the whole log."""
    st.history = [Adopted(index, membership)]
    if membership == st.membership:
        _enforce(st)
    else:
        _adopt(st)


def _adopt(st: State) -> None:
    _enforce(st)
    st.notices.append(MembershipChanged(st.membership))
    st.work = True


def _enforce(st: State) -> None:
    membership = st.history[-1].membership
    st.membership = membership
    st.voters = sorted(membership.voters)
    st.outgoing = sorted(membership.outgoing)
    st.votes = st.id in membership.voters or st.id in membership.outgoing
    if st.role is LEADER:
        refit(st)


def refit(st: State) -> None:
    """Give the leader a `Progress` for every other member and a seat for each, keeping what it knows.

    Who loses its seat is looked at afresh: a voter whose disk was lost comes back as a learner, and then does
    not have what it had acknowledged.
    """
    membership = st.membership
    known: dict[int, Progress] = {}
    for place in range(len(st.followers)):
        follower = st.followers[place]
        if st.seats[place + 1] == 0 or _seat(membership, follower.id) != 0:
            known[int(follower.id)] = follower
    followers: list[Progress] = []
    seats: list[int] = [_seat(membership, st.id)]
    for node in sorted(membership.voters | membership.learners | membership.outgoing):
        if node == st.id:
            continue
        kept = known.get(node)
        followers.append(Progress(node, st.last_index + 1, st.now) if kept is None else kept)
        seats.append(_seat(membership, node))
    st.followers = followers
    st.seats = seats
    st.plain = all(seat == quorum.VOTER for seat in seats)
    st.quorum_check = st.now
    if st.transfer_target not in membership.voters:
        st.transfer_target = NOBODY


def _seat(membership: Membership, node: int) -> int:
    return (quorum.VOTER if node in membership.voters else 0) | (
        quorum.OUTGOING if node in membership.outgoing else 0
    )
