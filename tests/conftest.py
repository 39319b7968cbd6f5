"""For the whole suite: hypothesis without deadlines, and the switch that rewrites the golden transcripts."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A slow machine is no failure.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios", action="store_true", help="write the transcripts in tests/scenarios anew"
    )
