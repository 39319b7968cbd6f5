"""Sessions and keys: every request is applied once, alike on every node, and answered by its own result."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

AREA = "sessions"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="resent-entry-applied-twice",
        area=AREA,
        file="server/sessions.py",
        old="        results = session.results.get(entry.sequence)\n",
        new="        results = None\n",
        bug="Nobody looks whether an entry was applied before. One that a node has sent again after it lost "
        "the leader stands in the log twice, and its requests take effect twice.",
        source="https://github.com/CurvineIO/curvine/issues/676; paper, section 8; thesis, section 6.3",
    ),
    Mutant(
        name="answered-duplicate-applied-again",
        area=AREA,
        file="server/sessions.py",
        old="""\
        if entry.sequence < session.floor:
            return None
""",
        new="",
        bug="Results are dropped once they are answered, and with them the knowledge that their entry was "
        "applied. A copy of it further down the log is applied again.",
        source="thesis, section 6.3 (results may be discarded only if their requests are never taken again)",
    ),
    Mutant(
        name="answered-by-another-session",
        area=AREA,
        file="server/requests.py",
        old="""\
        if outcome.session != self._session:
            return
        if outcome.results is None:
""",
        new="""\
        if outcome.results is None:
""",
        bug="A node takes any applied entry with the right sequence number for its own. Its callers get the "
        "results of another node's requests, and are told that theirs were applied which were not.",
        source="thesis, section 6.3 (serial numbers are unique for one client only)",
    ),
    Mutant(
        name="duplicate-answered-with-nothing",
        area=AREA,
        file="server/sessions.py",
        old="            return known[1]\n",
        new='            return b""\n',
        bug="A retry by its key is not applied again, and is answered with nothing instead of with the "
        "result of the first: the caller gets an answer that its command cannot have.",
        source="thesis, section 6.3 (responds with the same result); "
        "https://github.com/adjoint-io/raft/pull/70",
    ),
    Mutant(
        name="evicted-key-applied-again",
        area=AREA,
        file="server/sessions.py",
        old="            oldest, (self._horizon, _) = self._keys.popitem(last=False)\n",
        new="            oldest, _ = self._keys.popitem(last=False)\n",
        bug="That a key was evicted is not remembered. Its late retry looks like a new request, and is "
        "applied a second time.",
        source="thesis, section 6.3 (an expired session must not be taken for a new one); "
        "https://github.com/rabbitmq/ra/issues/145",
    ),
    Mutant(
        name="horizon-not-restored",
        area=AREA,
        file="server/sessions.py",
        old="        self._horizon = state.horizon\n",
        new="",
        bug="A replica that was restored does not know up to where keys were evicted. A retry that the "
        "others refuse is applied there: replicas differ.",
        source="thesis, section 6.3 (servers must agree on what is expired); "
        "https://github.com/cubefs/cubefs/pull/2283",
    ),
    Mutant(
        name="sessions-not-restored",
        area=AREA,
        file="server/snapshots.py",
        old="""\
    machine.restore(stream)
    sessions.restore(state)
""",
        new="""\
    machine.restore(stream)
""",
        bug="A snapshot brings back the state machine and not the sessions. Entries of sessions that a "
        "replica does not know are not applied there, and duplicates that it has forgotten are: replicas "
        "differ.",
        source="thesis, section 5.1 (a snapshot includes what detects duplicates); "
        "https://github.com/CurvineIO/curvine/pull/679",
    ),
    Mutant(
        name="order-of-sessions-not-saved",
        area=AREA,
        file="server/snapshots.py",
        old="    for session, nonce, floor, results in state.sessions:\n",
        new="    for session, nonce, floor, results in sorted(state.sessions, key=lambda each: each[0]):\n",
        bug="A snapshot lists the sessions by their number, not in the order in which they are evicted. A "
        "replica that was restored evicts another one than the rest, and applies or drops other entries.",
        source="thesis, section 6.3 (servers must agree on which session to expire)",
    ),
    Mutant(
        name="replica-clock-decides-expiry",
        area=AREA,
        file="server/driver.py",
        old="                outcome = self._sessions.apply(action.index, action.command)\n",
        new="                command = envelope.stamp(action.command, self._time())\n"
        "                outcome = self._sessions.apply(action.index, command)\n",
        bug="Every replica goes by its own clock as it applies, not by the one in the entry. Keys expire at "
        "different places in the log, and again elsewhere when it is applied anew: replicas differ.",
        source="https://github.com/databendlabs/databend/pull/7325; "
        "https://github.com/etcd-io/etcd/issues/7320",
    ),
    Mutant(
        name="time-goes-back",
        area=AREA,
        file="server/sessions.py",
        old="        if entry.time > self.time:\n",
        new="        if entry.time:\n",
        bug="The time goes back when a leader with a slower clock takes over. What keys have left to live "
        "grows by itself, and the state machine is told a time before one that it was told.",
        source="https://github.com/logcabin/logcabin/issues/90; thesis, section 6.3 (time in the log)",
        more=(
            (
                "kv/keyspace.py",
                """\
        if now > self.now:
            self.now = now
""",
                """\
        self.now = now
""",
            ),
        ),
    ),
    Mutant(
        name="retry-forgets-the-first-try",
        area=AREA,
        file="server/requests.py",
        old="                request.since = self._open_keys.get(request.key, applied)\n",
        new="                request.since = applied\n",
        bug="A retry says of itself that it was first tried now. If the key was evicted since the first try, "
        "nothing tells that it may have been applied, and it is applied a second time.",
        source="thesis, section 6.3 (a retry must be recognisable as one); "
        "https://github.com/etcd-io/etcd/issues/18424",
    ),
    Mutant(
        name="lost-session-sent-anew",
        area=AREA,
        file="server/requests.py",
        old="""\
            self._forget_sent()
            self._start_over()
""",
        new="""\
            self._start_over()
""",
        bug="A node that was restored from a snapshot in which its session is evicted sends what it had sent "
        "once more in a new one, although it may have been applied before: it takes effect twice.",
        source="thesis, section 6.3 (what to do when a session expired under an active client)",
    ),
    Mutant(
        name="unknown-outcome-called-a-failure",
        area=AREA,
        file="server/requests.py",
        old="    if outbound.attempts == 0:\n",
        new="    if outbound.attempts <= 1:\n",
        bug="A request that was sent and not answered in time is reported as certainly not applied, and "
        "takes effect later: a read sees a write that has failed.",
        source="https://jepsen.io/analyses/redis-raft-1b3fbf6 (aborted reads)",
    ),
)
