"""What travels between two servers: length-prefixed frames. docs/wire.md describes them byte by byte.

    frame   = length of what follows (4), type (1), body
    HELLO, WELCOME = magic (8), version (2), node id (8), incarnation (8), cluster id (UTF-8)
    REJECT  = the reason (UTF-8)
    MESSAGE = a message, as raft_io.wire encodes it
    FORWARD = an entry for the leader's log
    REFUSED = session (8), sequence (8) of an entry that an overloaded leader did not take

Integers are little-endian. Pure: no sockets here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from raft_io.errors import WireError

__all__ = [
    "FORWARD",
    "HELLO",
    "MAX_FRAME",
    "MAX_GREETING",
    "MESSAGE",
    "PROTOCOL_VERSION",
    "REFUSED",
    "REJECT",
    "WELCOME",
    "Frames",
    "Greeting",
    "decode_refused",
    "encode",
    "encode_refused",
]

PROTOCOL_VERSION: Final = 1

HELLO: Final = 1
WELCOME: Final = 2
REJECT: Final = 3
MESSAGE: Final = 4
FORWARD: Final = 5
REFUSED: Final = 6

MAX_FRAME: Final = 64 * 1024 * 1024
"""The longest frame that is accepted, in bytes."""

MAX_GREETING: Final = 1024
"""The longest frame that is accepted from who has not introduced itself."""

_MAGIC: Final = b"raft-io\0"
_HEAD: Final = struct.Struct("<IB")
_GREETING: Final = struct.Struct("<8sHQQ")
_REFUSED: Final = struct.Struct("<QQ")


def encode(kind: int, body: bytes) -> bytes:
    """One frame."""
    return _HEAD.pack(len(body) + 1, kind) + body


class Frames:
    """Cuts a stream of bytes into frames."""

    __slots__ = ("_have", "_need", "_parts", "limit")

    def __init__(self, limit: int = MAX_GREETING) -> None:
        self.limit = limit
        """The longest frame accepted, in bytes; may be raised at any time."""
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0
        """Bytes without which there is no use in looking."""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that `data` completes. Raises `WireError` for one that is empty or over the limit."""
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._parts)
            self._parts = []
        found: list[tuple[int, bytes]] = []
        pos = 0
        size = len(data)
        need = 5
        while size - pos >= 5:
            length, kind = _HEAD.unpack_from(data, pos)
            if length < 1 or length > self.limit:
                raise WireError(f"a frame of {length} bytes; 1 to {self.limit} are accepted")
            end = pos + 4 + length
            if end > size:
                need = 4 + length
                break
            found.append((kind, data[pos + 5 : end]))
            pos = end
        if pos < size:
            self._parts = [data[pos:]]
            self._have = size - pos
            self._need = need
        return found


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who a server says it is."""

    cluster_id: str
    node: int
    incarnation: int
    version: int = PROTOCOL_VERSION

    def encode(self, kind: int) -> bytes:
        """The frame, a `HELLO` or a `WELCOME`."""
        head = _GREETING.pack(_MAGIC, self.version, self.node, self.incarnation)
        return encode(kind, head + self.cluster_id.encode())

    @classmethod
    def decode(cls, body: bytes) -> Greeting:
        """Raises `WireError` for bytes that no server of any version sends."""
        if len(body) < _GREETING.size:
            raise WireError("a greeting that ends early")
        magic, version, node, incarnation = _GREETING.unpack_from(body)
        if magic != _MAGIC:
            raise WireError("no raft-io server")
        if version != PROTOCOL_VERSION:
            raise WireError(f"protocol version {version}; this side speaks {PROTOCOL_VERSION}")
        try:
            cluster_id = body[_GREETING.size :].decode()
        except UnicodeDecodeError:
            raise WireError("a cluster id that is not UTF-8") from None
        return cls(cluster_id, node, incarnation, version)


def encode_refused(session: int, sequence: int) -> bytes:
    """The frame that says an entry was not taken."""
    return encode(REFUSED, _REFUSED.pack(session, sequence))


def decode_refused(body: bytes) -> tuple[int, int]:
    """The session and the sequence of the entry that was not taken."""
    if len(body) != _REFUSED.size:
        raise WireError("a refusal of the wrong length")
    session, sequence = _REFUSED.unpack(body)
    return session, sequence
