"""What stands between the nodes of a cluster, so that a test can part them: a proxy before each node, which
knows by their greetings who is who."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

from raft_io.server import frames
from raft_io.server.frames import Frames, Greeting

BLOCK = 256 * 1024


class Proxies:
    """All of them, on a loop in a thread of its own. What is cut takes bytes, and passes nothing on until it
    is healed: neither side hears of it.

    What passes takes `delay` seconds. What is on its way is lost with the connection."""

    def __init__(self) -> None:
        self.delay = 0.0
        self._ports: dict[int, int] = {}
        self._apart: frozenset[frozenset[int]] = frozenset()
        self._loop = asyncio.new_event_loop()
        self._healed = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def port(self, node: int, target: int) -> int:
        """Where others reach the node, which listens on the port `target`."""
        if node not in self._ports:
            made = asyncio.run_coroutine_threadsafe(self._listen(node, target), self._loop)
            self._ports[node] = made.result(10)
        return self._ports[node]

    async def _listen(self, node: int, target: int) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._serve(node, target, reader, writer)
            except (OSError, asyncio.CancelledError):
                pass  # one side is gone, or the test has ended
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=BLOCK)
        self._servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found

    async def _serve(
        self, node: int, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        cut = Frames()
        begun = bytearray()
        while True:
            data = await reader.read(BLOCK)
            begun += data
            found = cut.feed(data)
            if found or not data:
                break
        if not found:
            return
        kind, body = found[0]
        caller = Greeting.decode(body if kind == frames.HELLO else body[1:]).node
        pair = frozenset((caller, node))
        await self._passing(pair)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", target, limit=BLOCK)
        except OSError:
            return
        back.write(begun)
        both = [self._pass(pair, reader, back), self._pass(pair, there, writer)]
        tasks = [self._loop.create_task(each) for each in both]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            back.transport.abort()

    async def _pass(
        self, pair: frozenset[int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(BLOCK):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._passing(pair)
            writer.write(data)
            await writer.drain()
        await self._passing(pair)

    async def _passing(self, pair: frozenset[int]) -> None:
        while pair in self._apart:
            await self._healed.wait()

    def part(self, *groups: Iterable[int]) -> None:
        """Let nothing pass between the groups. Without any: all is well again."""
        sides = [frozenset(each) for each in groups]
        apart = frozenset(
            frozenset((one, other))
            for side in sides
            for one in side
            for rest in sides
            if rest is not side
            for other in rest
        )

        def change() -> None:
            self._apart = apart
            self._healed.set()
            self._healed = asyncio.Event()

        self._loop.call_soon_threadsafe(change)

    def close(self) -> None:
        """End all of it."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            await asyncio.sleep(0.01)
            # Also those that were let in a moment ago.
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.01)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
