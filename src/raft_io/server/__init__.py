"""The server: hosts an application's state machine on a cluster of nodes, on asyncio."""

from raft_io.server.machine import StateMachine
from raft_io.server.server import RaftServer

__all__ = ["RaftServer", "StateMachine"]
