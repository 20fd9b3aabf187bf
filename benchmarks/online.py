"""On-line search beside the exact one, and what mixed gains over single schemes: every bundled network.

`python benchmarks/online.py -o docs` writes the tables of docs/online.md and docs/mixed.md between their markers.
Both searches of a row run one after the other in one process; times are CPU seconds of the search alone, network read
and model built before. `--rows FILE` keeps finished rows, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import process_time

from _common import circumstances

from fusecut.plan_file import write_text
from fusecut.search import Exact, Online, Searcher
from fusecut.solution import Solution
from fusecut.solve import solve
from fusecut.zoo import load, names

BUFFERS = ("128KiB", "256KiB")
SCHEMES = ("layerwise", "lbdf", "brr", "mixed")
ONLINE_SCHEMES = ("lbdf", "mixed")
LONG_SECONDS = 3
LARGE = ("hrnet_w18", "nasnetalarge")
"""Left out: the exact search does not prove them."""


@dataclass(frozen=True)
class Row:
    """One network, buffer and scheme."""

    network: str
    buffer: str
    scheme: str
    status: str
    gap: float
    exact_bytes: int
    exact_seconds: float
    online_bytes: int = 0
    online_seconds: float = 0.0

    @property
    def loss(self) -> float:
        """How much more the plan found on line moves."""
        return self.online_bytes / self.exact_bytes - 1

    @property
    def speedup(self) -> float:
        return self.exact_seconds / self.online_seconds


def measured(network: str, buffer: str, scheme: str, search: Searcher) -> tuple[Solution, float]:
    """The plan and the CPU seconds it took."""
    graph = load(network)
    started = process_time()
    return solve(graph, buffer=buffer, scheme=scheme, search=search), process_time() - started


def run(network: str, buffer: str, scheme: str) -> Row:
    """Both searches, or the exact one only."""
    found, seconds = measured(network, buffer, scheme, Exact())
    exact = (found.status.name, found.gap or 0.0, found.cost.dram_bytes if found.cost else 0, seconds)
    if scheme not in ONLINE_SCHEMES:
        return Row(network, buffer, scheme, *exact)
    quick, online_seconds = measured(network, buffer, scheme, Online())
    return Row(network, buffer, scheme, *exact, quick.cost.dram_bytes if quick.cost else 0, online_seconds)


def online_table(rows: list[Row]) -> list[str]:
    """Markdown: loss and speed-up, one line for each row that ran both."""
    lines = [
        "| network | buffer | scheme | exact B | on-line B | loss | exact CPU s | on-line CPU s | faster |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        if r.online_bytes:
            lines.append(
                f"| {r.network} | {r.buffer} | {r.scheme} | {r.exact_bytes:,} | {r.online_bytes:,} | "
                f"{100 * r.loss:.2f} % | {r.exact_seconds:.2f} | {r.online_seconds:.2f} | {r.speedup:.1f} x |"
            )
    return lines


def summary(rows: list[Row]) -> list[str]:
    """Markdown: how often the aim is met, of all rows and of those where the exact search takes long."""
    lines = [
        "| scheme | exact takes | runs | within 1 % | 20 x faster | both | median loss | largest | median faster |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for scheme in ONLINE_SCHEMES:
        for label, least in (("any time", 0), (f"{LONG_SECONDS} CPU s or more", LONG_SECONDS)):
            some = [r for r in rows if r.scheme == scheme and r.online_bytes and r.exact_seconds >= least]
            if some:
                near, fast = [r.loss <= 0.01 for r in some], [r.speedup >= 20 for r in some]
                losses = [100 * r.loss for r in some]
                lines.append(
                    f"| {scheme} | {label} | {len(some)} | {sum(near)} | {sum(fast)} | "
                    f"{sum(a and b for a, b in zip(near, fast, strict=True))} | {median(losses):.2f} % | "
                    f"{max(losses):.2f} % | {median(r.speedup for r in some):.1f} x |"
                )
    return lines


def mixed_table(rows: list[Row]) -> list[str]:
    """Markdown: the best plan of every scheme, and what mixed saves of the best single one."""
    lines = [
        "| network | buffer | layerwise B | lbdf B | brr B | mixed B | saved | mixed: gap, CPU s | brr: gap, CPU s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    found = {(r.network, r.buffer, r.scheme): r for r in rows}
    for network, buffer in dict.fromkeys((r.network, r.buffer) for r in rows):
        each = [found.get((network, buffer, scheme)) for scheme in SCHEMES]
        if any(r is None for r in each):
            continue
        whole = [r for r in each if r is not None]
        best = min(r.exact_bytes for r in whole[:-1])
        proofs = (f"{100 * r.gap:.2f} %, {r.exact_seconds:.1f}" for r in (whole[3], whole[2]))
        totals = " | ".join(f"{r.exact_bytes:,}" for r in whole)
        saved = 100 * (1 - whole[3].exact_bytes / best)
        lines.append(f"| {network} | {buffer} | {totals} | {saved:.2f} % | {' | '.join(proofs)} |")
    return lines


def header() -> str:
    """Where and when."""
    return f"`python benchmarks/online.py`; {circumstances()}, other jobs running; 8 bits, batch 1, seed 0."


def insert(page: Path, name: str, lines: list[str]) -> None:
    """Lines between the markers of that name on a page."""
    before, rest = page.read_text(encoding="utf-8").split(f"<!-- {name} -->\n", 1)
    after = rest.split(f"<!-- end {name} -->", 1)[1]
    write_text(page, "\n".join([f"{before}<!-- {name} -->", *lines, f"<!-- end {name} -->{after}"]))


def main() -> None:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=[name for name in names() if name not in LARGE])
    parser.add_argument("--buffers", nargs="*", default=list(BUFFERS))
    parser.add_argument("--schemes", nargs="*", default=list(SCHEMES), choices=SCHEMES)
    parser.add_argument("--rows", type=Path, help="JSON lines of finished rows")
    parser.add_argument("-o", "--output", type=Path, help="folder of online.md and mixed.md")
    args = parser.parse_args()
    known: dict[tuple[str, str, str], Row] = {}
    if args.rows is not None and args.rows.exists():
        for line in args.rows.read_text(encoding="utf-8").splitlines():
            row = Row(**json.loads(line))
            known[row.network, row.buffer, row.scheme] = row
    rows = []
    for network in args.networks:
        for buffer in args.buffers:
            for scheme in args.schemes:
                row = known.get((network, buffer, scheme)) or run(network, buffer, scheme)
                rows.append(row)
                if (network, buffer, scheme) not in known and args.rows is not None:
                    with args.rows.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(row)) + "\n")
                print(row, file=sys.stderr, flush=True)
    if args.output is None:
        print("\n".join([header(), "", *summary(rows), "", *online_table(rows), "", *mixed_table(rows)]))
    else:
        insert(args.output / "online.md", "summary", summary(rows))
        insert(args.output / "online.md", "table", [header(), "", *online_table(rows)])
        insert(args.output / "mixed.md", "table", [header(), "", *mixed_table(rows)])


if __name__ == "__main__":
    main()
