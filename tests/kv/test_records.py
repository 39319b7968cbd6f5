"""What is kept of a key."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raft_io.kv
from raft_io.kv import records, resp

LENGTH = st.sampled_from([0, 1, 9, 10, 99, 100, 999, 1000, 1023, 1024, 70_000])
VALUE = st.one_of(st.binary(max_size=20), LENGTH.map(lambda length: b"\n" * length))
REVISION = st.integers(0, 2**62 - 1)
WHEN = st.integers(0, 2**63 - 1)


@given(VALUE, REVISION, WHEN)
def test_a_record_tells_what_it_was_made_of(value: bytes, revision: int, when: int) -> None:
    record = records.make(value, revision, when)
    assert records.value(record) == value
    assert records.size(record) == len(value)
    assert records.reply(record) == resp.bulk(value)
    assert records.revision(record) == revision
    assert records.when(record) == when
    assert records.expires(record) == (when != 0)


@given(VALUE, REVISION, WHEN, REVISION, WHEN)
def test_a_renewed_record_is_one_made_anew(value: bytes, a: int, before: int, b: int, after: int) -> None:
    assert records.renewed(records.make(value, a, before), b, after) == records.make(value, b, after)


def test_records_are_the_same_without_librt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librt.strings", None)
    source = Path(raft_io.kv.__path__[0]) / "records.py"
    spec = importlib.util.spec_from_file_location("plain_records", source)
    assert spec is not None and spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    for when in (0, 7):
        record = records.make(b"value", 5, when)
        assert plain.make(b"value", 5, when) == record
        assert (plain.value(record), plain.revision(record), plain.when(record)) == (b"value", 5, when)
        assert plain.renewed(record, 6, 8) == records.renewed(record, 6, 8)
