"""The log on disk: what a sync covers, and what is found again."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "log"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="hard-state-not-synced",
        area=AREA,
        file="storage/segments.py",
        old="""\
        active.sync()
        self._offset +=""",
        new="""\
        if what.entries:
            active.sync()
        self._offset +=""",
        bug="A record of a term and a vote alone is written and not synced. A voter that loses power votes "
        "again in the same term: two leaders in one term.",
        source="https://github.com/etcd-io/etcd/issues/14143; https://github.com/etcd-io/raft/pull/300 "
        "(what a sync is for)",
    ),
    Mutant(
        name="sync-settles-later-tickets",
        area=AREA,
        file="core/durability.py",
        old="""\
        if ticket.number > number:
            break
""",
        new="",
        bug="A sync that is done vouches for what was written after it began. The leader counts entries that "
        "are not durable here, and a follower acknowledges them; they are lost with the power.",
        source="https://github.com/yugabyte/yugabyte-db/issues/32875 (acknowledged ahead of its durability)",
    ),
    Mutant(
        name="held-messages-sent-by-an-earlier-sync",
        area=AREA,
        file="server/driver.py",
        old="            while self._held and self._held[0][0] <= event.ticket:\n",
        new="            while self._held:\n",
        bug="The end of any sync lets go all messages that wait for the disk, also those that wait for the "
        "next one: votes and acknowledgements that a loss of power takes back.",
        source="https://github.com/yugabyte/yugabyte-db/issues/32875; "
        "https://github.com/etcd-io/raft/pull/8 (responses only after their own write)",
    ),
    Mutant(
        name="torn-tail-not-cut",
        area=AREA,
        file="storage/segments.py",
        old="""\
        if torn:
            write_all(file, bytes(torn), int(scan.offset))
            file.sync()
""",
        new="",
        bug="What a torn write has left behind the last good record stays there. A shorter record is written "
        "over its beginning, and the rest makes the log unreadable at the next start.",
        source="https://github.com/etcd-io/etcd/issues/5230; https://github.com/amelielabs/amelie/issues/17",
    ),
    Mutant(
        name="segment-directory-not-synced",
        area=AREA,
        file="storage/segments.py",
        old="""\
            self.fs.rename(path + TEMPORARY, path)
            self.fs.sync_dir(self.path)
""",
        new="""\
            self.fs.rename(path + TEMPORARY, path)
""",
        bug="The name of a new segment is not durable when records in it are acknowledged. A loss of power "
        "takes the whole file: acknowledged entries and votes are gone.",
        source="https://github.com/etcd-io/etcd/issues/6368; https://github.com/baidu/braft/issues/254",
    ),
    Mutant(
        name="segment-named-before-it-is-synced",
        area=AREA,
        file="storage/segments.py",
        old="""\
            file.sync()
            self.fs.rename(path + TEMPORARY, path)
""",
        new="""\
            self.fs.rename(path + TEMPORARY, path)
""",
        bug="A segment gets its name before its header is on disk. Power that fails before the first record "
        "is synced leaves a file that is no segment: the node cannot start.",
        source="https://github.com/etcd-io/etcd/issues/6378",
    ),
    Mutant(
        name="truncation-not-written",
        area=AREA,
        file="storage/wal.py",
        old="""\
                self._handed = first - 1
                self._cut = min(self._cut, first) if self._cut else first
""",
        new="""\
                self._handed = first - 1
""",
        bug="A truncation is carried out in memory and never told to the disk. The entries that it removed "
        "are there again at the next start, before those that replaced them: the log contradicts itself.",
        source="https://github.com/etcd-io/etcd/issues/22442; https://github.com/qdrant/qdrant/pull/1329",
    ),
    Mutant(
        name="new-segment-with-an-old-hard-state",
        area=AREA,
        file="storage/segments.py",
        old="""\
        if what.hard_state is not None:
            self._hard_state = what.hard_state
        return place
""",
        new="""\
        return place
""",
        bug="A new segment begins with the term and vote that were there at the start. The node cannot open "
        "the log again; or, once the segments before are dropped, it has forgotten its vote and votes twice.",
        source="https://github.com/etcd-io/etcd/issues/1826",
    ),
    Mutant(
        name="damage-taken-for-the-end",
        area=AREA,
        file="storage/scan.py",
        old="""\
    if len(rest) < RECORD_HEADER:
        return left
    record =""",
        new="""\
    if last:
        return left
    record =""",
        bug="Any bad record in the last segment is taken for a torn one, and cut off with all that is behind "
        "it. On a disk that damages what was synced, the node silently comes back without entries that it "
        "has acknowledged, and a leader without them can be elected.",
        source="https://github.com/cockroachdb/pebble/issues/453; "
        "https://github.com/ngaut/unistore/issues/567",
    ),
    Mutant(
        name="recovered-log-not-synced",
        area=AREA,
        file="storage/segments.py",
        old="""\
            write_all(file, read_up_to(file, int(scan.last_size), start), start)
        file.sync()
""",
        new="""\
            write_all(file, read_up_to(file, int(scan.last_size), start), start)
""",
        bug="A process that died between a write and its sync finds the record in the system's memory, takes "
        "it for durable and acknowledges it. Then the power fails: it was not.",
        source="https://github.com/surrealdb/surrealkv/pull/191",
    ),
)
