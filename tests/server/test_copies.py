"""What users get, and what entries hold, can be copied and pickled, compiled as well."""

from __future__ import annotations

import copy
import pickle

import pytest

from raft_io.server.envelope import Clock, Command, Member, Open, Requests
from raft_io.server.membership import MemberInfo
from raft_io.server.sessions import Applied, Opened
from raft_io.testing.linearizability import Operation

VALUES = [
    MemberInfo("host:7000", "voter", 3),
    Member("host:7000", 3),
    Command(None, None, 0, (1, Member("host:7000", 3))),
    Open(bytes(16), 5),
    Requests(1, 2, 3, [Command(b"data", b"key", 4)], 5),
    Clock(5),
    Opened(1, bytes(16)),
    Applied(1, 2, [b"result"]),
    Operation(1, b"key", "get", (), b"value", 0.5, 1.5),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_copy_is_equal(value: object) -> None:
    for made in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301
        assert made == value
        assert type(made) is type(value)
        assert repr(made) == repr(value)
