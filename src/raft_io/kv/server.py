"""The store behind RESP: every Redis client is a client of every node.

One `Client` per connection. What a client sends together travels together: one request to the cluster, one
write back. A connection has at most one request under way, so that its commands keep their order whatever
happens to leaders.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from raft_io.errors import NotLeaderError, OverloadedError, SessionExpiredError, TransferInProgressError
from raft_io.kv import resp
from raft_io.kv.batch import HEADER, TRANSACTION_HEADER, decode_batch, encode_batches
from raft_io.kv.connection import REDIS_VERSION, Connection, Node, execute, raft_section
from raft_io.kv.plan import ANSWERED, DISCARDED, EXEC, LOCAL, READ, WATCH, Plan, Run
from raft_io.kv.store import KeyValueStore
from raft_io.kv.transaction import assemble, encode
from raft_io.server import RaftServer
from raft_io.server.address import Address, port_of, stop_listening
from raft_io.server.requests import Request

__all__ = ["MAX_CLIENTS", "RespServer"]

log = logging.getLogger("raft_io.kv")

TIMEOUT: Final = 5.0
"""Seconds that a client waits for an answer."""

GRACE: Final = 1.0
"""Seconds that a client has to take its last answers when the server stops."""

MAX_CLIENTS: Final = 10_000

MAX_WAITING: Final = 1024 * 1024
"""Bytes that a client may send ahead of the answers; then it is not read from until they are there."""

MAX_TOGETHER: Final = 64 * 1024
"""Bytes of replies that are gathered for one write."""

MAX_DRAIN: Final = 64 * 1024 * 1024
DRAIN_TIME: Final = 5.0
"""Bytes, and seconds, for which the rest of what cannot be taken is read. A connection that is closed with
something unread is reset, and the client, which still sends, never sees why."""

_STOPPING: Final = resp.error("ERR the server stops")
_TOO_LONG: Final = resp.error(
    "EXECABORT Transaction discarded because it is longer, with the watched keys, than a command may be"
)
_WATCHED_TOO_LONG: Final = resp.error("ERR the watched keys are longer than a command may be")
_FULL: Final = resp.error("ERR max number of clients reached")


def _error_reply(error: Exception, reading: bool) -> bytes:
    """What a client is told when a request failed."""
    if isinstance(error, (NotLeaderError, TransferInProgressError)):
        return resp.error("CLUSTERDOWN no leader")
    if isinstance(error, OverloadedError):
        return resp.error(f"BUSY {error}")
    if isinstance(error, TimeoutError):
        if reading:
            return resp.error("CLUSTERDOWN no quorum answered in time")
        return resp.error("TIMEOUT no answer in time: whether this was written is unknown")
    if isinstance(error, SessionExpiredError):
        return resp.error(f"TIMEOUT {error}")
    return resp.error(f"ERR {error}")


class Client:
    """One connection: an asyncio protocol in all but the base class, which would keep it from being compiled.
    Also the waiter of its request."""

    def __init__(self, owner: RespServer) -> None:
        self._owner = owner
        self._parser = resp.Parser(max_command=owner.max_command - HEADER, max_bulk=owner.max_command)
        self._plan = Plan(owner.max_command - TRANSACTION_HEADER)
        self._transport: asyncio.Transport | None = None
        self._runs: list[Run] = []
        """What is to be done next, the next one last."""
        self._local: list[list[bytes]] = []
        """What is left of a run of local commands, likewise."""
        self._batches: list[tuple[bytes, int]] = []
        """What is left of a run that is too long for one request, likewise, with the number of commands."""
        self._waiting: list[list[bytes]] = []
        self._waiting_bytes = 0
        self._count = 0
        """Commands in the request that is under way; `0`: none is."""
        self._reading = False
        self._watching: list[bytes] = []
        """Keys of the WATCH that is under way."""
        self._transaction: list[list[bytes]] | None = None
        """The commands of the EXEC that is under way."""
        self._paused = False
        self._choked = False
        self._ended = False
        self._drain: asyncio.TimerHandle | None = None
        """While what the client still sends is read for nothing: ends that."""
        self._drained = 0
        self.connection = Connection(0)

    # The connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an assertion: uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        refusal = self._owner.admit(self)
        if refusal is not None:
            self._transport.write(refusal)
            self._transport.close()
            return
        address = _shown(transport.get_extra_info("peername"))
        local = _shown(transport.get_extra_info("sockname"))
        self.connection = Connection(self._owner.next_id(), address, local)

    def data_received(self, data: bytes) -> None:
        if self._drain is not None:
            self._drained += len(data)
            if self._drained > MAX_DRAIN:
                self.abort()
            return
        commands = self._parser.feed(data)
        if commands:
            self._waiting.extend(commands)
            self._waiting_bytes += len(data)
        if not self._count and (commands or self._parser.error is not None):
            self._advance()
        self._throttle()

    def eof_received(self) -> bool:
        # A client may close its sending side and still wait for its answers.
        self._ended = True
        if self._drain is not None:
            return False
        return self._count > 0 or not self._idle()

    def pause_writing(self) -> None:
        self._choked = True
        self._throttle()

    def resume_writing(self) -> None:
        self._choked = False
        if not self._count:
            self._advance()
        self._throttle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._drain is not None:
            self._drain.cancel()
        self._waiting = []
        self._runs = []
        self._local = []
        self._batches = []
        self._owner.forget(self)

    def _throttle(self) -> None:
        """Read no further while the client does not take its answers, or is too far ahead of them."""
        pause = self._drain is None and (self._choked or self._waiting_bytes > MAX_WAITING)
        if pause != self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def close(self) -> None:
        """End the connection once what was said is sent, and say no more."""
        self.connection.closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # The commands.

    def _idle(self) -> bool:
        """Whether all that arrived was begun."""
        return not (self._batches or self._local or self._runs or self._waiting)

    def _advance(self, replies: bytes = b"") -> None:
        """Carry on until a request is under way, nothing is left, or the client does not take its answers;
        write what there is to say."""
        out = [replies] if replies else []
        size = len(replies)
        while not (self._transport is None or self._count or self._choked or self.connection.closing):
            if size > MAX_TOGETHER:
                self._transport.write(b"".join(out))
                out = []
                size = 0
            elif self._batches:
                self._submit_write(out)
            elif self._local:
                reply = execute(self.connection, self._local.pop(), self._owner.node)
                out.append(reply)
                size += len(reply)
            elif self._runs:
                self._start(self._runs.pop(), out)
            elif self._waiting:
                self._runs = self._plan.take(self._waiting)
                self._runs.reverse()
                self._waiting = []
                self._waiting_bytes = 0
            else:
                break
        self._finish(out)

    def _finish(self, out: list[bytes]) -> None:
        """Write, and end the connection if that was all."""
        transport = self._transport
        if transport is None:
            return
        done = not self._count and self._idle()
        faulty = self._parser.error is not None and done and not self.connection.closing
        if faulty:
            out.append(resp.error(f"ERR {self._parser.error}"))
            self.connection.closing = True
        if out:
            transport.write(b"".join(out) if len(out) > 1 else out[0])
        if faulty and not self._ended:
            # It is told that nothing more comes, and closes its side once it has seen why.
            transport.write_eof()
            self._drain = asyncio.get_running_loop().call_later(DRAIN_TIME, self.close)
        elif self._drain is None and (self.connection.closing or (self._ended and done)):
            transport.close()

    def _start(self, run: Run, out: list[bytes]) -> None:
        protocol = self.connection.protocol
        commands = run.commands
        if run.step == READ:
            self._reading = True
            self._submit(None, len(commands), lambda store: store.answer(commands, protocol), out)
        elif run.step == LOCAL:
            self._local = commands
            self._local.reverse()
        elif run.step == ANSWERED:
            out.append(b"".join(run.replies))
        elif run.step == WATCH:
            self._watch(commands[0][1:], out)
        elif run.step == EXEC:
            self._exec(run, out)
        else:
            encoded = encode_batches(commands, protocol, self._owner.max_command)
            if len(encoded) == 1:
                self._batches = [(encoded[0], len(commands))]
            else:
                self._batches = [(data, _count(data)) for data in reversed(encoded)]

    def _submit_write(self, out: list[bytes]) -> None:
        data, count = self._batches.pop()
        self._reading = False
        self._submit(data, count, None, out)

    def _watch(self, keys: list[bytes], out: list[bytes]) -> None:
        """Watching is reading the revision of the store: whatever changes later is seen to have changed."""
        watched = self.connection.watched
        size = sum([12 + len(key) for key in keys]) + sum([12 + len(key) for key in watched])
        if size > self._owner.max_command:
            self.connection.unsure = True
            out.append(_WATCHED_TOO_LONG)
            return
        self._watching = keys
        self._reading = True
        self._submit(None, 1, lambda store: store.revision(), out)

    def _exec(self, run: Run, out: list[bytes]) -> None:
        connection = self.connection
        if run.replies or connection.unsure:
            connection.unwatch()
            out.append(run.replies[0] if run.replies else DISCARDED)
            return
        data = encode(connection, run.commands)
        watching = bool(connection.watched)
        connection.unwatch()
        if len(data) > self._owner.max_command:
            out.append(_TOO_LONG)
        elif len(data) == TRANSACTION_HEADER and not watching:
            # Nothing that the store is needed for.
            out.append(assemble(connection, run.commands, b"*0\r\n", self._owner.node))
        else:
            self._transaction = run.commands
            self._reading = False
            self._submit(data, 1, None, out)

    def _submit(
        self, data: bytes | None, count: int, query: Callable[[KeyValueStore], Any] | None, out: list[bytes]
    ) -> None:
        try:
            self._owner.submit(self, data, query)
        except Exception as error:
            self._unhand()
            out.append(_error_reply(error, self._reading) * count)
        else:
            self._count = count

    def _unhand(self) -> None:
        """What was to follow the request that was under way does not."""
        if self._watching:
            self._watching = []
            self.connection.unsure = True
        self._transaction = None

    def succeeded(self, value: Any) -> None:
        """The replies to the request that was under way."""
        self._count = 0
        if self._watching:
            self.connection.watch(self._watching, value)
            self._watching = []
            value = resp.OK
        elif self._transaction is not None:
            commands = self._transaction
            self._transaction = None
            value = assemble(self.connection, commands, value, self._owner.node)
        self._advance(value)
        self._throttle()

    def failed(self, error: Exception) -> None:
        """The request that was under way failed: each of its commands is told."""
        count = self._count
        self._count = 0
        self._unhand()
        self._advance(_error_reply(error, self._reading) * count)
        self._throttle()


def _count(data: bytes) -> int:
    """How many commands a batch holds."""
    return len(decode_batch(data).commands)


def _shown(name: Any) -> str:
    return str(Address(name[0], name[1])) if isinstance(name, tuple) else ""


class RespServer:
    """Serves RESP for a running `RaftServer` whose machine is a `KeyValueStore`.

    `listen`: `"host:port"` (a port alone: on loopback). `timeout`: seconds that a client waits for an answer;
    then it is told `CLUSTERDOWN` where nothing can have happened and `TIMEOUT` where that is unknown.
    """

    def __init__(
        self,
        server: RaftServer,
        *,
        listen: str | int,
        timeout: float = TIMEOUT,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, not {timeout}")
        self._server = server
        self._listen = Address.parse(listen)
        self._timeout = timeout
        self._max_clients = max_clients
        self._clients: dict[Client, None] = {}
        self._listener: asyncio.Server | None = None
        self._gone: asyncio.Future[None] | None = None
        """Once the server stops: done when no client is left."""
        self._ids = 0
        self.max_command = server.max_command_bytes
        self.node = Node(self._info, self._connections)

    async def start(self) -> Address:
        """Listen. Returns the address listened on. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: cast(asyncio.Protocol, Client(self)), self._listen.host, self._listen.port, backlog=1024
        )
        address = Address(self._listen.host, port_of(self._listener))
        log.info("node %s: serving Redis clients on %s", self._server.config.id, address)
        return address

    async def stop(self) -> None:
        """Close the listener and every connection; one that does not take its answers after a second."""
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
        if self._listener is not None:
            await stop_listening(self._listener)
        for client in list(self._clients):
            client.close()
        if self._clients:
            await asyncio.wait((self._gone,), timeout=GRACE)
        if self._clients:
            for client in list(self._clients):
                client.abort()
            await asyncio.wait((self._gone,), timeout=GRACE)
        if self._listener is not None:
            await self._listener.wait_closed()

    # What clients use.

    def admit(self, client: Client) -> bytes | None:
        """Count a connection; or say why not."""
        if self._gone is not None:
            return _STOPPING
        if len(self._clients) >= self._max_clients:
            return _FULL
        self._clients[client] = None
        return None

    def forget(self, client: Client) -> None:
        """The connection is gone."""
        self._clients.pop(client, None)
        if self._gone is not None and not self._clients and not self._gone.done():
            self._gone.set_result(None)

    def next_id(self) -> int:
        """A number for a connection that no other one had."""
        self._ids += 1
        return self._ids

    def submit(self, client: Client, data: bytes | None, query: Callable[[Any], Any] | None) -> None:
        """Send a request of `client` on its way."""
        server = self._server
        server.submit(Request(client, server.deadline(self._timeout), data, None, query))

    def _info(self) -> Mapping[str, Mapping[str, object]]:
        status = self._server.status
        return {
            "Server": {"redis_version": REDIS_VERSION, "redis_mode": "standalone", "server_name": "raft-io"},
            "Clients": {"connected_clients": len(self._clients), "maxclients": self._max_clients},
            "Replication": {"role": "master", "connected_slaves": 0},
            "Raft": raft_section(
                node=status.id,
                role=status.role.value,
                term=status.term,
                leader=status.leader,
                commit_index=status.commit_index,
                last_applied=status.last_applied,
            ),
        }

    def _connections(self) -> Iterable[Connection]:
        return [client.connection for client in self._clients]
