"""The plain values: what they hold, what they refuse, and what every value can do."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import NOT_BYTES, NOT_INTEGERS, OUT_OF_RANGE, TOP, check_value

from raft_io import EntryKind, HardState, LogEntry, Membership, Role
from raft_io.core.types import checked_bool

pytestmark = pytest.mark.core


def test_log_entry_is_a_value() -> None:
    args = {"term": 2, "index": 7, "command": b"put k v", "kind": EntryKind.NOOP}
    check_value(LogEntry, args, {"term": 3, "index": 8, "command": b"", "kind": EntryKind.NORMAL})


def test_hard_state_is_a_value() -> None:
    check_value(HardState, {"term": 4, "voted_for": 2}, {"term": 5, "voted_for": None})


def test_membership_is_a_value() -> None:
    args = {"voters": frozenset([1, 2]), "learners": frozenset([4]), "outgoing": frozenset([1, 3])}
    other = {"voters": frozenset([1]), "learners": frozenset(), "outgoing": frozenset([3])}
    check_value(Membership, args, other)


def test_defaults() -> None:
    assert LogEntry(1, 1) == LogEntry(1, 1, b"", EntryKind.NORMAL)
    assert HardState() == HardState(0, None)
    assert Membership([1]) == Membership([1], (), ())


@pytest.mark.parametrize("kind", list(EntryKind))
def test_log_entry_keeps_each_kind(kind: EntryKind) -> None:
    assert LogEntry(1, 1, b"", kind).kind is kind


def test_repr_reads_as_the_constructor_call() -> None:
    assert repr(LogEntry(2, 7, b"a")) == "LogEntry(term=2, index=7, command=b'a', kind=EntryKind.NORMAL)"
    assert repr(HardState(1)) == "HardState(term=1, voted_for=None)"


def test_repr_of_a_membership_lists_the_ids_in_ascending_order() -> None:
    membership = Membership([30, 1, 200], [9, 8], (i for i in (5, 4)))
    assert repr(membership) == "Membership(voters=[1, 30, 200], learners=[8, 9], outgoing=[4, 5])"


def test_membership_takes_any_iterable_and_drops_duplicates() -> None:
    assert Membership(iter([3, 1, 3])).voters == frozenset([1, 3])
    assert isinstance(Membership([1]).learners, frozenset)


def test_values_match_by_position_and_by_name() -> None:
    match LogEntry(2, 7, b"x"):
        case LogEntry(term, index, command, EntryKind.NORMAL):
            assert (term, index, command) == (2, 7, b"x")
        case _:
            raise AssertionError
    match HardState(4, 2):
        case HardState(voted_for=2, term=term):
            assert term == 4
        case _:
            raise AssertionError


def test_values_of_different_types_differ_even_with_equal_fields() -> None:
    assert LogEntry(1, 2) != HardState(1, 2)
    assert len({HardState(0), LogEntry(0, 0), HardState(0)}) == 2


@pytest.mark.parametrize("bad", NOT_INTEGERS)
def test_what_is_no_integer_is_a_type_error(bad: Any) -> None:
    for make in (
        lambda: LogEntry(bad, 1),
        lambda: LogEntry(1, bad),
        lambda: HardState(bad),
        lambda: Membership([bad]),
        lambda: Membership([1], [bad]),
        lambda: Membership([1], [], [bad]),
    ):
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize("bad", ["1", 1.0, [1]])
def test_a_vote_is_an_id_or_none(bad: Any) -> None:
    with pytest.raises(TypeError):
        HardState(1, bad)


@pytest.mark.parametrize("bad", OUT_OF_RANGE)
def test_what_is_out_of_range_is_a_value_error_that_names_the_field(bad: int) -> None:
    for field, make in (
        ("term", lambda: LogEntry(bad, 1)),
        ("index", lambda: LogEntry(1, bad)),
        ("term", lambda: HardState(bad)),
        ("voted_for", lambda: HardState(1, bad)),
        ("voters", lambda: Membership([bad])),
        ("learners", lambda: Membership([1], [bad])),
        ("outgoing", lambda: Membership([1], [], [bad])),
    ):
        with pytest.raises(ValueError, match=f"{field} must be in 0 .. 2\\*\\*63 - 1, not {bad}"):
            make()


def test_both_ends_of_the_range_are_kept_exactly() -> None:
    for number in (0, 2**62 - 1, 2**62, 2**63 - 2, TOP):
        assert LogEntry(number, number).term == number == LogEntry(number, number).index
        assert HardState(number, number).voted_for == number
        assert Membership([number]).voters == {number}


def test_a_bool_counts_as_the_integer_that_it_is() -> None:
    assert repr(LogEntry(True, True)) == repr(LogEntry(1, 1))
    assert repr(HardState(True, False)) == repr(HardState(1, 0))


@pytest.mark.parametrize("bad", NOT_BYTES)
def test_a_command_is_bytes(bad: Any) -> None:
    with pytest.raises(TypeError):
        LogEntry(1, 1, bad)


@pytest.mark.parametrize("bad", [None, 0, 1, "yes"])
def test_a_flag_is_a_bool(bad: Any) -> None:
    with pytest.raises(TypeError):
        checked_bool(bad, "a flag")
    assert checked_bool(True, "a flag") and not checked_bool(False, "a flag")


@pytest.mark.parametrize("bad", [None, 0, 1, 7, "NORMAL", True])
def test_a_kind_is_an_entry_kind(bad: Any) -> None:
    with pytest.raises(TypeError):
        LogEntry(1, 1, b"", bad)


@pytest.mark.parametrize("bad", [None, 5])
def test_a_membership_takes_iterables(bad: Any) -> None:
    with pytest.raises(TypeError):
        Membership(bad)


def test_the_numbers_of_the_kinds_are_fixed() -> None:
    assert [(kind.name, kind.value) for kind in EntryKind] == [("NORMAL", 0), ("MEMBERSHIP", 1), ("NOOP", 2)]
    assert [repr(kind) for kind in EntryKind] == [
        "EntryKind.NORMAL",
        "EntryKind.MEMBERSHIP",
        "EntryKind.NOOP",
    ]


def test_the_roles() -> None:
    assert [role.name for role in Role] == ["FOLLOWER", "CANDIDATE", "LEADER"]
    assert [repr(role) for role in Role] == ["Role.FOLLOWER", "Role.CANDIDATE", "Role.LEADER"]
