"""Commands that take a network and a buffer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fusecut.cli import terminal
from fusecut.cli.options import Commands, Parser, count, output_options, problem_options, seconds
from fusecut.errors import FusecutError


def solve_command(commands: Commands[Parser]) -> None:
    """``fusecut solve``."""
    from fusecut.objective import UNITS
    from fusecut.search import SEARCHERS
    from fusecut.split import SPLITTERS

    p = commands.add_parser(
        "solve",
        help="find the plan that moves the fewest bytes",
        description="Finds the plan that moves the fewest bytes between a buffer and DRAM, and proves how good it is.",
        epilog="Example: fusecut solve zoo:mobilenet_v2 --buffer 256KiB -o plan.json",
    )
    problem_options(p)
    p.add_argument(
        "--objective",
        default="dram",
        metavar="NAME",
        help=f"what to minimise, one of: {', '.join(UNITS)} (default: dram)",
    )
    p.add_argument("--search", default="exact", metavar="NAME", help=f"one of: {', '.join(SEARCHERS)} (default: exact)")
    p.add_argument(
        "--splitter",
        metavar="NAME",
        help=f"of groups that do not fit, one of: {', '.join(SPLITTERS)} (default: random)",
    )
    p.add_argument("--seed", type=count, default=0, metavar="N", help="of all randomness (default: 0)")
    p.add_argument("--max-plans", type=count, metavar="N", help="stop after so many plans")
    p.add_argument("--max-evaluations", type=count, metavar="N", help="stop after so many groups priced")
    p.add_argument("--max-seconds", type=seconds, metavar="S", help="stop after so many seconds")
    p.add_argument("-o", "--output", type=Path, metavar="PLAN.json", help="write the plan here")
    p.add_argument("--report", type=Path, metavar="FILE.html", help="write a report to open in a browser")
    p.add_argument("--explain", action="store_true", help="say what DRAM traffic means, and take every group apart")
    p.add_argument("--fail-above", metavar="BYTES", help="exit 1 if the plan moves more than this, e.g. 9MB")
    output_options(p)
    p.set_defaults(run=run_solve)


def run_solve(args: argparse.Namespace) -> int:
    """Solve, print, write; 1 if over ``--fail-above``."""
    from fusecut import commands
    from fusecut.plan_file import to_json

    limit = commands.limit_bytes(args.fail_above)
    commands.check_writable(args.output)
    commands.check_page(args.report)
    solution = commands.solved(args)
    if solution.partition is None:
        if args.format == "json":
            terminal.emit(to_json(solution))
        raise FusecutError(commands.refusal(solution))
    commands.write(solution, args)
    terminal.emit_as(
        args.format,
        json=lambda: to_json(solution),
        text=lambda width, colour: commands.solution_text(solution, args, width, colour),
    )
    return terminal.verdict(commands.over_limit(solution, limit))


def compare_command(commands: Commands[Parser]) -> None:
    """``fusecut compare``."""
    p = commands.add_parser(
        "compare",
        help="price plans made elsewhere",
        description="Prices plans made elsewhere under one model, beside the best plan and no fusion at all.",
        epilog='A plan is a JSON file: {"groups": [["conv1", "relu1"], ["conv2"], ...]}, or one written by solve -o.',
    )
    problem_options(p)
    p.add_argument("--plan", action="append", default=[], type=Path, metavar="FILE", help="a plan; may be repeated")
    output_options(p)
    p.set_defaults(run=run_compare)


def run_compare(args: argparse.Namespace) -> int:
    """Price plans beside the best one."""
    from dataclasses import asdict

    from fusecut import commands
    from fusecut.report.compare import table

    rows = commands.compared(args)
    terminal.emit_as(
        args.format,
        json=lambda: json.dumps([asdict(row) for row in rows], indent=2),
        text=lambda width, colour: table(rows, width, colour),
    )
    return terminal.OK
