"""One driver and everything around it, moved by hand."""

from __future__ import annotations

from tests.server.support import Answers, Recorder

from raft_io import (
    AppendEntries,
    AppendEntriesReply,
    MemoryLog,
    Message,
    PreVoteReply,
    RaftConfig,
    RequestVoteReply,
    wire,
)
from raft_io.core.events import Event
from raft_io.server import frames
from raft_io.server.driver import Driver, Output
from raft_io.server.frames import Frames
from raft_io.server.requests import Request

TICK = 0.025


class Bench:
    """Node 1 of three, its clock, and its disk that is done only when told so."""

    def __init__(self, log: MemoryLog | None = None, **options: int) -> None:
        self.now = 0.0
        self.wall = 0
        self.machine = Recorder()
        self.reports: list[str] = []
        self.driver = Driver(
            RaftConfig(1, [2, 3]).replace(**options),
            MemoryLog() if log is None else log,
            self.machine,
            tick_interval=TICK,
            now=self.now,
            wall=lambda: self.wall,
            nonce=lambda: bytes(16),
            report=self.reports.append,
        )
        self.term = 1

    def turn(self, seconds: float = 0.0) -> Output:
        self.now += seconds
        output = self.driver.turn(self.now)
        for waiter, succeeded, value in output.answers:
            if succeeded:
                waiter.succeeded(value)
            else:
                waiter.failed(value)
        return output

    def synced(self, seconds: float = 0.0) -> Output:
        """Turns until the disk has nothing to do; what they send, together."""
        sent = Output()
        output = self.turn(seconds)
        while True:
            for peer, batch in output.send.items():
                sent.send.setdefault(peer, []).extend(batch)
            if not (output.sync or output.again):
                return sent
            if output.sync:
                self.driver.synced(output.sync)
            output = self.turn()

    def receive(self, message: Message, peer: int = 2) -> None:
        self.driver.receive(peer, frames.MESSAGE, wire.encode(message))

    def lead(self) -> None:
        while not self.turn(TICK).send:
            pass
        self.receive(PreVoteReply(self.driver.node.term + 1, True, 2))
        self.driver.synced(self.turn().sync)
        self.term = self.driver.node.term
        self.receive(RequestVoteReply(self.term, True, 2))
        self.turn()
        assert self.driver.node.is_leader

    def follow(self) -> None:
        self.term = 5
        self.receive(AppendEntries(5, 2, 0, 0, (), 0))
        self.synced()
        assert self.driver.node.leader == 2

    def ask(self, data: bytes = b"x", seconds: float = 10.0) -> Answers:
        waiter = Answers()
        self.driver.request(Request(waiter, self.now + seconds, data))
        return waiter

    def read(self, seconds: float = 10.0) -> Answers:
        """A caller asks how much was applied."""
        waiter = Answers()
        self.driver.request(
            Request(waiter, self.now + seconds, None, query=lambda machine: len(machine.history))
        )
        return waiter

    def operate(self, event: Event) -> list[Exception | None]:
        told: list[Exception | None] = []
        self.driver.operate(event, told.append)
        return told

    def serve(self) -> None:
        """Lead, with a session open and one command applied."""
        self.lead()
        waiter = self.ask(b"first")
        self.commit()
        self.commit()
        assert waiter.done

    def commit(self) -> None:
        """Node 2 has everything."""
        self.synced()
        self.receive(AppendEntriesReply(self.term, True, 2, self.driver.node.log.last_index()))
        self.synced()


def kinds(output: Output, peer: int) -> list[int]:
    return [kind for data in output.send.get(peer, []) for kind, _ in Frames(frames.MAX_FRAME).feed(data)]


def messages(output: Output, peer: int) -> list[Message]:
    return [
        wire.decode(body)
        for data in output.send.get(peer, [])
        for kind, body in Frames(frames.MAX_FRAME).feed(data)
        if kind == frames.MESSAGE
    ]
