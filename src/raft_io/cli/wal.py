"""Read the log of a node offline, without changing it.

PATH is a node's data directory, or the log in it. Nothing is written, nothing repaired. The node may be
running; its last record may then be seen half written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from raft_io.cli.errors import FAILED, CommandFailedError
from raft_io.cli.show import in_bytes, listed, number_of, print_table
from raft_io.core.members import decode_membership
from raft_io.core.types import EntryKind, HardState, LogEntry, Membership
from raft_io.errors import StorageError
from raft_io.storage.inspect import (
    Finding,
    Item,
    RecordInfo,
    SegmentInfo,
    SnapshotInfo,
    in_use,
    log_directory,
    verify,
    walk,
)

__all__ = ["add_arguments", "in_words", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io wal`."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    what = "show what is in the log: its snapshots, segments, term, vote, last entry and members"
    inspect = actions.add_parser("inspect", help=what, description=what)
    inspect.add_argument("--records", action="store_true", help="each record too: what one sync wrote")
    inspect.add_argument(
        "--entries", action="store_true", help="each entry too; with --json within its record"
    )
    what = "check all of the log; status 1 if it is damaged"
    check = actions.add_parser("verify", help=what, description=what)
    for action, work in ((inspect, _inspect), (check, _verify)):
        action.add_argument(
            "path", type=Path, metavar="PATH", help="a node's data directory, or the log in it"
        )
        action.add_argument("--json", action="store_true", help="print JSON, a line for each thing found")
        action.set_defaults(work=work)


def run(options: argparse.Namespace) -> int:
    """Read it."""
    try:
        status: int = options.work(options)
    except StorageError as error:
        raise CommandFailedError(str(error)) from error
    except BrokenPipeError:
        raise  # not the log: whoever reads what is printed has gone
    except OSError as error:
        raise CommandFailedError(f"{error.filename or options.path}: {error.strerror}") from error
    return status


def _verify(options: argparse.Namespace) -> int:
    where = log_directory(options.path)
    found = verify(where)
    damaged = [finding for finding in found if finding.is_damage]
    for finding in found:
        print(json.dumps(_as_json(finding)) if options.json else in_words(finding))
    if damaged:
        return FAILED
    if not options.json:
        print(f"{where}: no damage")
    return 0


def in_words(finding: Finding) -> str:
    """A finding in a line."""
    return f"{finding.path}, byte {finding.offset}: {finding.kind}: {finding.detail}"


def _inspect(options: argparse.Namespace) -> int:
    where = log_directory(options.path)
    summary = Summary()
    if options.json:
        used = in_use(where)
        for item in walk(where):
            summary.take(item)
            if options.records or options.entries or not isinstance(item, RecordInfo):
                print(json.dumps(_as_json(item, options.entries)))
        print(json.dumps({"what": "summary", "path": where, "in_use": used, **summary.fields()}))
        return 0
    print(f"{where}{' (in use by a node that runs)' if in_use(where) else ''}")
    for item in walk(where):
        summary.take(item)
        if options.records or options.entries:
            for line in _lines(item, options.records, options.entries):
                print(line)
    summary.show()
    return 0


class Summary:
    """What a log amounts to."""

    def __init__(self) -> None:
        self.snapshots: list[SnapshotInfo] = []
        self.findings: list[Finding] = []
        self.segments: list[list[object]] = []
        self.hard_state = HardState()
        self._last = 0
        self._terms = [(0, 0)]
        """Where each term begins: index and term."""
        self._members: list[LogEntry] = []

    @property
    def last(self) -> tuple[int, int]:
        """Index and term of the last entry."""
        found = (self._last, self._terms[-1][1])
        return max([found, *[(each.index, each.term) for each in self.snapshots]])

    @property
    def membership(self) -> tuple[int, Membership] | None:
        """The last one, and the index of its entry or snapshot; `None`: the log holds none."""
        found = [(each.index, each.membership) for each in self.snapshots]
        for entry in self._members[-1:]:
            with contextlib.suppress(ValueError):
                found.append((entry.index, decode_membership(entry.command)))
        return max(found, key=lambda each: each[0], default=None)

    def take(self, item: Item) -> None:
        """Count one more thing."""
        if isinstance(item, SnapshotInfo):
            self.snapshots.append(item)
        elif isinstance(item, SegmentInfo):
            self.segments.append([Path(item.path).name, item.version, 0, None, None, in_bytes(item.capacity)])
            self.hard_state = item.hard_state
            if len(self.segments) == 1:
                self._cut(0)
                self._begin(item.last_index, item.last_term)
        elif isinstance(item, RecordInfo):
            self._take_record(item)
        else:
            self.findings.append(item)

    def _take_record(self, record: RecordInfo) -> None:
        row = self.segments[-1]
        row[2] = int(str(row[2])) + 1
        if record.hard_state is not None:
            self.hard_state = record.hard_state
        if record.reset is not None:
            self._cut(0)
            self._begin(*record.reset)
        if record.cut:
            self._cut(record.cut - 1)
        if record.entries:
            row[3] = record.entries[0].index if row[3] is None else row[3]
            row[4] = record.entries[-1].index
        for entry in record.entries:
            self._begin(entry.index, entry.term)
            if entry.kind is EntryKind.MEMBERSHIP:
                self._members.append(entry)

    def _begin(self, index: int, term: int) -> None:
        self._last = index
        if term != self._terms[-1][1]:
            self._terms.append((index, term))

    def _cut(self, last: int) -> None:
        """What is behind `last` is gone."""
        self._last = min(self._last, last)
        while self._terms[-1][0] > last:
            self._terms.pop()
        while self._members and self._members[-1].index > last:
            self._members.pop()

    def fields(self) -> dict[str, Any]:
        """For programs."""
        found = self.membership
        members = None if found is None else {"index": found[0], **_members(found[1])}
        return {
            "term": self.hard_state.term,
            "voted_for": self.hard_state.voted_for,
            "last_index": self.last[0],
            "last_term": self.last[1],
            "members": members,
            "snapshots": len(self.snapshots),
            "segments": len(self.segments),
            "findings": len(self.findings),
        }

    def show(self) -> None:
        """Print it."""
        if self.snapshots:
            rows = [
                [
                    Path(each.path).name,
                    each.index,
                    each.term,
                    in_bytes(each.size),
                    listed(sorted(each.membership.voters)),
                ]
                for each in self.snapshots
            ]
            print_table(("snapshot", "index", "term", "size", "voters"), rows)
            print()
        print_table(("segment", "format", "records", "first", "last", "size"), self.segments)
        print()
        voted = "no vote" if self.hard_state.voted_for is None else f"vote for {self.hard_state.voted_for}"
        print(f"term {self.hard_state.term}, {voted}; last entry {self.last[0]} of term {self.last[1]}")
        if self.membership is not None:
            index, members = self.membership
            print(f"members as of {index}: {described(members)}")
        for finding in self.findings:
            print(in_words(finding))


def described(membership: Membership) -> str:
    """A membership in a sentence."""
    parts = [f"{_noun(len(membership.voters), 'voter')} {listed(sorted(membership.voters))}"]
    if membership.learners:
        parts.append(f"{_noun(len(membership.learners), 'learner')} {listed(sorted(membership.learners))}")
    if membership.outgoing:
        parts.append(f"outgoing {listed(sorted(membership.outgoing))}")
    return "; ".join(parts)


def _noun(count: int, noun: str) -> str:
    return number_of(count, noun).partition(" ")[2]


def _lines(item: Item, records: bool, entries: bool) -> Iterator[str]:
    """An item in lines."""
    if isinstance(item, SegmentInfo):
        yield f"{Path(item.path).name}: from record {item.sequence}, behind entry {item.last_index}"
    elif isinstance(item, RecordInfo):
        if records:
            yield f"  byte {item.offset}: record {item.sequence}, {item.size} bytes: {_content(item)}"
        if entries:
            yield from [f"    {_entry(entry)}" for entry in item.entries]


def _content(record: RecordInfo) -> str:
    parts: list[str] = []
    if record.hard_state is not None:
        voted = record.hard_state.voted_for
        parts.append(f"term {record.hard_state.term}, {'no vote' if voted is None else f'vote for {voted}'}")
    if record.reset is not None:
        parts.append(f"emptied, goes on behind entry {record.reset[0]} of term {record.reset[1]}")
    if record.cut:
        parts.append(f"entries from {record.cut} on removed")
    if record.entries:
        first, last = record.entries[0].index, record.entries[-1].index
        parts.append(f"entry {first}" if first == last else f"entries {first} to {last}")
    return "; ".join(parts) or "nothing"


def _entry(entry: LogEntry) -> str:
    if entry.kind is EntryKind.MEMBERSHIP:
        try:
            what = described(decode_membership(entry.command))
        except ValueError as error:
            what = str(error)
    else:
        what = f"{len(entry.command)} bytes"
    return f"{entry.index} of term {entry.term}, {entry.kind.name.lower()}: {what}"


def _as_json(item: Item, entries: bool = False) -> dict[str, Any]:
    if isinstance(item, SnapshotInfo):
        return {
            "what": "snapshot",
            "path": item.path,
            "index": item.index,
            "term": item.term,
            **_members(item.membership),
            "size": item.size,
        }
    if isinstance(item, SegmentInfo):
        return {
            "what": "segment",
            "path": item.path,
            "number": item.number,
            "format": item.version,
            "size": item.capacity,
            "sequence": item.sequence,
            "before": {
                "last_index": item.last_index,
                "last_term": item.last_term,
                "term": item.hard_state.term,
                "voted_for": item.hard_state.voted_for,
            },
        }
    if isinstance(item, Finding):
        return {
            "what": "finding",
            "path": item.path,
            "offset": item.offset,
            "kind": item.kind,
            "detail": item.detail,
        }
    return _record_as_json(item, entries)


def _record_as_json(record: RecordInfo, entries: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "what": "record",
        "offset": record.offset,
        "size": record.size,
        "sequence": record.sequence,
        "term": None if record.hard_state is None else record.hard_state.term,
        "voted_for": None if record.hard_state is None else record.hard_state.voted_for,
        "cut": record.cut or None,
        "reset": None if record.reset is None else {"index": record.reset[0], "term": record.reset[1]},
        "first": record.entries[0].index if record.entries else None,
        "last": record.entries[-1].index if record.entries else None,
    }
    if entries:
        found["entries"] = [
            {
                "index": entry.index,
                "term": entry.term,
                "kind": entry.kind.name.lower(),
                "size": len(entry.command),
                "command": entry.command.hex(),
            }
            for entry in record.entries
        ]
    return found


def _members(membership: Membership) -> dict[str, list[int]]:
    groups: Iterable[tuple[str, frozenset[int]]] = (
        ("voters", membership.voters),
        ("learners", membership.learners),
        ("outgoing", membership.outgoing),
    )
    return {name: sorted(ids) for name, ids in groups}
