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
from fusecut.report.plots.panel import BarPanel, Line, Panel

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
_GREY: Final = "#333333"
_BAR_WIDTH: Final = 0.8
_MOST_BAR_NAMES: Final = 20
_LETTERS_PER_INCH: Final = 14
_KEY_LETTERS: Final = 7
"""What a key and the space around it take of a legend."""


def check_figure(path: Path) -> None:
    """Refuse a figure that cannot be drawn before the work, not after it.

    Raises:
        FusecutError: a file type that is not known, or matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise FusecutError(f"cannot draw {path}: {path.suffix or 'no suffix'} is no figure; write {_known()}")
    if find_spec("matplotlib") is None:
        raise FusecutError("a figure needs matplotlib: pip install 'fusecut[plot]'")


def draw(panels: Sequence[Panel | BarPanel], path: str | Path, columns: int = 2) -> None:
    """Panels row by row into an SVG, PDF or PNG file, by its suffix; one legend below them.

    Raises:
        FusecutError: see :func:`check_figure`; nothing to draw; or the place cannot be written.
    """
    file = Path(path)
    check_figure(file)
    if not panels:
        raise FusecutError(f"cannot draw {path}: there is nothing to show")
    write_bytes(file, _rendered(panels, file.suffix, columns))


def _known() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _rendered(panels: Sequence[Panel | BarPanel], suffix: str, columns: int) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = ceil(len(panels) / columns)
    out = BytesIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=(_INCHES[0] * columns, _INCHES[1] * rows + 0.3), layout="constrained")
        colours = _colours(panels)
        for place, panel in enumerate(panels, 1):
            axes = figure.add_subplot(rows, columns, place)
            if isinstance(panel, BarPanel):
                _bars(axes, panel, colours)
            else:
                _panel(axes, panel, colours)
        _legend(figure, colours)
        figure.savefig(out, format=suffix[1:], metadata=_NO_DATES[suffix], dpi=150)
    return _LONG.sub(rb"\1", out.getvalue()) if suffix == ".svg" else out.getvalue()


def _colours(panels: Sequence[Panel | BarPanel]) -> dict[str, str]:
    labels = dict.fromkeys(label for panel in panels for label in _labels(panel))
    return {label: _COLOURS[k % len(_COLOURS)] for k, label in enumerate(labels)}


def _labels(panel: Panel | BarPanel) -> list[str]:
    """What has a colour; dashed lines are grey."""
    if isinstance(panel, BarPanel):
        return [stack.label for stack in panel.stacks]
    return [line.label for line in panel.lines if not line.dashed]


def _legend(figure: Any, colours: dict[str, str]) -> None:
    """One for all panels, coloured labels first; in columns where it does not fit into one row."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    named = [*(label for label in colours if label in handles), *(label for label in handles if label not in colours)]
    wide = [len(label) + _KEY_LETTERS for label in named]
    room = figure.get_figwidth() * _LETTERS_PER_INCH
    ncols = len(named) if sum(wide) <= room else max(1, int(room / max(wide)))
    figure.legend([handles[label] for label in named], named, loc="outside lower center", ncols=ncols)


def _panel(axes: Any, panel: Panel, colours: dict[str, str]) -> None:
    _headed(axes, panel)
    if panel.x_log:
        _log(axes, panel)
    if panel.y_log:
        _log_with_zero(axes, panel)
    for line in panel.lines:
        _line(axes, line, _GREY if line.dashed else colours[line.label])
    if not panel.y_log:
        _from_zero(axes)


def _headed(axes: Any, panel: Panel | BarPanel) -> None:
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)


def _bars(axes: Any, panel: BarPanel, colours: dict[str, str]) -> None:
    _headed(axes, panel)
    places = range(len(panel.bars))
    below = [0.0] * len(panel.bars)
    for stack in panel.stacks:
        axes.bar(places, stack.heights, _BAR_WIDTH, below, label=stack.label, color=colours[stack.label], zorder=2)
        below = [low + height for low, height in zip(below, stack.heights, strict=True)]
    if panel.limit is not None:
        axes.axhline(panel.limit, color=_GREY, linestyle="--", label=panel.limit_label, zorder=3)
    every = ceil(len(panel.bars) / _MOST_BAR_NAMES)
    axes.set_xticks(places[::every], panel.bars[::every])
    axes.grid(False, axis="x")
    _from_zero(axes)


def _from_zero(axes: Any) -> None:
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,g}")


def _log(axes: Any, panel: Panel) -> None:
    places = [x for line in panel.lines for x in line.x]
    axes.set_xscale("log")
    shown = panel.x_ticks or [(tick, f"{tick:,}") for tick in (_ticks(min(places), max(places)) if places else [])]
    axes.set_xticks([place for place, _ in shown], [name for _, name in shown])
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
    how = "steps-post" if line.steps else "default"
    axes.plot(line.x, line.y, "--" if line.dashed else "-", color=colour, label=line.label, drawstyle=how)
    if line.low:
        step = "post" if line.steps else None
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0, step=step)
    if line.end is not None and line.x:
        k = max((k for k, x in enumerate(line.x) if x <= line.end), default=0)
        axes.plot([line.x[k]], [line.y[k]], "o", color=colour, markersize=3.5, clip_on=False)
