"""The page of a trace: one file, whatever the trace holds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.testing.pages import browse, data_of, needs_browser, page_of, parsed
from tests.testing.traces import sample

from raft_io.testing.trace import (
    Event,
    Fault,
    LifeChanged,
    MessageSent,
    Returned,
    RoleChanged,
    Trace,
    Violated,
    to_plain,
)

HALF = "\ud800 half a pair"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]> --> </SCRIPT >",
    "\"quotes\" 'and' `more` \\ & &lt; ${1}",
    "\u2028\u2029\ufeff\x00\x1f\x7f",
    "\U0001f600 \U0010ffff",
    HALF,
    "{{data}} {{script}} {{title}}",
    "",
]


def holding(text: str) -> Trace:
    """A trace that holds `text` wherever it can."""
    return Trace(
        text,
        1,
        [1, 2],
        1.0,
        text,
        [
            LifeChanged(0.0, 1, "start", text),
            MessageSent(0.1, 1, 2, text, 0.2, text),
            Fault(0.1, None, text, (1,), ((1, 2),)),
            Violated(0.5, text, (1, 2)),
        ],
    )


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_breaks_out(text: str) -> None:
    page = page_of(holding(text))
    assert data_of(page) == to_plain(holding(text))
    assert parsed(page).tags == parsed(page_of(holding("plain"))).tags
    assert page.isascii()


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert data_of(page_of(holding(text))) == to_plain(holding(text))


@pytest.mark.parametrize("text", HOSTILE[:4], ids=ascii)
def test_the_title_is_the_trace_s(text: str) -> None:
    assert parsed(page_of(holding(text))).texts["title"] == [text]


def test_it_refers_to_nothing_outside() -> None:
    page = page_of(sample(600))
    found = parsed(page)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert not {"link", "img", "iframe", "object"} & set(found.tags)
    assert not {"src", "href", "srcset"} & {name for name, _ in found.attributes}
    assert found.tags.count("script") == 3


def test_all_places_of_the_template_are_filled() -> None:
    assert "{{" not in page_of(Trace("a run", 1, [], 0.0, None, []))


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_not_finite_is_refused(time: float) -> None:
    with pytest.raises(ValueError):
        page_of(Trace("a run", 1, [1], 1.0, None, [LifeChanged(time, 1, "start")]))
    with pytest.raises(ValueError):
        page_of(Trace("a run", 1, [1], time, None, []))


def test_large_integers_are_not_rounded() -> None:
    top = 2**63 - 1
    trace = Trace("a run", top, [top, 1], 1.0, None, [RoleChanged(0.0, top, "leader", 2**53)])
    data = data_of(page_of(trace))
    assert data["seed"] == str(top)
    assert data["nodes"] == [str(top), 1]
    assert data["events"] == [
        {"kind": "role", "at": 0.0, "node": str(top), "role": "leader", "term": str(2**53)}
    ]


def test_what_an_event_does_not_say_is_left_out() -> None:
    events: list[Event] = [MessageSent(0.0, 0, 1, "", None), Returned(1.0, 0, ""), Returned(2.0, 0, None, 3)]
    data = data_of(page_of(Trace("a run", 0, [0, 1], 0.0, None, events)))
    assert data["events"] == [
        {"kind": "message", "at": 0.0, "sender": 0, "to": 1, "what": ""},
        {"kind": "return", "at": 1.0, "client": 0, "result": ""},
        {"kind": "return", "at": 2.0, "client": 0, "operation": 3},
    ]
    assert data["failure"] is None


def test_the_same_trace_gives_the_same_page() -> None:
    assert page_of(sample(600)) == page_of(sample(600))
    assert page_of(sample(600)) != page_of(sample(600, seed=8))


def hostile() -> Trace:
    events = [event for text in HOSTILE for event in holding(text).events]
    return Trace("".join(HOSTILE), 1, [1, 2], 1.0, None, events)


EMPTY = Trace("a run", 1, [], 0.0, None, [])
NEVER_STARTED = Trace("a run", 1, [1, 2], 2.0, None, [LifeChanged(1.0, 1, "start")])
ONE = Trace("a run", 1, [1, 2], 0.0, None, [MessageSent(0.0, 1, 2, "PreVote", None, lost="lost")])
FAILED = Trace("a run", 1, [1], 1.0, "it took too long", [])


@needs_browser
@pytest.mark.process
@pytest.mark.parametrize(
    "trace",
    [EMPTY, NEVER_STARTED, ONE, FAILED, sample(5000), hostile(), holding(HALF)],
    ids=["empty", "never started", "one event", "failed", "sample", "hostile", "half a pair"],
)
def test_a_browser_draws_it(trace: Trace, tmp_path: Path) -> None:
    found = browse(page_of(trace), tmp_path)
    assert "data-drawn" in dict(found.attributes)
    assert "data-error" not in dict(found.attributes)


def keys(*names: str) -> str:
    return "".join(
        f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: {name!r}}}));" for name in names
    )


@needs_browser
@pytest.mark.process
def test_a_key_leads_to_the_violation_and_pins_it(tmp_path: Path) -> None:
    script = f"const whole = page.view.span; {keys('0', 'v')} document.title = page.pinned.text;"
    found = browse(page_of(sample(600)), tmp_path, script)
    text = sample(600).failure
    assert text is not None
    assert found.texts["title"] == [text]
    assert f"Violation: {text}" in found.texts["b"]
    assert "candidate" not in found.texts["td"]
    assert found.texts["td"].count("follower") == 4


@needs_browser
@pytest.mark.process
def test_texts_reach_the_page_as_text(tmp_path: Path) -> None:
    text = "<img src=x onerror=alert(1)><b>bold</b>"
    found = browse(page_of(holding(text)), tmp_path, keys("v"))
    assert "img" not in found.tags
    assert f"Violation: {text}" in found.texts["b"]


@needs_browser
@pytest.mark.process
def test_a_search_counts_what_it_finds(tmp_path: Path) -> None:
    script = "byId('search').value = 'PREVOTE granted'; find(); step(1);"
    found = browse(page_of(sample(600)), tmp_path, script)
    replies = [event for event in sample(600).events if getattr(event, "what", "") == "PreVoteReply"]
    assert f"1 of {len(replies)} found" in found.texts["span"]
