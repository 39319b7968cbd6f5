"""What a mutant is, and how it gets into a copy of the source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["AREAS", "Mutant", "apply"]

AREAS = (
    "elections",
    "replication",
    "commitment",
    "membership",
    "snapshots",
    "reads",
    "log",
    "sessions",
    "transfer",
)


@dataclass(frozen=True)
class Mutant:
    """A small change that makes a bug out of right code. Plain data.

    `name`: in kebab-case, unique. `file`: below `src/raft_io`. `old` occurs there exactly once and becomes
    `new`, and so with each (file, old, new) of `more`, which belong to the same change. `bug` says what is
    wrong, and in which situation which promise is broken. `source`: where a real implementation had it, or
    where the paper or the thesis warns of it.
    """

    name: str
    area: str
    file: str
    old: str
    new: str
    bug: str
    source: str
    more: tuple[tuple[str, str, str], ...] = ()

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        """All places: file, what is there, what takes its place."""
        return ((self.file, self.old, self.new), *self.more)


def apply(mutant: Mutant, source_root: Path) -> None:
    """Put `mutant` into the copy of the package at `source_root`, the directory that `core` is in.

    Raises `ValueError`, and has changed nothing, unless every place is there exactly once.
    """
    texts: dict[Path, str] = {}
    for file, old, new in mutant.changes:
        path = source_root / file
        text = texts[path] if path in texts else path.read_text()
        found = text.count(old)
        if found != 1:
            raise ValueError(f"{mutant.name}: once expected in {path}, {found} times found: {old!r}")
        texts[path] = text.replace(old, new)
    for path, text in texts.items():
        path.write_text(text)
