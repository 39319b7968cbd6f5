"""The tables of the documentation list what there is: no more, no less."""

from __future__ import annotations

import re
from typing import get_args

from tests.docs.pages import ROOT

import raft_io
from raft_io import Membership, RaftConfig, encode_membership, wire
from raft_io.cli.config import SETTINGS
from raft_io.kv import keyspace, removals, server, slots, strings
from raft_io.kv.commands import TABLE
from raft_io.server import RaftServer, frames, link, promotion, requests, sessions, settings


def section(page: str, heading: str) -> str:
    """A section of a page, without its heading."""
    text = (ROOT / "docs" / page).read_text()
    (found,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    return str(found)


def first_column(text: str) -> list[str]:
    """The names in the first column of the tables in `text`."""
    return re.findall(r"^\| `(\w+)", text, flags=re.MULTILINE)


def test_every_setting_is_documented() -> None:
    assert first_column(section("operations.md", "One node")) == list(SETTINGS)


def test_every_option_of_the_configuration_is_documented_with_its_default() -> None:
    text = section("core.md", "Configuration")
    assert first_column(text) == [name for name in RaftConfig.__match_args__ if name not in ("id", "peers")]
    defaults = RaftConfig(7)
    for name, shown in re.findall(r"^\| `(\w+)` \| (.+?) \|", text, flags=re.MULTILINE):
        value = getattr(defaults, name)
        if (name.endswith("_bytes") and value) or name == "snapshot_chunk":
            expected = f"{value // MIB} MiB"
        else:
            expected = "the id" if name == "seed" else f"`{value}`"
        assert shown == expected


def test_every_event_action_and_message_is_documented() -> None:
    for heading, union in (
        ("Events", raft_io.Event),
        ("Actions", raft_io.Action),
        ("Messages", raft_io.Message),
    ):
        names = [kind.__name__ for kind in get_args(union)]
        assert sorted(first_column(section("core.md", heading))) == sorted(names)


def test_the_fields_of_every_message_are_documented() -> None:
    text = section("core.md", "Messages")
    for kind in get_args(raft_io.Message):
        (row,) = re.findall(rf"^\| `{kind.__name__}` .*\| (.+) \|$", text, flags=re.MULTILINE)
        assert re.findall(r"`(\w+)`", row) == list(kind.__match_args__)


PLAIN = {
    "entries": (),
    "success": True,
    "vote_granted": True,
    "force": False,
    "done": False,
    "membership": Membership(()),
    "data": b"",
    "context": b"",
}
"""The smallest value of each field that is no number."""


def test_the_sizes_of_the_messages_are_as_documented() -> None:
    text = section("wire.md", "Messages")
    for kind in get_args(raft_io.Message):
        (size,) = re.findall(rf"^\| \d+ \| `{kind.__name__}` .* \| (\d+)", text, flags=re.MULTILINE)
        fields = {name: PLAIN.get(name, 0) for name in kind.__match_args__}
        without = len(encode_membership(Membership(()))) if "membership" in fields else 0
        assert len(wire.encode(kind(**fields))) - without == int(size)


def test_every_command_of_the_store_is_documented() -> None:
    listed = set(re.findall(r"`([A-Z]+)`", section("store.md", "Commands").partition("Any other")[0]))
    options = {"NX", "XX", "GT", "LT", "EX", "PX", "EXAT", "PXAT", "KEEPTTL"}
    assert listed - options == {name.decode().upper() for name in TABLE}


MIB = 1024 * 1024


def test_the_limits_are_as_documented() -> None:
    def says(page: str, *texts: str) -> None:
        text = " ".join((ROOT / "docs" / page).read_text().split())
        for each in texts:
            assert each in text, f"{page} does not say {each!r}"

    says(
        "sessions.md",
        f"| sessions | {sessions.MAX_SESSIONS} |",
        f"| results kept | {sessions.MAX_RESULT_BYTES // MIB} MiB",
        f"each counted with {sessions.RESULT_OVERHEAD} bytes more",
        f"| keys | {sessions.MAX_KEYS:,} |",
        f"does not know | {requests.MAX_OPEN_KEYS:,} a node |",
        f"| requests that wait at a node | {requests.MAX_WAITING_BYTES // MIB} MiB |",
        f"up to {1 << requests.RESEND_LIMIT} times as long",
    )
    says(
        "wire.md",
        f"1 to {frames.MAX_FRAME // MIB} MiB",
        f"before the introduction at most {frames.MAX_GREETING}",
        f"Both have {link.GREETING_TIMEOUT:.0f} seconds",
        f"made again after {link.FIRST_DELAY} seconds",
        f"at most {link.LONGEST_DELAY:.0f} second",
        f"which {link.MAX_UNSENT // MIB} MiB wait already",
        f"at most {link.MAX_BULK // MIB} MiB of them",
        f"at most {frames.MAX_JSON // MIB} MiB. An answer",
    )
    says("membership.md", f"at most {promotion.CLOSE} entries behind")
    says("server.md", f"`snapshot_threshold` {settings.DEFAULTS['snapshot_threshold']:,}")
    says(
        "store.md",
        f"within {server.TIMEOUT:.0f} seconds",
        f"the node has {server.MAX_CLIENTS:,} connections already",
        f"exceed {strings.MAX_REPLY // MIB} MiB",
        f"removes at most {keyspace.SWEEP} keys",
        f"at least the last {removals.MAX_KEYS} removals",
        f"1 in {slots.SLOTS:,} keys",
    )


def test_the_public_calls_of_the_server_are_documented() -> None:
    text = section("server.md", "The node")
    public = {name for name in dir(RaftServer) if not name.startswith("_")}
    # What servers of clients and the cluster's own operations use.
    inside = {"deadline", "end", "schedule", "set_member", "submit"}
    assert {"propose", "read", *inside} <= public
    for name in public - inside:
        assert re.search(rf"^\|.*`(await )?{name}\b", text, flags=re.MULTILINE), name
