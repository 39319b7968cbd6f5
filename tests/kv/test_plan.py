"""What a client sends, split into runs; and the queue of its transaction. Replies are those of Redis 7.0."""

from __future__ import annotations

import pytest

from raft_io.kv.commands import WRITE, Kind
from raft_io.kv.plan import ANSWERED, EXEC, LOCAL, READ, WATCH, Plan, Run, Step

NESTED = b"-ERR MULTI calls can not be nested\r\n"
INSIDE = b"-ERR WATCH inside MULTI is not allowed\r\n"
ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
WRONG_EXEC = b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"
NO_EXEC = b"-ERR EXEC without MULTI\r\n"
NO_DISCARD = b"-ERR DISCARD without MULTI\r\n"
QUEUED = b"+QUEUED\r\n"
OK = b"+OK\r\n"

Shown = tuple[int, list[bytes], list[bytes]]


def shown(runs: list[Run]) -> list[Shown]:
    """Each run: how it is carried out, its commands as lines, and its replies."""
    return [(run.step, [b" ".join(args) for args in run.commands], run.replies) for run in runs]


def planned(*lines: str, plan: Plan | None = None) -> list[Shown]:
    return shown((plan or Plan(1000)).take([line.encode().split() for line in lines]))


def test_reads_and_writes_next_to_each_other_are_one_run() -> None:
    assert planned("GET a", "GET b") == [(READ, [b"GET a", b"GET b"], [])]
    assert planned("GET a", "INCR b", "GET c", "SET d 1") == [
        (WRITE, [b"GET a", b"INCR b", b"GET c", b"SET d 1"], [])
    ]
    assert planned() == []


def test_local_commands_stand_between_runs() -> None:
    assert planned("PING", "FOO", "GET a", "HELLO 3", "GET a", "SET a 1", "SET a") == [
        (LOCAL, [b"PING", b"FOO"], []),
        (READ, [b"GET a"], []),
        (LOCAL, [b"HELLO 3"], []),
        (WRITE, [b"GET a", b"SET a 1"], []),
        (LOCAL, [b"SET a"], []),
    ]


@pytest.mark.parametrize(
    ("lines", "runs"),
    [
        (["EXEC"], [(ANSWERED, [], [NO_EXEC])]),
        (["DISCARD"], [(ANSWERED, [], [NO_DISCARD])]),
        (["MULTI x", "EXEC"], [(LOCAL, [b"MULTI x"], []), (ANSWERED, [], [NO_EXEC])]),
        (["EXEC x", "WATCH", "UNWATCH"], [(LOCAL, [b"EXEC x", b"WATCH", b"UNWATCH"], [])]),
        (
            ["MULTI", "EXEC x", "EXEC"],
            [(ANSWERED, [], [OK]), (EXEC, [], [WRONG_EXEC]), (ANSWERED, [], [NO_EXEC])],
        ),
        (["MULTI", "MULTI", "EXEC"], [(ANSWERED, [], [OK, NESTED]), (EXEC, [], [])]),
        (["MULTI", "WATCH a", "EXEC"], [(ANSWERED, [], [OK, INSIDE]), (EXEC, [], [])]),
        (
            ["MULTI", "multi x", "exec"],
            [
                (ANSWERED, [], [OK, b"-ERR wrong number of arguments for 'multi' command\r\n"]),
                (EXEC, [], [ABORTED]),
            ],
        ),
        (
            ["MULTI", "SET a 1", "FOO x", "SET b 1", "EXEC"],
            [
                (
                    ANSWERED,
                    [],
                    [OK, QUEUED, b"-ERR unknown command 'FOO', with args beginning with: 'x' \r\n", QUEUED],
                ),
                (EXEC, [], [ABORTED]),
            ],
        ),
        (
            ["MULTI", "GET", "EXEC", "EXEC"],
            [
                (ANSWERED, [], [OK, b"-ERR wrong number of arguments for 'get' command\r\n"]),
                (EXEC, [], [ABORTED]),
                (ANSWERED, [], [NO_EXEC]),
            ],
        ),
        (
            ["MULTI", "DISCARD x", "EXEC"],
            [
                (ANSWERED, [], [OK, b"-ERR wrong number of arguments for 'discard' command\r\n"]),
                (EXEC, [], [ABORTED]),
            ],
        ),
    ],
)
def test_what_is_refused(lines: list[str], runs: list[Shown]) -> None:
    assert planned(*lines) == runs


def test_a_refused_command_does_not_spoil_the_next_transaction() -> None:
    plan = Plan(1000)
    planned("MULTI", "FOO", "EXEC", plan=plan)
    assert planned("MULTI", "SET a 1", "EXEC", plan=plan)[-1] == (EXEC, [b"SET a 1"], [])


def test_a_transaction_is_one_run_whatever_it_holds_and_however_it_arrives() -> None:
    lines = ["SET a 1", "MULTI", "SET a 2", "PING", "GET a", "SET a 1 EX", "UNWATCH", "EXEC", "GET a"]
    whole = planned(*lines)
    assert whole == [
        (WRITE, [b"SET a 1"], []),
        (ANSWERED, [], [OK] + [QUEUED] * 5),
        (EXEC, [b"SET a 2", b"PING", b"GET a", b"SET a 1 EX", b"UNWATCH"], []),
        (READ, [b"GET a"], []),
    ]
    plan = Plan(1000)
    pieces = [run for line in lines for run in planned(line, plan=plan)]
    assert [run for run in pieces if run[0] != ANSWERED] == [run for run in whole if run[0] != ANSWERED]


def test_transactions_follow_each_other() -> None:
    assert planned("MULTI", "SET a 1", "EXEC", "MULTI", "EXEC", "multi", "INCR a", "exec") == [
        (ANSWERED, [], [OK, QUEUED]),
        (EXEC, [b"SET a 1"], []),
        (ANSWERED, [], [OK]),
        (EXEC, [], []),
        (ANSWERED, [], [OK, QUEUED]),
        (EXEC, [b"INCR a"], []),
    ]


@pytest.mark.parametrize("name", ["DISCARD", "RESET", "QUIT"])
def test_what_ends_a_transaction_is_done_at_once(name: str) -> None:
    assert planned("MULTI", "SET a 1", name, "SET b 1", "EXEC") == [
        (ANSWERED, [], [OK, QUEUED]),
        (LOCAL, [name.encode()], []),
        (WRITE, [b"SET b 1"], []),
        (ANSWERED, [], [NO_EXEC]),
    ]


def test_watching_is_a_run_of_its_own() -> None:
    assert planned("GET a", "WATCH a b", "watch c", "GET a", "UNWATCH") == [
        (READ, [b"GET a"], []),
        (WATCH, [b"WATCH a b"], []),
        (WATCH, [b"watch c"], []),
        (READ, [b"GET a"], []),
        (LOCAL, [b"UNWATCH"], []),
    ]


def test_a_transaction_that_grows_too_long_is_refused_and_takes_no_more_memory() -> None:
    plan = Plan(100)
    size = 4 + 3 * 4 + 3 + 1 + 30
    lines = [f"SET a {'v' * 30}"] * 3
    assert size * 2 <= 100 < size * 3
    assert planned("MULTI", *lines, "INCR b", "EXEC", plan=plan) == [
        (ANSWERED, [], [OK, QUEUED, QUEUED] + [b"-ERR a transaction is longer than 100 bytes\r\n"] * 2),
        (EXEC, [], [ABORTED]),
    ]
    planned("MULTI", *lines * 1000, plan=plan)
    assert plan._queue == []
    assert planned("DISCARD", "MULTI", *lines[:2], "EXEC", plan=plan)[-1][:2] == (
        EXEC,
        [line.encode() for line in lines[:2]],
    )


def test_the_steps_begin_with_the_kinds() -> None:
    assert [int(step) for step in (Step.LOCAL, Step.READ, Step.WRITE)] == [
        int(kind) for kind in list(Kind)[:3]
    ]
