"""Addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io.server.address import Address, port_of


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("7001", "127.0.0.1", 7001),
        (7001, "127.0.0.1", 7001),
        (":0", "127.0.0.1", 0),
        ("example.org:65535", "example.org", 65535),
        ("10.1.2.3:80", "10.1.2.3", 80),
        ("[::1]:7001", "::1", 7001),
    ],
)
def test_an_address_is_read_and_written(text: str | int, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        "host:x",
        "host:-1",
        "host:65536",
        "::1:7001",
        "::1",
        "host:٣",
        "h:1 ",
        "-1",
        -1,
    ],
)
def test_what_is_no_address_is_a_value_error(text: str | int) -> None:
    with pytest.raises(ValueError, match="no address"):
        Address.parse(text)


@given(st.text(max_size=20))
def test_nothing_but_a_value_error_comes_out(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65535
    assert address.host


def test_a_listener_without_a_socket_says_so() -> None:
    class Listener:
        sockets = ()

    with pytest.raises(OSError, match="the system gave no socket; too many open files"):
        port_of(Listener())
