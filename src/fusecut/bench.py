"""Searchers side by side: a grid of runs, each with its gap to the proven optimum."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from itertools import product
from pathlib import Path
from statistics import quantiles
from typing import Any, Final, NamedTuple

from fusecut.errors import FusecutError
from fusecut.load import load
from fusecut.search import searcher
from fusecut.solution import Solution, Status
from fusecut.solve import solve, unless_interrupted
from fusecut.split import splitter
from fusecut.text import Column, render_table

MILESTONES: Final = (100, 300, 1_000, 3_000)
"""Plans, and evaluations, after which the gap is reported on the way."""

LARGEST_ROWS_BYTES: Final = 64 * 2**20


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


_FIELDS: Final = tuple(field.name for field in fields(Row))
_COUNTS: Final = ("seed", "dram_bytes", "bound_bytes", "plans", "evaluations")


def run(grid: Grid) -> Iterator[Row]:
    """The rows of a grid, one by one.

    Raises:
        FusecutError: an unknown name, a network that cannot be read, or one that no plan can run.
        KeyboardInterrupt: a search was interrupted; its row is left out.
    """
    for name in grid.searchers:
        searcher(name)
    for name in grid.splitters:
        splitter(name)
    for network, buffer, scheme in product(grid.networks, grid.buffers, grid.schemes):
        graph = load(network)
        best = unless_interrupted(solve(graph, buffer, scheme=scheme))
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
                yield _row(Setting(network, buffer, scheme, name, split), seed, best, unless_interrupted(found))


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


_SPARED: Final = frozenset({"seeds", "DRAM B", "quartiles", "plans", "seconds"})


def table(rows: Iterable[Row]) -> list[list[str]]:
    """Medians over the seeds of each setting, and the quartiles of the gap; ``<=`` where the optimum is not proved."""
    lines = []
    for setting, group in _settings(rows).items():
        low, middle, high = quartiles([row.gap for row in group])
        atmost = "" if group[0].optimum_proved else "<= "
        medians = [quartiles([getattr(r, what) for r in group])[1] for what in ("dram_bytes", "plans", "evaluations")]
        dram, plans, evaluations = (f"{round(m):,}" for m in medians)
        seconds = quartiles([row.seconds for row in group])[1]
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
            cells.append(_percent(quartiles(gaps)[1]) if len(gaps) == len(group) else "")
        lines.append([*setting, *cells, _percent(quartiles([row.gap for row in group])[1])])
    return lines


def text(rows: Sequence[Row], width: int, colour: bool) -> str:
    """The table as printed; a narrow screen shows less of it, a file all."""
    columns = [
        Column(name, "left" if k < len(Setting._fields) else "right", name == "network", name in _SPARED)
        for k, name in enumerate(HEADINGS)
    ]
    return render_table(columns, table(rows), width, colour)


def markdown(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|" + "|".join("---" if k < len(Setting._fields) else "--:" for k in range(len(headings))) + "|"
    return "\n".join([_line(headings), rule, *map(_line, lines)]) + "\n"


def written(rows: Sequence[Row], path: Path) -> str:
    """What goes into a file: every row as JSON, or as CSV for a .csv, or the table for a .md."""
    if path.suffix == ".md":
        return markdown(HEADINGS, table(rows))
    if path.suffix == ".csv":
        return _csv(rows)
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def _csv(rows: Iterable[Row]) -> str:
    """A line for each row; of the trace ``plans:evaluations:bytes`` for each improvement, with spaces between."""
    out = StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(_FIELDS)
    for row in rows:
        trace = " ".join(":".join(map(str, point)) for point in row.trace)
        lines.writerow([*(getattr(row, name) for name in _FIELDS[:-1]), trace])
    return out.getvalue()


def read(path: Path) -> list[Row]:
    """Rows written as JSON or CSV before.

    Raises:
        FusecutError: no such file, one of more than 64 MiB, or no rows in it.
    """
    try:
        if path.stat().st_size > LARGEST_ROWS_BYTES:
            raise ValueError(f"larger than {LARGEST_ROWS_BYTES:,} B")
        text = path.read_text(encoding="utf-8-sig")
        found = [_row_of(data) for data in (_from_csv(text) if path.suffix == ".csv" else json.loads(text))]
        if not found:
            raise ValueError("no rows in it")
        return found
    except OSError as error:
        raise FusecutError(f"cannot read rows from {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        why = str(error).splitlines()[0]
        raise FusecutError(f"cannot read rows from {path}: {why}; write them with bench searchers -o") from None


def _from_csv(text: str) -> Iterator[dict[str, Any]]:
    """Cells as JSON has them."""
    for line in csv.DictReader(StringIO(text), strict=True):
        cells: dict[str, Any] = {name: line[name] or "" for name in _FIELDS}
        cells |= {name: int(cells[name]) for name in _COUNTS}
        cells |= {"seconds": float(cells["seconds"]), "optimum_proved": cells["optimum_proved"] == "True"}
        yield cells | {"trace": [[int(n) for n in point.split(":")] for point in cells["trace"].split()]}


def _row_of(data: dict[str, Any]) -> Row:
    """A row, once every field is what it should be."""
    values = {name: data[name] for name in _FIELDS}
    trace = values["trace"] = tuple(tuple(point) for point in data["trace"])
    counts = [*(values[name] for name in _COUNTS), *(n for point in trace for n in point)]
    sound = (
        all(isinstance(values[name], str) for name in Setting._fields)
        and all(type(n) is int and 0 <= n < 2**63 for n in counts)
        and all(len(point) == 3 and point[2] > 0 for point in trace)
        and values["dram_bytes"] > 0
        and isinstance(values["optimum_proved"], bool)
        and isinstance(values["seconds"], int | float)
    )
    if not sound:
        raise ValueError("a row has a field of the wrong type")
    return Row(**values)


def _settings(rows: Iterable[Row]) -> dict[Setting, list[Row]]:
    found: dict[Setting, list[Row]] = {}
    for row in rows:
        setting = Setting(row.network, row.buffer, row.scheme, row.searcher, row.splitter)
        found.setdefault(setting, []).append(row)
    return found


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile (linear interpolation); of one value, that value three times."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
