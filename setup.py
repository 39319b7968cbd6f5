"""Builds the hot path with mypyc if there is a C compiler; plain Python otherwise, or with RAFT_IO_PURE=1."""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from setuptools import setup

SOURCE = Path("src/raft_io")
COMPILED = [
    # All but the random numbers: a signal handler that raises, as that of Ctrl-C does, aborts a compiled
    # program in the middle of a long multiplication.
    *[path for path in sorted(SOURCE.glob("core/[a-z]*.py")) if path.name != "rng.py"],
    SOURCE / "wire.py",
    *[
        SOURCE / "storage" / f"{name}.py"
        for name in ("batches", "disk", "index", "memfs", "names", "records", "scan", "segments", "wal")
    ],
    *[
        SOURCE / "server" / f"{name}.py"
        for name in (
            *("driver", "envelope", "frames", "membership"),
            *("reads", "requests", "sessions", "snapshots"),
        )
    ],
    *[
        SOURCE / "kv" / f"{name}.py"
        for name in (
            *("batch", "commands", "expiry", "first", "glob", "keys", "keyspace", "plan", "records"),
            *("removals", "resp", "saved", "server", "slots", "strings", "timers"),
        )
    ],
    *[
        SOURCE / "testing" / f"{name}.py"
        for name in (
            *("clients", "disk", "history", "key_value", "machine", "network"),
            *("process", "quorums", "timeline", "watched", "watcher", "wing_gong", "world"),
        )
    ],
    *[
        SOURCE / "testing" / "checks" / f"{name}.py"
        for name in (
            *("base", "bounds", "commitment", "durability", "leaders", "leases"),
            *("linearizable", "matching", "membership", "monotone", "reads", "reference", "replicas"),
        )
    ],
]


def can_compile() -> bool:
    """Whether a C extension can be built here."""
    from distutils.ccompiler import new_compiler
    from distutils.sysconfig import customize_compiler

    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text("#include <Python.h>\nint main(void) { return 0; }\n")
        compiler = new_compiler()
        customize_compiler(compiler)
        try:
            compiler.compile([str(probe)], output_dir=folder, include_dirs=[sysconfig.get_path("include")])
        except Exception as error:
            print(f"raft-io: no working C compiler ({error}); building plain Python", file=sys.stderr)
            return False
    return True


def extensions() -> list[Any]:
    """The compiled modules, all in one group, so that they call each other directly."""
    if os.environ.get("RAFT_IO_PURE", "") not in ("", "0") or not can_compile():
        return []
    from mypyc.build import mypycify

    built: list[Any] = mypycify(
        ["--config-file", os.devnull, "--strict", *[str(path) for path in COMPILED]],
        opt_level="3",
        group_name="raft_io",
    )
    return built


setup(ext_modules=extensions())
