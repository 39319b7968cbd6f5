"""How a scenario writes things down. `4/7` is the entry of term 4 at index 7."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    EntryKind,
    FollowerStatus,
    InstallSnapshot,
    InstallSnapshotReply,
    LogEntry,
    Membership,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    RequestVote,
    RequestVoteReply,
    Role,
    Snapshot,
    Status,
    TimeoutNow,
    decode_membership,
)


def ids(nodes: Iterable[int]) -> str:
    """`1,2,3`"""
    return ",".join(str(node) for node in sorted(nodes)) or "none"


def membership(item: Membership) -> str:
    """`voters 1,2 learners 4 outgoing 1,2,3`; what there is none of is not shown."""
    text = f"voters {ids(item.voters)}"
    if item.learners:
        text += f" learners {ids(item.learners)}"
    if item.outgoing:
        text += f" outgoing {ids(item.outgoing)}"
    return text


def entry(item: LogEntry) -> str:
    """`4/7 x`; an empty command is not shown."""
    place = f"{item.term}/{item.index}"
    if item.kind is EntryKind.MEMBERSHIP:
        return f"{place} {membership(decode_membership(item.command))}"
    if item.kind is EntryKind.NOOP:
        return f"{place} NOOP"
    return f"{place} {item.command.decode()}" if item.command else place


def entries(items: Sequence[LogEntry]) -> str:
    """`[4/7 x, 4/8 y]`"""
    return f"[{', '.join(entry(item) for item in items)}]"


def snapshot(item: Snapshot) -> str:
    """What it stands for, and the state of the machine in it."""
    assert isinstance(item.data, bytes)
    return f"{item.term}/{item.index} {item.data.decode()!r}, {membership(item.membership)}"


def message(item: Message) -> str:
    """One line, in the words of figures 2 and 13."""
    text = f"{type(item).__name__} term={item.term} {_rest(item)}"
    if isinstance(item, (AppendEntries, AppendEntriesReply, TimeoutNow)) and item.round:
        text += f" round={item.round}"
    return text.replace("  ", " ")


def _rest(item: Message) -> str:
    match item:
        case RequestVote() | PreVote():
            force = " force" if isinstance(item, RequestVote) and item.force else ""
            return f"last={item.last_log_term}/{item.last_log_index}{force}"
        case RequestVoteReply() | PreVoteReply():
            return "granted" if item.vote_granted else "refused"
        case AppendEntries():
            prev = f"prev={item.prev_log_term}/{item.prev_log_index}"
            return f"{prev} {entries(item.entries)} commit={item.leader_commit}"
        case AppendEntriesReply():
            if item.success:
                return f"match={item.match_index}"
            return f"refused, hint={item.conflict_term}/{item.conflict_index}"
        case InstallSnapshot():
            done = " done" if item.done else ""
            place = f"byte {item.offset} of {item.size}: {item.data.decode()!r}{done}"
            return f"snapshot={item.snapshot_term}/{item.index}, {place}"
        case InstallSnapshotReply():
            return f"snapshot at {item.index}, wants byte {item.offset}"
        case ReadIndexRequest():
            return item.context.decode()
        case ReadIndexReply():
            return f"{item.context.decode()} at {item.index}"
    return ""


def standing(status: Status) -> str:
    """Role, term, vote and leader."""
    vote = "-" if status.voted_for is None else status.voted_for
    text = f"{status.role.value}, term {status.term}, vote {vote}"
    if status.role is not Role.FOLLOWER:
        return text
    return f"{text}, leader {'-' if status.leader is None else status.leader}"


def summary(status: Status) -> str:
    """What `standing` says, and how far the log, the disk, commitment and application are."""
    text = (
        f"{standing(status)}, last {status.last_term}/{status.last_index}, on disk {status.stable_index}, "
        f"committed {status.commit_index}, applied {status.last_applied}"
    )
    return f"{text}, snapshot {status.snapshot_index}" if status.snapshot_index else text


def progress(item: FollowerStatus) -> str:
    """What a leader knows of a follower."""
    place = f"match {item.match_index}, next {item.next_index}, in flight {item.inflight}"
    text = f"{item.id}: {item.state}, {place}"
    if item.state == "snapshot":
        text += f", byte {item.snapshot_offset}"
    return text if item.part == "voter" else f"{text}, {item.part}"


def terms(log: Sequence[LogEntry], covered: int = 0) -> str:
    """A log as the paper's figures draw it, `[1][1][4]`; what a snapshot stands for as `(1-7)`, with the
    entries of it that are still there behind that."""
    behind = "".join(f"[{item.term}]" for item in log if item.index > covered)
    if not covered:
        return behind or "empty"
    tail = "".join(f"[{item.term}]" for item in log if item.index <= covered)
    return f"(1-{covered}{' keeps ' if tail else ''}{tail}){behind}"
