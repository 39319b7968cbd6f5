"""Runs that failed once, kept for ever. `raft-io sim --failures tests/testing/found.jsonl` adds to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft_io.testing import Plan, run

FOUND = [line for line in (Path(__file__).parent / "found.jsonl").read_text().splitlines() if line]


@pytest.mark.core
@pytest.mark.parametrize("line", FOUND, ids=lambda line: f"seed-{Plan.from_json(line).seed}")
def test_what_failed_once_does_not_fail_again(line: str) -> None:
    assert run(Plan.from_json(line)).failure is None
