"""The gap to the proven optimum on the way, against plans and against evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from fusecut.bench import Row, quartiles
from fusecut.report.plots.panel import Line, Panel

POINTS: Final = 40
"""Points of a line, evenly spread on a logarithmic axis."""

MOST_CASES: Final = 4
HARDEST: Final = 2
_AXES: Final = ((0, "plans proposed"), (1, "groups priced (evaluations)"))


def gap_curves(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """Two panels for each network, buffer and scheme: median gap in percent over the seeds, with quartiles.

    The gap after n plans (or evaluations) is that of the best plan so far; a run that has ended keeps
    its last. A line begins where every seed (of every case) has a plan. If there are more than 4 cases,
    the first two panels are the medians and quartiles over all cases of their medians, and the 2
    cases with the largest gaps at the end, averaged over the searchers, follow.

    O(rows * points * trace).
    """
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(_case(row), []).append(row)
    panels = [] if len(cases) <= MOST_CASES else [_pooled(list(cases.values()), what) for what in range(2)]
    for case in _shown(cases):
        panels += [_panel(case, cases[case], what) for what in range(2)]
    return tuple(panels)


def _case(row: Row) -> str:
    return f"{row.network.removeprefix('zoo:')}, {row.buffer}, {row.scheme}"


def _shown(cases: dict[str, list[Row]]) -> list[str]:
    """All cases where they are few, else the hardest, worst first; ties in the order of the rows."""
    if len(cases) <= MOST_CASES:
        return list(cases)
    return sorted(cases, key=lambda case: -_last_gap(cases[case]))[:HARDEST]


def _last_gap(rows: list[Row]) -> float:
    """Mean over the searchers of the median over the seeds."""
    medians = [median(row.gap for row in group) for group in _searchers(rows).values()]
    return sum(medians) / len(medians)


def _searchers(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by searcher; the splitter is named where the rows have several."""
    rows = list(rows)
    several = len({row.splitter for row in rows}) > 1
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(f"{row.searcher} + {row.splitter}" if several else row.searcher, []).append(row)
    return found


def _panel(title: str, rows: list[Row], what: int) -> Panel:
    counts = _counts(rows, what)
    lines = []
    for label, group in _searchers(rows).items():
        points = [(count, gaps) for count in counts if (gaps := _gaps(group, what, count)) is not None]
        lines.append(_line(label, points, median(_used(row, what) for row in group)))
    return Panel(title, _AXES[what][1], "gap to the optimum, %", tuple(lines))


def _pooled(cases: list[list[Row]], what: int) -> Panel:
    counts = _counts([row for rows in cases for row in rows], what)
    labels = dict.fromkeys(label for rows in cases for label in _searchers(rows))
    lines = []
    for label in labels:
        groups = [_searchers(rows)[label] for rows in cases if label in _searchers(rows)]
        points = []
        for count in counts:
            known = [gaps for group in groups if (gaps := _gaps(group, what, count)) is not None]
            if len(known) == len(groups):
                points.append((count, [median(gaps) for gaps in known]))
        lines.append(_line(label, points, median(_used(row, what) for group in groups for row in group)))
    return Panel(f"median of {len(cases)} cases", _AXES[what][1], "gap to the optimum, %", tuple(lines))


def _used(row: Row, what: int) -> int:
    return (row.plans, row.evaluations)[what]


def _counts(rows: list[Row], what: int) -> list[int]:
    """From the first plan of any run to the most that any run used, evenly spread on a logarithmic axis."""
    most = max(_used(row, what) for row in rows)
    least = max(1, min((row.trace[0][what] for row in rows if row.trace), default=most))
    return sorted({round(least * (max(most, least) / least) ** (k / (POINTS - 1))) for k in range(POINTS)})


def _gaps(rows: list[Row], what: int, count: int) -> list[float] | None:
    """Percent for each row; None while one of them has no plan."""
    gaps = [row.gap_after(what, count) for row in rows]
    known = [100 * gap for gap in gaps if gap is not None]
    return known if len(known) == len(gaps) else None


def _line(label: str, points: list[tuple[int, list[float]]], end: float) -> Line:
    spread = [quartiles(gaps) for _, gaps in points]
    low, middle, high = zip(*spread, strict=True) if spread else ((), (), ())
    return Line(label, tuple(float(count) for count, _ in points), middle, low, high, end)
