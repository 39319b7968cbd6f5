"""`raft-io`: finds the command and reports how it ended."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from raft_io._version import __version__
from raft_io.cli import (
    backup,
    bench,
    dev,
    members,
    recover,
    restore,
    serve,
    sim,
    snapshot,
    status,
    transfer,
    wal,
)
from raft_io.cli.errors import FAILED, INTERRUPTED, MISUSED, CommandFailedError

__all__ = ["main"]

COMMANDS = {
    "dev": dev,
    "serve": serve,
    "status": status,
    "members": members,
    "transfer": transfer,
    "snapshot": snapshot,
    "backup": backup,
    "restore": restore,
    "wal": wal,
    "recover": recover,
    "sim": sim,
    "bench": bench,
}
"""Each module has `add_arguments(parser)` and `run(options) -> int`; its docstring is its help."""

COLUMNS: Final = 79


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"{self.prog}: {message}; see {self.prog} --help\n")


class CommandParser(Parser):
    """Of a command, or of an action of one: what it does not know is its own error, not that of all."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As the base class, but nothing is left over."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, []


def wrapped(text: str) -> str:
    """A text as it fits a terminal, paragraph by paragraph."""
    return "\n\n".join(
        [
            textwrap.fill(
                " ".join(paragraph.split()), COLUMNS, break_on_hyphens=False, break_long_words=False
            )
            for paragraph in text.split("\n\n")
        ]
    )


def parser() -> Parser:
    """The parser of the whole command line."""
    top = Parser(
        prog="raft-io", description="A replicated, durable store, and its tools.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"raft-io {__version__}")
    commands = top.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for name, module in COMMANDS.items():
        about = (module.__doc__ or "").strip()
        sub = commands.add_parser(
            name,
            help=about.partition("\n")[0],
            description=wrapped(about),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (the process's own unless told otherwise); returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except CommandFailedError as error:
        print(f"raft-io: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status
