"""fusecut: which operators of a neural network to fuse so that the fewest bytes cross to DRAM, with proof.

>>> import fusecut as fc
>>> solution = fc.solve(fc.zoo("mobilenet_v2"), buffer="256KiB")
>>> solution.status.name, solution.cost.dram_bytes == solution.bound
('optimal', True)
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from fusecut import _start

_start.guard()  # before anything that takes time to load

from fusecut import machines, models, search, split
from fusecut._version import __version__
from fusecut.cost import Cost, CostModel, Infeasible, Planned
from fusecut.curve import curve
from fusecut.errors import FusecutError
from fusecut.frontend.torch import from_torch
from fusecut.ir import Graph, Op, Tensor
from fusecut.load import load
from fusecut.machine import Machine
from fusecut.pareto import pareto
from fusecut.partition import Partition
from fusecut.plan_file import load_plan
from fusecut.problem import Problem
from fusecut.schedule import Schedule
from fusecut.simulate import simulate
from fusecut.solution import Solution, Status
from fusecut.solve import solve
from fusecut.zoo import load as zoo

if TYPE_CHECKING:
    from fusecut.report import plots as plot

__all__ = [
    "Cost",
    "CostModel",
    "FusecutError",
    "Graph",
    "Infeasible",
    "Machine",
    "Op",
    "Partition",
    "Planned",
    "Problem",
    "Schedule",
    "Solution",
    "Status",
    "Tensor",
    "__version__",
    "curve",
    "from_torch",
    "load",
    "load_plan",
    "machines",
    "models",
    "pareto",
    "plot",
    "search",
    "simulate",
    "solve",
    "split",
    "zoo",
]

if not TYPE_CHECKING:  # a type checker would believe that every name is here

    def __getattr__(name: str) -> ModuleType:
        """``fusecut.plot``, loaded when it is first asked for."""
        if name == "plot":
            return import_module("fusecut.report.plots")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
