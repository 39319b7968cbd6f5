"""`pytest tests/scenarios --rewrite-scenarios` writes the transcripts anew: read the diff, then commit."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-scenarios", action="store_true", help="write the golden transcripts anew")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    # Unknown when this file was not among those that pytest was started on.
    return bool(request.config.getoption("--rewrite-scenarios", default=False))
