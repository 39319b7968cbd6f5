"""Run one node in the foreground.

The settings come from a TOML file, from options, or from both: an option wins over the file.
SIGTERM and SIGINT stop the node cleanly, a leader after it has handed over; a second one ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from raft_io.cli import config
from raft_io.cli.errors import CommandFailedError, removal
from raft_io.cli.limits import max_clients, raise_open_files
from raft_io.errors import RaftError, RemovedError
from raft_io.kv.server import MAX_CLIENTS, RespServer
from raft_io.kv.store import KeyValueStore
from raft_io.server import RaftServer
from raft_io.server.address import Address, reason_of
from raft_io.server.admin import Admin
from raft_io.server.http import HttpServer

__all__ = ["LineFormatter", "add_arguments", "run"]

GC_THRESHOLD: Final = 200_000
"""Objects made before the collector looks for cycles among them. Requests leave none behind, and a collector
that walks the whole store shows as a pause."""

JOINING: Final = ("join", "learner", "advertise")

STOP_TIMEOUT: Final = 2.0
"""Seconds that clients get to take the answers that are on their way when the node stops."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `raft-io serve`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the TOML file with the node's settings")
    parser.add_argument(
        "--stop-on-eof", action="store_true", help="also stop when standard input is closed (for supervisors)"
    )
    config.add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    values = {} if options.config is None else config.read_file(options.config)
    given = config.read_options(options)
    if "join" in given and "peers" not in given:
        config.leave_peers(values)
    values.update(given)
    source = None if options.config is None else str(options.config)
    values = config.complete(values, source)
    server = _server(values, source)
    _log_to_stderr(values.get("log_level", "info"))
    raise_open_files()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(server, values, options.stop_on_eof))
    return 0


class LineFormatter(logging.Formatter):
    """One line a message, whatever a peer managed to get into it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        line = super().formatMessage(record)
        return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _server(values: config.Values, source: str | None) -> RaftServer:
    taken = ("cluster_id", "tick_interval", "max_command_bytes", *JOINING, *config.RAFT_OPTIONS)
    options = {name: values[name] for name in taken if name in values}
    try:
        return RaftServer(
            values["id"],
            KeyValueStore(),
            listen=values["listen"],
            peers=values.get("peers", {}),
            data_dir=values["data_dir"],
            **options,
        )
    except (TypeError, ValueError) as error:
        raise config.complaint(source, error) from error


async def _serve(server: RaftServer, values: config.Values, stop_on_eof: bool) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    if stop_on_eof:
        _stop_on_eof(stop)
    node = f"node {values['id']}"
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except RaftError as error:
            raise CommandFailedError(f"{node}: {error}") from error
        except (OSError, UnicodeError) as error:
            raise _cannot_listen(node, "listen", values, error) from error
        resp = RespServer(server, listen=values["resp"], max_clients=max_clients(MAX_CLIENTS))
        address = {"resp": values["resp"], "peer": str(server.address), "http": values["http"]}
        admin = Admin(server, address, _names(values))
        server.on_ask("status", lambda body: admin.own_status())
        http = HttpServer(admin.routes(), listen=values["http"])
        for name, listener in (("resp", resp), ("http", http)):
            try:
                address[name] = str(await listener.start())
            except (OSError, UnicodeError) as error:  # the latter: a host that can be no host
                raise _cannot_listen(node, name, values, error) from error
            stack.push_async_callback(_stop, listener)
        await stack.enter_async_context(_pid_file(node, values.get("pid_file")))
        _settle_memory()
        await _until(stop, server, node)


def _names(values: config.Values) -> list[str]:
    """The host names by which this node may be called."""
    return [Address.parse(values[name]).host for name in ("http", "listen", "advertise") if name in values]


async def _stop(listener: RespServer | HttpServer) -> None:
    # Whoever takes no answers is not waited for any longer.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT):
            await listener.stop()


def _cannot_listen(node: str, name: str, values: config.Values, error: Exception) -> CommandFailedError:
    where = f"{Address.parse(values[name])} ({name})"
    return CommandFailedError(f"{node}: cannot listen on {where}: {reason_of(error)}")


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def stopping() -> None:
        for each in signals:
            loop.remove_signal_handler(each)
        stop.set()

    for each in signals:
        loop.add_signal_handler(each, stopping)


def _stop_on_eof(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        with contextlib.suppress(RuntimeError):  # the loop is closed: stopped already
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="raft-io stdin", daemon=True).start()


@contextlib.asynccontextmanager
async def _pid_file(node: str, path: str | None) -> AsyncIterator[None]:
    """Keeps the process id in a file while the node runs."""
    if path is None:
        yield
        return
    try:
        _write_pid(path)
    except OSError as error:
        raise CommandFailedError(f"{node}: cannot write {path}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _write_pid(path: str) -> None:
    Path(path + ".tmp").write_text(f"{os.getpid()}\n")
    os.replace(path + ".tmp", path)


def _settle_memory() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 100)


async def _until(stop: asyncio.Event, server: RaftServer, node: str) -> None:
    """Return when told to stop. Raises `CommandFailedError` when the node dies before."""
    stopping = asyncio.ensure_future(stop.wait())
    dying = asyncio.ensure_future(server.wait_stopped())
    await asyncio.wait((stopping, dying), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not dying.done():
        dying.cancel()
        return
    error = dying.exception()
    if isinstance(error, RemovedError):
        raise CommandFailedError(removal(server.config.id))
    detail = str(error) if isinstance(error, RaftError) else repr(error)
    raise CommandFailedError(f"{node}: stopped: {detail}")
