"""Memberships as bytes: one encoding each, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support import TOP

from raft_io import Membership, decode_membership, encode_membership

pytestmark = pytest.mark.core

ids = st.frozensets(st.one_of(st.integers(0, 9), st.integers(0, TOP)), max_size=6)
memberships = st.builds(Membership, ids, ids, ids)

FROZEN: list[tuple[Membership, str]] = [
    (Membership(()), "01" + "00000000" * 3),
    (
        Membership([3, 1, 0x0102030405060708], [TOP], [4]),
        "01"
        "03000000"
        "0100000000000000"
        "0300000000000000"
        "0807060504030201"
        "01000000"
        "ffffffffffffff7f"
        "01000000"
        "0400000000000000",
    ),
]
"""These bytes are in other people's logs."""


@pytest.mark.parametrize(("membership", "frozen"), FROZEN)
def test_the_format_does_not_change(membership: Membership, frozen: str) -> None:
    assert encode_membership(membership).hex() == frozen
    assert decode_membership(bytes.fromhex(frozen)) == membership


@given(memberships)
def test_every_membership_comes_back(membership: Membership) -> None:
    assert decode_membership(encode_membership(membership)) == membership


@given(st.one_of(st.binary(max_size=60), memberships.map(encode_membership)), st.data())
def test_what_decodes_encodes_to_the_same_bytes(data: bytes, source: st.DataObject) -> None:
    if data and source.draw(st.booleans()):
        place = source.draw(st.integers(0, len(data) - 1))
        data = data[:place] + bytes([data[place] ^ source.draw(st.integers(1, 255))]) + data[place + 1 :]
    with contextlib.suppress(ValueError):
        assert encode_membership(decode_membership(data)) == data


@given(memberships)
@example(Membership(()))
def test_every_truncation_is_refused(membership: Membership) -> None:
    good = encode_membership(membership)
    for length in range(len(good)):
        with pytest.raises(ValueError, match="a membership"):
            decode_membership(good[:length])


def test_bytes_behind_the_end_are_refused() -> None:
    for membership, _ in FROZEN:
        with pytest.raises(ValueError, match="a membership with bytes behind its end"):
            decode_membership(encode_membership(membership) + b"\0")


@pytest.mark.parametrize("version", [0, 2, 3, 127, 255])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(ValueError, match="a membership of an unknown version"):
        decode_membership(bytes([version]) + encode_membership(Membership([1]))[1:])


def group(*numbers: int) -> bytes:
    return len(numbers).to_bytes(4, "little") + b"".join(n.to_bytes(8, "little") for n in numbers)


@pytest.mark.parametrize("wrong", [(2, 1), (1, 1), (1, 3, 2), (2**63,), (2**64 - 1,)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_ids_ascend_and_are_in_range(wrong: tuple[int, ...], place: int) -> None:
    groups = [group(1, 2, 3), group(4), group()]
    assert decode_membership(b"\x01" + b"".join(groups)) == Membership([1, 2, 3], [4])
    groups[place] = group(*wrong)
    with pytest.raises(ValueError, match="a membership whose ids do not ascend"):
        decode_membership(b"\x01" + b"".join(groups))


@pytest.mark.parametrize("count", [2, 1000, 2**31, 2**32 - 1])
def test_more_ids_than_there_are_bytes_are_refused_before_any_is_read(count: int) -> None:
    data = b"\x01" + count.to_bytes(4, "little") + bytes(15)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="a membership that ends early"):
            decode_membership(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()
