"""Bounds on what is under way from a leader to a follower, and what its snapshot pieces hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.contents import Contents, fingerprint, whole
from tests.sim.history import History
from tests.sim.quorums import decides, members_of

from raft_io import AppendEntries, InstallSnapshot, Membership, NodeId, Snapshot

if TYPE_CHECKING:
    from tests.sim.member import Member


@dataclass
class Link:
    """What a leader has sent to a follower since it last heard from it."""

    count: int = 0
    """Messages with entries."""
    size: int = 0
    """Bytes of their commands."""
    piece: tuple[int, int] | None = None
    """The snapshot's index and the offset of the piece under way."""
    sent: int = 0
    """The leader's tick at which that was sent."""


class Flow:
    """One `Link` for each leader and follower."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.links: dict[tuple[NodeId, NodeId], Link] = {}

    def answered(self, leader: NodeId, follower: NodeId) -> None:
        """The follower is heard again."""
        self.links.pop((leader, follower), None)

    def forget(self, leader: NodeId) -> None:
        """A new leadership, or a new life."""
        for link in [link for link in self.links if link[0] == leader]:
            del self.links[link]

    def changed(self, leader: NodeId, was: Membership, now: Membership) -> None:
        """Of who is removed, or decides no more, a leader remembers nothing."""
        for node in members_of(was):
            if node not in members_of(now) or (decides(was, node) and not decides(now, node)):
                self.links.pop((leader, node), None)

    def appends(self, member: Member, to: NodeId, message: AppendEntries) -> None:
        config = member.config
        assert len(message.entries) <= config.max_batch
        sizes = [len(entry.command) for entry in message.entries]
        assert len(sizes) <= 1 or sum(sizes) <= config.max_batch_bytes, f"{sizes} in one message"
        assert message.leader_commit <= self.history.known, f"{message} claims a commit that there is not"
        if not sizes:
            return
        link = self.links.setdefault((member.id, to), Link())
        assert link.piece is None, f"{message} to {to}, to which a snapshot travels: {link}"
        link.count += 1
        link.size += sum(sizes)
        limit = config.max_inflight_bytes
        before = link.size - sum(sizes)
        assert link.count <= config.max_inflight, f"{link.count} unanswered messages from {member.id} to {to}"
        assert not limit or link.count == 1 or before < limit, f"{sizes} to {to} beside {before} bytes"

    def piece(self, member: Member, to: NodeId, message: InstallSnapshot) -> None:
        """One piece at a time, of a snapshot that this node has or had."""
        assert message.leader == member.id
        config = member.config
        snapshot = member.snapshots.get((message.index, message.snapshot_term))
        assert snapshot is not None, f"{message} is no snapshot of node {member.id}"
        assert message.membership == snapshot.membership
        data = whole(snapshot.data)
        end = message.offset + len(message.data)
        assert message.data == data[message.offset : end], f"{message} is no piece of {data!r}"
        assert len(message.data) <= config.snapshot_chunk
        assert message.data or not data, f"{message} holds nothing"
        assert message.done == (end == len(data)), f"{message} of {data!r}"
        assert (message.size, message.checksum) == (len(data), checksum_of(snapshot)), f"{message}"
        link = self.links.setdefault((member.id, to), Link())
        piece = (message.index, message.offset)
        if link.piece is not None:
            assert link.piece == piece, f"{message} to {to} beside {link.piece}"
            assert member.ticks - link.sent >= config.election_timeout[0], f"{message} to {to} again, so soon"
        link.piece = piece
        link.sent = member.ticks


def checksum_of(snapshot: Snapshot) -> int:
    data = snapshot.data
    if isinstance(data, bytes):
        return fingerprint(data)
    assert isinstance(data, Contents)
    return data.checksum
