"""Addresses as people write them."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_io.server.address import LOOPBACK, Address, port_of, stop_listening


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


@pytest.mark.parametrize("steps", range(6))
def test_a_connection_that_arrives_while_listening_ends_is_made_or_refused_and_not_left_open(
    steps: int,
) -> None:
    made: list[asyncio.BaseTransport] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    async def arrive() -> None:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(Protocol, LOOPBACK, 0)
        with socket.create_connection((LOOPBACK, port_of(listener))):
            for _ in range(steps):
                await asyncio.sleep(0)
            await stop_listening(listener)
            for _ in range(4):
                await asyncio.sleep(0)
            for transport in made:
                transport.close()
            await listener.wait_closed()

    complaints: list[object] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await asyncio.wait_for(arrive(), 10)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(bounded())
        gc.collect()
    assert [str(each.message) for each in caught] == []
    assert complaints == []
