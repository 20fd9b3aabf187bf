"""Commands that take a plan file."""

from __future__ import annotations

import argparse
from pathlib import Path

from fusecut.cli import terminal
from fusecut.cli.options import Commands, Parser, count


def explain_command(commands: Commands[Parser]) -> None:
    """``fusecut explain``."""
    p = commands.add_parser(
        "explain",
        help="take a group of a plan apart",
        description="Says what fills the buffer in a group, what crosses to DRAM, and what would let the group grow.",
    )
    p.add_argument("plan", type=Path, metavar="PLAN.json", help="a plan written by solve -o")
    p.add_argument("--group", type=count, metavar="N", help="only this group")
    p.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> int:
    """Take groups of a plan file apart."""
    from fusecut import commands
    from fusecut.plan_file import load_plan

    solution = load_plan(args.plan)
    groups = range(len(solution.planned)) if args.group is None else [args.group]
    terminal.emit(commands.explanations(solution, groups, *terminal.screen()))
    return terminal.OK


def simulate_command(commands: Commands[Parser]) -> None:
    """``fusecut simulate``."""
    p = commands.add_parser(
        "simulate",
        help="execute a plan and check every byte",
        description="Executes a plan through a buffer of its size; every byte is set beside the model's.",
        epilog="Exit code 1 if model and execution disagree. Weights that are missing are drawn from the seed.",
    )
    p.add_argument("plan", type=Path, metavar="PLAN.json", help="a plan written by solve -o")
    how = p.add_mutually_exclusive_group()
    how.add_argument("--full", dest="mode", action="store_const", const="full", help="compute on real arrays (default)")
    how.add_argument("--fast", dest="mode", action="store_const", const="fast", help="count rows and bytes only")
    p.add_argument("--seed", type=count, default=0, metavar="N", help="of random inputs and weights (default: 0)")
    p.add_argument("--dtype", default="float32", metavar="NAME", help="float32 (default), float64 or int8")
    p.add_argument("--trace", type=Path, metavar="FILE.json", help="write what is on chip over time, for Perfetto")
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    p.set_defaults(run=run_simulate, mode="full")


def run_simulate(args: argparse.Namespace) -> int:
    """Execute a plan file; 1 if model and execution disagree."""
    from fusecut import commands

    done = commands.simulated(args)
    terminal.emit(done.table(*terminal.screen()))
    return terminal.OK if done.agrees else terminal.NO


def report_command(commands: Commands[Parser]) -> None:
    """``fusecut report``."""
    p = commands.add_parser(
        "report",
        help="a plan as one HTML page",
        description="Writes a plan as one HTML file that loads nothing: the network, what fills the buffer, the proof.",
        epilog="Example: fusecut report plan.json -o report.html",
    )
    p.add_argument("plan", type=Path, metavar="PLAN.json", help="a plan written by solve -o")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.html", help="write the report here")
    p.add_argument(
        "--greedy",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="set the greedy plan beside it (default: for networks of at most 400 ops)",
    )
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    p.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Draw a plan file."""
    from fusecut import commands
    from fusecut.plan_file import load_plan

    commands.check_page(args.output)
    commands.report(load_plan(args.plan), args.output, args.quiet, args.greedy)
    terminal.emit(f"written to {args.output}")
    return terminal.OK


def export_command(commands: Commands[Parser]) -> None:
    """``fusecut export``."""
    p = commands.add_parser(
        "export",
        help="hand a plan to other tools",
        description="Writes the network of a plan with its groups marked, for runtimes, compilers and viewers.",
        epilog="Example: fusecut export plan.json --onnx fused.onnx",
    )
    p.add_argument("plan", type=Path, metavar="PLAN.json", help="a plan written by solve -o")
    p.add_argument("--onnx", type=Path, metavar="FILE.onnx", help="the same model, every group a function")
    p.add_argument("--subgraphs", type=Path, metavar="DIR", help="one ONNX file for each group")
    p.add_argument("--stream", type=Path, metavar="FILE.json", help="layer stacks for Stream")
    p.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Hand a plan file to other tools."""
    from fusecut import commands

    terminal.emit("\n".join(commands.exported(args)))
    return terminal.OK
