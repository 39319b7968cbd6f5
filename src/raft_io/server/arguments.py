"""What a request over HTTP asks for, strictly: whatever is not understood is refused, and said in a line."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from raft_io.core.types import NodeId, checked
from raft_io.errors import (
    MembershipChangeInProgressError,
    NotLeaderError,
    OverloadedError,
    RaftError,
    RemovedError,
    TransferInProgressError,
)
from raft_io.server.address import Address
from raft_io.server.http import Reply, Request, failure

__all__ = [
    "LONGEST_TIMEOUT",
    "TIMEOUT",
    "RefusedError",
    "addresses_of",
    "body_of",
    "check_type",
    "flag_of",
    "id_of",
    "ids_of",
    "parameters_of",
    "problem",
    "timeout_of",
]

TIMEOUT: Final = 10.0
"""Seconds that a request may take unless it says otherwise."""

LONGEST_TIMEOUT: Final = 3600.0

MAX_MEMBERS: Final = 1000


class RefusedError(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.reply = failure(status, kind, message)


STATUSES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (MembershipChangeInProgressError, HTTPStatus.CONFLICT),
    (TransferInProgressError, HTTPStatus.SERVICE_UNAVAILABLE),
    (OverloadedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (NotLeaderError, HTTPStatus.SERVICE_UNAVAILABLE),
    (RemovedError, HTTPStatus.GONE),
    (RaftError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (TimeoutError, HTTPStatus.GATEWAY_TIMEOUT),
    (ValueError, HTTPStatus.UNPROCESSABLE_ENTITY),
)
"""What an error is in HTTP; the first that fits."""


def problem(error: Exception) -> Reply:
    """The answer when `error` was raised."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    if isinstance(error, RaftError):
        return failure(status, error.kind, str(error), retryable=error.is_retryable)
    if isinstance(error, TimeoutError):
        # All of it may be asked for again: each request says how things should be, not what to add.
        message = str(error) or "not done in time; it may still come to pass"
        return failure(status, "Timeout", message, retryable=True)
    return failure(status, "Refused", str(error))


def check_type(request: Request) -> None:
    """Raise `RefusedError` unless the body is JSON by its type."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content-type must be application/json")


def parameters_of(request: Request, *known: str) -> dict[str, str]:
    """What stands behind the path; no others than `known`."""
    try:
        found = parse_qsl(request.query, keep_blank_values=True, strict_parsing=bool(request.query))
    except ValueError:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the query makes no sense") from None
    for name, _ in found:
        if name not in known:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"there is no parameter {name!r}")
    return dict(found)


def timeout_of(request: Request, default: float = TIMEOUT, *others: str) -> float:
    """Seconds that the request may take. There may be `others` among its parameters."""
    text = parameters_of(request, "timeout", *others).get("timeout")
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT:
        message = f"timeout must be above 0 and at most {LONGEST_TIMEOUT:.0f} seconds"
        raise RefusedError(HTTPStatus.BAD_REQUEST, message)
    return seconds


def flag_of(request: Request, name: str) -> bool:
    """A parameter that is true or false."""
    text = dict(parse_qsl(request.query)).get(name, "false")
    if text not in ("true", "false"):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name} must be true or false")
    return text == "true"


def body_of(request: Request, known: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object of a request, with no members but `known`."""
    try:
        fields = json.loads(request.body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "the body must be a JSON object")
    for name in fields:
        if name not in known:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"unknown member {name!r}")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def id_of(value: Any, name: str) -> NodeId:
    """The id of a node. Raises `ValueError`."""
    if type(value) is not int:
        raise _wrong(f"{name} must be a whole number")
    return int(checked(value, name))


def ids_of(value: Any, name: str) -> list[NodeId]:
    """Ids, in ascending order. Raises `ValueError`."""
    if not isinstance(value, list) or len(value) > MAX_MEMBERS:
        raise _wrong(f"{name} must be a list of ids")
    found = [id_of(each, f"an id in {name}") for each in value]
    if len(set(found)) != len(found):
        raise _wrong(f"{name} holds an id twice")
    return sorted(found)


def addresses_of(value: Any) -> dict[NodeId, str]:
    """Addresses by id. Raises `ValueError`."""
    if not isinstance(value, dict):
        raise _wrong('addresses must be an object such as {"4": "127.0.0.1:7104"}')
    found: dict[NodeId, str] = {}
    for key, text in value.items():
        if not (key.isascii() and key.isdigit() and str(int(key)) == key and int(key) < 2**63):
            raise _wrong(f"addresses holds {key!r}, which is no id")
        address = Address.parse(text) if isinstance(text, str) else None
        if address is None or not address.port or str(address) != text:
            raise _wrong(f"the address of node {key} must be host:port, such as 127.0.0.1:7104")
        found[int(key)] = text
    return found


def _wrong(message: str) -> ValueError:
    return ValueError(message)
