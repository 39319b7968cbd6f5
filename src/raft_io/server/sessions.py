"""Exactly once: the part of the replicated state that remembers what was applied (thesis, section 6.3).

Every node opens a session and numbers its entries in it. An entry that comes a second time, because a leader
was lost and the node tried again, is not applied again. A caller's own key does the same across callers and
nodes. Everything here is replicated state: it changes only by entries, in their order, alike on every node.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from raft_io.core.types import Value
from raft_io.errors import CommandError, SessionExpiredError, WireError
from raft_io.server import envelope
from raft_io.server.envelope import Member
from raft_io.server.machine import StateMachine

__all__ = ["Applied", "Opened", "Place", "Result", "Sessions", "State"]

MAX_SESSIONS = 1024
"""Sessions kept; the one that was used longest ago is evicted first. Each start of a node opens one."""

MAX_KEYS = 100_000
"""Callers' keys kept; the oldest is evicted first."""

MAX_RESULT_BYTES = 64 * 1024 * 1024
"""Bytes of results kept, of sessions and of keys. Above it the oldest results are forgotten, but not that
they were: nothing is applied a second time."""

RESULT_OVERHEAD = 64
"""What keeping a result costs besides its bytes."""

Place = tuple[int, int] | bytes
"""Where a result is kept: in a session by its sequence number, or by its key."""

Result = bytes | CommandError | SessionExpiredError
"""What became of a request: what `apply` returned, or what it raised, or that nobody knows any more."""


@dataclass(slots=True)
class Session:
    """A node's session: by what the node knows that it is its own (`nonce`), what is answered (`floor`), and
    the results of what may still be asked again."""

    nonce: bytes
    floor: int = 0
    results: dict[int, list[Result]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """All of the replicated state but the state machine's own, as it was at one moment: sessions with their
    nonces, floors and results and keys with their indexes and results in the order of eviction, the places
    of the results that are counted, the horizon, the time and the members."""

    sessions: list[tuple[int, bytes, int, dict[int, list[Result]]]]
    keys: list[tuple[bytes, tuple[int, Result]]]
    kept: list[Place]
    horizon: int
    time: int
    members: dict[int, Member]


@final
class Opened(Value):
    """A session was opened; `nonce` tells its node."""

    __slots__ = ("nonce", "session")
    __match_args__: ClassVar[tuple[str, ...]] = ("session", "nonce")

    def __init__(self, session: int, nonce: bytes) -> None:
        self.session = session
        self.nonce = nonce


@final
class Applied(Value):
    """Requests were applied, now or before. `results` is in the order of the requests; a barrier's is `b""`.
    `None`: the session is evicted, they were not applied."""

    __slots__ = ("results", "sequence", "session")
    __match_args__: ClassVar[tuple[str, ...]] = ("session", "sequence", "results")

    def __init__(self, session: int, sequence: int, results: list[Result] | None) -> None:
        self.session = session
        self.sequence = sequence
        self.results = results


class Sessions:
    """The sessions, the keys, the time and the table of members, around the application's state machine."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._sessions: dict[int, Session] = {}
        self._nonces: dict[bytes, int] = {}
        # Ordered: a plain dict is slow to find its first item when many before it were removed.
        self._keys: OrderedDict[bytes, tuple[int, Result]] = OrderedDict()
        self._horizon = 0
        """The index of the last keyed request whose key was evicted."""
        self._kept: OrderedDict[Place, int] = OrderedDict()
        """What each kept result costs, by session and sequence or by key, the oldest first."""
        self._kept_bytes = 0
        self.time = 0
        """The latest time that a leader put into an entry, in ms since the epoch: it never goes back."""
        self.members: dict[int, Member] = {}
        self.members_changed = False
        """Whether `members` has changed; whoever looks clears it."""

    def apply(self, index: int, data: bytes) -> Opened | Applied | None:
        """Apply the entry at `index`. `None` for one that no server made: it changes nothing, anywhere.

        Whatever but `CommandError` the machine raises comes out: replicas could differ, the node must stop.
        """
        try:
            entry = envelope.decode(data)
        except WireError:
            return None
        if entry.time > self.time:
            self.time = entry.time
            self._machine.advance(entry.time)
        if isinstance(entry, envelope.Open):
            return Opened(self._open(index, entry.nonce), entry.nonce)
        if isinstance(entry, envelope.Clock):
            return None
        session = self._sessions.get(entry.session)
        if session is None:
            return Applied(entry.session, entry.sequence, None)
        self._sessions[entry.session] = self._sessions.pop(entry.session)
        if entry.floor > session.floor:
            session.floor = entry.floor
            for sequence in [sequence for sequence in session.results if sequence < entry.floor]:
                del session.results[sequence]
                self._release((entry.session, sequence))
        if entry.sequence < session.floor:
            return None
        results = session.results.get(entry.sequence)
        if results is None:
            results = [self._request(index, command) for command in entry.commands]
            session.results[entry.sequence] = results
            self._keep((entry.session, entry.sequence), results)
        return Applied(entry.session, entry.sequence, results)

    def capture(self) -> State:
        """The state as it is now. Lists of results never change, so that they are shared with it."""
        return State(
            [(number, s.nonce, s.floor, dict(s.results)) for number, s in self._sessions.items()],
            list(self._keys.items()),
            list(self._kept),
            self._horizon,
            self.time,
            dict(self.members),
        )

    def restore(self, state: State) -> None:
        """Replace everything by what `capture` returned, here or on another node."""
        self._sessions = {
            number: Session(nonce, floor, dict(results)) for number, nonce, floor, results in state.sessions
        }
        self._nonces = {session.nonce: number for number, session in self._sessions.items()}
        self._keys = OrderedDict(state.keys)
        self._kept = OrderedDict()
        self._kept_bytes = 0
        for place in state.kept:
            results = [self._keys[place][1]] if isinstance(place, bytes) else self._results(place)
            cost = sum([_size(result) for result in results])
            self._kept[place] = cost
            self._kept_bytes += cost
        self._horizon = state.horizon
        self.time = state.time
        self.members = dict(state.members)
        self.members_changed = True

    def opened(self, nonce: bytes) -> int:
        """The session that was opened with `nonce`, 0 if none is open."""
        return self._nonces.get(nonce, 0)

    def results(self, session: int) -> dict[int, list[Result]] | None:
        """What is kept of a session, by sequence number; `None` for one that is not open."""
        found = self._sessions.get(session)
        return None if found is None else found.results

    def _results(self, place: tuple[int, int]) -> list[Result]:
        return self._sessions[place[0]].results[place[1]]

    def _open(self, index: int, nonce: bytes) -> int:
        """The session of `nonce`: an entry that comes a second time opens no other."""
        known = self._nonces.get(nonce)
        if known is not None:
            return known
        self._sessions[index] = Session(nonce)
        self._nonces[nonce] = index
        if len(self._sessions) > MAX_SESSIONS:
            oldest = next(iter(self._sessions))
            evicted = self._sessions.pop(oldest)
            self._nonces.pop(evicted.nonce, None)
            for sequence in evicted.results:
                self._release((oldest, sequence))
        return index

    def _request(self, index: int, command: envelope.Command) -> Result:
        if command.data is None:
            if command.member is not None:
                self._set_member(command.member[0], command.member[1])
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

    def _set_member(self, node: int, member: Member) -> None:
        if member.address:
            self.members[node] = member
        else:
            self.members.pop(node, None)
        self.members_changed = True

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
        if len(self._keys) > MAX_KEYS:
            oldest, (self._horizon, _) = self._keys.popitem(last=False)
            self._release(oldest)
        self._keep(key, [result])

    def _keep(self, place: Place, results: list[Result]) -> None:
        """Count what keeping `results` costs; forget the oldest ones where that is too much."""
        cost = sum([_size(result) for result in results])
        self._kept[place] = cost
        self._kept_bytes += cost
        while self._kept_bytes > MAX_RESULT_BYTES:
            oldest = next(iter(self._kept))
            self._release(oldest)
            self._forget(oldest)

    def _release(self, place: Place) -> None:
        self._kept_bytes -= self._kept.pop(place, 0)

    def _forget(self, place: Place) -> None:
        forgotten: Result = SessionExpiredError()
        if isinstance(place, bytes):
            self._keys[place] = (self._keys[place][0], forgotten)
        else:
            results = self._sessions[place[0]].results
            results[place[1]] = [forgotten] * len(results[place[1]])


def _size(result: Result) -> int:
    return RESULT_OVERHEAD + len(result if isinstance(result, bytes) else str(result))
