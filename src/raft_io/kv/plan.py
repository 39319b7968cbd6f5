"""What a client sends, split into what is carried out together; and the queue of its transaction.

The queue is filled as commands arrive: what MULTI, EXEC and the like do to it depends on nothing but the
commands before them. What they do to watched keys comes when they are carried out.
"""

from __future__ import annotations

import enum
from typing import Final, final

from raft_io.kv import resp
from raft_io.kv.commands import CONTROL, LOCAL, READ, WRITE, find, kind_of, refusal

__all__ = ["ANSWERED", "DISCARDED", "EXEC", "LOCAL", "READ", "WATCH", "Plan", "Run", "Step"]


class Step(enum.IntEnum):
    """How a run is carried out. The first three are those of `commands.Kind`."""

    LOCAL = 0
    """By the node, one command after the other."""
    READ = 1
    """By the store, in one query."""
    WRITE = 2
    """By the store, in one batch: reads and writes mixed, with at least one write."""
    ANSWERED = 3
    """It has been, while planning: `replies`."""
    WATCH = 4
    """WATCH, one command."""
    EXEC = 5
    """The commands of a transaction, as one batch; with `replies`, it fails with that."""


ANSWERED: Final = Step.ANSWERED
WATCH: Final = Step.WATCH
EXEC: Final = Step.EXEC

QUEUED: Final = b"+QUEUED\r\n"
DISCARDED: Final = resp.error("EXECABORT Transaction discarded because of previous errors.")

_NESTED: Final = resp.error("ERR MULTI calls can not be nested")
_WATCH_INSIDE: Final = resp.error("ERR WATCH inside MULTI is not allowed")
_NO_EXEC: Final = resp.error("ERR EXEC without MULTI")
_NO_DISCARD: Final = resp.error("ERR DISCARD without MULTI")


@final
class Run:
    """Commands of one connection, next to each other, that are carried out together."""

    __slots__ = ("commands", "replies", "step")

    def __init__(self, step: int, commands: list[list[bytes]], replies: list[bytes] | None = None) -> None:
        self.step = step
        self.commands = commands
        self.replies: list[bytes] = [] if replies is None else replies


@final
class Plan:
    """Plans for one connection. A transaction is at most `max_bytes` long, counted as a batch encodes it."""

    __slots__ = ("_faulty", "_max_bytes", "_queue", "_queued_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._queue: list[list[bytes]] | None = None
        """The commands of the transaction that is open."""
        self._queued_bytes = 0
        self._faulty = False
        """Whether one of them was refused: then all are."""

    def take(self, commands: list[list[bytes]]) -> list[Run]:
        """Split commands into runs, in order. They are to be carried out one after the other, for a local
        command may change how later ones are answered."""
        runs: list[Run] = []
        run: Run | None = None
        of = CONTROL
        for args in commands:
            if self._queue is not None:
                self._inside(args, runs)
                run = None
                continue
            kind = kind_of(args)
            if kind is CONTROL:
                self._outside(args, runs)
                run = None
            elif run is not None and (of is kind or (of is not LOCAL and kind is not LOCAL)):
                run.commands.append(args)
                if kind is WRITE and of is not WRITE:
                    of = WRITE
                    run.step = WRITE
            else:
                of = kind
                run = Run(kind, [args])
                runs.append(run)
        return runs

    def _outside(self, args: list[bytes], runs: list[Run]) -> None:
        """A command of the kind `CONTROL` while no transaction is open."""
        name = args[0].lower()
        if name == b"watch":
            runs.append(Run(WATCH, [args]))
        elif name == b"multi":
            self._queue = []
            self._queued_bytes = 0
            self._faulty = False
            _answer(runs, resp.OK)
        else:
            _answer(runs, _NO_EXEC if name == b"exec" else _NO_DISCARD)

    def _inside(self, args: list[bytes], runs: list[Run]) -> None:
        """Any command while a transaction is open."""
        command = find(args[0])
        name = "" if command is None else command.name
        if command is None or not command.takes(len(args)):
            reply = refusal(args)
            if name == "exec":
                self._close()
                runs.append(Run(EXEC, [], [reply]))
            else:
                self._refuse()
                _answer(runs, reply)
        elif name == "exec":
            commands, faulty = self._close()
            runs.append(Run(EXEC, commands, [DISCARDED] if faulty else None))
        elif name in ("discard", "quit", "reset"):
            self._close()
            runs.append(Run(LOCAL, [args]))
        elif command.kind is CONTROL:
            _answer(runs, _NESTED if name == "multi" else _WATCH_INSIDE)
        else:
            _answer(runs, self._enqueue(args))

    def _enqueue(self, args: list[bytes]) -> bytes:
        self._queued_bytes += 4 + 4 * len(args) + sum([len(arg) for arg in args])
        if self._queued_bytes > self._max_bytes:
            self._refuse()
            return resp.error(f"ERR a transaction is longer than {self._max_bytes} bytes")
        if not self._faulty:
            assert self._queue is not None
            self._queue.append(args)
        return QUEUED

    def _refuse(self) -> None:
        self._faulty = True
        self._queue = []

    def _close(self) -> tuple[list[list[bytes]], bool]:
        queue = self._queue
        assert queue is not None
        self._queue = None
        return queue, self._faulty


def _answer(runs: list[Run], reply: bytes) -> None:
    if runs and runs[-1].step == ANSWERED:
        runs[-1].replies.append(reply)
    else:
        runs.append(Run(ANSWERED, [], [reply]))
