"""Fuzzes the codec with atheris, for as long as it is let.

    pip install 'raft-io[fuzz]'
    python fuzz/wire.py -max_total_time=60

Every input is decoded as a message and as a run of entries. What decodes must encode to the same bytes, and
nothing but `WireError` may be raised.
"""

from __future__ import annotations

import contextlib
import sys

from raft_io import WireError, wire


def check(data: bytes) -> None:
    """Raise `AssertionError`, or whatever the codec should not raise, if it misbehaves on `data`."""
    with contextlib.suppress(WireError):
        message = wire.decode(data)
        assert wire.encode(message) == data
    with contextlib.suppress(WireError):
        entries = wire.decode_entries(data)
        assert wire.encode_entries(entries) == data


def main() -> None:
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
