"""One follower as the leader sees it."""

from __future__ import annotations

import pytest

from raft_io import Membership, Snapshot
from raft_io.core.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from raft_io.core.types import data_checksum

pytestmark = pytest.mark.core


def replicating(next_: int = 1, match: int = 0) -> Progress:
    progress = Progress(2, next_, 0)
    progress.acknowledged(match)
    progress.next = next_
    return progress


def test_it_begins_by_probing() -> None:
    progress = Progress(2, 8, 0)
    assert (progress.state, progress.match, progress.next, progress.inflight) == (PROBE, 0, 8, [])
    progress.check(256, 7)


def test_a_probe_is_one_message_whatever_the_window() -> None:
    progress = Progress(2, 8, 0)
    assert progress.can_send(256, 0)
    progress.sent(9, 1)
    assert not progress.can_send(256, 0)
    assert progress.next == 8, "nothing is sent on top of it"


def test_a_follower_that_agrees_is_sent_a_window_full() -> None:
    progress = replicating()
    for last in range(1, 4):
        assert progress.can_send(3, 0)
        progress.sent(last, 1)
    assert not progress.can_send(3, 0)
    assert progress.next == 4
    progress.check(3, 3)


def test_an_acknowledgement_frees_what_it_covers() -> None:
    progress = replicating()
    for last in (2, 4, 6):
        progress.sent(last, 1)
    assert progress.acknowledged(4)
    assert (progress.match, progress.next, progress.inflight) == (4, 7, [6])
    assert not progress.acknowledged(4), "no news"
    assert not progress.acknowledged(1), "an old one"
    assert (progress.match, progress.inflight) == (4, [6])


def test_an_acknowledged_probe_starts_replication_behind_it() -> None:
    progress = Progress(2, 8, 0)
    progress.sent(9, 1)
    assert progress.acknowledged(7)
    assert (progress.state, progress.match, progress.next, progress.inflight) == (REPLICATE, 7, 8, [])


def test_an_acknowledgement_beyond_what_was_sent_moves_on() -> None:
    progress = replicating(next_=4, match=3)
    assert progress.acknowledged(9)
    assert (progress.match, progress.next) == (9, 10)


def test_a_refusal_goes_back_to_one_probe() -> None:
    progress = replicating(next_=4, match=3)
    progress.sent(5, 1)
    progress.sent(7, 1)
    assert progress.refused(6)
    assert (progress.state, progress.next, progress.inflight) == (PROBE, 6, [])


def test_a_refusal_never_goes_back_behind_what_agrees() -> None:
    progress = replicating(next_=9, match=5)
    assert progress.refused(2)
    assert progress.next == 6
    progress.check(256, 9)


def test_a_refusal_never_goes_forward() -> None:
    progress = replicating(next_=4, match=3)
    assert progress.refused(100)
    assert (progress.state, progress.next) == (PROBE, 4)


def test_an_old_refusal_says_nothing_to_a_probe() -> None:
    progress = Progress(2, 8, 0)
    assert progress.refused(5)
    progress.sent(5, 1)
    assert not progress.refused(5)
    assert not progress.refused(8)
    assert (progress.next, progress.inflight) == (5, [5]), "the probe is still the one under way"


def test_an_acknowledgement_that_comes_after_a_refusal_is_believed() -> None:
    progress = replicating(next_=9, match=3)
    progress.refused(4)
    progress.sent(4, 1)
    assert progress.acknowledged(8)
    assert (progress.state, progress.match, progress.next, progress.inflight) == (REPLICATE, 8, 9, [])


def test_an_old_acknowledgement_to_a_probe_does_not_go_back() -> None:
    progress = replicating(next_=9, match=5)
    progress.refused(6)
    assert not progress.acknowledged(2)
    assert (progress.state, progress.match, progress.next) == (REPLICATE, 5, 6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"match": 9},
        {"next": 99},
        {"inflight": [7, 6]},
        {"inflight": [6, 7, 8]},
        {"inflight": [5]},
        {"inflight": [9]},
        {"state": PROBE, "inflight": [6, 7]},
    ],
)
def test_the_checks_find_what_is_wrong(wrong: dict[str, object]) -> None:
    progress = replicating(next_=9, match=5)
    progress.check(2, 8)
    for name, value in wrong.items():
        setattr(progress, name, value)
    if "inflight" in wrong:
        progress.sizes = [1] * len(progress.inflight)
        progress.inflight_bytes = len(progress.inflight)
    with pytest.raises(AssertionError):
        progress.check(2, 8)


# The window in bytes.


def test_the_window_is_bounded_in_bytes_as_well() -> None:
    progress = replicating()
    progress.sent(1, 60)
    assert progress.can_send(256, 100)
    progress.sent(2, 60)
    assert progress.inflight_bytes == 120
    assert not progress.can_send(256, 100), "what is under way may exceed it by one message"
    assert progress.can_send(256, 0), "0 is no limit"
    progress.check(256, 2)


def test_one_message_always_fits() -> None:
    progress = replicating()
    assert progress.can_send(256, 1)
    progress.sent(1, 10_000_000)
    assert not progress.can_send(256, 1)
    progress.acknowledged(1)
    assert progress.inflight_bytes == 0
    assert progress.can_send(256, 1)


def test_an_acknowledgement_frees_the_bytes_that_it_covers() -> None:
    progress = replicating()
    for last, size in ((2, 10), (4, 20), (6, 40)):
        progress.sent(last, size)
    progress.acknowledged(5)
    assert (progress.inflight, progress.sizes, progress.inflight_bytes) == ([6], [40], 40)
    progress.refused(6)
    assert (progress.inflight, progress.sizes, progress.inflight_bytes) == ([], [], 0)


# A snapshot.


def snapshot(index: int = 9, data: bytes = b"0123456789") -> Snapshot:
    return Snapshot(index, 3, Membership([1, 2]), data)


def receiving(index: int = 9) -> Progress:
    progress = Progress(2, 4, 0)
    progress.sent(6, 3)
    progress.begin_snapshot(snapshot(index))
    return progress


def test_a_snapshot_begins_at_its_first_byte_and_nothing_else_is_under_way() -> None:
    progress = receiving()
    assert (progress.state, progress.offset, progress.piece_sent) == (SNAPSHOT, 0, -1)
    assert (progress.inflight, progress.inflight_bytes, progress.next) == ([], 0, 10)
    assert progress.checksum == data_checksum(b"0123456789")
    progress.check(256, 12)


def test_entries_wait_while_a_snapshot_travels() -> None:
    assert not receiving().can_send(256, 0)


def test_a_refusal_says_nothing_new_while_a_snapshot_travels() -> None:
    progress = receiving()
    assert not progress.refused(1)
    assert (progress.state, progress.next) == (SNAPSHOT, 10)


def test_the_follower_says_which_byte_it_wants() -> None:
    progress = receiving()
    progress.piece_sent = 5
    assert progress.wants(9, 4)
    assert (progress.offset, progress.piece_sent) == (4, -1)


def test_who_asks_for_the_piece_that_is_under_way_will_get_it() -> None:
    progress = receiving()
    progress.offset, progress.piece_sent = 4, 5
    assert not progress.wants(9, 4)
    assert (progress.offset, progress.piece_sent) == (4, 5)


def test_who_asks_for_it_when_none_is_under_way_is_sent_it() -> None:
    progress = receiving()
    assert progress.wants(9, 0)
    assert progress.piece_sent == -1


def test_a_follower_may_begin_anew_or_stand_at_the_end() -> None:
    progress = receiving()
    progress.offset, progress.piece_sent = 8, 5
    assert progress.wants(9, 0), "it has lost what it had"
    assert progress.offset == 0
    assert progress.wants(9, 10), "it has all but has not answered yet"
    progress.check(256, 12)


@pytest.mark.parametrize(("index", "offset"), [(8, 4), (10, 4), (0, 0), (9, 11), (9, 2**63 - 1)])
def test_who_wants_what_is_not_sent_is_not_heard(index: int, offset: int) -> None:
    progress = receiving()
    assert not progress.wants(index, offset)
    assert progress.offset == 0


def test_nobody_wants_a_byte_while_no_snapshot_travels() -> None:
    assert not replicating().wants(9, 0)
    assert not Progress(2, 8, 0).wants(9, 0)


@pytest.mark.parametrize("match", [9, 12])
def test_once_it_is_installed_entries_follow(match: int) -> None:
    progress = receiving()
    assert progress.acknowledged(match)
    assert (progress.state, progress.snapshot) == (REPLICATE, None)
    assert (progress.match, progress.next) == (match, match + 1)
    progress.check(256, 12)


def test_an_acknowledgement_of_less_does_not_end_the_transfer() -> None:
    progress = receiving()
    assert progress.acknowledged(3)
    assert (progress.state, progress.match, progress.next) == (SNAPSHOT, 3, 10)
    assert not progress.acknowledged(3), "no news"
    progress.check(256, 12)


def test_a_snapshot_never_sends_a_follower_back() -> None:
    progress = replicating(next_=21, match=20)
    progress.begin_snapshot(snapshot(9))
    assert progress.next == 21


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": PROBE},
        {"snapshot": None},
        {"offset": 11},
        {"inflight": [7], "sizes": [1], "inflight_bytes": 1},
    ],
)
def test_the_checks_find_what_is_wrong_with_a_transfer(wrong: dict[str, object]) -> None:
    progress = receiving()
    progress.check(2, 12)
    for name, value in wrong.items():
        setattr(progress, name, value)
    with pytest.raises(AssertionError):
        progress.check(2, 12)


@pytest.mark.parametrize("wrong", [{"sizes": []}, {"inflight_bytes": 2}])
def test_the_checks_find_bytes_that_do_not_add_up(wrong: dict[str, object]) -> None:
    progress = replicating()
    progress.sent(1, 1)
    progress.check(2, 1)
    for name, value in wrong.items():
        setattr(progress, name, value)
    with pytest.raises(AssertionError):
        progress.check(2, 1)


def test_it_shows_itself() -> None:
    assert repr(Progress(2, 8, 0)) == "Progress(id=2, state='probe', match=0, next=8, inflight=[])"
