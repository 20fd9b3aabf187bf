"""Searchers side by side: a grid of runs, each with its gap to the proven optimum."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import quantiles
from typing import Any, Final, NamedTuple

from fusecut.errors import FusecutError
from fusecut.load import load
from fusecut.search import searcher
from fusecut.solution import Solution, Status
from fusecut.solve import solve
from fusecut.split import splitter
from fusecut.text import Column, render_table

MILESTONES: Final = (100, 300, 1_000, 3_000)
"""Plans, and evaluations, after which the gap is reported on the way."""


@dataclass(frozen=True)
class Grid:
    """What to run: every combination. Searchers without randomness run once, on the first seed."""

    networks: tuple[str, ...]
    buffers: tuple[str, ...] = ("256KiB",)
    schemes: tuple[str, ...] = ("lbdf",)
    searchers: tuple[str, ...] = ("random", "local", "nsga2", "annealing", "greedy")
    splitters: tuple[str, ...] = ("random",)
    seeds: int = 10
    max_plans: int = 5_000


@dataclass(frozen=True)
class Row:
    """One run. ``gap`` is (dram - bound) / dram against the bound that the exact search proved;
    ``optimum_proved`` says whether that bound is reached. ``trace`` has (plans, evaluations, bytes)
    of every improvement."""

    network: str
    buffer: str
    scheme: str
    searcher: str
    splitter: str
    seed: int
    dram_bytes: int
    bound_bytes: int
    optimum_proved: bool
    plans: int
    evaluations: int
    seconds: float
    trace: tuple[tuple[int, int, int], ...] = ()

    @property
    def gap(self) -> float:
        return (self.dram_bytes - self.bound_bytes) / self.dram_bytes

    def gap_after(self, what: int, count: int) -> float | None:
        """Gap after so many plans (``what`` 0) or evaluations (1); None before the first plan."""
        best = [point[2] for point in self.trace if point[what] <= count]
        return (best[-1] - self.bound_bytes) / best[-1] if best else None


class Setting(NamedTuple):
    """Rows that differ in the seed only."""

    network: str
    buffer: str
    scheme: str
    searcher: str
    splitter: str


def run(grid: Grid) -> Iterator[Row]:
    """The rows of a grid, one by one.

    Raises:
        FusecutError: an unknown name, a network that cannot be read, or one that no plan can run.
    """
    for name in grid.searchers:
        searcher(name)
    for name in grid.splitters:
        splitter(name)
    for network, buffer, scheme in product(grid.networks, grid.buffers, grid.schemes):
        graph = load(network)
        best = solve(graph, buffer, scheme=scheme)
        if best.partition is None:
            raise FusecutError(f"{network} does not run in {buffer} under {scheme}: leave it out, or a larger buffer")
        for name, split in product(grid.searchers, grid.splitters):
            search = searcher(name)
            for seed in range(grid.seeds if getattr(search, "endless", False) else 1):
                found = solve(
                    graph,
                    buffer,
                    scheme=scheme,
                    search=search,
                    splitter=splitter(split),
                    max_plans=grid.max_plans,
                    seed=seed,
                )
                yield _row(Setting(network, buffer, scheme, name, split), seed, best, found)


def _row(setting: Setting, seed: int, best: Solution, found: Solution) -> Row:
    return Row(
        *setting,
        seed=seed,
        dram_bytes=found.cost.dram_bytes,
        bound_bytes=best.bound_bytes,
        optimum_proved=best.status is Status.optimal,
        plans=found.plans_proposed,
        evaluations=found.evaluations,
        seconds=round(found.seconds, 3),
        trace=tuple((p.plans_proposed, p.evaluations, p.dram_bytes) for p in found.trace),
    )


HEADINGS: Final = (
    "network", "buffer", "scheme", "searcher", "splitter", "seeds", "DRAM B", "gap", "quartiles", "plans",
    "evaluations", "seconds",
)  # fmt: skip


def table(rows: Iterable[Row]) -> list[list[str]]:
    """Medians over the seeds of each setting, and the quartiles of the gap; ``<=`` where the optimum is not proved."""
    lines = []
    for setting, group in _settings(rows).items():
        low, middle, high = _quartiles([row.gap for row in group])
        atmost = "" if group[0].optimum_proved else "<= "
        medians = [_quartiles([getattr(r, what) for r in group])[1] for what in ("dram_bytes", "plans", "evaluations")]
        dram, plans, evaluations = (f"{round(m):,}" for m in medians)
        seconds = _quartiles([row.seconds for row in group])[1]
        lines.append(
            [
                *setting,
                str(len(group)),
                dram,
                f"{atmost}{_percent(middle)}",
                f"{_percent(low)} to {_percent(high)}",
                plans,
                evaluations,
                f"{seconds:.2f}",
            ]
        )
    return lines


def progress_table(rows: Iterable[Row], what: int) -> list[list[str]]:
    """Median gap of each setting after so many plans (0) or evaluations (1), see ``MILESTONES``."""
    lines = []
    for setting, group in _settings(rows).items():
        cells = []
        for count in MILESTONES:
            gaps = [gap for row in group if (gap := row.gap_after(what, count)) is not None]
            cells.append(_percent(_quartiles(gaps)[1]) if len(gaps) == len(group) else "")
        lines.append([*setting, *cells, _percent(_quartiles([row.gap for row in group])[1])])
    return lines


def text(rows: Sequence[Row], width: int, colour: bool) -> str:
    """The table as printed."""
    columns = [Column(name, "left" if k < len(Setting._fields) else "right") for k, name in enumerate(HEADINGS)]
    return render_table(columns, table(rows), max(width, 150), colour)


def markdown(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|" + "|".join("---" if k < len(Setting._fields) else "--:" for k in range(len(headings))) + "|"
    return "\n".join([_line(headings), rule, *map(_line, lines)]) + "\n"


def written(rows: Sequence[Row], path: Path) -> str:
    """What goes into a file: every row as JSON, or the table for a file named .md."""
    if path.suffix == ".md":
        return markdown(HEADINGS, table(rows))
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def read(path: Path) -> list[Row]:
    """Rows written as JSON before.

    Raises:
        FusecutError: no such file, or no rows in it.
    """
    try:
        data: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [Row(**{**row, "trace": tuple(tuple(point) for point in row["trace"])}) for row in data]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FusecutError(f"cannot read rows from {path}: {error}; write them with bench searchers -o") from None


def _settings(rows: Iterable[Row]) -> dict[Setting, list[Row]]:
    found: dict[Setting, list[Row]] = {}
    for row in rows:
        setting = Setting(row.network, row.buffer, row.scheme, row.searcher, row.splitter)
        found.setdefault(setting, []).append(row)
    return found


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
