"""`pytest --rewrite-scenarios` writes the transcripts anew: read the diff, then commit."""

from __future__ import annotations

import pytest


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rewrite-scenarios"))
