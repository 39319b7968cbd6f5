"""A replicated counter: each node adds 1 a second, until Ctrl-C.

    python examples/counter.py [PORT [NODE ...]]

The peers of node 1, 2 and 3 connect to PORT + 1, + 2 and + 3; PORT is 9000 unless told otherwise. The nodes named
run in this process; without any all three do. The data is in counter-data/.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import BinaryIO

from raft_io.server import RaftServer, StateMachine


class Counter(StateMachine):
    total = 0

    def apply(self, command: bytes) -> bytes:
        self.total += int(command)
        return b"%d" % self.total

    def capture(self) -> Callable[[BinaryIO], None]:
        data = b"%d" % self.total
        return lambda stream: stream.writelines([data])

    def restore(self, stream: BinaryIO) -> None:
        self.total = int(stream.read())


async def run(me: int, peers: dict[int, str]) -> None:
    async with RaftServer(me, Counter(), listen=peers[me], peers=peers, data_dir=f"counter-data/{me}") as it:
        while True:
            print(f"node {me} adds 1:", int(await it.propose(b"1", timeout=3600)), flush=True)
            await asyncio.sleep(1)


async def main(port: int = 9000, *nodes: int) -> None:
    peers = {node: f"127.0.0.1:{port + node}" for node in (1, 2, 3)}
    await asyncio.gather(*[run(node, peers) for node in nodes or peers])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*map(int, sys.argv[1:])))
