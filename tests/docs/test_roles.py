"""The diagram of roles in the documentation is the table in the code."""

from __future__ import annotations

import ast
import re

from tests.docs.pages import ROOT, blocks

ROLES = ("follower", "candidate", "leader")


def in_code() -> set[tuple[str, str, str]]:
    """The changes of role in the docstring of `core/roles.py`: from, why, to."""
    text = ast.get_docstring(ast.parse((ROOT / "src/raft_io/core/roles.py").read_text())) or ""
    found: set[tuple[str, str, str]] = set()
    for origin, why, target in re.findall(r"^(\w+) -+ (.+?) -+> (\w+)", text, flags=re.MULTILINE):
        for role in ROLES if origin == "any" else (origin,):
            found.add((role, why, target))
    return found


def in_docs() -> set[tuple[str, str, str]]:
    """The changes of role in the diagram."""
    (diagram,) = [block for block in blocks(ROOT / "docs/protocol/roles.md") if block.language == "mermaid"]
    return {
        (origin, why, target)
        for origin, target, why in re.findall(r"^ *(\w+) --> (\w+): (.+)$", diagram.text, flags=re.MULTILINE)
    }


def test_the_diagram_shows_the_changes_of_role_that_there_are() -> None:
    assert in_docs() == in_code()
    assert len(in_code()) >= 8
