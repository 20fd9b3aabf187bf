"""Figures: what they show is plain data (``gaps``), one module draws any of it (``canvas``).

A new figure is a function that returns :class:`Panel` objects. Only ``canvas`` imports matplotlib, and
only when something is drawn.
"""

from fusecut.report.plots.canvas import SUFFIXES, check_figure, draw
from fusecut.report.plots.gaps import gap_curves
from fusecut.report.plots.panel import Line, Panel

__all__ = ["SUFFIXES", "Line", "Panel", "check_figure", "draw", "gap_curves"]
