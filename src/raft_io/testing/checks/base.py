"""What a check is: told of everything that happens, it raises `ViolationError` when it must not have."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, final

from raft_io import Index, LogEntry, Message, NodeId, Snapshot

if TYPE_CHECKING:
    from raft_io.testing.clients import Call
    from raft_io.testing.process import Process
    from raft_io.testing.world import World

__all__ = ["CALM", "CRASH", "HOOKS", "PROGRESS", "WHOLE_RUN", "Check", "Hooks", "ViolationError", "told"]

PROGRESS: Final = "progress"
CALM: Final = "calm"
CRASH: Final = "crash"

ELSEWHERE: Final = ("<", sysconfig.get_path("stdlib"), str(Path(__file__).parents[2]))
"""Where the paths begin of code that is Python's own, or this package's."""

WHOLE_RUN: Final = {
    PROGRESS: (
        28,
        "After the faults a quorum elects a leader and serves, and in time every member has everything.",
    ),
    CALM: (
        29,
        "While all is well nobody stands for election; with pre-votes, nor does a node that is cut off from "
        "the leader alone depose it.",
    ),
    CRASH: (
        30,
        "No node dies, or refuses to start, but for a fault of its disk.",
    ),
}
"""The invariants that no check looks after but the run itself."""


def told(error: BaseException) -> str:
    """An exception, and where it was raised: the innermost place that is neither Python's nor ours."""
    trace = traceback.extract_tb(error.__traceback__)
    text = f"{type(error).__name__}: {error}"
    if not trace:
        return text
    last = next((frame for frame in reversed(trace) if not frame.filename.startswith(ELSEWHERE)), trace[-1])
    return f"{text} ({Path(last.filename).name}, line {last.lineno}, in {last.name})"


class ViolationError(BaseException):
    """An invariant does not hold. `check` is the name of the check, `number` that of the invariant, `at` the
    simulated time in seconds.

    It is found in the middle of what a node does, whose handlers of errors must not catch it.
    """

    def __init__(self, check: str, number: int, text: str, at: float) -> None:
        super().__init__(check, number, text, at)
        self.check = check
        self.number = number
        self.text = text
        self.at = at

    @classmethod
    def of_run(cls, check: str, text: str, at: float) -> ViolationError:
        """One of the invariants of `WHOLE_RUN`."""
        return cls(check, WHOLE_RUN[check][0], text, at)

    def __str__(self) -> str:
        return f"{self.check} (invariant {self.number}) at {self.at:.3f} s: {self.text}"


class Check:
    """An invariant, or a few that belong together. A check overrides the hooks that it needs; each is called
    by the world, whatever `process` it concerns, while that is as the arguments say."""

    name: ClassVar[str]
    """What a failure is reported under."""
    rules: ClassVar[dict[int, str]]
    """The invariants, each in a sentence, by number."""

    def __init__(self, world: World) -> None:
        self.world = world

    def fail(self, number: int, text: str) -> None:
        """Report a violation of the invariant `number`."""
        raise ViolationError(self.name, number, text, self.world.now)

    def started(self, process: Process) -> None:
        """It has recovered from its disk, and takes its first turn soon."""

    def stopped(self, process: Process, power: bool) -> None:
        """It is gone; with `power`, what was not synced may be as well."""

    def retired(self, process: Process, index: Index) -> None:
        """It ends, as it was removed by the entry at `index`."""

    def appending(self, process: Process, entries: Sequence[LogEntry]) -> None:
        """Its log is about to grow."""

    def truncating(self, process: Process, first: Index) -> None:
        """Its log is about to lose everything from `first` on."""

    def saving(self, process: Process, snapshot: Snapshot) -> None:
        """Its log is about to take a snapshot in."""

    def synced(self, process: Process) -> None:
        """What its log holds is durable."""

    def arriving(self, process: Process, message: Message) -> None:
        """A message of another node has reached it. Under leases only."""

    def sending(self, process: Process, target: NodeId, message: Message) -> None:
        """It sends one of the messages that promise something."""

    def turned(self, process: Process) -> None:
        """It has taken a turn. What came of it happens next: nothing is sent, and nobody answered, yet."""

    def acknowledged(self, call: Call) -> None:
        """A client was told the result of `call`."""

    def ended(self) -> None:
        """The cluster has healed and rests; everything may be compared."""


HOOKS = (
    *("started", "stopped", "retired", "appending", "truncating", "saving"),
    *("synced", "arriving", "sending", "turned", "acknowledged", "ended"),
)


@final
class Hooks:
    """For each hook, the checks that override it."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self.started: list[Check] = []
        self.stopped: list[Check] = []
        self.retired: list[Check] = []
        self.appending: list[Check] = []
        self.truncating: list[Check] = []
        self.saving: list[Check] = []
        self.synced: list[Check] = []
        self.arriving: list[Check] = []
        self.sending: list[Check] = []
        self.turned: list[Check] = []
        self.acknowledged: list[Check] = []
        self.ended: list[Check] = []
        for check in checks:
            for hook in HOOKS:
                if getattr(type(check), hook) is not getattr(Check, hook):
                    getattr(self, hook).append(check)
