"""The judge: executes every plan through a buffer of exactly the size it claims, and counts every byte.

It shares the schedule and the row maps with the cost models and none of their formulas. docs/simulator.md
says what is checked, what is counted and what is not.
"""

from fusecut.simulate.execution import Progress, execute
from fusecut.simulate.report import Figures, GroupRun, Sample, Simulation
from fusecut.simulate.run import simulate
from fusecut.simulate.trace import trace_json, write_trace

__all__ = [
    "Figures",
    "GroupRun",
    "Progress",
    "Sample",
    "Simulation",
    "execute",
    "simulate",
    "trace_json",
    "write_trace",
]
