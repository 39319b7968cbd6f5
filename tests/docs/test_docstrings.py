"""The examples in the docstrings of the package run, whichever build of it is under test."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

SOURCE = ROOT / "src"

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def examples(path: Path) -> list[tuple[str, str, int]]:
    """The docstrings of a module that hold examples, each with a name and its line."""
    found: list[tuple[str, str, int]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Documented):
            text = ast.get_docstring(node) or ""
            if ">>>" in text:
                found.append((getattr(node, "name", "module"), text, getattr(node, "lineno", 1)))
    return found


# The text is read from the source: a compiled module need not keep its docstrings.
FOUND = [
    pytest.param(path, name, text, line, id=f"{path.relative_to(SOURCE).as_posix()}:{name}")
    for path in sorted(SOURCE.rglob("*.py"))
    for name, text, line in examples(path)
]


@pytest.mark.parametrize(("path", "name", "text", "line"), FOUND)
def test_docstring(path: Path, name: str, text: str, line: int) -> None:
    module = importlib.import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    test = doctest.DocTestParser().get_doctest(text, dict(vars(module)), name, str(path), line)
    said: list[str] = []
    runner = doctest.DocTestRunner()
    result = runner.run(test, out=said.append)
    assert result.failed == 0, "".join(said)


def test_there_are_examples() -> None:
    assert len(FOUND) >= 10
