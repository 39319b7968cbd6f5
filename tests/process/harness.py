"""`raft-io dev` as a process: the cluster that most tests of real processes hurt."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.process.nodes import COMMAND, PATIENCE, Nodes, free_base, is_running, wait_for


class Dev(Nodes):
    """`raft-io dev` as a process, and whatever was started by hand beside it."""

    nodes: range

    def __init__(self, folder: Path, *, nodes: int = 3, base: int | None = None) -> None:
        super().__init__(folder, free_base() if base is None else base)
        self.nodes = range(1, nodes + 1)
        self.output = folder.parent / f"{folder.name}.out"
        self._by_hand: list[subprocess.Popen[bytes]] = []
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = [f"--nodes={len(self.nodes)}", f"--data-dir={self.folder}", f"--base-port={self.base}"]
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [*COMMAND, "dev", *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self, text: str) -> bool:
        """Whether `dev` has printed it."""
        return text in self.output.read_text()

    def wait_ready(self) -> None:
        """Wait until `dev` says that the cluster is."""

        def ready() -> bool:
            assert self.process.poll() is None, self.output.read_text()
            return self.said("ready: ")

        wait_for("the cluster is ready", ready)

    def pid(self, node: int) -> int:
        """Its process id, from its file."""
        return int((self.folder / f"node-{node}" / "pid").read_text())

    def signal(self, node: int, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid(node), number)

    def kill(self, *nodes: int) -> None:
        """kill -9, all at once."""
        pids = [self.pid(node) for node in nodes]
        for pid in pids:
            # One that was killed a moment ago may not be back yet: its file has the old number.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._by_hand:
            if process.pid in pids:
                process.wait()
        wait_for("they are gone", lambda: not any(is_running(pid) for pid in pids))

    def start_by_hand(self, *nodes: int) -> None:
        """`raft-io serve` on the node's file."""
        for node in nodes:
            folder = self.folder / f"node-{node}"
            with (folder / "node.log").open("ab") as log:
                self._by_hand.append(
                    subprocess.Popen(
                        [*COMMAND, "serve", "--config", str(folder / "raft.toml")],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
                )

    def pids(self) -> list[int]:
        """Of all nodes that have a file."""
        return [int(path.read_text()) for path in sorted(self.folder.glob("node-*/pid"))]

    def terminate(self) -> int:
        """SIGTERM to dev; returns the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """SIGTERM to all of it; returns dev's exit status."""
        status = self.terminate()
        for process in self._by_hand:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)
        return status

    def clear(self) -> None:
        """Leave nothing behind, whatever happened."""
        with suppress(OSError, ValueError):
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        for process in [self.process, *self._by_hand]:
            if process.poll() is None:
                process.terminate()
        for process in [self.process, *self._by_hand]:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(folder: Path, *, nodes: int = 3, base: int | None = None) -> Iterator[Dev]:
    """A cluster that is ready, and is cleared away."""
    dev = Dev(folder, nodes=nodes, base=base)
    try:
        dev.wait_ready()
        yield dev
    finally:
        dev.clear()
