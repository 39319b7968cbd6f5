"""A whole cluster on this machine: its directories and files, and one process a node."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from raft_io.cli import config
from raft_io.cli.client import get_status
from raft_io.cli.errors import CommandFailedError, UsageError, removal
from raft_io.errors import StorageError
from raft_io.server.address import LOOPBACK, Address
from raft_io.storage import OsFileSystem, PeerFile

__all__ = ["MAX_NODES", "Cluster", "Member", "Observed", "exclusive", "plan", "prepare"]

MAX_NODES: Final = 9
PEER_OFFSET: Final = 100
HTTP_OFFSET: Final = 200
CLUSTER_ID: Final = "dev"
STOP_TIMEOUT: Final = 15.0
"""Seconds that a node gets for a clean stop."""


@dataclass(frozen=True)
class Member:
    """A node of the cluster: who and where it is. Its directory holds `raft.toml`, `pid` and `node.log`."""

    id: int
    folder: Path
    resp: Address
    peer: Address
    http: Address

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.folder / "raft.toml"

    @property
    def log(self) -> Path:
        """What it wrote to its standard error."""
        return self.folder / "node.log"


def plan(directory: Path, nodes: int, base_port: int) -> list[Member]:
    """The members: node i has RESP on base+i, peers on base+100+i, HTTP on base+200+i."""
    if base_port < 1 or base_port + HTTP_OFFSET + nodes > 65535:
        raise UsageError(f"--base-port must be in 1 .. {65535 - HTTP_OFFSET - nodes}, not {base_port}")
    return [
        Member(
            id=node,
            folder=directory / f"node-{node}",
            resp=Address(LOOPBACK, base_port + node),
            peer=Address(LOOPBACK, base_port + PEER_OFFSET + node),
            http=Address(LOOPBACK, base_port + HTTP_OFFSET + node),
        )
        for node in range(1, nodes + 1)
    ]


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Holds `directory`, made if it is missing, for one cluster at a time."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = open(directory / ".lock", "a")  # noqa: SIM115 - held open for as long as the lock
    except OSError as error:
        raise CommandFailedError(f"{directory}: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandFailedError(f"{directory} is in use by another raft-io dev") from error
        yield


def prepare(directory: Path, members: Sequence[Member]) -> None:
    """Write each node's `raft.toml`. One that is there keeps its settings; only the addresses follow.

    Raises `CommandFailedError` when the directory holds another cluster, or a port is taken; then nothing
    was written.
    """
    found = _find(directory, members)
    _check_known(members, directory)
    # A cluster of its own: another one on this machine must not take its nodes for members.
    cluster_id = f"{CLUSTER_ID}-{secrets.token_hex(4)}"
    for member in members:
        for address in (member.resp, member.peer, member.http):
            _check_free(address)
    peers = {member.id: str(member.peer) for member in members}
    for member in members:
        values: config.Values = dict(found.get(member.id, {"id": member.id, "cluster_id": cluster_id}))
        values.update(
            listen=str(member.peer),
            resp=str(member.resp),
            http=str(member.http),
            peers=peers,
            data_dir=".",
            pid_file="pid",
        )
        if found.get(member.id) != values:
            try:
                _write(member.config, config.render(values))
            except OSError as error:
                raise CommandFailedError(f"{member.config}: {error.strerror}") from error


def _find(directory: Path, members: Sequence[Member]) -> dict[int, config.Values]:
    """The settings that are there already. The nodes of a cluster are settled when it is made."""
    ids = {member.id for member in members}
    anew = f"or remove {directory} to begin anew"
    found: dict[int, config.Values] = {}
    for path in sorted(directory.glob("node-*/raft.toml")):
        values = config.read_file(path)
        voters = set(values.get("peers", {}))
        if voters != ids:
            raise CommandFailedError(
                f"{path} belongs to a cluster of {len(voters)} nodes; use --nodes {len(voters)}, {anew}"
            )
        if values.get("id") not in ids or path.parent.name != f"node-{values['id']}":
            raise CommandFailedError(f"{path} is not the file of its directory's node; put that back, {anew}")
        found[values["id"]] = _as_written(path, values)
    missing = sorted(ids - set(found)) if found else []
    if missing:
        lost = directory / f"node-{missing[0]}"
        raise CommandFailedError(f"{lost} of a cluster of {len(ids)} is missing; put it back, {anew}")
    return found


def _check_known(members: Sequence[Member], directory: Path) -> None:
    """Raise `CommandFailedError` where the nodes know each other at other addresses: once a member was added
    or changed its address, addresses are in the log, and the settings do not count any more."""
    peers = {member.id: str(member.peer) for member in members}
    for member in members:
        try:
            known = PeerFile(OsFileSystem(), member.folder).peers.members
        except FileNotFoundError:
            continue
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                continue
            raise CommandFailedError(str(error)) from error
        for node, (address, _) in sorted(known.items()):
            if node in peers and address != peers[node]:
                raise CommandFailedError(
                    f"by the log of node {member.id}, node {node} is at {address}, not at {peers[node]}: use "
                    f"the --base-port that {directory} was made with, or remove it to begin anew"
                )


def _as_written(path: Path, values: config.Values) -> config.Values:
    """With paths as they stand in the file."""
    return {
        name: os.path.relpath(value, path.parent) if name in config.PATHS else value
        for name, value in values.items()
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _check_free(address: Address) -> None:
    with socket.socket() as probe:
        # As the node will do it: a port whose last connections are only fading is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
            probe.listen()
        except OSError as error:
            raise CommandFailedError(
                f"port {address.port} on {address.host}: {error.strerror}; choose others with --base-port"
            ) from error


@dataclass
class Observed:
    """What is known of a node: `status` is what it says of itself, `None` while it does not answer; `exit` is
    how its process ended, `None` while it has not."""

    member: Member
    status: dict[str, Any] | None = None
    exit: int | None = None
    heard: bool = False

    @property
    def role(self) -> str:
        """Its role, or `starting` before it ever answered, or `down`."""
        if self.status is not None:
            return str(self.status.get("role"))
        return "down" if self.heard or self.exit is not None else "starting"

    def answered(self, status: dict[str, Any] | None) -> None:
        """Take in what was heard, `None` if nothing was."""
        self.status = status
        self.heard = self.heard or status is not None

    def ending(self) -> str:
        """How its process ended, in words."""
        if self.exit is None:
            return "running"
        if self.exit < 0:
            return f"killed by {signal.Signals(-self.exit).name}"
        reason = self._reason()
        return f"exited with status {self.exit}" + (f": {reason}" if reason else "")

    @property
    def removed(self) -> bool:
        """Whether it ended because it is no member any more."""
        return self._reason() == removal(self.member.id)

    def _reason(self) -> str:
        return _last_line(self.member.log) if self.exit and self.exit > 0 else ""


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "").removeprefix("raft-io: ")
    return ""


class Cluster:
    """The processes of a cluster. They also stop by themselves when the process that started them is gone."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.nodes = [Observed(member) for member in members]
        self._processes: dict[int, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        """Start a process a node."""
        for node in self.nodes:
            try:
                log = node.member.log.open("ab")
            except OSError as error:
                raise CommandFailedError(f"{node.member.log}: {error.strerror}") from error
            with log:
                self._processes[node.member.id] = await _start(node.member, log)

    async def kill(self, node: Observed) -> None:
        """kill -9."""
        process = self._processes[node.member.id]
        process.kill()
        await process.wait()

    async def start_again(self, node: Observed) -> None:
        """Start a node that has ended."""
        with node.member.log.open("ab") as log:
            self._processes[node.member.id] = await _start(node.member, log)

    async def observe(self) -> None:
        """Ask every node, and look after every process."""
        states = await asyncio.gather(*[get_status(node.member.http) for node in self.nodes])
        for node, status in zip(self.nodes, states, strict=True):
            # Another program may sit on the port by now.
            node.answered(status if status is not None and status.get("id") == node.member.id else None)
            process = self._processes.get(node.member.id)
            node.exit = None if process is None else process.returncode

    @property
    def leader(self) -> Observed | None:
        """The node that leads, once a majority of the voters says so."""
        for node in self.nodes:
            if node.role == "leader" and node.status is not None:
                # The members may have been changed since the cluster was made.
                everyone = [each.member.id for each in self.nodes]
                voters = node.status.get("membership", {}).get("voters", everyone)
                agreeing = [
                    each
                    for each in self.nodes
                    if each.status is not None
                    and each.status["leader"] == node.member.id
                    and each.member.id in voters
                ]
                if len(agreeing) * 2 > len(voters):
                    return node
        return None

    async def wait_ready(self, timeout: float = 60.0) -> Observed:
        """The leader, once every node answers. Raises `CommandFailedError`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    await self.observe()
                    self._check_alive()
                    leader = self.leader
                    if leader is not None and all(node.status is not None for node in self.nodes):
                        return leader
                    await asyncio.sleep(0.1)
        raise CommandFailedError(f"the cluster was not ready after {timeout:.0f} seconds")

    def _check_alive(self) -> None:
        for node in self.nodes:
            if node.exit is not None:
                raise CommandFailedError(f"node {node.member.id}: {node.ending()}")

    async def stop(self) -> list[str]:
        """Stop every node, also one that was started again by hand. Returns what did not go as it should, a
        line each."""
        await self.observe()
        by_hand = [node for node in self.nodes if node.exit is not None and node.status is not None]
        for process in self._processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
        complaints = await asyncio.gather(
            *[_wait(node, process) for node, process in self._processes.items()]
        )
        complaints += await asyncio.gather(*[_stop_by_hand(node.member) for node in by_hand])
        return [complaint for complaint in complaints if complaint]


async def _start(member: Member, log: IO[bytes]) -> asyncio.subprocess.Process:
    # A session of its own: Ctrl-C is for this process alone. A pipe: the node ends once this one is gone.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "raft_io.cli",
        "serve",
        "--config",
        str(member.config),
        "--stop-on-eof",
        stdin=asyncio.subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


async def _stop_by_hand(member: Member) -> str:
    """Stop a node that answers though its own process is gone: somebody started it again."""
    try:
        pid = int((member.folder / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(STOP_TIMEOUT):
            while await get_status(member.http) is not None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
    except ProcessLookupError:
        return ""
    except (OSError, ValueError, TimeoutError) as error:
        return f"node {member.id}: started by hand, and not stopped: {str(error) or 'it still answers'}"
    return ""


async def _wait(node: int, process: asyncio.subprocess.Process) -> str:
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return f"node {node}: did not stop in {STOP_TIMEOUT:.0f} seconds and was killed"
    return ""
