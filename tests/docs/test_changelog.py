"""Changelog fragments have a name that says where they belong, and something to say."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT


def test_fragments_are_well_named_and_not_empty() -> None:
    fragments = list((ROOT / "changelog.d").iterdir())
    for fragment in fragments:
        assert re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed)\.md", fragment.name)
        assert fragment.read_text().strip().endswith(".")


def test_the_licence_is_the_one_that_the_package_names() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Copyright 2026 the raft-io authors" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
