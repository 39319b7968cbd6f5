"""Who heard from whom: leaders without a quorum step down, and who hears a leader heeds no candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.sim.quorums import is_quorum, members_of

from raft_io import (
    AppendEntries,
    HardState,
    InstallSnapshot,
    Message,
    NodeId,
    PreVote,
    PreVoteReply,
    RaftNode,
    RequestVote,
    Role,
    Status,
    Term,
)

if TYPE_CHECKING:
    from tests.sim.member import Member


class Before(NamedTuple):
    """A node as it was before a message arrived. `status`: of those that must change nothing."""

    term: Term
    role: Role
    leader: NodeId | None
    hard: HardState
    status: Status | None


def before(member: Member, node: RaftNode, message: Message) -> Before:
    still = message.term < node.term or isinstance(message, PreVote)
    return Before(node.term, node.role, node.leader, member.log.now.state, node.status if still else None)


class Contact:
    """The ticks, by their receivers' clocks, at which messages arrived."""

    def __init__(self) -> None:
        self.leader: dict[NodeId, int] = {}
        """When each node last heard from the leader that it follows."""
        self.followers: dict[NodeId, dict[NodeId, int]] = {}
        """When each leader last heard from its followers."""
        self.since: dict[NodeId, int] = {}
        """When it was elected, or its membership changed."""

    def forget(self, member: Member) -> None:
        self.leader.pop(member.id, None)
        self.followers.pop(member.id, None)

    def changed(self, member: Member) -> None:
        """A leader has a new membership: whoever is new has some time to answer."""
        self.since[member.id] = member.ticks

    def elected(self, member: Member) -> None:
        self.since[member.id] = member.ticks
        self.followers[member.id] = {}

    def heeded(self, member: Member, sender: NodeId, message: Message, was: Before) -> None:
        """What a message alone brings about."""
        node = member.node
        if node is None:
            return
        if was.status is not None:
            assert node.status == was.status, f"{message} changes nothing, but changed {was.status}"
        elif isinstance(message, PreVoteReply):
            campaigns = (Role.CANDIDATE, Role.LEADER)
            adopted = not message.vote_granted and node.term == message.term
            stands = node.term == was.term + 1 and node.role in campaigns
            assert node.term == was.term or adopted or stands, f"{message} led to term {node.term}"
        elif isinstance(message, RequestVote) and self.ignores(member, message, was):
            assert (node.term, member.log.now.state) == (was.term, was.hard), f"{message} disturbs {node.id}"
        elif not (isinstance(message, RequestVote) and member.mode.batches):
            # (A batch in which a campaign began holds back the ticks behind it, so that a leader seems near.)
            assert node.term >= message.term, f"node {member.id} of term {node.term} ignored {message}"
        if isinstance(message, AppendEntries | InstallSnapshot) and message.term == node.term:
            assert (node.role, node.leader) == (Role.FOLLOWER, message.leader), f"{message} not followed"
            self.leader[member.id] = member.ticks
        if node.is_leader and message.term == node.term:
            self.followers.setdefault(member.id, {})[sender] = member.ticks

    def ignores(self, member: Member, message: RequestVote, was: Before) -> bool:
        """Whether the node hears a leader, or is one, so that it heeds no candidate that this did not send.
        With leases, one that is not the leader any more counts as well, and so does one that it may have
        heard before it started."""
        config = member.config
        if message.term <= was.term:
            return False
        if config.lease_reads and member.ticks - member.born < config.election_timeout[0] and member.old:
            return True
        if message.force or not config.check_quorum:
            return False
        if was.role is Role.LEADER:
            return True
        return self._heard(member) and (was.leader is not None or config.lease_reads)

    def granted(self, member: Member, message: PreVote | PreVoteReply) -> None:
        """A pre-vote is refused while a leader is heard, and by a leader."""
        node = member.node
        if (
            node is None
            or member.mode.batches
            or member.mode.deferred
            or not isinstance(message, PreVoteReply)
        ):
            return
        hears = node.is_leader or (node.leader is not None and self._heard(member))
        assert not (hears and message.vote_granted), (
            f"node {node.id} hears {node.leader}, but sends {message}"
        )

    def _heard(self, member: Member) -> bool:
        """Whether a leader spoke within the shortest election timeout."""
        heard = self.leader.get(member.id)
        return heard is not None and member.ticks - heard < member.config.election_timeout[0]

    def ticked(self, member: Member, node: RaftNode) -> None:
        """A leader that has not heard from a quorum for the longest election timeout has stepped down."""
        if not (member.config.check_quorum and node.is_leader):
            return
        patience = member.config.election_timeout[1]
        if member.ticks - self.since[member.id] <= patience:
            return
        heard = self.followers.get(member.id, {})
        membership = member.log.now.membership(member.initial)
        recent = {node.id} | {who for who, tick in heard.items() if member.ticks - tick <= patience}
        if not is_quorum(membership, recent):
            silent = sorted(members_of(membership) - recent)
            raise AssertionError(f"node {node.id} leads {membership}, but has not heard from {silent}")
