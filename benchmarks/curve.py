"""The whole curve of bundled networks, each in a process of its own.

`python benchmarks/curve.py -o docs/curve-results.md` writes the page of results.
CPU seconds and peak memory are those of the whole process, start-up and file reading included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import circumstances

from fusecut.plan_file import write_text
from fusecut.zoo import names

UNPROVED = ("hrnet_w18", "nasnetalarge")
"""Networks whose solves run out of effort one by one: hours, and left out unless they are named."""


@dataclass(frozen=True)
class Row:
    """One run: the curve, and what the process took."""

    network: str
    scheme: str
    curve: dict[str, Any]
    cpu_seconds: float
    peak_mib: int


def run(network: str, scheme: str, start: str, end: str, seconds: int, tolerance: float) -> Row:
    """Sweep in a fresh process and read its resource usage."""
    command = [sys.executable, "-m", "fusecut", "curve", f"zoo:{network}", "--scheme", scheme, "--from", start]
    command += ["--to", end, "--tolerance", str(tolerance), "--max-seconds", str(seconds), "--format", "json", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        out = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited {process.returncode}")
    found = json.loads(out)["curves"][0]
    return Row(network, scheme, found, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024)


def table(rows: list[Row]) -> list[str]:
    """Markdown, one line for each run."""
    lines = [
        "| network | steps | partitions | proved | from | groups priced | knees: KiB buys % of all there is to gain "
        "| CPU s | peak MiB |",
        "|---|--:|--:|---|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        c = row.curve
        gained = {p["buffer_bytes"]: p["gained"] for p in c["points"]}
        knees = ", ".join(f"{-(-size // 1024):,}: {100 * gained[size]:.0f}" for size in c["knees"])
        proved = "all" if c["proved"] else f"{sum(p['dram_bytes'] == p['bound_bytes'] for p in c['points'])}"
        start = c["points"][0]["buffer_bytes"]
        lines.append(
            f"| {row.network} | {len(c['points'])} | {len(c['plans'])} | {proved} | {start:,} B | "
            f"{c['evaluations']:,} | {knees} | {row.cpu_seconds:.1f} | {row.peak_mib} |"
        )
    return lines


def header(args: argparse.Namespace) -> list[str]:
    """Where and when."""
    return [
        "# Curves of the bundled networks",
        "",
        f"`python benchmarks/curve.py`, {args.start} to {args.end}, scheme `{args.scheme}`, 8-bit activations and",
        "weights, 32-bit biases, batch 1;",
        f"{circumstances()}, other jobs running.",
        "CPU seconds and peak memory are those of a cold process. What the columns mean: [curve.md](curve.md).",
        "",
    ]


def main() -> None:
    """Run the networks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=[name for name in names() if name not in UNPROVED])
    parser.add_argument("--scheme", default="mixed")
    parser.add_argument("--from", dest="start", default="16KiB")
    parser.add_argument("--to", dest="end", default="8MiB")
    parser.add_argument("--tolerance", type=float, default=0.0)
    parser.add_argument("--max-seconds", type=int, default=600)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    rows = []
    for network in args.networks:
        rows.append(run(network, args.scheme, args.start, args.end, args.max_seconds, args.tolerance))
        print(table(rows)[-1], file=sys.stderr, flush=True)
    text = "\n".join([*header(args), *table(rows)]) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        write_text(args.output, text)


if __name__ == "__main__":
    main()
