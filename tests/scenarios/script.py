"""A scenario file: text, commands (`>>`) and what each brought about (`<<`).

    # Comments and empty lines are for the reader.
    >> nodes 3
    >> timeout 1
    << 1: candidate, term 1, vote 1

`play` runs the commands and returns the file as it should read; everything but the `<<` lines stays as it is.
"""

from __future__ import annotations

from tests.scenarios.world import World

COMMAND = ">> "
OUTPUT = "<< "


class ScriptError(Exception):
    """A line that makes no sense."""


def play(text: str) -> str:
    """The same file with the output that its commands have now."""
    world = World()
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(OUTPUT.rstrip()):
            continue
        if line.strip() and not line.startswith(("#", COMMAND)):
            raise ScriptError(f"line {number} is no comment, command or output: {line}")
        lines.append(line)
        if line.startswith(COMMAND):
            try:
                output = world.run(line.removeprefix(COMMAND).split())
            except (ValueError, IndexError, KeyError, AttributeError) as error:
                raise ScriptError(f"line {number}, {line}: {error!r}") from error
            lines.extend(OUTPUT + each for each in output)
    return "\n".join(lines) + "\n"
