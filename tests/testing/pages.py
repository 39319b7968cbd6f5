"""Pages taken apart again, and run: by Node.js what needs no page, in Chromium the rest."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from raft_io.testing.page import write_page
from raft_io.testing.trace import Trace, to_plain

NODE = shutil.which("node")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for found in map(shutil.which, BROWSERS) if found), None)

needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


class Parsed(HTMLParser):
    """A page's elements, attributes and scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "input", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def page_of(trace: Trace) -> str:
    stream = io.StringIO()
    write_page(trace, stream)
    return stream.getvalue()


def parsed(page: str) -> Parsed:
    parser = Parsed()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def data_of(page: str) -> Any:
    """What a browser would read from the page's data."""
    return json.loads(parsed(page).texts["script"][0])


def evaluate(trace: Trace, expression: str) -> Any:
    """What an expression over `model`, `trace` and `view` gives, of the page's program without the page."""
    assert NODE
    parts = [
        files("raft_io.testing").joinpath(f"page_{name}.js").read_text("ascii")
        for name in ("model", "view", "find", "lanes")
    ]
    read = "const trace = JSON.parse(require('fs').readFileSync(0, 'utf8')); const model = buildModel(trace);"
    view = "const view = new View(model); view.resize(1072, 600);"
    program = "\n".join([*parts, read, view, f"console.log(JSON.stringify({expression}))"])
    done = subprocess.run(
        [NODE, "-e", program], input=json.dumps(to_plain(trace)), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def browse(page: str, folder: Path, script: str = "") -> Parsed:
    """The page as it is after a browser opened it and ran `script` in it."""
    assert BROWSER
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="ascii")
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command += ["--virtual-time-budget=2000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    parser = Parsed()
    parser.feed(done.stdout)
    return parser
