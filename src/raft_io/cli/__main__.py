"""`python -m raft_io.cli`: the same as `raft-io`."""

from __future__ import annotations

import sys

from raft_io.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
