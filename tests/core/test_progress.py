"""One follower as the leader sees it."""

from __future__ import annotations

import pytest

from raft_io.core.progress import PROBE, REPLICATE, Progress

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


def test_it_shows_itself() -> None:
    assert repr(Progress(2, 8, 0)) == "Progress(id=2, state='probe', match=0, next=8, inflight=[])"
