"""Draws panels: the one module that imports matplotlib, and only when it draws.

The same panels give the same bytes in any process: no dates, fixed ids, text as text, no global state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any, Final

from fusecut.errors import FusecutError
from fusecut.plan_file import write_bytes
from fusecut.report.plots.panel import Line, Panel

SUFFIXES: Final = (".svg", ".pdf", ".png")

_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
"""Okabe & Ito's, told apart by all; in the order in which labels are met."""

_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "fusecut",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
_NO_DATES: Final[dict[str, dict[str, None]]] = {
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}
_PERCENT_TICKS: Final = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)
_LONG: Final = re.compile(rb"(\d\.\d\d)\d+")
"""A hundredth of a point is enough for a place on a page."""

_INCHES: Final = (3.6, 2.3)


def check_figure(path: Path) -> None:
    """Refuse a figure that cannot be drawn before the work, not after it.

    Raises:
        FusecutError: a file type that is not known, or matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise FusecutError(f"cannot draw {path}: {path.suffix or 'no suffix'} is no figure; write {_known()}")
    if find_spec("matplotlib") is None:
        raise FusecutError("a figure needs matplotlib: pip install 'fusecut[plot]'")


def draw(panels: Sequence[Panel], path: Path, columns: int = 2) -> None:
    """Panels row by row into an SVG, PDF or PNG file, by its suffix; one legend below them.

    Raises:
        FusecutError: see :func:`check_figure`; nothing to draw; or the place cannot be written.
    """
    check_figure(path)
    if not panels:
        raise FusecutError(f"cannot draw {path}: there is nothing to show")
    write_bytes(path, _rendered(panels, path.suffix, columns))


def _known() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _rendered(panels: Sequence[Panel], suffix: str, columns: int) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = ceil(len(panels) / columns)
    out = BytesIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=(_INCHES[0] * columns, _INCHES[1] * rows + 0.3), layout="constrained")
        colours = _colours(panels)
        for place, panel in enumerate(panels, 1):
            _panel(figure.add_subplot(rows, columns, place), panel, colours)
        handles = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
        named = [label for label in colours if label in handles]
        figure.legend([handles[label] for label in named], named, loc="outside lower center", ncols=len(named))
        figure.savefig(out, format=suffix[1:], metadata=_NO_DATES[suffix], dpi=150)
    return _LONG.sub(rb"\1", out.getvalue()) if suffix == ".svg" else out.getvalue()


def _colours(panels: Sequence[Panel]) -> dict[str, str]:
    labels = dict.fromkeys(line.label for panel in panels for line in panel.lines)
    return {label: _COLOURS[k % len(_COLOURS)] for k, label in enumerate(labels)}


def _panel(axes: Any, panel: Panel, colours: dict[str, str]) -> None:
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.x_log:
        _log(axes, panel)
    if panel.y_log:
        _log_with_zero(axes, panel)
    for line in panel.lines:
        _line(axes, line, colours[line.label])


def _log(axes: Any, panel: Panel) -> None:
    places = [x for line in panel.lines for x in line.x]
    axes.set_xscale("log")
    shown = _ticks(min(places), max(places)) if places else []
    axes.set_xticks(shown, [f"{tick:,}" for tick in shown])
    axes.set_xticks([], minor=True)


def _ticks(least: float, most: float) -> list[int]:
    """Round numbers on a logarithmic axis, at least three where there are so many."""
    shown: list[int] = []
    for digits in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        shown = [tick for power in range(13) for d in digits if least <= (tick := d * 10**power) <= most]
        if len(shown) >= 3:
            break
    return shown


def _log_with_zero(axes: Any, panel: Panel) -> None:
    most = max((value for line in panel.lines for value in (line.high or line.y)), default=1.0)
    shown = [tick for tick in _PERCENT_TICKS if tick <= most] or [0]
    axes.set_yscale("symlog", linthresh=panel.y_linear_below)
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_yticks([], minor=True)
    axes.set_ylim(0, max(most, panel.y_linear_below) * 1.1)


def _line(axes: Any, line: Line, colour: str) -> None:
    axes.plot(line.x, line.y, color=colour, label=line.label)
    if line.low:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    if line.end is not None and line.x:
        k = max((k for k, x in enumerate(line.x) if x <= line.end), default=0)
        axes.plot([line.x[k]], [line.y[k]], "o", color=colour, markersize=3.5, clip_on=False)
