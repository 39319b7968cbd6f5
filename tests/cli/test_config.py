"""The settings of a node: strict, and every mistake in one line that names its place."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import pytest

from raft_io import RaftConfig
from raft_io.cli import config
from raft_io.cli.errors import UsageError

COMPLETE = """
id = 1
data_dir = "data"
resp = "127.0.0.1:7001"
http = "127.0.0.1:7201"
peers = { 1 = "127.0.0.1:7101", 2 = "127.0.0.1:7102" }
"""


def written(folder: Path, text: str) -> Path:
    """A file with this text."""
    path = folder / "raft.toml"
    path.write_text(text)
    return path


def complaint(path: Path) -> str:
    """What is wrong with the file, without its name."""
    with pytest.raises(UsageError) as error:
        config.complete(config.read_file(path), str(path))
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def options(*arguments: str) -> config.Values:
    """The settings in these options."""
    parser = argparse.ArgumentParser()
    config.add_options(parser)
    return config.read_options(parser.parse_args(arguments))


def test_a_complete_file(tmp_path: Path) -> None:
    path = written(tmp_path, COMPLETE)
    assert config.complete(config.read_file(path), "") == {
        "id": 1,
        "data_dir": str(tmp_path / "data"),
        "listen": "127.0.0.1:7101",
        "resp": "127.0.0.1:7001",
        "http": "127.0.0.1:7201",
        "peers": {1: "127.0.0.1:7101", 2: "127.0.0.1:7102"},
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("idd = 1", 'unknown setting "idd"; did you mean "id"?'),
        ("election_timout = [1, 2]", 'unknown setting "election_timout"; did you mean "election_timeout"?'),
        ("tick_interval = 'fast'", 'tick_interval must be a number, not "fast"'),
        ("tick_interval = true", "tick_interval must be a number, not true"),
        ("tick_interval = nan", "tick_interval must be a number, not nan"),
        ("seed = 1.5", "seed must be a whole number, not 1.5"),
        ("seed = false", "seed must be a whole number, not false"),
        ("pre_vote = 1", "pre_vote must be true or false, not 1"),
        ("pre_vote = 'yes'", 'pre_vote must be true or false, not "yes"'),
        ("lease_reads = true\ncheck_quorum = false", "lease_reads"),
        ("join = '127.0.0.1:7101'", "a node begins a cluster with peers, or joins one: not both"),
        ("learner = true", "learner needs join"),
        ("cluster_id = 3", "cluster_id must be a text, not 3"),
        ("cluster_id = ''", 'cluster_id must be a text, not ""'),
        ("log_level = 'loud'", 'log_level must be one of debug, info, warning, error, not "loud"'),
        ("listen = true", 'listen must be an address such as "127.0.0.1:7001", not true'),
        ("listen = 71.5", 'listen must be an address such as "127.0.0.1:7001", not 71.5'),
        (
            "listen = 71010",
            "listen is wrong: 71010 is no address: write host:port, with a port from 0 to 65535",
        ),
        ("listen = -1", "listen is wrong: -1 is no address"),
        (
            "listen = 'here'",
            "listen is wrong: 'here' is no address: write host:port, with a port from 0 to 65535",
        ),
        ("election_timeout = 10", "election_timeout must be two whole numbers, [min, max], not 10"),
        ("election_timeout = [10, 5]", "election_timeout must have 1 <= min <= max, not [10, 5]"),
        ("election_timeout = [0, 5]", "election_timeout must have 1 <= min <= max, not [0, 5]"),
        ("election_timeout = [1, 'x']", 'election_timeout must be a whole number, not "x"'),
        (
            "heartbeat_interval = 10",
            "heartbeat_interval (10 ticks) must be below the minimum of election_timeout (10 ticks)",
        ),
        ("max_inflight = 99999999999999999999", "max_inflight must be in 0 .. 2**63 - 1"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, line: str, expected: str) -> None:
    assert complaint(written(tmp_path, COMPLETE + line)).startswith(expected)


@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        ("3", 'peers must be a table such as { 1 = "127.0.0.1:7101" }, not 3'),
        ('{ one = "127.0.0.1:1" }', 'peers has the id "one": an id is a whole number, 0 or more'),
        ('{ 1 = "127.0.0.1:1", 01 = "127.0.0.1:2" }', "peers has the id 1 twice"),
        ('{ 1 = "nowhere" }', "peers of node 1 is wrong: 'nowhere' is no address"),
        ("{ 1 = [] }", "peers of node 1 must be an address"),
        ('{ 2 = "127.0.0.1:1" }', "peers must name this node too: there is no node 1 in it"),
    ],
)
def test_a_mistake_in_peers_is_named(tmp_path: Path, peers: str, expected: str) -> None:
    text = "\n".join(line for line in COMPLETE.splitlines() if not line.startswith("peers"))
    path = written(tmp_path, f'{text}\nlisten = "127.0.0.1:7101"\npeers = {peers}')
    assert complaint(path).startswith(expected)


def test_peers_without_this_node_are_named_before_what_they_would_tell(tmp_path: Path) -> None:
    text = COMPLETE.replace("id = 1", "id = 7")
    assert complaint(written(tmp_path, text)) == "peers must name this node too: there is no node 7 in it"


def test_a_port_alone_is_an_address_also_as_a_number(tmp_path: Path) -> None:
    path = written(tmp_path, COMPLETE + "listen = 7555\n")
    assert config.complete(config.read_file(path), "")["listen"] == "127.0.0.1:7555"


@pytest.mark.parametrize("name", ["id", "data_dir", "resp", "http"])
def test_a_missing_setting_is_named(tmp_path: Path, name: str) -> None:
    text = "\n".join(line for line in COMPLETE.splitlines() if not line.startswith(name))
    said = complaint(written(tmp_path, text))
    assert said == f'setting "{name}" is missing; add it, or give --{name.replace("_", "-")}'


def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    assert "(at line 2" in complaint(written(tmp_path, "id = 1\nid =\n"))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "raft.toml"
    path.write_bytes(b"\xff\xfe")
    assert "decode" in complaint(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.toml") == "No such file or directory"


def test_every_option_of_the_core_is_a_setting() -> None:
    assert {"id", "peers", "joins", *config.RAFT_OPTIONS} == set(RaftConfig.__match_args__)
    assert set(config.RAFT_OPTIONS) < set(config.SETTINGS)


def test_every_setting_is_an_option_too(tmp_path: Path) -> None:
    given = {
        "id": ("3", 3),
        "cluster_id": ("mine", "mine"),
        "data_dir": ("some/where", "some/where"),
        "listen": ("7101", "127.0.0.1:7101"),
        "resp": ("[::1]:7001", "[::1]:7001"),
        "http": ("localhost:7201", "localhost:7201"),
        "peers": ("3=127.0.0.1:7101, 4=other:1", {3: "127.0.0.1:7101", 4: "other:1"}),
        "tick_interval": ("0.01", 0.01),
        "max_command_bytes": ("5", 5),
        "election_timeout": ("20,30", (20, 30)),
        "heartbeat_interval": ("4", 4),
        "max_batch": ("5", 5),
        "max_batch_bytes": ("6", 6),
        "max_inflight": ("7", 7),
        "max_uncommitted_bytes": ("8", 8),
        "max_apply_bytes": ("9", 9),
        "seed": ("10", 10),
        "max_inflight_bytes": ("11", 11),
        "pre_vote": ("false", False),
        "check_quorum": ("true", True),
        "lease_reads": ("true", True),
        "lease_margin": ("12", 12),
        "snapshot_threshold": ("13", 13),
        "snapshot_chunk": ("14", 14),
        "join": ("10.0.0.1:7101", "10.0.0.1:7101"),
        "learner": ("true", True),
        "advertise": ("10.0.0.3:7101", "10.0.0.3:7101"),
        "log_level": ("debug", "debug"),
        "pid_file": ("pid", "pid"),
    }
    assert set(given) == set(config.SETTINGS)
    arguments = [part for name, (text, _) in given.items() for part in ("--" + name.replace("_", "-"), text)]
    values = options(*arguments)
    assert values == {name: value for name, (_, value) in given.items()}
    # What is written is read as the same again; paths become relative to where the file is.
    path = written(tmp_path, config.render(values))
    assert set(tomllib.loads(path.read_text())) == set(given)
    places = {"data_dir": str(tmp_path / "some/where"), "pid_file": str(tmp_path / "pid")}
    assert config.read_file(path) == {**values, **places}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--id", "one"], '--id must be a whole number, not "one"'),
        (["--tick-interval", "soon"], '--tick-interval must be a number, not "soon"'),
        (["--election-timeout", "10"], "--election-timeout must be two whole numbers, [min, max], not [10]"),
        (["--peers", "somewhere"], "--peers must be a table"),
        (["--pre-vote", "maybe"], '--pre-vote must be true or false, not "maybe"'),
        (["--resp", "x"], "--resp is wrong: 'x' is no address"),
    ],
)
def test_a_mistake_in_an_option_is_named(arguments: list[str], expected: str) -> None:
    with pytest.raises(UsageError) as error:
        options(*arguments)
    assert str(error.value).startswith(expected)


def test_an_option_that_is_a_yes_needs_no_value() -> None:
    assert options("--learner", "--pre-vote", "false") == {"learner": True, "pre_vote": False}


def test_a_node_that_joins_needs_no_peers(tmp_path: Path) -> None:
    lines = [line for line in COMPLETE.splitlines() if not line.startswith("peers")]
    joining = ['listen = "127.0.0.1:7101"', 'join = "10.0.0.1:7101"', "learner = true"]
    path = written(tmp_path, "\n".join([*lines, *joining]))
    values = config.complete(config.read_file(path), "")
    assert (values["join"], values["learner"]) == ("10.0.0.1:7101", True)


def test_a_node_that_joins_after_all_keeps_its_address(tmp_path: Path) -> None:
    values = config.read_file(written(tmp_path, COMPLETE))
    config.leave_peers(values)
    assert "peers" not in values
    assert values["listen"] == "127.0.0.1:7101"
    values = {"id": 9, "listen": "a:1", "peers": {1: "b:1"}}
    config.leave_peers(values)
    assert values == {"id": 9, "listen": "a:1"}


@pytest.mark.parametrize("text", ['a "quoted" \\ text', "tab\tand\nline", "\x7f\x00", "naïve ünïcode", "𝄞"])
def test_texts_survive_being_written(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, config.render({"cluster_id": text}))
    assert config.read_file(path) == {"cluster_id": text}


def test_a_long_value_is_cut_in_a_message(tmp_path: Path) -> None:
    assert len(complaint(written(tmp_path, f'seed = "{"x" * 5000}"'))) < 200
