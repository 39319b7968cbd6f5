"""Snapshots: what they stand for, what is in them, how they reach the disk and other nodes."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "snapshots"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="snapshot-known-by-its-index-only",
        area=AREA,
        file="core/snapshot.py",
        old="    elif index <= st.last_index and term_of(st, index) == message.snapshot_term:\n",
        new="    elif index <= st.last_index:\n",
        bug="A follower with a longer log takes a snapshot for something it has, although its own entry "
        "there is of another term. It commits and applies its conflicting entries: replicas differ.",
        source="https://github.com/hashicorp/raft/pull/704; https://github.com/RedisLabs/raft/issues/49; "
        "paper, figure 13, 6",
    ),
    Mutant(
        name="snapshot-holds-a-later-membership",
        area=AREA,
        file="core/snapshot.py",
        old="    membership = adoption.as_of(st, index)\n",
        new="    membership = st.membership\n",
        bug="The membership in a snapshot is the last one of the log, which may be uncommitted and behind "
        "it. When that entry is removed, whoever restarts from the snapshot or was sent it counts by a "
        "membership that never was.",
        source="https://github.com/canonical/raft/issues/250; https://github.com/canonical/raft/pull/354",
    ),
    Mutant(
        name="own-membership-survives-a-snapshot",
        area=AREA,
        file="core/adoption.py",
        old="    st.history = [Adopted(index, membership)]\n",
        new="    st.history = [Adopted(index, st.membership)]\n",
        bug="A node that installs a snapshot stays in the membership that it had. A joiner whose entry is in "
        "the snapshot never becomes a member; a voter that was away elects by voters who have left.",
        source="https://github.com/databendlabs/openraft/issues/1808; "
        "https://github.com/async-raft/async-raft/issues/133",
    ),
    Mutant(
        name="membership-of-a-snapshot-not-restored",
        area=AREA,
        file="core/adoption.py",
        old="        st.history.append(Adopted(snapshot.index, snapshot.membership))\n",
        new="        voters = (st.config.id, *st.config.peers)\n"
        "        st.history.append(Adopted(snapshot.index, Membership(voters)))\n",
        bug="A node that restarts from a snapshot is back in its first membership, for the entries that "
        "changed it are gone. One that had joined believes to be alone, elects itself and commits alone.",
        source="https://github.com/moby/swarmkit/pull/238; paper, section 7 (the latest configuration)",
    ),
    Mutant(
        name="snapshot-labelled-by-the-commit-index",
        area=AREA,
        file="server/driver.py",
        old="""\
        index = self.node.last_applied
        last = self._log.snapshot()
""",
        new="""\
        index = self.node.commit_index
        last = self._log.snapshot()
""",
        bug="What is captured is the state at the last applied entry; it is labelled with what is committed. "
        "On a node where the one is ahead of the other, and on all that are sent the snapshot, the entries "
        "between are never applied.",
        source="https://github.com/deventlab/d-engine/issues/418 (the label is not what the data is)",
    ),
    Mutant(
        name="snapshot-with-the-last-term",
        area=AREA,
        file="core/snapshot.py",
        old="    durability.compact(st, Snapshot(index, term_of(st, index), membership, data))\n",
        new="    durability.compact(st, Snapshot(index, st.last_term, membership, data))\n",
        bug="A snapshot has the term of the last entry, not of the one that it ends with. The log takes it "
        "for one that contradicts it and drops acknowledged entries, and the node fails at the next append.",
        source="https://github.com/deventlab/d-engine/issues/418 (a term of an entry that never was)",
    ),
    Mutant(
        name="snapshot-offset-not-checked",
        area=AREA,
        file="core/snapshot.py",
        old="""\
    if message.offset != staging.offset:
        _ask_for(st, message, staging.offset)
        return
""",
        new="",
        bug="A piece of a snapshot that arrives twice, or out of order, is handed to the disk instead of "
        "being asked for anew: the follower fails, and again with every such message.",
        source="https://github.com/logcabin/logcabin/issues/174; "
        "https://github.com/camunda/camunda/issues/10180",
    ),
    Mutant(
        name="snapshot-named-before-it-is-synced",
        area=AREA,
        file="storage/snapshots.py",
        old="""\
        file.sync()
        name = snapshot_name(snapshot.index)
""",
        new="""\
        name = snapshot_name(snapshot.index)
""",
        bug="A snapshot gets its name before its header is on disk, and what it stands for is dropped. After "
        "a loss of power the file is damaged and the entries are gone: the node cannot start.",
        source="https://github.com/hashicorp/raft/issues/229; "
        "https://github.com/hashicorp/consul/issues/3362",
    ),
    Mutant(
        name="snapshot-directory-not-synced",
        area=AREA,
        file="storage/snapshots.py",
        old="""\
        data.path = path
        self.fs.sync_dir(self.path)
""",
        new="""\
        data.path = path
""",
        bug="The name of a received snapshot is not durable when the log is emptied for it, and when it is "
        "acknowledged. After a loss of power it is gone, and the log begins behind it: the node cannot "
        "start.",
        source="https://github.com/ClickHouse/ClickHouse/issues/111339; "
        "https://github.com/RedisLabs/redisraft/pull/548",
    ),
    Mutant(
        name="segments-dropped-before-the-snapshot",
        area=AREA,
        file="storage/wal.py",
        old="""\
            if batch is not None:
                self._write(batch)
        elif snapshot is not None:
""",
        new="""\
            if batch is not None:
                self._write(batch)
            self._drop()
        elif snapshot is not None:
""",
        bug="The segments that a snapshot makes needless are removed before it is published. Power that "
        "fails in between leaves neither: the node cannot start, or starts without what it had "
        "acknowledged.",
        source="https://github.com/ClickHouse/ClickHouse/issues/111339 (changelogs already compacted); "
        "paper, section 7",
    ),
)
