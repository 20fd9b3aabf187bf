"""Rows to tables: plain data first, text and Markdown from the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median

from fusecut.reproduce.get.published import DRAM_MB, NETWORKS, RECTIFIED
from fusecut.reproduce.get.runs import Case, Row
from fusecut.reproduce.get.stats import Mean, holm, interval, p_text, wilcoxon
from fusecut.text import Column, render_table

PLAIN = "random"
PLACEBO = "random_edges"


@dataclass(frozen=True)
class Cell:
    """Runs of one method in one case over the seeds, with the best plan that exists.

    ``fusible_mb`` leaves out the ops that do not fit alone. ``reduction`` is the mean over paired seeds of
    1 - ours / plain; ``gap`` is (ours - optimum) / ours on the fusible bytes.
    """

    case: Case
    method: str
    seeds: int
    fusible_mb: Mean
    optimum_mb: float
    proved: bool
    gap: Mean
    reduction: float | None
    median_ratio: float | None
    published_mb: float | None
    published_reduction: float | None
    buffer_bytes: int
    evaluations: float
    explanations: float
    rectify_rate: float | None
    cpu_seconds: float | None


def cells(rows: Iterable[Row], cases: Sequence[Case], methods: Sequence[str]) -> list[Cell]:
    """What the rows say about each case and method; cells without rows are left out."""
    by_key: dict[tuple[Case, str], dict[int, Row]] = {}
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if row.searcher == "exact":
            best[row.network, row.scheme, row.buffer] = row
        else:
            case = Case(row.network, row.scheme, row.buffer, row.searcher, row.plans)
            by_key.setdefault((case, row.method), {})[row.seed] = row
    return [
        _cell(case, method, by_key[case, method], by_key.get((case, PLAIN), {}), best[case[:3]])
        for case in cases
        for method in methods
        if (case, method) in by_key and case[:3] in best
    ]


def _cell(case: Case, method: str, found: dict[int, Row], plain: dict[int, Row], best: Row) -> Cell:
    rows = [found[seed] for seed in sorted(found)]
    pairs = [(found[s].fusible_bytes, plain[s].fusible_bytes) for s in sorted(found) if s in plain]
    published, reduction = _published(case, method)
    infeasible = sum(row.infeasible_groups for row in rows)
    ours = median([a for a, _ in pairs]) / median([b for _, b in pairs]) if pairs else None
    return Cell(
        case,
        method,
        len(rows),
        interval([row.fusible_bytes / 1e6 for row in rows]),
        best.fusible_bytes / 1e6,
        best.proved,
        interval([gap(row, best) for row in rows]),
        mean(1 - a / b for a, b in pairs) if pairs else None,
        ours,
        published,
        reduction,
        round(mean(row.buffer_bytes for row in rows)),
        mean(row.evaluations for row in rows),
        mean(row.explanations for row in rows),
        sum(row.rectified_groups for row in rows) / infeasible if infeasible else None,
        mean(row.cpu_seconds for row in rows) if case.scheme != "brr" else None,
    )


def gap(row: Row, best: Row) -> float:
    """Share of the fusible bytes that the best plan saves."""
    return (row.fusible_bytes - best.fusible_bytes) / row.fusible_bytes if row.fusible_bytes else 0.0


def _published(case: Case, method: str) -> tuple[float | None, float | None]:
    figure = DRAM_MB.get((case.scheme, case.buffer, case.network, case.searcher, method))
    plain = DRAM_MB.get((case.scheme, case.buffer, case.network, case.searcher, PLAIN))
    return figure, None if figure is None or plain is None or method == PLAIN else 1 - figure / plain


COLUMNS = (
    Column("network", "left"), Column("search", "left"), Column("splitter", "left"), Column("seeds"), Column("plans"),
    Column("MB"), Column("vs plain"), Column("paper MB"), Column("vs plain"), Column("gap %"),
    Column("buffer B"), Column("evaluations"), Column("explained"), Column("CPU s"),
)  # fmt: skip


def lines(found: Sequence[Cell]) -> list[list[str]]:
    """A line for each cell, and one with the optimum ahead of the cells of a network."""
    text: list[list[str]] = []
    shown = set()
    for cell in found:
        case = cell.case
        if case.network not in shown:
            shown.add(case.network)
            status = "optimum" if cell.proved else "best bound"
            text.append([NETWORKS[case.network], status, "", "", "", f"{cell.optimum_mb:.3f}", *[""] * 8])
        text.append(
            [
                NETWORKS[case.network],
                case.searcher,
                cell.method,
                str(cell.seeds),
                f"{case.plans:,}",
                cell.fusible_mb.text(3),
                "" if cell.method == PLAIN else signed(cell.reduction),
                "" if cell.published_mb is None else f"{cell.published_mb:.3f}",
                signed(cell.published_reduction),
                cell.gap.times(100).text(2),
                f"{cell.buffer_bytes:,}",
                f"{cell.evaluations:,.0f}",
                f"{cell.explanations:,.0f}" if cell.explanations else "",
                "" if cell.cpu_seconds is None else f"{cell.cpu_seconds:.1f}",
            ]
        )
    return text


def signed(reduction: float | None) -> str:
    """A reduction as the change it is: -12.3 % moves less."""
    return "" if reduction is None else f"{round(-100 * reduction, 1) + 0.0:+.1f} %".replace("+0.0", "0.0")


@dataclass(frozen=True)
class Verdict:
    """A method over all cells it was run in.

    ``no_worse`` counts cells whose median is at most that of the plain search, ``better_than_placebo``
    those whose mean gap is below that of random edges. The p-values are of Wilcoxon's signed-rank test
    over the pairs (cell, seed), Holm-corrected over the methods of the table.
    """

    method: str
    cells: int
    mean_gap: float
    no_worse: int
    better_than_placebo: int
    p_plain: float
    p_placebo: float


def verdicts(rows: Iterable[Row], found: Sequence[Cell], methods: Sequence[str]) -> list[Verdict]:
    """One for each method that ran."""
    rows = list(rows)
    ran = [method for method in methods if any(cell.method == method for cell in found)]
    p_plain, p_placebo = (_corrected(rows, found, ran, against) for against in (PLAIN, PLACEBO))
    placebo = {cell.case: cell.gap.mean for cell in found if cell.method == PLACEBO}
    verdict = []
    for k, method in enumerate(ran):
        mine = [cell for cell in found if cell.method == method]
        verdict.append(
            Verdict(
                method,
                len(mine),
                mean(cell.gap.mean for cell in mine),
                sum(cell.median_ratio is not None and cell.median_ratio <= 1 for cell in mine),
                sum(cell.case in placebo and cell.gap.mean < placebo[cell.case] for cell in mine),
                p_plain[k],
                p_placebo[k],
            )
        )
    return verdict


def _corrected(rows: Sequence[Row], found: Sequence[Cell], methods: Sequence[str], against: str) -> list[float]:
    tested = [method for method in methods if method != against]
    cases = {cell.case for cell in found}
    p_values = holm([wilcoxon(_differences(rows, cases, method, against)) for method in tested])
    return [1.0 if method == against else p_values[tested.index(method)] for method in methods]


def _differences(rows: Sequence[Row], cases: set[Case], method: str, against: str) -> list[float]:
    """Relative differences of fusible bytes of two methods, run by run of the same case and seed."""
    known: dict[tuple[Case, int], dict[str, int]] = {}
    for row in rows:
        case = Case(row.network, row.scheme, row.buffer, row.searcher, row.plans)
        if case in cases and row.method in (method, against):
            known.setdefault((case, row.seed), {})[row.method] = row.fusible_bytes
    return [found[method] / found[against] - 1 for found in known.values() if len(found) == 2]


VERDICT_COLUMNS = (
    Column("splitter", "left"), Column("cells"), Column("mean gap %"), Column("no worse than plain"), Column("p"),
    Column("nearer than random edges"), Column("p"),
)  # fmt: skip


def verdict_lines(found: Sequence[Verdict]) -> list[list[str]]:
    return [
        [
            v.method,
            str(v.cells),
            f"{100 * v.mean_gap:.2f}",
            "" if v.method == PLAIN else f"{v.no_worse}/{v.cells}",
            "" if v.method == PLAIN else p_text(v.p_plain),
            "" if v.method == PLACEBO else f"{v.better_than_placebo}/{v.cells}",
            "" if v.method == PLACEBO else p_text(v.p_placebo),
        ]
        for v in found
    ]


RATE_COLUMNS = (
    Column("search", "left"), Column("splitter", "left"), Column("seeds"), Column("plans"), Column("rectified"),
    Column("paper"), Column("gap %"), Column("evaluations"), Column("explained"), Column("CPU s"), Column("paper s"),
)  # fmt: skip


def rate_lines(found: Sequence[Cell]) -> list[list[str]]:
    """Table V: share of infeasible groups that the splitter split without help."""
    text = []
    for cell in found:
        published = RECTIFIED.get((cell.case.searcher, cell.method.removesuffix("_literal")))
        text.append(
            [
                cell.case.searcher,
                cell.method,
                str(cell.seeds),
                f"{cell.case.plans:,}",
                "" if cell.rectify_rate is None else f"{100 * cell.rectify_rate:.1f} %",
                "" if published is None else f"{100 * published[0]:.1f} %",
                f"{100 * cell.gap.mean:.2f}",
                f"{cell.evaluations:,.0f}",
                f"{cell.explanations:,.0f}" if cell.explanations else "",
                "" if cell.cpu_seconds is None else f"{cell.cpu_seconds:.1f}",
                "" if published is None else f"{published[1]}",
            ]
        )
    return text


Sheet = tuple[str, Sequence[Column], list[list[str]]]
"""A heading, columns, and cells."""


def text(sheets: Sequence[Sheet], width: int, colour: bool) -> str:
    """Sheets as printed."""
    return "\n\n".join(
        f"{title}\n{render_table(columns, rows, max(width, 170), colour)}" for title, columns, rows in sheets
    )


def markdown(sheets: Sequence[Sheet]) -> str:
    """Sheets as Markdown."""
    return "\n".join(_markdown(*sheet) for sheet in sheets)


def _markdown(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    rule = "|".join("---" if column.align == "left" else "--:" for column in columns)
    body = [f"| {' | '.join(row)} |" for row in ([column.heading for column in columns], *rows)]
    return "\n".join([f"### {title}", "", body[0], f"|{rule}|", *body[1:], ""])
