"""How many clients there may be where the process may open few files."""

from __future__ import annotations

import resource

import pytest

from raft_io.cli import limits


@pytest.mark.parametrize(
    ("soft", "clients"),
    [(18, 5), (256, 64), (1024, 832), (65_536, 10_000), (resource.RLIM_INFINITY, 10_000)],
)
def test_clients_leave_files_to_the_node(soft: int, clients: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert limits.max_clients(10_000) == clients
