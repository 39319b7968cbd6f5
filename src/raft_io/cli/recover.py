"""Bring a node back whose cluster, or whose log, is lost in part. Offline: no node of it may run.

With --voters, for when a majority of the voters is lost for good: the node goes on with the voters that are
named, and with what its own log holds. What only the lost nodes had is lost, and they must never run again
with their old data.

With --salvage, for a log that is damaged: what is damaged is set aside, nothing is deleted. The node can then
only come back as a new one: raft-io serve --join.
"""

from __future__ import annotations

import argparse
import datetime
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raft_io.cli.errors import CommandFailedError, UsageError
from raft_io.cli.operate import node_id, print_json
from raft_io.cli.show import listed
from raft_io.cli.wal import described, in_words
from raft_io.core.members import decode_membership
from raft_io.core.types import EntryKind, LogEntry, Membership
from raft_io.errors import CorruptLogError, RaftError
from raft_io.storage import identity
from raft_io.storage.inspect import SnapshotInfo, entries, in_use, log_directory, walk
from raft_io.storage.recover import force_membership, salvage

__all__ = ["add_arguments", "run"]

MAX_LEAP: Final = 1 << 20
"""Two nodes that were both forced, against all advice, are told apart by their terms."""

FLAG: Final = "--yes-i-lost-a-majority"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io recover`."""
    parser.add_argument(
        "--data-dir", type=Path, required=True, metavar="DIR", help="the data directory of the node"
    )
    parser.add_argument("--id", type=node_id, required=True, metavar="N", help="the node's id")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--voters", type=_ids, metavar="N[,M...]", help="those that are left, this node among them"
    )
    way.add_argument("--salvage", action="store_true", help="keep what is good of a damaged log")
    parser.add_argument(
        FLAG,
        dest="confirmed",
        action="store_true",
        help="do it; without it, show only what would be done",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _ids(text: str) -> list[int]:
    return [node_id(part.strip()) for part in text.split(",")]


def run(options: argparse.Namespace) -> int:
    """Look at the node, and do what was asked."""
    if options.salvage and options.confirmed:
        raise UsageError(f"{FLAG} goes with --voters: --salvage counts on the others")
    try:
        owner = _owner(options.data_dir, options.id)
        where = log_directory(options.data_dir)
        if in_use(where):
            raise CommandFailedError(f"node {options.id} runs; stop it first")
        if options.salvage:
            return _salvage(options, where)
        return _force(options, where, owner)
    except CorruptLogError as error:
        raise CommandFailedError(f"{error}; see raft-io recover --salvage") from error
    except RaftError as error:
        raise CommandFailedError(str(error)) from error
    except BrokenPipeError:
        raise  # not the log: whoever reads what is printed has gone
    except OSError as error:
        raise CommandFailedError(f"{error.filename or options.data_dir}: {error.strerror}") from error


def _owner(data_dir: Path, node: int) -> identity.Identity:
    """Whose directory it is. Raises `CommandFailedError` if it is not the node's."""
    path = data_dir / identity.FILE_NAME
    try:
        found = identity.decode(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise CommandFailedError(
            f"{data_dir} is no data directory: there is no {identity.FILE_NAME}"
        ) from None
    if found.node_id != node:
        raise CommandFailedError(f"{data_dir} is the data directory of node {found.node_id}, not of {node}")
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# A lost majority.


@dataclass(frozen=True)
class Log:
    """What a node's log ends with."""

    index: int
    term: int
    members: Membership


def _read(where: str, owner: identity.Identity) -> Log:
    index, term, members = 0, 0, Membership(owner.voters)
    for item in walk(where):
        if isinstance(item, SnapshotInfo):
            index, term, members = item.index, item.term, item.membership
    for entry in entries(where):
        if entry.index > index:
            index, term = entry.index, entry.term
            if entry.kind is EntryKind.MEMBERSHIP:
                members = _members(entry)
    return Log(index, term, members)


def _members(entry: LogEntry) -> Membership:
    try:
        return decode_membership(entry.command)
    except ValueError as error:
        raise CommandFailedError(f"entry {entry.index} holds {error}") from error


def _force(options: argparse.Namespace, where: str, owner: identity.Identity) -> int:
    voters = sorted(set(options.voters))
    if options.id not in voters:
        raise UsageError(f"--voters must name node {options.id} too: it is the one that goes on")
    log = _read(where, owner)
    if not log.members.voters:
        raise CommandFailedError(
            f"the log of node {options.id} knows of no members: there is nothing to go on with"
        )
    everybody = log.members.voters | log.members.outgoing | log.members.learners
    strangers = sorted(set(voters) - everybody)
    if strangers:
        raise UsageError(
            f"--voters names {listed(strangers)}, by the log of node {options.id} no member: "
            f"those are {listed(sorted(everybody))}"
        )
    lost = sorted((log.members.voters | log.members.outgoing) - set(voters))
    if not lost:
        raise UsageError(f"--voters leaves out none of the voters {listed(sorted(log.members.voters))}")
    report = _report(options.id, log, voters, lost)
    if not options.confirmed:
        for line in report:
            print(line)
        raise CommandFailedError(f"nothing was changed; to go on, give {FLAG}")
    if not options.json:
        for line in report:
            print(line)
    leap = secrets.randbelow(MAX_LEAP)
    done = force_membership(where, node_id=options.id, voters=voters, leap=leap, now=_now())
    if options.json:
        print_json({"id": options.id, "index": done.index, "term": done.term, "voters": voters, "lost": lost})
    else:
        print(f"DONE: by entry {done.index} of term {done.term} the voters are {listed(voters)}.")
        print(f"Start node {options.id} as before.")
    return 0


def _report(node: int, log: Log, voters: Sequence[int], lost: Sequence[int]) -> list[str]:
    others = [each for each in voters if each != node]
    lines = [
        f"node {node}: the log ends with entry {log.index} of term {log.term}",
        f"members now:  {described(log.members)}",
        f"members then: {described(Membership(voters))}",
        "",
        f"THIS GIVES UP {'NODE' if len(lost) == 1 else 'NODES'} {listed(lost)} FOR GOOD.",
        f"- Writes that are not in the log of node {node} are lost, even if they were acknowledged.",
        "- Writes that are in it are kept, even if they were never acknowledged.",
        "- The lost nodes must never run again with their data: two clusters would go on, each for itself.",
        "- Do it on one node only: of those that are left, the one whose last entry has the highest term,",
        "  and of these the highest index.",
    ]
    if log.members.outgoing:
        lines.append("- A change of the members was under way; it is given up.")
    if log.members.learners:
        lines.append(f"- Learners {listed(sorted(log.members.learners))} are no members then; add them anew.")
    if others:
        lines.append(
            f"- Node {listed(others)} must be there too, with its data, or there is no majority again."
        )
    return lines


# A damaged log.


def _salvage(options: argparse.Namespace, where: str) -> int:
    done = salvage(where, now=_now())
    if options.json:
        print_json(
            {
                "id": options.id,
                "last_index": done.last_index,
                "findings": [in_words(finding) for finding in done.findings],
                "moved": list(done.moved),
            }
        )
        return 0
    if not done.findings:
        print(f"node {options.id}: the log is not damaged; nothing was changed")
        return 0
    for finding in done.findings:
        print(in_words(finding))
    for path in done.moved:
        print(f"set aside: {path}")
    print(f"node {options.id}: entries up to {done.last_index} are left")
    print(
        "It may have forgotten what it promised, and can only come back as a new member; then give the peer"
    )
    print("address of any member:")
    print("raft-io serve --config FILE --join HOST:PORT")
    return 0
