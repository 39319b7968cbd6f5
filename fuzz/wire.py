"""Fuzzes the codec with atheris, for as long as it is let.

    pip install 'raft-io[fuzz]'
    python fuzz/wire.py -max_total_time=60

Every input is decoded as a message, as a run of entries and as a membership. What decodes must encode to the
same bytes, and nothing but `WireError` (of a membership: `ValueError`) may be raised.
"""

from __future__ import annotations

import contextlib
import sys

from raft_io import WireError, decode_membership, encode_membership, wire


def check(data: bytes) -> None:
    """Raise `AssertionError`, or whatever the codec should not raise, if it misbehaves on `data`."""
    with contextlib.suppress(WireError):
        message = wire.decode(data)
        assert wire.encode(message) == data
    with contextlib.suppress(WireError):
        entries = wire.decode_entries(data)
        assert wire.encode_entries(entries) == data
    with contextlib.suppress(ValueError):
        membership = decode_membership(data)
        assert encode_membership(membership) == data


def main() -> None:
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
