"""Commands that run grids: searchers side by side, the papers' tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fusecut.cli import terminal
from fusecut.cli.options import Commands, Parser, count


def bench_command(commands: Commands[Parser]) -> None:
    """``fusecut bench``."""
    from fusecut.search import SEARCHERS
    from fusecut.split import SPLITTERS

    bench = commands.add_parser("bench", help="compare searchers", description="Runs benchmarks.")
    p = bench.add_subparsers(metavar="BENCHMARK", required=True, parser_class=Parser).add_parser(
        "searchers",
        help="searchers against the proven optimum",
        description="Runs every combination of what is given; medians over the seeds, gaps to the proven optimum.",
        epilog="Example: fusecut bench searchers --networks zoo:mobilenet_v2 --searchers local nsga2 --seeds 10",
    )
    for what, default, known in (
        ("networks", "zoo:mobilenet_v2", "ONNX files, or zoo:NAME"),
        ("buffers", "256KiB", "sizes"),
        ("schemes", "lbdf", "execution schemes"),
        ("searchers", "random local nsga2 annealing greedy", f"of: {', '.join(SEARCHERS)}"),
        ("splitters", "random", f"of: {', '.join(SPLITTERS)}"),
    ):
        p.add_argument(
            f"--{what}", nargs="+", default=default.split(), metavar="NAME", help=f"{known} (default: {default})"
        )
    p.add_argument("--seeds", type=count, default=10, metavar="N", help="runs of each (default: 10)")
    p.add_argument("--max-plans", type=count, default=5000, metavar="N", help="budget of a run (default: 5000)")
    p.add_argument("--rows", nargs="+", type=Path, metavar="FILE", help="show rows written before, and run nothing")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="rows as .json or .csv, or the table as .md")
    p.add_argument("--figure", type=Path, metavar="FILE", help="gap against plans and evaluations: .svg, .pdf or .png")
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    p.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Run a grid of searchers."""
    from fusecut import commands
    from fusecut.bench import text, written
    from fusecut.plan_file import write_text

    commands.check_writable(args.output)
    commands.check_figure(args.figure)
    rows = commands.benched(args)
    if args.output is not None:
        write_text(args.output, written(rows, args.output))
    commands.draw_gaps(rows, args.figure)
    terminal.emit(text(rows, *terminal.screen(otherwise=150)))
    return terminal.OK


def reproduce_command(commands: Commands[Parser]) -> None:
    """``fusecut reproduce``."""
    reproduce = commands.add_parser(
        "reproduce", help="the papers' tables, ours beside theirs", description="Prints a paper's claims beside ours."
    )
    what = reproduce.add_subparsers(metavar="PAPER", required=True, parser_class=Parser)
    p = what.add_parser(
        "optimus",
        help="the published Optimus model and its baselines",
        description="Runs the published Optimus search under its own model, on its own networks (docs/optimus.md).",
        epilog="Example: fusecut reproduce optimus --networks squeezenet --buffer 256KiB --batch 1",
    )
    p.add_argument("--networks", nargs="+", metavar="NAME", help="of its eight networks (default: all)")
    p.add_argument("--buffer", default="128KiB", metavar="SIZE", help="default: 128KiB")
    p.add_argument("--batch", type=count, default=4, metavar="N", help="default: 4")
    p.add_argument("--schemes", nargs="+", default=[], metavar="NAME", help="our own plans beside it, e.g. mixed")
    p.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    p.set_defaults(run=run_reproduce, what="optimus", output=None, figure=None)
    _get_commands(what)
    _aiop_command(what)


def _get_commands(what: Commands[Parser]) -> None:
    """The tables and figures of arXiv 2501.00636."""
    from fusecut.reproduce import GET

    for name, help_text in GET.items():
        p = what.add_parser(
            name,
            help=help_text,
            description=f"Explanation-guided splitting, arXiv 2501.00636: {help_text}. See docs/get.md.",
            epilog=f"Example: fusecut reproduce {name} --quick",
        )
        effort = p.add_mutually_exclusive_group()
        effort.add_argument("--quick", action="store_true", help="seconds: one network, few plans, 2 seeds")
        effort.add_argument("--full", action="store_true", help="hours: the paper's plans, 10 seeds")
        p.add_argument("--seeds", type=count, metavar="N", help="runs of each (default: 3; 2 quick, 10 full)")
        p.add_argument("--plans", type=count, metavar="N", help="plans of each run (default: a fifth of the paper's)")
        p.add_argument("--networks", nargs="+", default=[], metavar="NAME", help="of the table's (default: all)")
        p.add_argument("--searchers", nargs="+", default=[], metavar="NAME", help="of the table's (default: all)")
        p.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="splitters (default: all that can run)")
        p.add_argument(
            "--dataset", type=Path, metavar="FILE", help="table1, figure3: groups from fusecut train dataset"
        )
        p.add_argument("--rows", type=Path, metavar="FILE", help="keep every run here, and go on from what is there")
        p.add_argument("--show", action="store_true", help="show what is in the file of --rows, and run nothing")
        p.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
        p.add_argument("-o", "--output", type=Path, metavar="FILE.md", help="write the tables as Markdown")
        p.add_argument("--figure", type=Path, metavar="FILE", help="figures: draw into .svg, .pdf or .png")
        p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
        p.set_defaults(run=run_reproduce, what=name)


def _aiop_command(commands: Commands[Parser]) -> None:
    p = commands.add_parser(
        "aiop",
        help="predictors moved to devices, spaces and families they have not seen",
        description="Errors and rank correlations with 0, 10, 20 and 50 samples of the target (docs/aiop-results.md).",
        epilog="Example: fusecut reproduce aiop --experiments family buffer --rows rows.jsonl",
    )
    p.add_argument("--latencies", type=Path, metavar="FILE.npz", help="measured latencies; without, only our solver's")
    p.add_argument(
        "--experiments", nargs="+", default=[], metavar="NAME", help="device group space family head buffer scheme"
    )
    p.add_argument(
        "--methods",
        nargs="+",
        default=[],
        metavar="NAME",
        help="flops ridge trees blocks sum, and graph networks, which take long on measured devices: gnn gnn-flops "
        "gnn-residual gnn-blocks gnn-scratch (default: the first five; --full adds graph networks for families)",
    )
    p.add_argument("--torch-device", default="cpu", metavar="NAME", help="where graph networks train (default: cpu)")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="every eighth target, two seeds (the default)")
    size.add_argument("--full", action="store_true", help="every target, ten seeds")
    p.add_argument("--rows", type=Path, metavar="FILE.jsonl", help="keep rows here, and go on where they stop")
    p.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    p.set_defaults(run=run_reproduce, what="aiop", output=None, figure=None)


def run_reproduce(args: argparse.Namespace) -> int:
    """Print a paper's claims beside ours."""
    from fusecut import commands
    from fusecut.reproduce import REPRODUCTIONS

    commands.check_writable(args.output)
    commands.check_writable(getattr(args, "rows", None))
    commands.check_figure(args.figure)
    found = REPRODUCTIONS[args.what](args)
    commands.write_reproduced(found, args)
    terminal.emit_as(args.format, json=lambda: json.dumps(found.rows, indent=2), text=found.text)
    return terminal.OK
