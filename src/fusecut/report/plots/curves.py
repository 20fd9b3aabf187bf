"""DRAM traffic against buffer size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fusecut.curve import Curve
from fusecut.errors import FusecutError
from fusecut.report.curve_text import labels
from fusecut.report.plots.panel import Line, Panel
from fusecut.report.plots.plans import KIB, MB

_MOST_TICKS: Final = 10


def dram_curves(curves: Sequence[Curve], title: str = "") -> tuple[Panel]:
    """Curves as steps: DRAM traffic in MB of 1,000,000 bytes over the buffer in KiB, by powers of two.

    Each is named by what it differs in from the others. What is not proved has a band down to its
    bound. A dashed line is the floor of the curves, where all have the same. O(points).

    Raises:
        FusecutError: no curve has a point.
    """
    shown = [(label, curve) for label, curve in zip(labels(curves), curves, strict=True) if curve.points]
    if not shown:
        raise FusecutError(f"no curve to draw: {curves[0].ended if curves else 'none was given'}")
    lines = [_steps(label, curve) for label, curve in shown]
    low, high = min(line.x[0] for line in lines), max(line.x[-1] for line in lines)
    floors = {curve.floor_bytes for _, curve in shown}
    if len(floors) == 1:
        floor = floors.pop() / MB
        lines.append(Line("floor", (low, high), (floor, floor), dashed=True))
    return (Panel(title, "buffer, KiB", "DRAM traffic, MB", tuple(lines), y_log=False, x_ticks=_powers(low, high)),)


def _steps(label: str, curve: Curve) -> Line:
    """Every point, and the end of the last step; a band only where something is not proved."""
    points = [*curve.points, curve.points[-1]]
    places = (*(point.buffer_bytes / KIB for point in curve.points), curve.machine.buffer_bytes / KIB)
    heights = tuple(point.dram_bytes / MB for point in points)
    low = () if curve.proved else tuple(point.bound_bytes / MB for point in points)
    return Line(label, places, heights, low, heights if low else (), steps=True)


def _powers(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Powers of two of a KiB within the range; every second, third and so on where there are too many."""
    powers = [power for power in (2**k for k in range(64)) if low <= power <= high]
    every = -(-len(powers) // _MOST_TICKS) or 1
    return tuple((float(power), f"{power:,}") for power in powers[::every])
