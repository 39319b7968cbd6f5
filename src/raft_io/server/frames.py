"""What travels between two servers: length-prefixed frames. docs/wire.md describes them byte by byte.

    frame   = length of what follows (4), type (1), body
    HELLO, WELCOME = magic (8), version (2), node id (8), incarnation (8), whether it has yet to join (1),
              length of the address (2), advertised address (UTF-8), cluster id (UTF-8)
    REJECT  = the reason (UTF-8); STRANGER in front: the receiver's id is known with another incarnation
    MESSAGE = a message, as raft_io.wire encodes it
    FORWARD = an entry for the leader's log
    REFUSED = session (8), sequence (8) of an entry that an overloaded leader did not take
    JOIN    = whether it stays a learner (1), a greeting: of a node that is to become a member
    REMOVED = index (8) of the membership entry that the receiver is no member by
    CALL    = number (8), operation (1), JSON: what an operator asks, of the leader or of any node
    REPLY   = number (8), JSON: the answer to the CALL, or to the JOIN (number 0)
    MEMBERS = index (8), JSON: the replicated table of members as of this entry

Integers are little-endian. Pure: no sockets here.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from raft_io.errors import WireError

__all__ = [
    "ASK",
    "CALL",
    "CHANGE",
    "FORWARD",
    "HELLO",
    "JOIN",
    "JOINING",
    "MAX_FRAME",
    "MAX_GREETING",
    "MAX_JSON",
    "MEMBERS",
    "MESSAGE",
    "PROTOCOL_VERSION",
    "REFUSED",
    "REJECT",
    "REMOVED",
    "REPLY",
    "STRANGER",
    "TRANSFER",
    "WELCOME",
    "Frames",
    "Greeting",
    "decode_call",
    "decode_join",
    "decode_members",
    "decode_refused",
    "decode_removed",
    "decode_reply",
    "encode",
    "encode_call",
    "encode_join",
    "encode_members",
    "encode_refused",
    "encode_reject",
    "encode_removed",
    "encode_reply",
    "is_bulk",
    "is_counted",
    "is_piece",
]

PROTOCOL_VERSION: Final = 2

HELLO: Final = 1
WELCOME: Final = 2
REJECT: Final = 3
MESSAGE: Final = 4
FORWARD: Final = 5
REFUSED: Final = 6
JOIN: Final = 7
REMOVED: Final = 8
CALL: Final = 9
REPLY: Final = 10
MEMBERS: Final = 11

CHANGE: Final = 1
TRANSFER: Final = 2
JOINING: Final = 3
ASK: Final = 4
"""The operations of a CALL: change the membership, hand leadership over, let a node join; and of any node,
not only the leader, an answer that its host has registered."""

STRANGER: Final = "another incarnation: "
"""How the reason of a REJECT begins where the receiver comes with another data directory than the one it is
known by. No other reason begins so."""

MAX_FRAME: Final = 64 * 1024 * 1024
"""The longest frame that is accepted, in bytes."""

MAX_GREETING: Final = 1024
"""The longest frame that is accepted from who has not introduced itself."""

MAX_JSON: Final = 1024 * 1024
"""The longest JSON in a frame, in bytes."""

INSTALL_SNAPSHOT: Final = 7
COUNTED: Final = (2, 4, 6, 8)
"""Types of messages, as raft_io.wire numbers them: the pieces of a snapshot; and the replies that say
something of the log or the vote of who sends them."""

_MAX: Final = 2**63 - 1
_MAGIC: Final = b"raft-io\0"
_HEAD: Final = struct.Struct("<IB")
_VERSION: Final = struct.Struct("<8sH")
_GREETING: Final = struct.Struct("<8sHQQBH")
_REFUSED: Final = struct.Struct("<QQ")
_NUMBER: Final = struct.Struct("<Q")
_CALL: Final = struct.Struct("<QB")


def encode(kind: int, body: bytes) -> bytes:
    """One frame."""
    return _HEAD.pack(len(body) + 1, kind) + body


def is_bulk(frame: bytes) -> bool:
    """Whether a frame is a piece of a snapshot: others may overtake it."""
    return len(frame) > 6 and frame[4] == MESSAGE and frame[6] == INSTALL_SNAPSHOT


def is_piece(kind: int, body: bytes) -> bool:
    """Whether a frame that arrived is a piece of a snapshot."""
    return kind == MESSAGE and len(body) > 1 and body[1] == INSTALL_SNAPSHOT


def is_counted(body: bytes) -> bool:
    """Whether a message, the body of a `MESSAGE`, is a reply that a candidate or a leader counts."""
    return len(body) > 1 and body[1] in COUNTED


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
    """Who a server says it is. `address` is where it can be dialled, `host:port`; `joining`: it has no data
    yet, and is not known to be a member."""

    cluster_id: str
    node: int
    incarnation: int
    address: str
    joining: bool = False
    version: int = PROTOCOL_VERSION

    def pack(self) -> bytes:
        """The body of a `HELLO` or a `WELCOME`."""
        address = self.address.encode()
        flag = 1 if self.joining else 0
        head = _GREETING.pack(_MAGIC, self.version, self.node, self.incarnation, flag, len(address))
        return head + address + self.cluster_id.encode()

    def encode(self, kind: int) -> bytes:
        """The frame, a `HELLO` or a `WELCOME`."""
        return encode(kind, self.pack())

    @classmethod
    def decode(cls, body: bytes) -> Greeting:
        """Raises `WireError` for bytes that no server of this version sends."""
        if len(body) < _VERSION.size:
            raise WireError("a greeting that ends early")
        magic, version = _VERSION.unpack_from(body)
        if magic != _MAGIC:
            raise WireError("no raft-io server")
        if version > PROTOCOL_VERSION:
            raise WireError(
                f"protocol version {version} is newer than {PROTOCOL_VERSION}, which this side speaks: "
                "upgrade raft-io on this side"
            )
        if version != PROTOCOL_VERSION:
            raise WireError(
                f"protocol version {version} is older than {PROTOCOL_VERSION}, which this side speaks: "
                "upgrade raft-io on the other side"
            )
        if len(body) < _GREETING.size:
            raise WireError("a greeting that ends early")
        _, _, node, incarnation, flag, length = _GREETING.unpack_from(body)
        if flag > 1:
            raise WireError(f"a flag must be 0 or 1, not {flag}")
        if node > _MAX or not 0 < incarnation <= _MAX:
            raise WireError(f"node {node} with incarnation {incarnation}: there is none such")
        end = _GREETING.size + length
        if end > len(body):
            raise WireError("a greeting that ends early")
        try:
            address = body[_GREETING.size : end].decode()
            cluster_id = body[end:].decode()
        except UnicodeDecodeError:
            raise WireError("an address or a cluster id that is not UTF-8") from None
        return cls(cluster_id, node, incarnation, address, flag == 1, version)


def encode_join(greeting: Greeting, learner: bool) -> bytes:
    """The frame by which a node asks to become a member; `learner`: it is to stay a learner."""
    return encode(JOIN, (b"\x01" if learner else b"\x00") + greeting.pack())


def decode_join(body: bytes) -> tuple[Greeting, bool]:
    """Who wants to join, and whether as a learner."""
    if not body or body[0] > 1:
        raise WireError("a request to join that makes no sense")
    return Greeting.decode(body[1:]), body[0] == 1


def encode_reject(reason: str) -> bytes:
    """The frame that refuses a connection; a long reason is cut."""
    return encode(REJECT, reason.encode()[: MAX_GREETING - 1])


def encode_refused(session: int, sequence: int) -> bytes:
    """The frame that says an entry was not taken."""
    return encode(REFUSED, _REFUSED.pack(session, sequence))


def decode_refused(body: bytes) -> tuple[int, int]:
    """The session and the sequence of the entry that was not taken."""
    if len(body) != _REFUSED.size:
        raise WireError("a refusal of the wrong length")
    session, sequence = _REFUSED.unpack(body)
    return session, sequence


def encode_removed(index: int) -> bytes:
    """The frame that says that who gets it is no member since the membership entry at `index`."""
    return encode(REMOVED, _NUMBER.pack(index))


def decode_removed(body: bytes) -> int:
    """The index of the membership entry."""
    if len(body) != _NUMBER.size:
        raise WireError("a notice of removal of the wrong length")
    (index,) = _NUMBER.unpack(body)
    return int(index)


def encode_call(number: int, operation: int, fields: dict[str, Any]) -> bytes:
    """A request to the leader; its answer has the same number."""
    return encode(CALL, _CALL.pack(number, operation) + json.dumps(fields).encode())


def decode_call(body: bytes) -> tuple[int, int, dict[str, Any]]:
    """Number, operation and fields of a request."""
    if len(body) < _CALL.size:
        raise WireError("a call that ends early")
    number, operation = _CALL.unpack_from(body)
    return number, operation, _fields(body, _CALL.size)


def encode_reply(number: int, fields: dict[str, Any]) -> bytes:
    """The answer to a request."""
    return encode(REPLY, _NUMBER.pack(number) + json.dumps(fields).encode())


def decode_reply(body: bytes) -> tuple[int, dict[str, Any]]:
    """Number and fields of an answer."""
    if len(body) < _NUMBER.size:
        raise WireError("an answer that ends early")
    (number,) = _NUMBER.unpack_from(body)
    return int(number), _fields(body, _NUMBER.size)


def encode_members(index: int, members: dict[int, tuple[str, int]]) -> bytes:
    """The table of members as of the entry at `index`: address and incarnation by id."""
    fields = {str(node): [address, incarnation] for node, (address, incarnation) in members.items()}
    return encode(MEMBERS, _NUMBER.pack(index) + json.dumps(fields).encode())


def decode_members(body: bytes) -> tuple[int, dict[int, tuple[str, int]]]:
    """The index and the table."""
    if len(body) < _NUMBER.size:
        raise WireError("a table of members that ends early")
    (index,) = _NUMBER.unpack_from(body)
    members: dict[int, tuple[str, int]] = {}
    for key, row in _fields(body, _NUMBER.size).items():
        if not (
            key.isascii() and key.isdigit() and len(key) < 20 and isinstance(row, list) and len(row) == 2
        ):
            raise WireError("a table of members that makes no sense")
        address, incarnation = row
        if not isinstance(address, str) or type(incarnation) is not int or not 0 <= incarnation <= _MAX:
            raise WireError("a table of members that makes no sense")
        if int(key) > _MAX:
            raise WireError("a table of members that makes no sense")
        members[int(key)] = (address, incarnation)
    return int(index), members


def _fields(body: bytes, start: int) -> dict[str, Any]:
    if len(body) - start > MAX_JSON:
        raise WireError(f"{len(body) - start} bytes of JSON; at most {MAX_JSON} are accepted")
    try:
        fields = json.loads(body[start:])
    except (ValueError, RecursionError):
        raise WireError("a body that is no JSON") from None
    if not isinstance(fields, dict):
        raise WireError("a body that is no JSON object")
    return fields
