"""How a scenario writes things down. `4/7` is the entry of term 4 at index 7."""

from __future__ import annotations

from collections.abc import Sequence

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    EntryKind,
    LogEntry,
    Message,
    RequestVote,
    RequestVoteReply,
    Role,
    Status,
)


def entry(item: LogEntry) -> str:
    """`4/7 x`; an empty command is not shown."""
    place = f"{item.term}/{item.index}"
    if item.kind is not EntryKind.NORMAL:
        return f"{place} {item.kind.name}"
    return f"{place} {item.command.decode()}" if item.command else place


def entries(items: Sequence[LogEntry]) -> str:
    """`[4/7 x, 4/8 y]`"""
    return f"[{', '.join(entry(item) for item in items)}]"


def message(item: Message) -> str:
    """One line, in the words of figure 2."""
    match item:
        case RequestVote():
            return f"RequestVote term={item.term} last={item.last_log_term}/{item.last_log_index}"
        case RequestVoteReply():
            return f"RequestVoteReply term={item.term} {'granted' if item.vote_granted else 'refused'}"
        case AppendEntries():
            return (
                f"AppendEntries term={item.term} prev={item.prev_log_term}/{item.prev_log_index} "
                f"{entries(item.entries)} commit={item.leader_commit}"
            )
        case AppendEntriesReply():
            if item.success:
                return f"AppendEntriesReply term={item.term} match={item.match_index}"
            return (
                f"AppendEntriesReply term={item.term} refused, "
                f"hint={item.conflict_term}/{item.conflict_index}"
            )


def standing(status: Status) -> str:
    """Role, term, vote and leader."""
    vote = "-" if status.voted_for is None else status.voted_for
    text = f"{status.role.value}, term {status.term}, vote {vote}"
    if status.role is not Role.FOLLOWER:
        return text
    return f"{text}, leader {'-' if status.leader is None else status.leader}"


def summary(status: Status) -> str:
    """What `standing` says, and how far the log, the disk, commitment and application are."""
    return (
        f"{standing(status)}, last {status.last_term}/{status.last_index}, on disk {status.stable_index}, "
        f"committed {status.commit_index}, applied {status.last_applied}"
    )


def terms(log: Sequence[LogEntry]) -> str:
    """A log as the paper's figures draw it: `[1][1][4]`."""
    return "".join(f"[{item.term}]" for item in log) or "empty"
