"""Snapshots: taking them, and sending and receiving them piece by piece (paper, section 7, figure 13)."""

from __future__ import annotations

from mypy_extensions import i64

from raft_io.core import adoption, commit, durability, roles
from raft_io.core.actions import Action, Send, TakeSnapshot
from raft_io.core.messages import AppendEntriesReply, InstallSnapshot, InstallSnapshotReply
from raft_io.core.progress import Progress
from raft_io.core.state import LEADER, Staging, State
from raft_io.core.terms import term_of
from raft_io.core.types import (
    MAX,
    Contents,
    Snapshot,
    SnapshotMeta,
    data_size,
    read_data,
)

__all__ = ["handle_install_snapshot", "handle_install_snapshot_reply", "request", "send_piece", "taken"]


# Taking them.


def request(st: State, actions: list[Action]) -> None:
    """Where snapshots are wanted: ask for one when enough was applied since the last, taken or asked for."""
    last = max(st.snapshot_index, st.snapshot_asked)
    due = st.last_applied - last >= st.snapshot_threshold
    # Who joined and does not know yet who takes part could not tell it in a snapshot.
    if due and st.restoring is None and adoption.as_of(st, st.last_applied).voters:
        st.snapshot_asked = st.last_applied
        actions.append(TakeSnapshot(st.last_applied, term_of(st, st.last_applied)))


def taken(st: State, index: i64, data: Contents) -> None:
    """The state machine's state at `index` was captured: keep it, and let the log go up to there."""
    if index <= st.snapshot_index or index > st.last_applied or st.restoring is not None:
        return
    membership = adoption.as_of(st, index)
    if not membership.voters:
        return
    # A log may drop what it has staged with any snapshot that it saves.
    st.staging = None
    durability.compact(st, Snapshot(index, term_of(st, index), membership, data))


# Sending one.


def send_piece(st: State, follower: Progress) -> None:
    """Send the next piece, if none is in flight, or the same once more, if it was not answered for so long
    that it must be lost."""
    snapshot = follower.snapshot
    assert snapshot is not None
    if follower.piece_sent >= 0 and st.now - follower.piece_sent < st.election_min:
        return
    follower.piece_sent = st.now
    size = data_size(snapshot.data)
    data = read_data(snapshot.data, follower.offset, st.snapshot_chunk)
    assert len(data) == min(st.snapshot_chunk, size - follower.offset), "a snapshot is as long as it says"
    message = InstallSnapshot(
        st.term,
        st.id,
        snapshot.index,
        snapshot.term,
        snapshot.membership,
        follower.offset,
        data,
        follower.offset + len(data) == size,
        size,
        follower.checksum,
    )
    st.outbox.append(Send(follower.id, message))


def handle_install_snapshot_reply(st: State, message: InstallSnapshotReply) -> None:
    """The follower says which byte it wants next."""
    if st.role is not LEADER or message.term != st.term:
        return
    for follower in st.followers:
        if follower.id == message.sender:
            follower.heard = st.now
            if follower.wants(message.index, message.offset):
                st.work = True
            return


# Receiving one.


def handle_install_snapshot(st: State, message: InstallSnapshot) -> None:
    """Stage a piece, and install the whole once it is complete (figure 13).

    A log that holds the snapshot's last entry keeps it, and everything behind it, and needs no snapshot (6).
    """
    if message.term < st.term:
        _reply(st, message, False, 0)
        return
    if st.role is LEADER or not _well_formed(message):
        return  # a second leader in one term, or nonsense: no correct peer sends it
    roles.hear_leader(st, message.leader)

    index = message.index
    if index <= st.commit_index:
        _reply(st, message, True, st.commit_index)
    elif index <= st.last_index and term_of(st, index) == message.snapshot_term:
        commit.commit_to(st, index)
        _reply(st, message, True, index)
    else:
        _stage(st, message)


def _well_formed(message: InstallSnapshot) -> bool:
    end = message.offset + len(message.data)
    if not 0 < message.index < MAX or not 0 < message.snapshot_term <= message.term:
        return False
    if not message.membership.voters or message.offset >= MAX - len(message.data):
        return False
    if message.size == 0:  # not told, or an empty snapshot
        return message.done or len(message.data) > 0
    return message.done == (end == message.size) and end <= message.size


def _stage(st: State, message: InstallSnapshot) -> None:
    staging = st.staging
    meta = SnapshotMeta(
        message.index, message.snapshot_term, message.membership, message.size, message.checksum
    )
    if staging is None or staging.meta != meta:
        if staging is not None and staging.term == message.term and message.index < staging.meta.index:
            return  # a late piece of a snapshot that this leader sends no more
        if message.offset != 0:
            _ask_for(st, message, 0)
            return
        staging = Staging(meta, message.term)
        st.staging = staging
    staging.term = message.term
    if message.offset != staging.offset:
        _ask_for(st, message, staging.offset)
        return
    end = message.offset + len(message.data)
    if message.done and message.size == 0:
        meta = SnapshotMeta(message.index, message.snapshot_term, message.membership, end, message.checksum)
    whole = st.log.receive_snapshot(meta, message.offset, message.data)
    staging.offset = end
    if not message.done:
        _ask_for(st, message, end)
        return
    st.staging = None
    if whole is None:
        _ask_for(st, message, 0)  # it was damaged on the way
        return
    snapshot = Snapshot(message.index, message.snapshot_term, message.membership, whole)
    durability.replace_log(st, snapshot)
    st.restoring = snapshot
    _reply(st, message, True, message.index)


def _ask_for(st: State, message: InstallSnapshot, offset: i64) -> None:
    reply = InstallSnapshotReply(st.term, st.id, message.index, offset)
    st.outbox.append(Send(message.leader, reply))
    st.work = True


def _reply(st: State, message: InstallSnapshot, success: bool, match: i64) -> None:
    st.outbox.append(Send(message.leader, AppendEntriesReply(st.term, success, st.id, match)))
    st.work = True
