"""`Snapshot`, `SnapshotMeta`, and what may stand for a snapshot's contents."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import NOT_INTEGERS, OUT_OF_RANGE, TOP, Contents, check_value

from raft_io import Membership, Snapshot, SnapshotData, SnapshotMeta, SnapshotTaken
from raft_io.core.types import data_checksum, data_size, read_data

pytestmark = pytest.mark.core

MEMBERS = Membership([1, 2, 3], [4])


class Derived(SnapshotData):
    """Contents that derive from the abstract class, of zeros only."""

    def __init__(self, size: int, checksum: int = 9) -> None:
        self.size = size
        self.checksum = checksum

    def read(self, offset: int, size: int, /) -> bytes:
        return bytes(min(size, self.size - offset))


def test_a_snapshot_is_a_value() -> None:
    args = {"index": 7, "term": 2, "membership": MEMBERS, "data": b"state"}
    check_value(Snapshot, args, {"index": 8, "term": 3, "membership": Membership([1]), "data": b""})


def test_its_description_is_a_value() -> None:
    args = {"index": 7, "term": 2, "membership": MEMBERS, "size": 5, "checksum": 99}
    other = {"index": 8, "term": 3, "membership": Membership([1]), "size": 6, "checksum": 98}
    check_value(SnapshotMeta, args, other)
    assert SnapshotMeta(7, 2, MEMBERS) == SnapshotMeta(7, 2, MEMBERS, 0, 0)


@pytest.mark.parametrize("name", ["index", "term"])
def test_its_numbers_are_checked(name: str) -> None:
    args: dict[str, Any] = {"index": 7, "term": 2, "membership": MEMBERS}
    for make in (
        lambda **more: Snapshot(**{**args, **more}, data=b""),
        lambda **more: SnapshotMeta(**{**args, **more}),
    ):
        for bad in NOT_INTEGERS:
            with pytest.raises(TypeError):
                make(**{name: bad})
        for number in OUT_OF_RANGE:
            with pytest.raises(ValueError, match=f"{name} must be in"):
                make(**{name: number})
        assert getattr(make(**{name: TOP}), name) == TOP


@pytest.mark.parametrize("name", ["size", "checksum"])
def test_the_numbers_of_a_description_are_checked(name: str) -> None:
    for bad in NOT_INTEGERS:
        with pytest.raises(TypeError):
            SnapshotMeta(7, 2, MEMBERS, **{name: bad})
    for number in OUT_OF_RANGE:
        with pytest.raises(ValueError, match=f"{name} must be in"):
            SnapshotMeta(7, 2, MEMBERS, **{name: number})


@pytest.mark.parametrize("bad", [None, 5, [1, 2], frozenset([1]), b"x"])
def test_a_membership_is_one(bad: Any) -> None:
    with pytest.raises(TypeError):
        Snapshot(7, 2, bad, b"")


# Contents.


@pytest.mark.parametrize("bad", [None, 5, "state", bytearray(b"x"), memoryview(b"x"), [b"x"], object()])
def test_contents_are_bytes_or_can_be_read(bad: Any) -> None:
    with pytest.raises(TypeError):
        Snapshot(7, 2, MEMBERS, bad)


def test_contents_may_derive_from_snapshot_data() -> None:
    contents = Derived(100)
    assert isinstance(contents, SnapshotData)
    assert Snapshot(7, 2, MEMBERS, contents).data is contents


def test_contents_need_not_derive_from_it() -> None:
    contents: Any = Contents(b"state")
    assert not isinstance(contents, SnapshotData)
    assert Snapshot(7, 2, MEMBERS, contents).data is contents


def test_snapshot_data_itself_is_abstract() -> None:
    abstract: Any = SnapshotData
    with pytest.raises(TypeError, match="abstract"):
        abstract()

    class Incomplete(SnapshotData):
        size = 1
        checksum = 1

    incomplete: Any = Incomplete
    with pytest.raises(TypeError, match="abstract"):
        incomplete()


@pytest.mark.parametrize("name", ["size", "checksum"])
def test_the_numbers_of_contents_are_checked(name: str) -> None:
    for bad in (None, "1", 1.0):
        contents: Any = Contents(b"state")
        setattr(contents, name, bad)
        with pytest.raises(TypeError):
            Snapshot(7, 2, MEMBERS, contents)
    for number in OUT_OF_RANGE:
        contents = Contents(b"state")
        setattr(contents, name, number)
        with pytest.raises(ValueError, match=f"data.{name} must be in"):
            Snapshot(7, 2, MEMBERS, contents)
    incomplete: Any = Contents(b"state")
    delattr(incomplete, name)
    for make in (lambda: Snapshot(7, 2, MEMBERS, incomplete), lambda: SnapshotTaken(7, incomplete)):
        with pytest.raises(TypeError):
            make()


def test_contents_are_compared_by_their_own_equality() -> None:
    contents: Any = Contents(b"state")
    other: Any = Contents(b"state")
    assert Snapshot(7, 2, MEMBERS, contents) == Snapshot(7, 2, MEMBERS, contents)
    assert hash(Snapshot(7, 2, MEMBERS, contents)) == hash(Snapshot(7, 2, MEMBERS, contents))
    assert Snapshot(7, 2, MEMBERS, contents) != Snapshot(7, 2, MEMBERS, other)


def test_a_snapshot_of_contents_is_copied_and_pickled_with_them() -> None:
    contents: Any = Contents(b"state")
    snapshot = Snapshot(7, 2, MEMBERS, contents)
    assert copy.copy(snapshot) == snapshot
    again = pickle.loads(pickle.dumps(snapshot))  # noqa: S301
    assert (again.index, again.term, again.membership) == (7, 2, MEMBERS)
    assert again.data.read(0, 99) == b"state"


# What the core reads of them.


@given(st.binary(max_size=100), st.integers(0, 110), st.integers(0, 110))
def test_pieces_of_bytes_and_of_contents_are_the_same(data: bytes, offset: int, size: int) -> None:
    contents: Any = Contents(data)
    assert data_size(data) == data_size(contents) == len(data)
    assert read_data(data, offset, size) == data[offset : offset + size]
    if offset <= len(data):
        assert read_data(contents, offset, size) == data[offset : offset + size]


def test_the_checksum_of_contents_is_theirs() -> None:
    assert data_checksum(Derived(5, 1234)) == 1234


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_the_checksum_of_bytes_tells_different_ones_of_one_size_apart(one: bytes, two: bytes) -> None:
    assert 0 <= data_checksum(one) <= TOP
    assert data_checksum(one) == data_checksum(bytes(one))
    if len(one) == len(two):
        assert (data_checksum(one) == data_checksum(two)) is (one == two)


def test_the_checksum_of_bytes_is_the_same_on_every_platform() -> None:
    assert data_checksum(b"") == 0
    assert data_checksum(b"\x01") == 1
    assert data_checksum(b"\0\x01") == 256
    assert data_checksum(bytes([255]) * 8) == (2**64 - 1) % (2**63 - 25)
