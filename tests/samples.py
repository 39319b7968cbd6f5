"""Messages as bytes: a sample of every format that ever landed, and strategies that make any message."""

from __future__ import annotations

from hypothesis import strategies as st
from tests.support import TOP

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    EntryKind,
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
    TimeoutNow,
)

VERSION_1: list[tuple[Message, str]] = [
    (
        RequestVote(term=0x0102030405060708, candidate=2, last_log_index=7, last_log_term=4),
        "01010807060504030201020000000000000007000000000000000400000000000000",
    ),
    (
        RequestVoteReply(term=5, vote_granted=True, sender=2),
        "01020500000000000000010200000000000000",
    ),
    (
        AppendEntries(
            term=5,
            leader=2,
            prev_log_index=7,
            prev_log_term=4,
            entries=[LogEntry(4, 8, b"put k v"), LogEntry(5, 9, b"", EntryKind.NOOP)],
            leader_commit=6,
        ),
        "0103"
        "0500000000000000"
        "0200000000000000"
        "0700000000000000"
        "0400000000000000"
        "0600000000000000"
        "02000000"
        "07000000"
        "00"
        "0400000000000000"
        "0800000000000000"
        "707574206b2076"
        "00000000"
        "02"
        "0500000000000000"
        "0900000000000000",
    ),
    (
        AppendEntriesReply(
            term=TOP, success=False, sender=2, match_index=0, conflict_index=3, conflict_term=4
        ),
        "0104ffffffffffffff7f000200000000000000000000000000000003000000000000000400000000000000",
    ),
]
"""Version 1 of the format: these bytes are on other people's wires and disks."""

VERSION_2: list[tuple[Message, str]] = [
    (
        RequestVote(term=5, candidate=2, last_log_index=7, last_log_term=4, force=True),
        "02010500000000000000020000000000000007000000000000000400000000000000",
    ),
    (
        AppendEntries(
            term=5,
            leader=2,
            prev_log_index=7,
            prev_log_term=4,
            entries=[LogEntry(4, 8, b"x")],
            leader_commit=6,
            round=0x1122,
        ),
        "0203"
        "0500000000000000"
        "0200000000000000"
        "0700000000000000"
        "0400000000000000"
        "0600000000000000"
        "2211000000000000"
        "01000000"
        "01000000"
        "00"
        "0400000000000000"
        "0800000000000000"
        "78",
    ),
    (
        AppendEntriesReply(term=5, success=True, sender=2, match_index=8, round=3),
        "0204"
        "0500000000000000"
        "01"
        "0200000000000000"
        "0800000000000000"
        "0000000000000000"
        "0000000000000000"
        "0300000000000000",
    ),
    (
        PreVote(term=6, candidate=2, last_log_index=7, last_log_term=4),
        "02050600000000000000020000000000000007000000000000000400000000000000",
    ),
    (
        PreVoteReply(term=6, vote_granted=True, sender=3),
        "02060600000000000000010300000000000000",
    ),
    (
        InstallSnapshot(
            term=5,
            leader=2,
            index=9,
            snapshot_term=4,
            membership=Membership([1, 2], [3], [4]),
            offset=6,
            data=b"abc",
            done=True,
            size=9,
            checksum=77,
        ),
        "0207"
        "0500000000000000"
        "0200000000000000"
        "0900000000000000"
        "0400000000000000"
        "2d000000"
        "01"
        "02000000"
        "0100000000000000"
        "0200000000000000"
        "01000000"
        "0300000000000000"
        "01000000"
        "0400000000000000"
        "0900000000000000"
        "4d00000000000000"
        "0600000000000000"
        "01"
        "03000000"
        "616263",
    ),
    (
        InstallSnapshotReply(term=5, sender=3, index=9, offset=6),
        "02080500000000000000030000000000000009000000000000000600000000000000",
    ),
    (
        TimeoutNow(term=5, leader=2, round=8),
        "0209050000000000000002000000000000000800000000000000",
    ),
    (
        ReadIndexRequest(term=5, sender=3, context=b"read"),
        "020a050000000000000003000000000000000400000072656164",
    ),
    (
        ReadIndexReply(term=5, context=b"read", index=7),
        "020b050000000000000004000000726561640700000000000000",
    ),
]
"""Version 2: what version 1 could not say."""

FROZEN = VERSION_1 + VERSION_2

numbers = st.one_of(st.integers(0, 300), st.integers(0, TOP), st.sampled_from([TOP, 2**62, 2**31, 2**32]))
rounds = st.one_of(st.just(0), numbers)
entries = st.builds(LogEntry, numbers, numbers, st.binary(max_size=40), st.sampled_from(list(EntryKind)))
ids = st.frozensets(numbers, max_size=4)
memberships = st.builds(Membership, ids, ids, ids)
data = st.binary(max_size=40)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(RequestVote, numbers, numbers, numbers, numbers, st.booleans()),
    st.builds(RequestVoteReply, numbers, st.booleans(), numbers),
    st.builds(
        AppendEntries, numbers, numbers, numbers, numbers, st.lists(entries, max_size=8), numbers, rounds
    ),
    st.builds(AppendEntriesReply, numbers, st.booleans(), numbers, numbers, numbers, numbers, rounds),
    st.builds(PreVote, numbers, numbers, numbers, numbers),
    st.builds(PreVoteReply, numbers, st.booleans(), numbers),
    st.builds(
        InstallSnapshot,
        *(numbers, numbers, numbers, numbers, memberships, numbers, data, st.booleans(), numbers, numbers),
    ),
    st.builds(InstallSnapshotReply, numbers, numbers, numbers, numbers),
    st.builds(TimeoutNow, numbers, numbers, rounds),
    st.builds(ReadIndexRequest, numbers, numbers, data),
    st.builds(ReadIndexReply, numbers, data, numbers),
)
"""Any message."""

KINDS = {type(message): wire[1] for message, hexes in FROZEN for wire in [bytes.fromhex(hexes)]}
"""The number of each type of message."""


def crafted(draw: st.DrawFn) -> bytes:
    """Bytes that begin like a message: a version, a type, then numbers, lengths, flags and garbage."""
    parts = [bytes([draw(st.sampled_from([1, 2, 2, 2])), draw(st.integers(0, 12))])]
    for _ in range(draw(st.integers(0, 8))):
        piece = draw(
            st.one_of(
                numbers.map(lambda number: number.to_bytes(8, "little")),
                st.integers(0, 50).map(lambda number: number.to_bytes(4, "little")),
                st.sampled_from([b"\0", b"\x01", b"\x02", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"]),
                st.binary(max_size=12),
            )
        )
        parts.append(piece)
    return b"".join(parts)


hostile = st.one_of(st.binary(max_size=80), st.composite(crafted)())
"""Bytes that are seldom a message, but often begin like one."""
