"""Patterns of KEYS and SCAN MATCH, byte by byte as Redis reads them.

    *       any bytes, none included
    ?       one byte
    [abc]   one of these; [a-z] a range, whichever end comes first; [^abc] none of these
    \\x      x itself, also inside of [ ]

A class that is not closed ends with the pattern. A lone backslash at the end stands for itself.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import i64

__all__ = ["MAX_PATTERN", "Glob"]

MAX_PATTERN: Final = 16 * 1024
"""Bytes of the longest pattern that is accepted."""

_ANY: Final = bytes(range(256))
_STAR: Final = 0x2A
_QUESTION: Final = 0x3F
_OPEN: Final = 0x5B
_CLOSE: Final = 0x5D
_CARET: Final = 0x5E
_MINUS: Final = 0x2D
_BACKSLASH: Final = 0x5C


@final
class _Segment:
    """What stands between two stars: a string of byte classes, each the bytes that it accepts."""

    __slots__ = ("_bits", "_classes", "literal", "size")

    def __init__(self, classes: list[bytes]) -> None:
        self.size: int = len(classes)
        self.literal: bytes | None = None
        if {len(accepted) for accepted in classes} <= {1}:
            self.literal = b"".join(classes)
        self._classes: list[bytes] = classes
        # For a byte, the positions at which it is accepted, as bits. Made as bytes are met.
        self._bits: dict[int, int] = {}

    def at(self, text: bytes, pos: int) -> bool:
        """Whether the segment is in `text` at `pos`, where it has room."""
        if self.literal is not None:
            return text.startswith(self.literal, pos)
        return self.find(text, pos, pos + self.size) >= 0

    def find(self, text: bytes, pos: int, end: int) -> int:
        """The end of the first place in `text[pos:end]` where the segment is, or -1.

        Every byte is looked at once, with all positions of the segment in hand (the Shift-And algorithm), so
        that no pattern makes it go back.
        """
        if self.literal is not None:
            found = text.find(self.literal, pos, end)
            return found if found < 0 else found + self.size
        last = 1 << (self.size - 1)
        reached = 0
        for at in range(pos, end):
            reached = (reached << 1 | 1) & self._accepting(text[at])
            if reached & last:
                return at + 1
        return -1

    def _accepting(self, byte: int) -> int:
        bits = self._bits.get(byte, -1)
        if bits < 0:
            bits = int("".join(["1" if byte in accepted else "0" for accepted in reversed(self._classes)]), 2)
            self._bits[byte] = bits
        return bits


@final
class Glob:
    """A compiled pattern.

    The first segment must stand at the start, the last at the end, and each one between at its first place
    behind the one before: taking the first place never loses a match. The time is that of one pass over
    the text, whatever the pattern.

    >>> Glob(b"user:*:[a-c]").match(b"user:17:b")
    True

    Raises `ValueError` for a pattern of more than `MAX_PATTERN` bytes.
    """

    __slots__ = ("_all", "_segments", "_width")

    def __init__(self, pattern: bytes) -> None:
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"a pattern has at most {MAX_PATTERN} bytes")
        self._segments: list[_Segment] = _compile(pattern)
        self._width: int = sum([segment.size for segment in self._segments])
        # Only stars.
        self._all: bool = len(self._segments) > 1 and self._width == 0

    def match(self, text: bytes) -> bool:
        """Whether the pattern covers the whole of `text`."""
        segments = self._segments
        first = segments[0]
        if len(segments) == 1:
            return len(text) == first.size and first.at(text, 0)
        if self._all:
            return True
        if len(text) < self._width or not first.at(text, 0):
            return False
        last = segments[-1]
        end = len(text) - last.size
        if not last.at(text, end):
            return False
        pos = first.size
        for i in range(1, len(segments) - 1):
            pos = segments[i].find(text, pos, end)
            if pos < 0:
                return False
        return True


def _compile(pattern: bytes) -> list[_Segment]:
    """The segments of a pattern: one more than it has stars, stars next to each other counted once."""
    segments: list[_Segment] = []
    classes: list[bytes] = []
    pos: i64 = 0
    end: i64 = len(pattern)
    while pos < end:
        byte: i64 = pattern[pos]
        if byte == _STAR:
            if classes or not segments:
                segments.append(_Segment(classes))
                classes = []
            pos += 1
        elif byte == _QUESTION:
            classes.append(_ANY)
            pos += 1
        elif byte == _OPEN:
            accepted, pos = _class(pattern, pos + 1)
            classes.append(accepted)
        else:
            if byte == _BACKSLASH and pos + 1 < end:
                pos += 1
            classes.append(pattern[pos : pos + 1])
            pos += 1
    segments.append(_Segment(classes))
    return segments


def _class(pattern: bytes, pos: i64) -> tuple[bytes, i64]:
    """The bytes that the class beginning at `pos` (behind the bracket) accepts, and where it ends."""
    end: i64 = len(pattern)
    negated = pos < end and pattern[pos] == _CARET
    if negated:
        pos += 1
    members: set[int] = set()
    while pos < end and pattern[pos] != _CLOSE:
        if pattern[pos] == _BACKSLASH and pos + 1 < end:
            members.add(pattern[pos + 1])
            pos += 2
        elif pos + 2 < end and pattern[pos + 1] == _MINUS:
            low: int = min(pattern[pos], pattern[pos + 2])
            high: int = max(pattern[pos], pattern[pos + 2])
            members.update(range(low, high + 1))
            pos += 3
        else:
            members.add(pattern[pos])
            pos += 1
    return bytes([byte for byte in range(256) if (byte in members) != negated]), min(pos + 1, end)
