"""`RaftConfig`: defaults, normalisation, and new ones made of old ones."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import NOT_INTEGERS, OUT_OF_RANGE, TOP, check_value

from raft_io import RaftConfig

pytestmark = pytest.mark.core

OPTIONS: dict[str, Any] = {
    "election_timeout": (5, 9),
    "heartbeat_interval": 2,
    "max_batch": 7,
    "max_batch_bytes": 100,
    "max_inflight": 3,
    "max_uncommitted_bytes": 1000,
    "max_apply_bytes": 50,
    "seed": 77,
    "pre_vote": False,
    "check_quorum": True,
    "lease_reads": True,
    "lease_margin": 3,
    "snapshot_threshold": 500,
    "snapshot_chunk": 4096,
    "joins": False,
    "max_inflight_bytes": 2000,
}

FLAGS = ["pre_vote", "check_quorum", "lease_reads", "joins"]


def test_config_is_a_value() -> None:
    args = {"id": 1, "peers": (2, 3), **OPTIONS}
    other = {name: value + 1 if type(value) is int else (6, 10) for name, value in args.items()}
    other |= {"peers": (3, 2), "pre_vote": True, "lease_reads": False, "check_quorum": True, "joins": False}
    # Not every pair of options goes together: the two that depend on others are changed on their own.
    for name in ("joins", "check_quorum"):
        other[name] = args[name]
    check_value(RaftConfig, args, other, unchanged=("joins", "check_quorum"))
    assert RaftConfig(1, joins=True) != RaftConfig(1)
    assert RaftConfig(1, check_quorum=False) != RaftConfig(1)


def test_a_config_takes_its_arguments_in_the_order_of_the_api() -> None:
    assert RaftConfig.__match_args__ == ("id", "peers", *OPTIONS)
    assert RaftConfig(1, (2, 3), *OPTIONS.values()) == RaftConfig(1, (2, 3), **OPTIONS)


def test_defaults() -> None:
    config = RaftConfig(7)
    assert config.id == 7
    assert config.peers == ()
    assert config.election_timeout == (10, 20)
    assert config.heartbeat_interval == 3
    assert config.max_batch == 64
    assert config.max_batch_bytes == 1024 * 1024
    assert config.max_inflight == 256
    assert config.max_uncommitted_bytes == 64 * 1024 * 1024
    assert config.max_apply_bytes == 0
    assert config.seed == 7
    assert (config.pre_vote, config.check_quorum) == (True, True)
    assert (config.lease_reads, config.lease_margin) == (False, 2)
    assert (config.snapshot_threshold, config.snapshot_chunk) == (0, 1024 * 1024)
    assert config.max_inflight_bytes == 64 * 1024 * 1024
    assert config.joins is False


def test_single_has_no_peers() -> None:
    assert RaftConfig.single(4) == RaftConfig(4, ())


def test_peers_drop_the_own_id_and_duplicates_and_keep_their_order() -> None:
    assert RaftConfig(1, [3, 1, 2, 3, 2]).peers == (3, 2)
    assert RaftConfig(1, (i for i in (2, 3))).peers == (2, 3)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((30, 10), (30, 30)),
        ((0, 0), (1, 1)),
        ((-5, 3), (1, 3)),
        ((0, -7), (1, 1)),
        ((150, 300), (150, 300)),
        ((1, TOP), (1, TOP)),
    ],
)
def test_the_election_timeout_is_normalised(given: tuple[int, int], kept: tuple[int, int]) -> None:
    assert RaftConfig(1, election_timeout=given).election_timeout == kept
    assert RaftConfig(1).with_election_timeout(*given).election_timeout == kept


@pytest.mark.parametrize(
    "name", ["heartbeat_interval", "max_batch", "max_batch_bytes", "max_inflight", "snapshot_chunk"]
)
def test_sizes_are_normalised_to_at_least_one(name: str) -> None:
    for given, kept in ((0, 1), (-5, 1), (1, 1), (9, 9)):
        assert getattr(RaftConfig(1).replace(**{name: given}), name) == kept


LIMITS = [
    "max_uncommitted_bytes",
    "max_apply_bytes",
    "max_inflight_bytes",
    "lease_margin",
    "snapshot_threshold",
]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_zero_is_kept_and_a_negative_one_refused(name: str) -> None:
    assert getattr(RaftConfig(1).replace(**{name: 0}), name) == 0
    with pytest.raises(ValueError, match=f"{name} must be in"):
        RaftConfig(1).replace(**{name: -1})


@pytest.mark.parametrize("name", OPTIONS)
def test_replace_sets_one_option_and_leaves_the_rest(name: str) -> None:
    config = RaftConfig(1, [2, 3])
    assert getattr(config, name) != OPTIONS[name] or name in FLAGS
    changed = config.replace(**{name: OPTIONS[name]})
    assert getattr(changed, name) == OPTIONS[name]
    assert config == RaftConfig(1, [2, 3]), "the old one has not changed"
    for untouched in RaftConfig.__match_args__:
        if untouched != name:
            assert getattr(changed, untouched) == getattr(config, untouched)


def test_replace_sets_many_options_at_once() -> None:
    assert RaftConfig(1, [2, 3]).replace(**OPTIONS) == RaftConfig(1, [2, 3], **OPTIONS)
    assert RaftConfig(1, [2, 3]).replace() == RaftConfig(1, [2, 3])


def test_replace_refuses_what_is_no_option_and_says_which_there_are() -> None:
    with pytest.raises(TypeError, match="'max_batches' is no option of RaftConfig; the options are id,"):
        RaftConfig(1).replace(max_batches=5)


def test_replacing_the_id_moves_the_default_seed_with_it() -> None:
    assert RaftConfig(1).replace(id=2).seed == 2
    assert RaftConfig(1, seed=9).replace(id=2).seed == 9
    assert RaftConfig(1).replace(id=2, seed=5).seed == 5


def test_the_builders_chain() -> None:
    config = (
        RaftConfig(1, [2, 3])
        .with_election_timeout(150, 300)
        .with_heartbeat_interval(30)
        .with_max_batch(8)
        .with_seed(0xABCD)
    )
    assert config == RaftConfig(1, [2, 3], (150, 300), 30, 8, seed=0xABCD)


def test_a_seed_is_any_integer() -> None:
    for seed in (0, -1, 2**64, 10**40):
        assert RaftConfig(1, seed=seed).seed == seed


@pytest.mark.parametrize("bad", NOT_INTEGERS)
def test_what_is_no_integer_is_a_type_error(bad: Any) -> None:
    for name in ("id", *OPTIONS):
        if not (name == "seed" and bad is None) and name not in FLAGS:
            with pytest.raises(TypeError):
                RaftConfig(**{"id": 1, name: bad})
    with pytest.raises(TypeError):
        RaftConfig(1, [2, bad])


@pytest.mark.parametrize("bad", [None, 5, [5], (5,), (5, 6, 7), ("5", 9), (5.0, 9), (5, None)])
def test_an_election_timeout_is_a_pair_of_integers(bad: Any) -> None:
    with pytest.raises(TypeError):
        RaftConfig(1, election_timeout=bad)


@pytest.mark.parametrize("bad", OUT_OF_RANGE)
def test_ids_are_in_range(bad: int) -> None:
    with pytest.raises(ValueError, match="id must be in"):
        RaftConfig(bad)
    with pytest.raises(ValueError, match="an id in peers must be in"):
        RaftConfig(1, [2, bad])


@pytest.mark.parametrize(
    "name", [name for name in OPTIONS if name not in ("seed", "election_timeout", *FLAGS)]
)
def test_options_over_the_range_are_refused(name: str) -> None:
    assert getattr(RaftConfig(1).replace(**{name: TOP}), name) == TOP
    with pytest.raises(ValueError, match=f"{name} must be in"):
        RaftConfig(1).replace(**{name: TOP + 1})


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("bad", [None, 0, 1, "yes"])
def test_a_flag_is_a_bool(name: str, bad: Any) -> None:
    with pytest.raises(TypeError):
        RaftConfig(1, **{name: bad})


def test_lease_reads_require_check_quorum() -> None:
    with pytest.raises(ValueError, match="lease_reads requires check_quorum"):
        RaftConfig(1, lease_reads=True, check_quorum=False)
    with pytest.raises(ValueError, match="lease_reads requires check_quorum"):
        RaftConfig(1, lease_reads=True).replace(check_quorum=False)
    with pytest.raises(ValueError, match="lease_reads requires check_quorum"):
        RaftConfig(1, check_quorum=False).replace(lease_reads=True)
    assert RaftConfig(1, check_quorum=False).replace(lease_reads=True, check_quorum=True).lease_reads


def test_a_lease_may_be_margin_only() -> None:
    config = RaftConfig(1, lease_reads=True, lease_margin=99)
    assert config.lease_margin == 99, "it is then never in force"


def test_joining_has_no_voters_not_even_itself() -> None:
    config = RaftConfig.joining(4)
    assert (config.id, config.peers, config.joins) == (4, (), True)
    assert config == RaftConfig(4, joins=True)
    assert config != RaftConfig.single(4)
    assert config.replace(joins=False) == RaftConfig.single(4)


def test_who_joins_has_no_peers_yet() -> None:
    with pytest.raises(ValueError, match="a node that joins has no peers yet"):
        RaftConfig(1, [2], joins=True)
    with pytest.raises(ValueError, match="a node that joins has no peers yet"):
        RaftConfig.joining(1).replace(peers=[2])
    assert RaftConfig(1, [1], joins=True) == RaftConfig.joining(1), "its own id is none"


def test_the_builders_keep_what_is_new() -> None:
    config = RaftConfig(1, [2, 3], **OPTIONS)
    for changed in (
        config.with_election_timeout(5, 9),
        config.with_heartbeat_interval(2),
        config.with_max_batch(7),
        config.with_seed(77),
    ):
        assert changed == config


def test_a_config_cannot_be_changed() -> None:
    config: Any = RaftConfig(1, [2, 3])
    for name in RaftConfig.__match_args__:
        with pytest.raises(AttributeError):
            setattr(config, name, 5)


def test_peers_that_are_no_iterable() -> None:
    bad: Any = 5
    with pytest.raises(TypeError):
        RaftConfig(1, bad)
