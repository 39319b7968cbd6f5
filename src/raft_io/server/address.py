"""Addresses as people write them: `host:port`, `[ipv6]:port`, `:port` or `port`."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import dataclass
from typing import Any

__all__ = ["LOOPBACK", "Address", "port_of", "reason_of", "stop_listening"]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port.

    >>> Address.parse("7001")
    Address(host='127.0.0.1', port=7001)
    >>> str(Address.parse("[::1]:7001"))
    '[::1]:7001'
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str | int) -> Address:
        """The address in `text`; without a host it is on loopback. Raises `ValueError`."""
        host, _, port = str(text).rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r} is no address: write an IPv6 host as [host]:port")
        if not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError(f"{text!r} is no address: write host:port, with a port from 0 to 65535")
        return cls(host or LOOPBACK, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def port_of(listener: Any) -> int:
    """The port on which an `asyncio.Server` listens. Raises `OSError` if it has no socket: asyncio passes
    over those that the system does not give it, as when too many files are open."""
    sockets = listener.sockets  # a tuple, but for uvloop a list
    if not sockets:
        raise OSError("the system gave no socket; too many open files?")
    port: int = sockets[0].getsockname()[1]
    return port


async def stop_listening(listener: Any) -> None:
    """Close an `asyncio.Server`. A connection that it has just accepted is made first: up to CPython 3.12 one
    that is made after the end fails there, and its socket stays open (python/cpython#109564)."""
    loop = asyncio.get_running_loop()
    for each in listener.sockets:
        loop.remove_reader(each.fileno())
    await asyncio.sleep(0)
    listener.close()


def reason_of(error: BaseException) -> str:
    """Why nobody could be reached, for people: without numbers of errors, and without the address once more.
    Empty if the error does not say."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    # A name that is not known, or, where a name has several addresses, the errors of all of them.
    text = error.strerror or str(error)
    return text if "Connect call failed" not in text else os.strerror(errno.ECONNREFUSED)
