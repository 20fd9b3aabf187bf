"""Figure 5: the best plan so far against the plans proposed, mean and 95 % interval over the seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fusecut.report.plots import Line, Panel
from fusecut.reproduce.get.published import NETWORKS
from fusecut.reproduce.get.runs import Case, Row
from fusecut.reproduce.get.stats import Mean, interval

POINTS: Final = 40
TICKS: Final = (1_000, 2_000, 3_000, 4_000)


def best_after(row: Row, plans: int, fixed_bytes: int) -> int | None:
    """Fusible bytes of the best of the first so many plans; None before there is one."""
    known = [nbytes for count, _, nbytes in row.trace if count <= plans]
    return known[-1] - fixed_bytes if known else None


def panels(rows: Iterable[Row], cases: Sequence[Case], methods: Sequence[str]) -> tuple[Panel, ...]:
    """One for each case: a line for each method, and the optimum dashed."""
    rows = list(rows)
    return tuple(_panel(rows, case, methods) for case in cases)


def _panel(rows: list[Row], case: Case, methods: Sequence[str]) -> Panel:
    best = next(row for row in rows if row.searcher == "exact" and (row.network, row.scheme, row.buffer) == case[:3])
    fixed = best.dram_bytes - best.fusible_bytes
    counts = sorted({max(1, case.plans * k // POINTS) for k in range(1, POINTS + 1)})
    drawn = []
    for method in methods:
        mine = [row for row in rows if row.key[:5] == (*case[:4], method) and row.plans == case.plans]
        points = [(count, mean) for count in counts if mine and (mean := _mean(mine, count, fixed)) is not None]
        if points:
            drawn.append(_line(method, points))
    ends = (float(counts[0]), float(counts[-1]))
    drawn.append(Line("optimum", ends, (best.fusible_bytes / 1e6,) * 2, dashed=True))
    title = f"{NETWORKS[case.network]}, {case.scheme}, {case.buffer}, {case.searcher}"
    return Panel(title, "plans proposed", "fusible DRAM, MB", tuple(drawn), x_log=False, y_log=False)


def _line(label: str, points: list[tuple[int, Mean]]) -> Line:
    means = [mean for _, mean in points]
    halves = [mean.half or 0.0 for mean in means]
    return Line(
        label,
        tuple(float(count) for count, _ in points),
        tuple(mean.mean for mean in means),
        tuple(mean.mean - half for mean, half in zip(means, halves, strict=True)),
        tuple(mean.mean + half for mean, half in zip(means, halves, strict=True)),
    )


def _mean(rows: list[Row], plans: int, fixed_bytes: int) -> Mean | None:
    known = [nbytes for row in rows if (nbytes := best_after(row, plans, fixed_bytes)) is not None]
    return interval([nbytes / 1e6 for nbytes in known]) if len(known) == len(rows) else None


def lines(rows: Iterable[Row], cases: Sequence[Case], methods: Sequence[str]) -> list[list[str]]:
    """The figure as a table: megabytes after a quarter, half, three quarters and all of the plans."""
    text = []
    for panel, case in zip(panels(rows, cases, methods), cases, strict=True):
        for drawn in panel.lines:
            known = dict(zip(drawn.x, drawn.y, strict=True))
            marks = [float(case.plans * k // 4) for k in (1, 2, 3, 4)]
            cells = [f"{drawn.y[-1]:.3f}" if drawn.dashed else f"{known[m]:.3f}" if m in known else "" for m in marks]
            text.append([panel.title, drawn.label, f"{case.plans:,}", *cells])
    return text
