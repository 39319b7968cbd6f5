"""Patterns, as Redis' stringmatchlen reads them."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raft_io.kv.glob import MAX_PATTERN, Glob


def matches(pattern: bytes, text: bytes) -> bool:
    return Glob(pattern).match(text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (b"*a" * 25 + b"*b", b"a" * 50_000),
        (b"a*" * 25 + b"b", b"a" * 50_000),
        (b"*" * 10_000 + b"b", b"a" * 50_000),
        (b"*?a" * 500 + b"b", b"a" * 50_000),
        (b"*[ab]" * 1000 + b"c", b"a" * 50_000),
        (b"*" + b"?" * 2000 + b"b*c", b"a" * 50_000),
    ],
)
def test_no_pattern_blows_up(pattern: bytes, text: bytes) -> None:
    started = time.process_time()
    assert not matches(pattern, text)
    assert not matches(pattern, text[:-1] + b"\xff")
    assert time.process_time() - started < 2


def test_a_pattern_that_is_too_long_is_refused() -> None:
    assert matches(b"a" * MAX_PATTERN, b"a" * MAX_PATTERN)
    with pytest.raises(ValueError, match=str(MAX_PATTERN)):
        Glob(b"a" * (MAX_PATTERN + 1))


MATCHES = [
    (b"", [b""], [b"a"]),
    (b"a", [b"a"], [b"", b"b", b"A", b"aa"]),
    (b"*", [b"", b"a", b"\r\n\x00"], []),
    (b"**", [b"a", b"ab"], []),
    (b"a*", [b"a", b"ab"], [b"", b"ba"]),
    (b"*a", [b"a", b"ba"], [b"", b"ab"]),
    (b"a*a", [b"aa", b"aba"], [b"a", b"ab"]),
    (b"a*b*c", [b"abc", b"axbxc", b"abcbc"], [b"ac", b"acb", b"abcx"]),
    (b"*ab*", [b"ab", b"aab", b"xabx"], [b"a", b"ba"]),
    (b"*ab*ba*", [b"abba", b"xabxbax"], [b"aba"]),
    (b"?", [b"a", b"*", b"\xff"], [b"", b"ab"]),
    (b"a?c", [b"abc"], [b"ac", b"abbc"]),
    (b"*?", [b"a", b"ab"], [b""]),
    (b"?*", [b"a", b"ab"], [b""]),
    (b"*?b*", [b"ab", b"aabc"], [b"b", b"ba"]),
    (b"[abc]", [b"a", b"c"], [b"d", b"", b"ab"]),
    (b"h[^e]llo", [b"hallo"], [b"hello"]),
    (b"[a-c]", [b"a", b"b", b"c"], [b"d", b"-"]),
    (b"[c-a]", [b"a", b"b", b"c"], [b"d", b"-"]),
    (b"[^a-c]", [b"d", b"-"], [b"b"]),
    (b"[a-cx-z]", [b"b", b"y"], [b"m"]),
    (b"[a\\-c]", [b"a", b"-", b"c"], [b"b", b"\\"]),
    (b"[\\]]", [b"]"], [b"\\", b"a"]),
    (b"[\\^a]", [b"^", b"a"], [b"b"]),
    (b"[a^]", [b"^", b"a"], [b"b"]),
    (b"[]", [], [b"", b"a", b"]"]),
    (b"[^]", [b"a", b"]"], [b""]),
    (b"[", [], [b"[", b"a", b""]),
    (b"[^", [b"a", b"["], [b"", b"ab"]),
    (b"[a", [b"a"], [b"[", b"[a"]),
    (b"[a-", [b"a", b"-"], [b"b"]),
    (b"[a-]", [b"a", b"^"], [b"-", b"b"]),
    (b"[\\", [b"\\"], [b"["]),
    (b"[!a]", [b"!", b"a"], [b"b"]),
    (b"\\*", [b"*"], [b"a", b"\\*"]),
    (b"\\a", [b"a"], [b"\\a"]),
    (b"\\", [b"\\"], [b""]),
    (b"a\\", [b"a\\"], [b"a"]),
    (b"\\\\", [b"\\"], [b"\\\\"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), MATCHES)
def test_patterns(pattern: bytes, yes: list[bytes], no: list[bytes]) -> None:
    assert [text for text in yes if not matches(pattern, text)] == []
    assert [text for text in no if matches(pattern, text)] == []


def simple_match(pattern: bytes, text: bytes) -> bool:
    """The definition, for patterns without classes and escapes, exponential as it is."""
    if not pattern:
        return not text
    if pattern[0] == ord("*"):
        return simple_match(pattern[1:], text) or (bool(text) and simple_match(pattern, text[1:]))
    return bool(text) and pattern[0] in (ord("?"), text[0]) and simple_match(pattern[1:], text[1:])


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
@example("*a?*", "baab")
def test_stars_and_question_marks_match_what_they_mean(pattern: str, text: str) -> None:
    assert matches(pattern.encode(), text.encode()) == simple_match(pattern.encode(), text.encode())


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_escaped_bytes_stand_for_themselves(literal: bytes, text: bytes) -> None:
    escaped = b"".join([b"\\" + bytes([byte]) for byte in literal])
    assert matches(escaped, literal)
    assert matches(escaped, text) == (literal == text)


@given(st.text("a-[]^\\*?", max_size=12), st.binary(max_size=6))
def test_any_bytes_are_a_pattern(pattern: str, text: bytes) -> None:
    assert matches(pattern.encode(), text) in (True, False)
