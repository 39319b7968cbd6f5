"""A replicated counter: each node adds 1 a second, until Ctrl-C. `examples/counter.py [PORT [NODE ...]]` runs
these of the nodes 1, 2, 3, or all; node N listens on PORT + N (from 9000 on). Data: counter-data/."""

import asyncio
import sys
from contextlib import suppress
from typing import Any

from raft_io.server import RaftServer, StateMachine


class Counter(StateMachine):
    total = 0

    def apply(self, command: bytes) -> bytes:
        self.total += int(command)
        return b"%d" % self.total

    def capture(self) -> Any:
        return lambda stream, total=self.total: stream.write(b"%d" % total)

    def restore(self, stream: Any) -> None:
        self.total = int(stream.read())


async def run(me: int, port: int) -> None:
    peers = {node: f"127.0.0.1:{port + node}" for node in (1, 2, 3)}
    async with RaftServer(me, Counter(), listen=peers[me], peers=peers, data_dir=f"counter-data/{me}") as it:
        while True:
            print(f"node {me} adds 1:", int(await it.propose(b"1", timeout=3600)), flush=True)
            await asyncio.sleep(1)


async def main(port: int = 9000, *nodes: int) -> None:
    await asyncio.gather(*[run(node, port) for node in nodes or (1, 2, 3)])


with suppress(KeyboardInterrupt):
    asyncio.run(main(*map(int, sys.argv[1:])))
