"""SplitMix64 against its published outputs."""

from __future__ import annotations

from types import FunctionType

import pytest

from raft_io.core.rng import SplitMix64

pytestmark = pytest.mark.core


def test_the_published_sequence_of_seed_1234567() -> None:
    rng = SplitMix64(1234567)
    assert [rng.next() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_seed_counts_modulo_2_to_the_64() -> None:
    assert SplitMix64(2**64 + 7).next() == SplitMix64(7).next()
    assert SplitMix64(-1).next() == SplitMix64(2**64 - 1).next()


def test_between_includes_both_ends_and_nothing_else() -> None:
    rng = SplitMix64(1)
    assert {rng.between(10, 13) for _ in range(200)} == {10, 11, 12, 13}


def test_between_equal_ends() -> None:
    assert SplitMix64(5).between(7, 7) == 7


def test_between_over_the_whole_range_of_ticks() -> None:
    assert 1 <= SplitMix64(5).between(1, 2**63 - 1) <= 2**63 - 1


def test_it_is_not_compiled_so_that_an_interrupt_does_not_abort_the_process() -> None:
    assert isinstance(SplitMix64.next, FunctionType)
