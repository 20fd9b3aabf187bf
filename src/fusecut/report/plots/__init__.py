"""Figures for papers: what they show is plain data, one module draws any of it (``canvas``).

``gap_curves``, ``plan_bars``, ``compared_bars`` and ``dram_curves`` return panels, ``draw`` writes panels
of any kind into an SVG, PDF or PNG file. A new figure is a function that returns panels. Only
``canvas`` imports matplotlib, and only when something is drawn.
"""

from fusecut.report.plots.canvas import SUFFIXES, check_figure, draw
from fusecut.report.plots.curves import dram_curves
from fusecut.report.plots.gaps import gap_curves
from fusecut.report.plots.panel import BarPanel, Line, Panel, Stack
from fusecut.report.plots.plans import compared_bars, plan_bars

__all__ = [
    "SUFFIXES",
    "BarPanel",
    "Line",
    "Panel",
    "Stack",
    "check_figure",
    "compared_bars",
    "dram_curves",
    "draw",
    "gap_curves",
    "plan_bars",
]
