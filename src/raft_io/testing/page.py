"""A trace as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

import html
import json
import re
from importlib.resources import files
from typing import TextIO

from raft_io.testing.trace import Trace, to_plain

__all__ = ["write_page"]

PARTS = ("model", "view", "messages", "lanes", "draw", "find", "overview", "legend", "input")
"""The page's program, in this order: `page_NAME.js`, one script."""

_PLACE = re.compile(r"\{\{(\w+)\}\}")

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
"""In JSON these stand in strings only. Without them no content can end the script element or open a comment
in it."""


def write_page(trace: Trace, stream: TextIO) -> None:
    """Write `trace` to `stream` as an HTML page. All of it is ASCII, whatever the trace holds.

    Raises `ValueError` if a time is not finite, and what the stream raises.
    """
    parts = {
        "title": _escaped(trace.title),
        "style": _resource("page.css"),
        "data": _embedded(trace),
        "script": "\n".join(_resource(f"page_{name}.js") for name in PARTS),
    }
    # One pass: what is put in is not searched for places again.
    pieces = _PLACE.split(_resource("page.html"))
    for number, piece in enumerate(pieces):
        stream.write(parts[piece] if number % 2 else piece)


def _embedded(trace: Trace) -> str:
    """The trace as JSON that may stand in a script element."""
    return json.dumps(to_plain(trace), allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def _escaped(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


def _resource(name: str) -> str:
    return files("raft_io.testing").joinpath(name).read_text("ascii")
