"""What the pages say is so: their code runs, their links lead somewhere, their commands exist."""

from __future__ import annotations

import doctest
import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, Block, blocks, headings, links, name_of, prose

from raft_io.cli.config import complete, read_file
from raft_io.cli.main import parser

LANGUAGES = {"python", "sh", "toml", "text", "json", "mermaid"}

ON_PATH = {"cd", "curl", "git", "kill", "pip", "redis-cli", "rm", "sed"}
"""Commands of the shell that a page may name without further ado."""

pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pages
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of a page runs from top to bottom, in one namespace, and prints what it says."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": name_of(page)}
    for block in blocks(page):
        if block.language == "python":
            run(block, scope, name_of(page))


def run(block: Block, scope: dict[str, object], name: str) -> None:
    if not block.text.startswith(">>>"):
        # Blank lines in front, so that a traceback names the line of the page.
        exec(compile("\n" * (block.line - 1) + block.text, name, "exec"), scope)  # noqa: S102 - our own page
        return
    test = doctest.DocTestParser().get_doctest(block.text, scope, name, name, block.line - 1)
    scope.pop("__builtins__", None)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    result = runner.run(test, out=said.append, clear_globs=False)
    scope.update(test.globs)
    assert result.attempted > 0 and result.failed == 0, "".join(said)


@pages
def test_languages_are_known(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in headings(target), f"{name_of(page)} links to {link}"


def test_every_page_can_be_reached_from_the_index() -> None:
    start = ROOT / "docs" / "index.md"
    seen = {start}
    todo = [start]
    while todo:
        page = todo.pop()
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target not in seen:
                seen.add(target)
                todo.append(target)
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= seen


@pages
def test_commands_exist(page: Path) -> None:
    """Each command in a page is one that there is, with options that there are. None is run."""
    for block in blocks(page):
        if block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                for words in commands_in(line):
                    check(words, name_of(page))
    for line in re.findall(r"`((?:make|pytest|raft-io) [^`]+)`", prose(page)):
        check(shlex.split(line), name_of(page))


def commands_in(line: str) -> list[list[str]]:
    """The commands in a line of shell, also one whose output is kept in a variable."""
    line = re.sub(r"^\w+=\$\((.*)\)$", r"\1", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.commenters = "#"
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def check(words: list[str], page: str) -> None:
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    name, arguments = Path(words[0]), words[1:]
    if words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        named = {word for word in arguments if "=" not in word}
        assert named and named <= targets, f"{page}: {words}"
    elif name.name == "raft-io":
        # A command by its name alone may need more to run, but it must be there.
        with pytest.raises(SystemExit) if len(arguments) == 1 else nullcontext() as ended:
            parser().parse_args([*arguments, "--help"] if len(arguments) == 1 else arguments)
        assert ended is None or ended.value.code == 0, f"{page}: {words}"
    elif name.name in ("python", "python3", "pytest"):
        files = [word.partition("::")[0] for word in arguments if "/" in word]
        assert files and all((ROOT / file).exists() for file in files), f"{page}: {words}"
    elif words[0] == ".ci/run":
        assert (ROOT / words[0]).exists(), page
    else:
        assert words[0] in ON_PATH, f"{page}: {words}"


@pages
def test_settings_are_accepted(page: Path, tmp_path: Path) -> None:
    """Each TOML block is a file that `raft-io serve --config` takes."""
    for block in blocks(page):
        if block.language == "toml":
            path = tmp_path / "raft.toml"
            path.write_text(block.text)
            complete(read_file(path), name_of(page))
