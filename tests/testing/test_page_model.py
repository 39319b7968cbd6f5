"""What the page makes of a trace before it draws, played by Node.js."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.testing.pages import evaluate, needs_node
from tests.testing.traces import sample

from raft_io.testing.trace import (
    Called,
    Event,
    Fault,
    LifeChanged,
    MessageSent,
    Progressed,
    Returned,
    RoleChanged,
    SyncChanged,
    Trace,
    Violated,
)

pytestmark = needs_node


def run(*events: Event, nodes: tuple[int, ...] = (1, 2), end: float = 10.0) -> Trace:
    return Trace("a run", 1, list(nodes), end, None, list(events))


def states(trace: Trace, node: int) -> Any:
    expression = (
        f"model.segments.get({node}).items.map((one) => [one.from, one.to, one.state, one.term ?? null])"
    )
    return evaluate(trace, expression)


def test_a_node_is_what_it_was_told_to_be_from_span_to_span() -> None:
    trace = run(
        LifeChanged(0.0, 1, "start"),
        RoleChanged(0.0, 1, "follower", 1),
        RoleChanged(1.0, 1, "candidate", 2),
        RoleChanged(2.0, 1, "leader", 2),
        LifeChanged(3.0, 1, "pause"),
        LifeChanged(4.0, 1, "resume"),
        LifeChanged(5.0, 1, "crash"),
        LifeChanged(6.0, 1, "wipe"),
        LifeChanged(7.0, 1, "start"),
        RoleChanged(8.0, 1, "learner", 3),
    )
    assert states(trace, 1) == [
        [0, 1, "follower", 1],
        [1, 2, "candidate", 2],
        [2, 3, "leader", 2],
        [3, 4, "paused", 2],
        [4, 5, "leader", 2],
        [5, 6, "down", 2],
        [6, 7, "down", None],
        [7, 8, "follower", None],
        [8, 10, "learner", 3],
    ]
    assert states(trace, 2) == []


def test_events_need_not_be_in_order() -> None:
    trace = run(RoleChanged(2.0, 1, "leader", 1), LifeChanged(0.0, 1, "start"))
    assert states(trace, 1) == [[0, 2, "follower", None], [2, 10, "leader", 1]]


def test_nodes_that_only_events_know_have_lanes_too() -> None:
    trace = run(MessageSent(0.0, 7, 9, "PreVote", 1.0), LifeChanged(0.0, 2**60, "start"), nodes=(3,))
    assert evaluate(trace, "model.nodes") == [3, 7, 9, str(2**60)]


def test_a_run_is_as_long_as_its_events() -> None:
    assert evaluate(run(end=0.0), "model.bounds") == {"from": 0, "to": 1}
    late = run(MessageSent(11.0, 1, 2, "PreVote", 12.0))
    assert evaluate(late, "model.bounds") == {"from": 0, "to": 12}


def test_messages_end_where_they_arrived_or_were_lost() -> None:
    trace = run(
        MessageSent(1.0, 1, 2, "PreVote", 1.5),
        MessageSent(2.0, 1, 2, "PreVote", None, lost="cut", lost_at=2.25),
        MessageSent(3.0, 1, 2, "PreVote", None, lost="lost"),
        MessageSent(4.0, 1, 2, "PreVote", None),
    )
    assert evaluate(trace, "model.messages.items.map((one) => one.to)") == [1.5, 2.25, 3.5, 10]


@pytest.mark.parametrize(
    ("what", "heartbeat", "family"),
    [
        ("AppendEntries", False, "append"),
        ("AppendEntriesReply", False, "append"),
        ("AppendEntries", True, "heartbeat"),
        ("PreVoteReply", False, "vote"),
        ("RequestVote", False, "vote"),
        ("InstallSnapshot", False, "snapshot"),
        ("ReadIndexRequest", False, "read"),
        ("TimeoutNow", False, "other"),
    ],
)
def test_messages_have_a_kind_by_their_type(what: str, heartbeat: bool, family: str) -> None:
    trace = run(MessageSent(1.0, 1, 2, what, 1.5, heartbeat=heartbeat))
    assert evaluate(trace, "model.messages.items[0].family") == family


def test_a_lost_message_ends_short_of_its_receiver_unless_that_was_down() -> None:
    trace = run(
        MessageSent(1.0, 1, 3, "PreVote", 2.0),
        MessageSent(1.0, 1, 3, "PreVote", None, lost="receiver down"),
        MessageSent(1.0, 1, 3, "PreVote", None, lost="lost"),
        MessageSent(1.0, 3, 1, "PreVote", None, lost="lost"),
        nodes=(1, 2, 3),
    )
    path = "model.messages.items.map((one) => pathOf(view, one).y1)"
    arrived, down, lost, back = evaluate(trace, path)
    middle = evaluate(trace, "view.layout.lane.get(2)")
    assert arrived == down
    assert middle < lost < arrived
    assert back < middle


def test_syncs_end_with_what_ended_them() -> None:
    trace = run(
        SyncChanged(0.0, 1, "begun"),
        SyncChanged(1.0, 1, "done"),
        SyncChanged(2.0, 1, "begun"),
        LifeChanged(2.5, 1, "pause"),
        LifeChanged(3.0, 1, "crash"),
        SyncChanged(3.5, 2, "begun"),
        SyncChanged(4.0, 2, "failed"),
        SyncChanged(5.0, 1, "done"),
        SyncChanged(6.0, 1, "begun"),
    )
    assert evaluate(trace, "model.syncs.items.map((one) => [one.node, one.from, one.to, one.outcome])") == [
        [1, 0, 1, "done"],
        [1, 2, 3, "ended by crash"],
        [2, 3.5, 4, "failed"],
        [1, 6, 10, "not done"],
    ]


def test_calls_and_returns_are_paired() -> None:
    trace = run(
        Called(0.0, 5, "SET a 1"),
        Called(1.0, 4, "SET b 1", 1),
        Called(2.0, 4, "GET b", 2),
        Returned(3.0, 5, None),
        Returned(4.0, 4, "", 2),
        Called(5.0, 5, "GET a"),
        Returned(6.0, 5, "2"),
        Returned(7.0, 6, "OK"),
    )
    fields = "[one.client, one.text, one.from, one.to, one.returned ?? false, one.result ?? null, one.row]"
    assert evaluate(trace, f"model.operations.items.map((one) => {fields})") == [
        [5, "SET a 1", 0, 3, True, None, 2],
        [4, "SET b 1", 1, 10, False, None, 0],
        [4, "GET b", 2, 4, True, "", 1],
        [5, "GET a", 5, 6, True, "2", 2],
        [6, "(its call is not in the trace)", 7, 7, True, "OK", 3],
    ]
    assert evaluate(trace, "model.clientRows") == ["client 4", "", "client 5", "client 6"]


def test_faults_of_one_time_have_rows_of_their_own() -> None:
    trace = run(Fault(0.0, None, "a"), Fault(1.0, 2.0, "b"), Fault(1.5, 3.0, "c"), Fault(2.0, 4.0, "d"))
    assert evaluate(trace, "model.faults.items.map((one) => [one.text, one.to, one.row])") == [
        ["a", 10, 0],
        ["b", 2, 1],
        ["c", 3, 2],
        ["d", 4, 1],
    ]


def test_the_state_of_the_cluster_is_that_of_the_moment() -> None:
    trace = run(
        LifeChanged(0.0, 1, "start"),
        RoleChanged(1.0, 1, "leader", 3),
        Progressed(2.0, 1, "commit", 5),
        Progressed(3.0, 1, "apply", 4),
        Progressed(4.0, 1, "commit", 6),
        LifeChanged(5.0, 1, "kill"),
    )
    for time, state, term, commit, applied in [
        (0.5, "follower", "", "", ""),
        (1.0, "leader", 3, "", ""),
        (3.5, "leader", 3, 5, 4),
        (9.0, "down", 3, 6, 4),
    ]:
        assert evaluate(trace, f"stateAt(model, {time})") == [
            {"node": 1, "state": state, "term": term, "commit": commit, "apply": applied},
            {"node": 2, "state": "not started", "term": "", "commit": "", "apply": ""},
        ]


def test_spans_are_found_by_range_as_by_looking_at_each() -> None:
    rng = random.Random(1)
    sent = [rng.random() * 10 for _ in range(1000)]
    messages = [MessageSent(at, 1, 2, "PreVote", at + rng.choice([0.001, 0.01, 5.0])) for at in sent]
    ranges = [
        (low, low + rng.choice([0.0, 0.01, 1.0, 20.0])) for low in (rng.random() * 16 - 1 for _ in range(50))
    ]
    expected = [
        sum(one.at <= high and (one.arrival or 0.0) >= low for one in messages) for low, high in ranges
    ]
    pairs = [list(pair) for pair in ranges]
    found = evaluate(run(*messages), f"{pairs}.map(([low, high]) => model.messages.within(low, high).length)")
    assert found == expected
    assert max(expected) == 1000
    assert min(expected) == 0


def opened(trace: Trace) -> tuple[float, float]:
    shown = evaluate(trace, "(openView(view), [view.from, view.to])")
    return shown[0], shown[1]


def test_a_short_run_opens_whole() -> None:
    left, right = opened(run(MessageSent(1.0, 1, 2, "PreVote", 1.5)))
    assert left <= 0
    assert right >= 10


def test_a_run_opens_around_its_violation() -> None:
    trace = sample(5000)
    (violation,) = (event for event in trace.events if isinstance(event, Violated))
    left, right = opened(trace)
    assert left < violation.at < right
    assert right - left < trace.end / 10
    before = [
        event for event in trace.events if isinstance(event, MessageSent) and left < event.at <= violation.at
    ]
    assert 25 <= sum(not message.heartbeat for message in before) <= 120


def test_a_long_run_without_one_opens_at_its_beginning() -> None:
    trace = sample(5000, violation=False)
    left, right = opened(trace)
    assert left <= 0.1
    assert right < trace.end / 4


def test_zooming_keeps_the_time_under_the_pointer() -> None:
    trace = sample(600)
    before, _, after, span = evaluate(
        trace, "[view.timeAt(500), view.zoom(4, 500), view.timeAt(500), view.span]"
    )
    assert after == pytest.approx(before)
    assert span == pytest.approx(trace.end / 4)


def test_moving_does_not_lose_the_run() -> None:
    trace = sample(600)
    for pixels in (1e9, -1e9):
        left, right = evaluate(trace, f"(view.zoom(4, 500), view.move({pixels}, 0), [view.from, view.to])")
        assert left < trace.end
        assert right > 0


@pytest.mark.parametrize(
    ("query", "count"),
    [("", None), ("  ", None), ("zebra", 0), ("prevote", 1), ("NODE 2 prevote", 1), ("power loss", 1)],
)
def test_a_search_finds_what_holds_all_words(query: str, count: int | None) -> None:
    trace = run(MessageSent(1.0, 1, 2, "PreVote", 1.5, "term=1"), LifeChanged(2.0, 1, "crash"))
    assert evaluate(trace, f"search(model, {query!r})?.size ?? null") == count


def test_every_kind_of_item_has_words() -> None:
    words = evaluate(sample(5000), "searchable(model).map(wordsOf)")
    assert all(item["title"] and "undefined" not in str(item) for item in words)
