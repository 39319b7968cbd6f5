"""Exactly once: the part of the replicated state that remembers what was applied (thesis, section 6.3).

Every node opens a session and numbers its entries in it. An entry that comes a second time, because a leader
was lost and the node tried again, is not applied again. A caller's own key does the same across callers and
nodes. Everything here is replicated state: it changes only by entries, in their order, alike on every node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raft_io.errors import CommandError, SessionExpiredError, WireError
from raft_io.server import envelope
from raft_io.server.machine import StateMachine

__all__ = ["Applied", "Opened", "Result", "Sessions"]

MAX_SESSIONS = 1024
"""Sessions kept; the one that was used longest ago is evicted first. Each start of a node opens one."""

MAX_KEYS = 100_000
MAX_KEYED_BYTES = 64 * 1024 * 1024
"""Callers' keys kept, and bytes of keys and results; the oldest is evicted first."""

MAX_RESULT_BYTES = 64 * 1024 * 1024
"""Bytes of results kept in sessions. Above it those of the session that was used longest ago are forgotten:
the entries are still not applied a second time."""

Result = bytes | CommandError | SessionExpiredError
"""What became of a request: what `apply` returned, or what it raised, or that nobody knows any more."""


@dataclass(slots=True)
class Session:
    """A node's session: what is answered (`floor`), and the results of what may still be asked again."""

    floor: int = 0
    results: dict[int, list[Result]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session was opened; `nonce` tells its node."""

    session: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Applied:
    """Requests were applied, now or before. `results` is in the order of the requests; a barrier's is `b""`.
    `None`: the session is evicted, they were not applied."""

    session: int
    sequence: int
    results: list[Result] | None


class Sessions:
    """The sessions and keys, around the application's state machine."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._sessions: dict[int, Session] = {}
        self._keys: dict[bytes, tuple[int, Result]] = {}
        self._keyed_bytes = 0
        self._result_bytes = 0
        self._horizon = 0
        """The index of the last keyed request whose result was evicted."""

    def apply(self, index: int, data: bytes) -> Opened | Applied | None:
        """Apply the entry at `index`. `None` for one that no server made: it changes nothing, anywhere.

        Whatever but `CommandError` the machine raises comes out: replicas could differ, the node must stop.
        """
        try:
            entry = envelope.decode(data)
        except WireError:
            return None
        if isinstance(entry, envelope.Open):
            self._open(index)
            return Opened(index, entry.nonce)
        session = self._sessions.get(entry.session)
        if session is None:
            return Applied(entry.session, entry.sequence, None)
        self._sessions[entry.session] = self._sessions.pop(entry.session)
        if entry.floor > session.floor:
            session.floor = entry.floor
            for sequence in [sequence for sequence in session.results if sequence < entry.floor]:
                self._result_bytes -= _total(session.results.pop(sequence))
        if entry.sequence < session.floor:
            return None
        results = session.results.get(entry.sequence)
        if results is None:
            results = [self._request(index, command) for command in entry.commands]
            session.results[entry.sequence] = results
            self._result_bytes += _total(results)
            self._forget_results()
        return Applied(entry.session, entry.sequence, results)

    def _open(self, index: int) -> None:
        self._sessions[index] = Session()
        if len(self._sessions) > MAX_SESSIONS:
            evicted = self._sessions.pop(next(iter(self._sessions)))
            self._result_bytes -= sum([_total(results) for results in evicted.results.values()])

    def _forget_results(self) -> None:
        for session in self._sessions.values():
            for sequence, results in session.results.items():
                if self._result_bytes <= MAX_RESULT_BYTES:
                    return
                forgotten: Result = SessionExpiredError()
                self._result_bytes -= _total(results)
                session.results[sequence] = [forgotten] * len(results)

    def _request(self, index: int, command: envelope.Command) -> Result:
        if command.data is None:
            return b""
        if command.key is None:
            return self._run(command.data)
        known = self._keys.get(command.key)
        if known is not None:
            return known[1]
        if command.since < self._horizon:
            # It may have been applied after `since` and evicted: nobody can tell.
            return SessionExpiredError()
        result = self._run(command.data)
        self._remember(index, command.key, result)
        return result

    def _run(self, data: bytes) -> Result:
        # Not trusted to return what it promises.
        apply: Any = self._machine.apply
        try:
            result = apply(data)
        except CommandError as error:
            # It is kept: the frames that it passed through must not be.
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)
        if not isinstance(result, bytes):
            name = type(self._machine).__name__
            raise TypeError(f"{name}.apply must return bytes, not {type(result).__name__}")
        return result

    def _remember(self, index: int, key: bytes, result: Result) -> None:
        self._keys[key] = (index, result)
        self._keyed_bytes += _size(key, result)
        while len(self._keys) > MAX_KEYS or self._keyed_bytes > MAX_KEYED_BYTES:
            oldest = next(iter(self._keys))
            self._horizon, evicted = self._keys.pop(oldest)
            self._keyed_bytes -= _size(oldest, evicted)


def _size(key: bytes, result: Result) -> int:
    return len(key) + _total([result])


def _total(results: list[Result]) -> int:
    size = 0
    for result in results:
        if isinstance(result, bytes):
            size += len(result)
        elif isinstance(result, CommandError):
            size += len(str(result))
    return size
