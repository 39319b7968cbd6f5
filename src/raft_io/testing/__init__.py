"""The simulator: a whole cluster in one process, on simulated time, networks and disks, from one seed.

`simulate` puts a state machine of yours through it; `raft-io sim` the store that comes with this package.
"""

from __future__ import annotations

from raft_io.testing.checks import ViolationError
from raft_io.testing.drawing import draw
from raft_io.testing.plan import Fault, Plan
from raft_io.testing.run import Outcome, run
from raft_io.testing.shrink import shrink
from raft_io.testing.users import Report, SimulationFailedError, simulate
from raft_io.testing.workload import Operation, Workload, WorkloadError

__all__ = [
    "Fault",
    "Operation",
    "Outcome",
    "Plan",
    "Report",
    "SimulationFailedError",
    "ViolationError",
    "Workload",
    "WorkloadError",
    "draw",
    "run",
    "shrink",
    "simulate",
]
