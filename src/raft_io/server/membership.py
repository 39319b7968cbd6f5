"""Whom a server deals with: the members, where they are, and which life of each is meant.

Three sources, each of which may be behind: the membership in this node's own log (who takes part), the
replicated table of members as far as it is applied here (addresses and incarnations), and what peers say of
themselves and of each other. What this node has not applied itself is good for finding one another, and for
taking entries from a leader; it never makes a vote or an acknowledgement count.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from raft_io.core.log import RaftLog
from raft_io.core.node import RaftNode
from raft_io.core.types import Index, Membership, NodeId
from raft_io.errors import StorageError
from raft_io.server import frames
from raft_io.server.address import Address
from raft_io.server.envelope import Member
from raft_io.server.frames import Greeting
from raft_io.storage import PeerFile

__all__ = ["MemberInfo", "Members", "everyone", "membership_index", "part_of"]

log = logging.getLogger("raft_io.server")

Row = tuple[str, int]
"""Address and incarnation (0: not known)."""

MAX_GUESTS: Final = 64
"""Nodes that are no members, as far as this node knows, and yet may connect."""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member: where it listens (`None`: not known), its part (`"voter"`, `"learner"` or `"outgoing"`), and
    the incarnation of its data directory (0: not known)."""

    address: str | None
    role: str
    incarnation: int

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        # Compiled, a frozen dataclass is not copied or pickled without.
        return MemberInfo, (self.address, self.role, self.incarnation)


def everyone(membership: Membership) -> frozenset[NodeId]:
    """All that take part."""
    return membership.voters | membership.learners | membership.outgoing


def part_of(membership: Membership, node: NodeId) -> str:
    """The part that a member plays."""
    if node in membership.voters:
        return "voter"
    return "outgoing" if node in membership.outgoing else "learner"


def membership_index(log: RaftLog) -> Index:
    """The index of the entry, or the snapshot, that the membership in force comes from; `0`: the initial."""
    entries = log.membership_entries()
    if entries:
        return entries[-1].index
    snapshot = log.snapshot()
    return 0 if snapshot is None else snapshot.index


class Members:
    """What is known of the members.

    `node`: this server's. `own`: its address and incarnation. `configured`: the addresses that it was given
    for the initial voters. `initial`: it is one of them, not one that joined later. `file`: what it remembers
    across restarts.
    """

    def __init__(
        self,
        node: RaftNode,
        own: Row,
        configured: Mapping[NodeId, Address],
        file: PeerFile,
        initial: bool,
    ) -> None:
        self._node = node
        self._own = own
        self._configured = {peer: str(address) for peer, address in configured.items()}
        self._file = file
        self._peers = file.peers
        self._initial = initial
        self.admitted: Index = 0
        """Of one that joins: the membership entry with which it was let in, as it was told."""
        self._greeted: dict[NodeId, Row] = {}
        """What those who are connected now have said of themselves."""
        self._heard: dict[NodeId, Row] = {}
        self._heard_index: Index = 0
        """The newest table that a peer has told of, and the index as of which it is."""
        self._lingering: set[NodeId] = set()
        """Those who leave by a change that is not committed yet, and who have not been told."""
        self._told_off: set[NodeId] = set()
        """Those of them who have been told a moment ago."""
        self._away: set[NodeId] = set()
        """Members that have been connected, and are not now."""

    # Who they are.

    @property
    def is_joining(self) -> bool:
        """Whether this node has yet to be made a member, in this life of it."""
        return not self._initial and self._peers.joined == 0

    @property
    def settled(self) -> bool:
        """Whether it has become what it wanted to become when it joined."""
        return self._initial or self._peers.settled

    def settle(self) -> None:
        """It has."""
        self._peers.settled = True
        self._save()

    @property
    def was_always_alone(self) -> bool:
        """Whether nothing here knows of any other member, now or before: neither the log, nor the table, nor
        what is remembered of who was met. A snapshot may be a backup that was restored, or all that is left
        of the entries that told of others."""
        known, raft = self._peers, self._node
        if not self._initial or known.joined or known.members or known.met:
            return False
        return membership_index(raft.log) == 0 and everyone(raft.membership) == {raft.id}

    @property
    def has_nothing(self) -> bool:
        """Whether this node is an initial voter whose log is, and was always, empty."""
        raft = self._node
        empty = raft.log.last_index() == 0 and raft.log.snapshot() is None
        return self._initial and not self._peers.joined and empty

    def row(self, node: NodeId) -> Row | None:
        """A member's row in the replicated table, as far as it is applied here."""
        return self._peers.members.get(node)

    def met(self, node: NodeId) -> int:
        """The incarnation that the node introduced itself with; `0`: it never did."""
        return self._own[1] if node == self._node.id else self._peers.met.get(node, 0)

    def address(self, node: NodeId) -> str | None:
        """Where the node listens, as far as it is known."""
        if node == self._node.id:
            return self._own[0]
        known = self._addresses(node)
        return known[0] if known else None

    def listing(self) -> dict[NodeId, MemberInfo]:
        """All members."""
        membership = self._node.membership
        return {
            node: MemberInfo(self.address(node), part_of(membership, node), self._incarnation(node))
            for node in sorted(everyone(membership))
        }

    def _incarnation(self, node: NodeId) -> int:
        """The one that counts, as far as this node has seen for itself; `0`: not known."""
        row = self._peers.members.get(node)
        return row[1] if row is not None and row[1] else self.met(node)

    @property
    def _told(self) -> dict[NodeId, Row]:
        """What peers have told that this node does not know better by now."""
        if self._heard and self._heard_index <= max(self._peers.as_of, self._node.last_applied):
            self._heard = {}
        return self._heard

    def _addresses(self, node: NodeId) -> list[str]:
        """Where a peer may be reached, the best first."""
        found: list[str] = []
        told, row, greeted = self._told.get(node), self._peers.members.get(node), self._greeted.get(node)
        if told is not None and told[0]:
            found.append(told[0])
        if row is not None and row[0]:
            found.append(row[0])
        if not found and node in self._configured:
            found.append(self._configured[node])
        if greeted is not None:
            found.append(greeted[0])
        return list(dict.fromkeys(found))

    # Connections.

    def objection(self, greeting: Greeting) -> str | None:
        """Why nothing is taken from who says this, if nothing is. Who is met for the first time is
        remembered, durably: a node that comes back without its data must not pass for the one it was."""
        node = greeting.node
        membership = self._node.membership
        member = node in everyone(membership)
        known = self._incarnation(node)
        told = self._told.get(node, ("", 0))[1]
        # Of one that joins the log may have come to no more than an earlier life of the other, which may lead
        # now. It has no vote, and counts none.
        if not self.is_joining and greeting.incarnation not in (known, told) and (known or told):
            return (
                f"{frames.STRANGER}node {node} "
                "comes with another data directory than the one it is known by; "
                "if that was lost, it has to join anew: raft-io serve --join"
            )
        row = self._peers.members.get(node)
        expected = {told, 0 if row is None else row[1]}
        if greeting.joining and member and greeting.incarnation not in expected and (row is None or row[1]):
            return f"node {node} has no data yet and is not known to join: raft-io serve --join"
        if not member and not self._may_be_member(node):
            return f"node {node} is no peer of node {self._node.id}"
        if member and not known:
            return self._meet(node, greeting.incarnation)
        return None

    def _may_be_member(self, node: NodeId) -> bool:
        """Whether a node that is no member as far as this one's log goes may have become one since."""
        raft = self._node
        if raft.leader == node or node in self._told or not everyone(raft.membership):
            return True
        guests = [guest for guest in self._greeted if guest not in everyone(raft.membership)]
        room = node in guests or len(guests) < MAX_GUESTS
        return raft.leader is None and raft.log.last_index() > 0 and room

    def _meet(self, node: NodeId, incarnation: int) -> str | None:
        self._peers.met[node] = incarnation
        try:
            self._file.save()
        except StorageError as error:
            del self._peers.met[node]
            return f"node {self._node.id} cannot remember node {node}: {error}"
        return None

    def removal(self, node: NodeId) -> Index:
        """The index of the committed membership entry by which `node` is no member; `0` unless there is one,
        and this node leads or follows. The leader alone would not do: who was away may know none that leads
        now. Whom this node follows is a member, by an entry that has yet to come from it."""
        raft = self._node
        if raft.leader is None or raft.leader == node or node in everyone(raft.membership):
            return 0
        index = membership_index(raft.log)
        return index if index <= raft.commit_index and not raft.membership.outgoing else 0

    def greeted(self, greeting: Greeting) -> None:
        """A peer has connected."""
        self._greeted[greeting.node] = (greeting.address, greeting.incarnation)
        self._away.discard(greeting.node)

    def left(self, peer: NodeId) -> None:
        """Its connection is gone."""
        if peer in everyone(self._node.membership):
            self._away.add(peer)
        else:
            self._greeted.pop(peer, None)

    def counts(self, peer: NodeId) -> bool:
        """Whether what a connected peer says of its log and vote may be counted: it is who this node itself
        knows it to be. Of one that others vouch for, the leader's messages are good: by them this node gets
        to where it sees for itself."""
        greeted = self._greeted.get(peer)
        return greeted is not None and self._incarnation(peer) in (0, greeted[1])

    def links(self) -> dict[NodeId, tuple[Address, ...]]:
        """Whom to keep connections to, and where they may be reached: the members, and those who may have
        become members and have connected."""
        membership = self._node.membership
        guests = [node for node in self._greeted if self._may_be_member(node)]
        wanted = everyone(membership).union(self._lingering, guests) - {self._node.id}
        found: dict[NodeId, tuple[Address, ...]] = {}
        for node in sorted(wanted):
            addresses = tuple([each for each in map(_parsed, self._addresses(node)) if each is not None])
            if addresses:
                found[node] = addresses
        return found

    def strangers(self) -> list[NodeId]:
        """Those who are connected and have no business here any more."""
        known = everyone(self._node.membership) | self._lingering
        strangers = [node for node in self._greeted if node not in known and not self._may_be_member(node)]
        for node, (_, incarnation) in self._greeted.items():
            told = self._told.get(node, ("", 0))[1]
            if (
                not self.is_joining
                and node not in strangers
                and self._incarnation(node) not in (0, incarnation)
                and told != incarnation
            ):
                strangers.append(node)
        return strangers

    # What changes.

    def adopt(self, table: Mapping[NodeId, Member], applied: Index) -> None:
        """The replicated table, as of `applied`, has changed here."""
        if applied <= self._peers.as_of:
            return  # the log is applied anew after a restart
        self._peers.as_of = applied
        self._peers.members = {node: (member.address, member.incarnation) for node, member in table.items()}
        row = self._peers.members.get(self._node.id)
        if row is not None and row[1] == self._own[1] and self._peers.joined == 0:
            self._peers.joined = applied
            # From here on it may lead. Had it forgotten that, it could wait for a leader for ever.
            self._file.save()
        else:
            self._save()

    def _save(self) -> None:
        try:
            self._file.save()
        except StorageError as error:
            # What is in it is in the log as well: it is only found later.
            log.warning("node %s: %s", self._node.id, error)

    def hear(self, peer: NodeId, index: Index, table: dict[NodeId, Row]) -> None:
        """A member tells of the table as of `index`. Whoever knows no members yet believes anybody: the log
        that it is sent begins at a time when some of them were not who they are now."""
        members = everyone(self._node.membership)
        if not self.counts(peer) or (members and peer not in members):
            return
        if index > max(self._heard_index, self._peers.as_of, self._node.last_applied):
            self._heard_index = index
            self._heard = {node: row for node, row in table.items() if node != self._node.id}

    def tell(self) -> bytes:
        """The frame for others to `hear`."""
        table: dict[NodeId, Row] = {}
        for node in sorted(everyone(self._node.membership)):
            table[node] = (self.address(node) or "", self._incarnation(node))
        return frames.encode_members(max(self._peers.as_of, self._node.last_applied), table)

    def changed(self, before: Membership, after: Membership) -> None:
        """Another membership is in force."""
        self._lingering |= everyone(before)
        self._lingering -= everyone(after)
        for node in self._away - everyone(after):
            self._away.discard(node)
            self._greeted.pop(node, None)

    def committed(self, index: Index) -> dict[NodeId, bytes]:
        """The membership at `index`, the last one, is committed. What to say to those who left by it, if this
        node leads; else they are forgotten at once."""
        if self._node.is_leader:
            self._told_off = set(self._lingering)
            return {node: frames.encode_removed(index) for node in sorted(self._lingering)}
        self._lingering = set()
        return {}

    def part(self) -> None:
        """They have been told."""
        self._lingering -= self._told_off

    def is_removed(self, index: Index) -> bool:
        """Whether this node, which is no member by the membership at `index`, has been one and is none now.
        One that joins passes by memberships from before it was let in. Where this node knows what is
        committed at `index`, its own log decides: who says otherwise has another history."""
        since = max(self._peers.joined, self.admitted)
        if index <= since or (self.is_joining and not self.admitted):
            return False
        latest = membership_index(self._node.log)
        if index <= latest:
            # A snapshot may stand for the entry, and for others behind it.
            return self._is_out and (index == latest or not self._node.log.membership_entries())
        return index > self._node.commit_index

    def believes(self, witness: NodeId | None) -> bool:
        """Whether to go by what `witness` says of this node's removal (`None`: its own log). Whoever is led,
        or leads, is a member of what it takes part in: then only the leader that it hears is believed. A node
        that really was removed hears from no leader soon, and is told again."""
        leader = self._node.leader
        return witness is None or leader is None or leader == witness or self._is_out

    @property
    def _is_out(self) -> bool:
        """Whether this node is no member by its own log."""
        return self._node.id not in everyone(self._node.membership)


def _parsed(text: str) -> Address | None:
    try:
        address = Address.parse(text)
    except ValueError:
        return None
    return address if address.port else None
