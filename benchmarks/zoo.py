"""Every bundled network at several buffers, each in a process of its own.

`python benchmarks/zoo.py -o docs/results.md` writes the page of results.
CPU seconds and peak memory are those of the whole process, start-up and file reading included. `--rows FILE` keeps
finished rows, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _common import circumstances

from fusecut.plan_file import write_text
from fusecut.zoo import names

BUFFERS = ("64KiB", "128KiB", "256KiB", "512KiB", "1MiB")


@dataclass(frozen=True)
class Row:
    """One run: the plan's figures, and what the process took."""

    network: str
    buffer: str
    scheme: str
    plan: dict[str, Any]
    cpu_seconds: float
    peak_mib: int


def run(network: str, buffer: str, scheme: str, max_seconds: int) -> Row:
    """Solve in a fresh process and read its resource usage."""
    command = [sys.executable, "-m", "fusecut", "solve", f"zoo:{network}", "--buffer", buffer, "--scheme", scheme]
    command += ["--max-seconds", str(max_seconds), "--format", "json", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        out = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited {process.returncode}")
    found = json.loads(out)
    plan = {key: found[key] for key in ("dram_bytes", "gap", "layerwise_dram_bytes", "floor_dram_bytes", "status")}
    plan["groups"] = len(found["groups"])
    return Row(network, buffer, scheme, plan, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024)


def table(rows: list[Row]) -> list[str]:
    """Markdown, one line for each run."""
    lines = [
        "| network | buffer | DRAM B | proved gap | without fusion B | floor B | groups | status | CPU s | peak MiB |",
        "|---|---|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        p = row.plan
        lines.append(
            f"| {row.network} | {row.buffer} | {p['dram_bytes']:,} | {100 * p['gap']:.2f} % | "
            f"{p['layerwise_dram_bytes']:,} | {p['floor_dram_bytes']:,} | {p['groups']} | {p['status']} | "
            f"{row.cpu_seconds:.2f} | {row.peak_mib} |"
        )
    return lines


def header(scheme: str, networks: list[str], max_seconds: int) -> list[str]:
    """Where and when, and what is not here."""
    absent = [name for name in names() if name not in networks]
    return [
        "# All bundled networks",
        "",
        f"`python benchmarks/zoo.py`, scheme `{scheme}`, 8-bit activations and weights, 32-bit biases,",
        f"batch 1, seed 0, at most {max_seconds} s each;",
        f"{circumstances()}.",
        "CPU seconds and peak memory are those of a cold process. Scheme by scheme: [mixed.md](mixed.md).",
        *([f"Left out: {', '.join(absent)}, which take minutes ([scale.md](scale.md))."] if absent else []),
        "",
    ]


def main() -> None:
    """Run the grid and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(names()))
    parser.add_argument("--buffers", nargs="*", default=list(BUFFERS))
    parser.add_argument("--scheme", default="mixed")
    parser.add_argument(
        "--max-seconds", type=int, default=120, metavar="S", help="of wall time, each run (default: 120)"
    )
    parser.add_argument("--rows", type=Path, help="JSON lines of finished rows")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    known: dict[tuple[str, str, str], Row] = {}
    if args.rows is not None and args.rows.exists():
        kept = (Row(**json.loads(line)) for line in args.rows.read_text(encoding="utf-8").splitlines())
        known = {(row.network, row.buffer, row.scheme): row for row in kept}
    rows = []
    for network in args.networks:
        for buffer in args.buffers:
            row = known.get((network, buffer, args.scheme))
            if row is None:
                row = run(network, buffer, args.scheme, args.max_seconds)
                if args.rows is not None:
                    with args.rows.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(row)) + "\n")
            rows.append(row)
            print(table(rows)[-1], file=sys.stderr, flush=True)
    text = "\n".join([*header(args.scheme, args.networks, args.max_seconds), *table(rows)]) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        write_text(args.output, text)


if __name__ == "__main__":
    main()
