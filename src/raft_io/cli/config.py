"""The settings of a node: one table, read from a TOML file and from options, strictly.

Every mistake is a `UsageError` in one line that names the file (or option) and the setting.
"""

from __future__ import annotations

import argparse
import difflib
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from raft_io.cli.errors import UsageError
from raft_io.core.config import RaftConfig
from raft_io.server.address import Address

__all__ = [
    "CLUSTER_ID",
    "RAFT_OPTIONS",
    "SETTINGS",
    "Values",
    "add_options",
    "complaint",
    "complete",
    "leave_peers",
    "read_file",
    "read_options",
    "render",
]

Values = dict[str, Any]
"""Settings by name, checked."""

REQUIRED: Final = ("id", "data_dir", "listen", "resp", "http")
PATHS: Final = ("data_dir", "pid_file")
CLUSTER_ID: Final = "raft-io"
"""The cluster's name where the settings tell none."""

LEVELS: Final = ("debug", "info", "warning", "error")


class _WrongValueError(ValueError):
    """What a setting must be; `str` completes the sentence that begins with its name."""


@dataclass(frozen=True)
class Kind:
    """A kind of value. `parse` makes of an option's text what a file would hold; `check` makes of what a file
    holds the value, or raises `ValueError` with the rest of a sentence; `show` writes it as TOML."""

    metavar: str
    parse: Callable[[str], Any]
    check: Callable[[Any], Any]
    show: Callable[[Any], str]


@dataclass(frozen=True)
class Setting:
    """One setting. `about` is its help, and says what it is when absent."""

    kind: Kind
    about: str


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _WrongValueError(f"must be a whole number, not {_shown(value)}")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise _WrongValueError(f"must be a number, not {_shown(value)}")
    return float(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongValueError(f"must be true or false, not {_shown(value)}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _WrongValueError(f"must be a text, not {_shown(value)}")
    return value


def _level(value: Any) -> str:
    if value not in LEVELS:
        raise _WrongValueError(f"must be one of {', '.join(LEVELS)}, not {_shown(value)}")
    return str(value)


def _address(value: Any) -> str:
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise _WrongValueError(f'must be an address such as "127.0.0.1:7001", not {_shown(value)}')
    try:
        return str(Address.parse(value))
    except ValueError as error:
        raise _WrongValueError(f"is wrong: {error}") from error


def _range(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _WrongValueError(f"must be two whole numbers, [min, max], not {_shown(value)}")
    low, high = _integer(value[0]), _integer(value[1])
    if not 1 <= low <= high:
        raise _WrongValueError(f"must have 1 <= min <= max, not {_shown(value)}")
    return low, high


def _peers(value: Any) -> dict[int, str]:
    if not isinstance(value, dict):
        raise _WrongValueError(f'must be a table such as {{ 1 = "127.0.0.1:7101" }}, not {_shown(value)}')
    peers: dict[int, str] = {}
    for key, address in value.items():
        if not (key.isascii() and key.isdigit()):
            raise _WrongValueError(f"has the id {_shown(key)}: an id is a whole number, 0 or more")
        if int(key) in peers:
            raise _WrongValueError(f"has the id {int(key)} twice")
        try:
            peers[int(key)] = _address(address)
        except _WrongValueError as error:
            raise _WrongValueError(f"of node {key} {error}") from error
    return peers


def _parse_integer(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text


def _parse_number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _parse_boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _parse_range(text: str) -> Any:
    return [_parse_integer(part) for part in text.split(",")]


def _parse_peers(text: str) -> Any:
    peers = {}
    for part in text.split(","):
        key, equals, address = part.partition("=")
        if not equals:
            return text
        peers[key.strip()] = address.strip()
    return peers


def _shown(value: Any) -> str:
    """A value as it stands in a message: short, and as TOML writes texts."""
    text = (
        _quoted(value)
        if isinstance(value, str)
        else str(value).lower()
        if value in (True, False)
        else repr(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."


def _quoted(text: str) -> str:
    """A TOML basic string."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in plain) + '"'


def _show_peers(peers: Mapping[int, str]) -> str:
    return "{ " + ", ".join(f"{peer} = {_quoted(address)}" for peer, address in peers.items()) + " }"


INTEGER: Final = Kind("N", _parse_integer, _integer, str)
BOOLEAN: Final = Kind("true|false", _parse_boolean, _boolean, lambda value: str(value).lower())
SECONDS: Final = Kind("SECONDS", _parse_number, _number, repr)
TEXT: Final = Kind("TEXT", str, _text, _quoted)
PATH: Final = Kind("PATH", str, _text, _quoted)
LEVEL: Final = Kind("LEVEL", str, _level, _quoted)
ADDRESS: Final = Kind("HOST:PORT", str, _address, _quoted)
RANGE: Final = Kind("MIN,MAX", _parse_range, _range, lambda value: f"[{value[0]}, {value[1]}]")
PEERS: Final = Kind("ID=HOST:PORT,...", _parse_peers, _peers, _show_peers)

RAFT_OPTIONS: Final[dict[str, Setting]] = {
    "election_timeout": Setting(RANGE, "ticks without a leader before an election, drawn anew (10,20)"),
    "heartbeat_interval": Setting(INTEGER, "ticks between a leader's heartbeats (3)"),
    "max_batch": Setting(INTEGER, "most entries in one message (64)"),
    "max_batch_bytes": Setting(INTEGER, "most bytes of commands in one message (256 KiB)"),
    "max_inflight": Setting(INTEGER, "most unacknowledged messages to a follower (16)"),
    "max_inflight_bytes": Setting(INTEGER, "bytes of commands in those (64 MiB)"),
    "max_uncommitted_bytes": Setting(INTEGER, "bytes above which writes are refused for now (64 MiB)"),
    "max_apply_bytes": Setting(INTEGER, "bytes applied in one turn (1 MiB)"),
    "seed": Setting(INTEGER, "of the election timeouts (the id)"),
    "pre_vote": Setting(BOOLEAN, "ask whether an election can be won before there is one (true)"),
    "check_quorum": Setting(BOOLEAN, "a leader that hears from no majority steps down (true)"),
    "lease_reads": Setting(BOOLEAN, "reads rely on clocks that tick alike; same on all nodes (false)"),
    "lease_margin": Setting(INTEGER, "ticks by which a lease is shorter than the election timeout (2)"),
    "snapshot_threshold": Setting(INTEGER, "entries after which a snapshot is taken; 0: never (100000)"),
    "snapshot_chunk": Setting(INTEGER, "bytes of a snapshot in one message (256 KiB)"),
}
"""The options of `RaftConfig`, by its names."""

SETTINGS: Final[dict[str, Setting]] = {
    "id": Setting(INTEGER, "the node's id, a whole number, 0 or more (required)"),
    "cluster_id": Setting(TEXT, "the cluster's name; nodes of another are refused (raft-io)"),
    "data_dir": Setting(PATH, "where the log lives, relative to the file (required)"),
    "listen": Setting(ADDRESS, "where peers connect (this node's address in peers)"),
    "resp": Setting(ADDRESS, "where Redis clients connect (required)"),
    "http": Setting(ADDRESS, "where status is served over HTTP (required)"),
    "peers": Setting(PEERS, "all voters the cluster begins with, by id (this node alone)"),
    "join": Setting(ADDRESS, "a member of the cluster that this node joins; instead of peers"),
    "learner": Setting(BOOLEAN, "with join: the node stays a learner, without a vote (false)"),
    "advertise": Setting(ADDRESS, "where peers reach this node, if not at listen"),
    "tick_interval": Setting(SECONDS, "seconds of a tick, 0.001 to 10 (0.025)"),
    "max_command_bytes": Setting(INTEGER, "the longest command (1 MiB)"),
    **RAFT_OPTIONS,
    "log_level": Setting(LEVEL, f"what is logged: {', '.join(LEVELS)} (info)"),
    "pid_file": Setting(PATH, "where the process id is written while the node runs (nowhere)"),
}


def read_file(path: Path) -> Values:
    """The settings in the TOML file at `path`. Relative paths in it are relative to its directory."""
    try:
        text = path.read_bytes().decode()
        found = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path}: {error}") from error
    values: Values = {}
    for name, value in found.items():
        setting = SETTINGS.get(name)
        if setting is None:
            raise UsageError(f"{path}: unknown setting {_shown(name)}{_suggestion(name)}")
        values[name] = _checked(setting, value, f"{path}: {name}")
    return {name: _below(path, name, value) for name, value in values.items()}


def _below(path: Path, name: str, value: Any) -> Any:
    return str(path.parent / value) if name in PATHS else value


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, SETTINGS, 1)
    return f"; did you mean {_shown(close[0])}?" if close else f"; there are {', '.join(SETTINGS)}"


def _checked(setting: Setting, value: Any, name: str) -> Any:
    try:
        return setting.kind.check(value)
    except _WrongValueError as error:
        raise UsageError(f"{name} {error}") from error


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give `parser` an option for every setting."""
    group = parser.add_argument_group(
        "settings", "As in the file, over which they win; in brackets the default."
    )
    for name, setting in SETTINGS.items():
        # An option that is a yes needs no value.
        flag: dict[str, Any] = {"nargs": "?", "const": "true"} if setting.kind is BOOLEAN else {}
        group.add_argument(_option(name), dest=name, metavar=setting.kind.metavar, help=setting.about, **flag)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def read_options(options: argparse.Namespace) -> Values:
    """The settings that were given as options."""
    values: Values = {}
    for name, setting in SETTINGS.items():
        text = getattr(options, name)
        if text is not None:
            values[name] = _checked(setting, setting.kind.parse(text), _option(name))
    return values


def leave_peers(values: Values) -> None:
    """Of a node that joins instead: it keeps its own address, and nothing else of `peers`."""
    own = values.pop("peers", {}).get(values.get("id"))
    if own is not None:
        values.setdefault("listen", own)


def complaint(source: str | None, error: object) -> UsageError:
    """What is wrong with settings from `source`, a file; `None`: all of them are options, and called so."""
    text = str(error)
    if source is not None:
        return UsageError(f"{source}: {text}")
    name, space, rest = text.partition(" ")
    return UsageError(f"{_option(name)}{space}{rest}" if name in SETTINGS else text)


def complete(values: Values, source: str | None) -> Values:
    """`values` with what follows from the others, everything required there and in agreement.

    `source` says in messages where they are from, as for `complaint`.
    """
    whole = dict(values)
    own = whole.get("peers", {}).get(whole.get("id"))
    if own is not None:
        whole.setdefault("listen", own)
    if whole.get("peers") and own is None and "id" in whole and "join" not in whole:
        raise complaint(source, f"peers must name this node too: there is no node {whole['id']} in it")
    for name in REQUIRED:
        if name not in whole:
            if source is None:
                raise UsageError(f"{_option(name)} is missing; give it, or a file with --config")
            raise UsageError(f"{source}: setting {_shown(name)} is missing; add it, or give {_option(name)}")
    if "join" in whole and whole.get("peers"):
        raise complaint(source, "a node begins a cluster with peers, or joins one: not both")
    if whole.get("learner") and "join" not in whole:
        raise complaint(source, "learner needs join; see also raft-io members add")
    options = {name: whole[name] for name in RAFT_OPTIONS if name in whole}
    try:
        config = RaftConfig(whole["id"], whole.get("peers", {})).replace(**options)
    except (TypeError, ValueError) as error:
        raise complaint(source, error) from error
    if config.heartbeat_interval >= config.election_timeout[0]:
        raise complaint(
            source,
            f"heartbeat_interval ({config.heartbeat_interval} ticks) must be below "
            f"the minimum of election_timeout ({config.election_timeout[0]} ticks)",
        )
    return whole


def render(values: Values) -> str:
    """`values` as the text of a file."""
    lines = [f"{name} = {SETTINGS[name].kind.show(values[name])}" for name in SETTINGS if name in values]
    return "\n".join(lines) + "\n"
