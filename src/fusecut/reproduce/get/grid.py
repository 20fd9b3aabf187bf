"""A table at a glance: a line for each splitter, a column for each cell, the gap to the optimum in percent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fusecut.reproduce.get.curves import best_after
from fusecut.reproduce.get.published import NETWORKS
from fusecut.reproduce.get.runs import Case, Row
from fusecut.reproduce.get.stats import Mean, interval
from fusecut.text import Column


def sheets(
    rows: Iterable[Row], cases: Sequence[Case], methods: Sequence[str]
) -> list[tuple[str, Sequence[Column], list[list[str]]]]:
    """Gaps of all plans and of the first quarter of them, mean and 95 % interval; seeds where they are not the most."""
    rows = list(rows)
    best = {row.key[:3]: row for row in rows if row.searcher == "exact"}
    columns = (Column("splitter", "left"), *(Column(_heading(case, cases)) for case in cases))
    return [
        (title, columns, _lines(rows, best, cases, methods, share))
        for title, share in (("gap %", 1.0), ("gap %, after a quarter of the plans", 0.25))
    ]


def _heading(case: Case, cases: Sequence[Case]) -> str:
    searchers, plans = {other.searcher for other in cases}, {other.plans for other in cases}
    more = [case.searcher] * (len(searchers) > 1) + [f"{case.plans:,}"] * (len(plans) > 1)
    return ", ".join([NETWORKS[case.network], *more])


def _lines(
    rows: list[Row], best: dict[tuple[str, str, str], Row], cases: Sequence[Case], methods: Sequence[str], share: float
) -> list[list[str]]:
    found = {
        (method, case): _gaps(rows, best[case[:3]], case, method, share)
        for method in methods
        for case in cases
        if case[:3] in best
    }
    most = max((len(gaps) for gaps in found.values()), default=0)
    lines = [[method, *(_text(found.get((method, case), []), most) for case in cases)] for method in methods]
    return [line for line in lines if any(line[1:])]


def _gaps(rows: list[Row], best: Row, case: Case, method: str, share: float) -> list[float]:
    fixed, plans = best.dram_bytes - best.fusible_bytes, max(1, round(share * case.plans))
    mine = [row for row in rows if row.key[:5] == (*case[:4], method) and row.plans == case.plans]
    ends = [row.fusible_bytes if share == 1 else best_after(row, plans, fixed) for row in mine]
    return [100 * (nbytes - best.fusible_bytes) / nbytes for nbytes in ends if nbytes]


def _text(gaps: list[float], most: int) -> str:
    if not gaps:
        return ""
    found: Mean = interval(gaps)
    return found.text(2) + (f" ({len(gaps)})" if len(gaps) < most else "")
