"""Every searcher on every bundled CNN of up to 250 ops, against the proven optimum.

`python benchmarks/searchers.py -o docs/searchers.md` runs the grid and writes the page, and the figure
beside it; `--rows` and `--splitter-rows` take what `fusecut bench searchers -o rows.json` wrote
before, instead of running.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from _common import circumstances

from fusecut import zoo
from fusecut.bench import HEADINGS, MILESTONES, Grid, Row, Setting, markdown, progress_table, read, run, table
from fusecut.plan_file import write_text
from fusecut.report.plots import draw, gap_curves
from fusecut.zoo import names

MOST_OPS = 250
NO_CNN = {"vit_tiny_patch16_224"}
WITHIN = 0.05


def networks() -> tuple[str, ...]:
    """Bundled CNNs that are small enough."""
    return tuple(f"zoo:{name}" for name in names() if name not in NO_CNN and len(zoo(name)) <= MOST_OPS)


def grids() -> tuple[Grid, Grid]:
    """All searchers at 5,000 plans; then the two splitters at 1,000."""
    searchers = ("local", "nsga2", "annealing", "greedy")
    two = ("random", "cost_guided")
    return (
        Grid(networks(), searchers=searchers),
        Grid(networks(), searchers=("random", "local"), splitters=two, seeds=3, max_plans=1000),
    )


def measured(grid: Grid) -> list[Row]:
    """Run a grid, with progress on stderr."""
    rows = []
    for row in run(grid):
        print(row.network, row.searcher, row.splitter, row.seed, f"{100 * row.gap:.2f} %", file=sys.stderr)
        rows.append(row)
    return rows


def header() -> list[str]:
    """What, where and when."""
    return [
        "# Searchers against the proven optimum",
        "",
        "`python benchmarks/searchers.py`, scheme `lbdf`, buffer 256 KiB, 8-bit activations and weights, batch 1,",
        f"seeds from 0; {circumstances()}, shared with other work, so",
        "seconds are upper limits. The gap is (DRAM - bound) / DRAM against the bound that the exact search proved;",
        "figures are medians over the seeds. How to read the columns and which to choose: [choosing.md](choosing.md).",
        "Not here: `hrnet_w18` and `nasnetalarge`, of more than 250 ops, and `vit_tiny_patch16_224`, no CNN.",
    ]


def verdict(rows: list[Row]) -> str:
    """Where a median gap is above the limit, in words."""
    lines = [line for line in table(rows) if line[3] not in ("greedy", "random")]
    gap = HEADINGS.index("gap")
    over = [f"{line[0]} ({line[3]}, {line[gap]})" for line in lines if _share(line[gap]) > WITHIN]
    where = f"exceptions: {'; '.join(over)}" if over else "without exception"
    count = len({row.network for row in rows})
    return (
        f"Local search, NSGA-II and annealing end within {100 * WITHIN:.0f} % of the optimum at 5,000 plans, "
        f"median of 10 seeds, on {count} networks, {where}."
    )


def _share(cell: str) -> float:
    return float(cell.removeprefix("<= ").removesuffix(" %")) / 100


def page(main: list[Row], splitters: list[Row], figure: str) -> str:
    """The whole page."""
    headings = (*HEADINGS[: len(Setting._fields)], *(f"{count:,}" for count in MILESTONES), "end")
    return "\n".join(
        [
            *header(),
            "",
            "## 5,000 plans",
            verdict(main),
            "",
            f"![Gap against plans and against evaluations: all networks, and the hardest]({figure})",
            "",
            "Lines are medians, bands quartiles: over the networks in the first row, over the seeds in the others. A",
            "dot marks where the median run ended. `fusecut bench searchers --rows rows.json --figure gaps.svg` draws",
            "such a figure.",
            "",
            markdown(HEADINGS, table(main)),
            "## Gap after so many plans",
            markdown(headings, progress_table(main, 0)),
            "## Gap after so many evaluations",
            markdown(headings, progress_table(main, 1)),
            "## Two splitters, 1,000 plans, 3 seeds",
            markdown(HEADINGS, table(splitters)),
        ]
    )


def main() -> None:
    """Run both grids, or read their rows, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", type=Path, metavar="FILE", help="rows of the first grid")
    parser.add_argument("--splitter-rows", nargs="+", type=Path, metavar="FILE", help="rows of the second grid")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for grid, paths in zip(grids(), (args.rows, args.splitter_rows), strict=True):
        rows.append([row for path in paths for row in read(path)] if paths else measured(grid))
    figure = args.output.with_suffix(".svg")
    draw(gap_curves(rows[0]), figure)
    write_text(args.output, page(rows[0], rows[1], figure.name))


if __name__ == "__main__":
    main()
