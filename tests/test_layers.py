"""Who may import whom, read off the source; and that no two runs of the core differ."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.core

SOURCE = Path(__file__).parent.parent / "src" / "raft_io"

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "_plain": set(),
    "_version": set(),
    "core": {"errors"},
    "wire": {"core", "errors", "_plain"},
    "storage": {"core", "wire", "errors", "_plain"},
    "server": {"storage", "core", "wire", "errors", "_plain", ""},
    "testing": {"kv", "server", "storage", "core", "wire", "errors", "_plain", ""},
    "kv": {"server", "storage", "core", "wire", "errors", "_plain", ""},
    "cli": {"kv", "server", "storage", "core", "wire", "errors", "_plain", "_version", "testing", ""},
    "pytest_plugin": {"testing", "server"},
    "": {"storage", "core", "wire", "errors", "_version"},
}
"""What each part may import besides itself. `""` is the package with its public names, above the storage."""

OF_THE_CORE = {"__future__", "typing", "enum", "abc", "collections.abc", "mypy_extensions"}
OF_THE_CODEC = OF_THE_CORE | {"librt.strings"}

FILES = sorted(SOURCE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("raft_io", *(part for part in parts if part != "__init__")))


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


MODULES = {module_of(path) for path in FILES}
CORE = [path for path in FILES if part_of(module_of(path)) == "core"]


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else node.module)
    return found


def test_every_part_has_its_place_among_the_layers() -> None:
    assert {part_of(module_of(path)) for path in FILES} <= set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_downwards(path: Path) -> None:
    part = part_of(module_of(path))
    inside = {module for module in imports(path) if module.split(".")[0] == "raft_io"}
    assert {part_of(module) for module in inside} <= LAYERS[part] | {part}


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_the_core_imports_nothing_that_could_do_io(path: Path) -> None:
    outside = {module for module in imports(path) if module.split(".")[0] != "raft_io"}
    assert outside <= OF_THE_CORE


def test_the_codec_imports_nothing_that_could_do_io() -> None:
    outside = {module for module in imports(SOURCE / "wire.py") if module.split(".")[0] != "raft_io"}
    assert outside <= OF_THE_CODEC
    assert imports(SOURCE / "_plain.py") <= {"__future__", "struct"}


FORBIDDEN = {"open", "print", "input", "eval", "exec", "id", "hash", "vars", "globals", "__import__"}


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_the_core_calls_nothing_that_differs_from_run_to_run(path: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    allowed = {"hash"} if path.name == "types.py" else set()
    assert called & FORBIDDEN <= allowed


RUN = """
from raft_io import *
def attempt(id, node, event):
    try:
        node.feed(event)
    except (RaftError, ValueError) as error:
        print(id, repr(error))
def cluster(options, **how):
    ids = (11, 5, 7, 3, 2**40)
    nodes = {id: RaftNode(RaftConfig(id, ids, max_batch=3, max_inflight=2, **options), **how) for id in ids}
    waiting = []
    for turn in range(400):
        for place, (id, node) in enumerate(nodes.items()):
            node.feed(Tick())
            if node.is_leader and turn % 3 == 0:
                attempt(id, node, Propose(b"%d" % turn))
            if turn % 7 == place:
                attempt(id, node, ReadIndex(b"%d" % turn))
            if turn % 50 == 20:
                voters = ids[turn // 50 % 3 :]
                attempt(id, node, ChangeMembership(voters, [other for other in ids if other not in voters]))
            if turn % 110 == 100:
                attempt(id, node, TransferLeadership(ids[4 - turn // 110 % 3]))
            if turn % 97 == 96 and node.is_leader:
                continue
            for action in node.drain():
                print(id, repr(action))
                if isinstance(action, Send):
                    waiting.append((action.to, action.message))
                elif isinstance(action, Sync):
                    node.feed(Synced(action.ticket))
                elif isinstance(action, TakeSnapshot):
                    node.feed(SnapshotTaken(action.index, b"state at %d" % action.index))
            if turn % 4 == 0:
                print(repr(node.status))
        if turn % 5 == 4:
            waiting.reverse()
        now, waiting = waiting, []
        for place, (to, message) in enumerate(now):
            if (turn + place) % 11:
                nodes[to].feed(Receive(message))
    assert max(node.commit_index for node in nodes.values()) > 20
    return nodes
cluster({})
cluster({"lease_reads": True, "snapshot_threshold": 20, "snapshot_chunk": 4}, deferred_sync=True)
cluster({"pre_vote": False, "check_quorum": False, "snapshot_threshold": 7})
"""

SEEN = [
    "PreVote(",
    "force=True",
    "InstallSnapshot(",
    "ReadReady(",
    "ReadFailed(",
    "ReadIndexReply(",
    "TimeoutNow(",
    "TakeSnapshot(",
    "RestoreSnapshot(",
    "MembershipChanged(",
    "MembershipCommitted(",
    "outgoing=[3, 7",
]
"""What the run must hold to be worth comparing."""


def test_the_same_events_give_the_same_actions_in_every_process() -> None:
    outputs = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, check=True, env=environment)
        outputs.add(done.stdout)
    (output,) = outputs
    assert [word for word in SEEN if word.encode() not in output] == []
