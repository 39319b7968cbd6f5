"""Tables and numbers as people read them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ROLE_STYLES", "Cell", "in_bytes", "listed", "number_of", "print_table"]

ROLE_STYLES: Final = {
    "leader": "bold green",
    "candidate": "yellow",
    "no answer": "bold red",
}

WIDE: Final = 200
"""Columns where the output is no terminal: a line is not broken for a program that reads it."""

NARROW: Final = 80

Cell = object
"""What stands in a table; `None` is shown as `-`."""


def print_table(titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table. Numbers, and columns of them, stand on the right."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    made = _table(titles, rows, gap=2)
    if Console(width=WIDE).measure(made).maximum > NARROW:
        made = _table(titles, rows, gap=1)
    console.print(made)


def _table(titles: Sequence[str], rows: Sequence[Sequence[Cell]], gap: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, gap - 1, 0, 0))
    for place, title in enumerate(titles):
        cells = [row[place] for row in rows]
        numeric = not any(isinstance(cell, str) for cell in cells)
        made.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        texts = ["-" if cell is None else str(cell) for cell in row]
        made.add_row(*[Text(text, style=ROLE_STYLES.get(text, "")) for text in texts])
    return made


def listed(ids: Sequence[int]) -> str:
    """Ids in a sentence."""
    return ", ".join([str(each) for each in ids])


def number_of(count: int, what: str) -> str:
    """`1 voter`, `2 voters`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def in_bytes(size: int) -> str:
    """A size, short."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
