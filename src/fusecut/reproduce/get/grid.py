"""A table at a glance: a line for each splitter, a column for each cell, the gap to the optimum in percent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fusecut.reproduce.get.curves import best_after
from fusecut.reproduce.get.published import NETWORKS
from fusecut.reproduce.get.runs import Case, Row
from fusecut.reproduce.get.tables import VERDICT_COLUMNS, Cell, Sheet, cells, verdict_lines, verdicts
from fusecut.text import Column


def sheets(rows: Iterable[Row], cases: Sequence[Case], methods: Sequence[str]) -> list[Sheet]:
    """Gaps, mean and 95 % interval, after all plans and after a quarter of them, and the verdict over all cells.

    Where a cell has fewer seeds than another their number stands behind it.
    """
    rows = list(rows)
    return [
        _sheet("gap %", rows, cases, methods),
        _sheet("gap % after a quarter of the plans", after(rows, 0.25), cases, methods),
    ]


def after(rows: Iterable[Row], share: float) -> list[Row]:
    """Runs as if stopped after a share of their plans; those without a plan by then are left out.

    Bytes alone are as they were then, evaluations and seconds are not.
    """
    rows = list(rows)
    best = {row.key[:3]: row for row in rows if row.searcher == "exact"}
    found = []
    for row in rows:
        if row.searcher == "exact":
            found.append(row)
        elif (optimum := best.get(row.key[:3])) is not None:
            fixed = optimum.dram_bytes - optimum.fusible_bytes
            nbytes = best_after(row, max(1, round(share * row.plans)), fixed)
            if nbytes is not None:
                found.append(replace(row, dram_bytes=nbytes + fixed, fusible_bytes=nbytes))
    return found


def _sheet(title: str, rows: list[Row], cases: Sequence[Case], methods: Sequence[str]) -> Sheet:
    found = cells(rows, cases, methods)
    shown = [case for case in cases if any(cell.case == case for cell in found)]
    most = max((cell.seeds for cell in found), default=0)
    known = {(cell.method, cell.case): _text(cell, most) for cell in found}
    lines = [
        [method, *(known.get((method, case), "") for case in shown), *rest]
        for method, *rest in verdict_lines(verdicts(rows, found, methods))
    ]
    columns = (VERDICT_COLUMNS[0], *(Column(_heading(case, shown)) for case in shown), *VERDICT_COLUMNS[1:])
    return title, columns, lines


def _heading(case: Case, cases: Sequence[Case]) -> str:
    searchers, plans = {other.searcher for other in cases}, {other.plans for other in cases}
    more = [case.searcher] * (len(searchers) > 1) + [f"{case.plans:,}"] * (len(plans) > 1)
    return ", ".join([NETWORKS[case.network], *more])


def _text(cell: Cell, most: int) -> str:
    return cell.gap.times(100).text(2) + (f" ({cell.seeds})" if cell.seeds < most else "")
