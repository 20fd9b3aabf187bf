"""The command line: reads arguments, calls the library, prints. Nothing is decided here.

Exit codes: 0 solved; 1 the answer is no; 2 bad input, one line on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import Final, NoReturn

from fusecut._version import __version__
from fusecut.errors import FusecutError

OK: Final = 0
NO: Final = 1
BAD_INPUT: Final = 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other refusal."""

    def error(self, message: str) -> NoReturn:
        raise FusecutError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        args = parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except FusecutError as error:
        print(f"fusecut: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        print("fusecut: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="fusecut",
        description="Finds which operators to run fused so that the fewest bytes cross to DRAM, with proof.",
        epilog="Exit codes: 0 solved, 1 the answer is no, 2 bad input.",
    )
    top.add_argument("--version", action="version", version=f"fusecut {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _solve_command(commands)
    _explain_command(commands)
    _compare_command(commands)
    _simulate_command(commands)
    _curve_command(commands)
    _report_command(commands)
    _export_command(commands)
    _zoo_command(commands)
    _machines_command(commands)
    _bench_command(commands)
    _reproduce_command(commands)
    return top


Commands = argparse._SubParsersAction


def _solve_command(commands: Commands[_Parser]) -> None:
    from fusecut.objective import UNITS
    from fusecut.search import SEARCHERS
    from fusecut.split import SPLITTERS

    p = commands.add_parser(
        "solve",
        help="find the plan that moves the fewest bytes",
        description="Finds the plan that moves the fewest bytes between a buffer and DRAM, and proves how good it is.",
        epilog="Example: fusecut solve zoo:mobilenet_v2 --buffer 256KiB -o plan.json",
    )
    _problem_options(p)
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
    p.add_argument("--seed", type=_count, default=0, metavar="N", help="of all randomness (default: 0)")
    p.add_argument("--max-plans", type=_count, metavar="N", help="stop after so many plans")
    p.add_argument("--max-evaluations", type=_count, metavar="N", help="stop after so many groups priced")
    p.add_argument("--max-seconds", type=_seconds, metavar="S", help="stop after so many seconds")
    p.add_argument("-o", "--output", type=Path, metavar="PLAN.json", help="write the plan here")
    p.add_argument("--report", type=Path, metavar="FILE.html", help="write a report to open in a browser")
    p.add_argument("--explain", action="store_true", help="say what DRAM traffic means, and take every group apart")
    p.add_argument("--fail-above", metavar="BYTES", help="exit 1 if the plan moves more than this, e.g. 9MB")
    _output_options(p)
    p.set_defaults(run=run_solve)


def _explain_command(commands: Commands[_Parser]) -> None:
    p = commands.add_parser(
        "explain",
        help="take a group of a plan apart",
        description="Says what fills the buffer in a group, what crosses to DRAM, and what would let the group grow.",
    )
    p.add_argument("plan", type=Path, metavar="PLAN.json", help="a plan written by solve -o")
    p.add_argument("--group", type=_count, metavar="N", help="only this group")
    p.set_defaults(run=run_explain)


def _compare_command(commands: Commands[_Parser]) -> None:
    p = commands.add_parser(
        "compare",
        help="price plans made elsewhere",
        description="Prices plans made elsewhere under one model, beside the best plan and no fusion at all.",
        epilog='A plan is a JSON file: {"groups": [["conv1", "relu1"], ["conv2"], ...]}, or one written by solve -o.',
    )
    _problem_options(p)
    p.add_argument("--plan", action="append", default=[], type=Path, metavar="FILE", help="a plan; may be repeated")
    _output_options(p)
    p.set_defaults(run=run_compare)


def _simulate_command(commands: Commands[_Parser]) -> None:
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
    p.add_argument("--seed", type=_count, default=0, metavar="N", help="of random inputs and weights (default: 0)")
    p.add_argument("--dtype", default="float32", metavar="NAME", help="float32 (default), float64 or int8")
    p.add_argument("--trace", type=Path, metavar="FILE.json", help="write what is on chip over time, for Perfetto")
    p.set_defaults(run=run_simulate, mode="full")


def _curve_command(commands: Commands[_Parser]) -> None:
    from fusecut.models import SCHEMES

    p = commands.add_parser(
        "curve",
        help="DRAM bytes against buffer size, with every breakpoint",
        description="Finds the fewest DRAM bytes at every buffer size of a range, with the plan at every breakpoint.",
        epilog="Example: fusecut curve zoo:mobilenet_v2 --from 16KiB --to 8MiB -o curve.html. "
        "Several values of A,B, and several shapes of one input, give a curve each.",
    )
    _network_options(p)
    p.add_argument("--from", dest="start", default="16KiB", metavar="SIZE", help="least buffer (default: 16KiB)")
    p.add_argument("--to", dest="end", default="8MiB", metavar="SIZE", help="largest buffer (default: 8MiB)")
    p.add_argument("--machine", metavar="NAME", help="a machine whose widths to take; its buffer is not looked at")
    known = ", ".join(SCHEMES)
    p.add_argument("--scheme", default="mixed,layerwise", metavar="A,B", help=f"of: {known} (default: mixed,layerwise)")
    for what, bits in (("activation", 8), ("weight", 8)):
        p.add_argument(f"--{what}-bits", type=_counts, metavar="A,B", help=f"default: {bits}, or the machine's")
    p.add_argument("--accumulator-bits", type=_count, metavar="N", help="default: 32, or the machine's")
    p.add_argument("--max-seconds", type=_seconds, metavar="S", help="stop each curve after so many seconds")
    p.add_argument("--all", action="store_true", help="print every breakpoint, not only the large ones")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a .csv, .json, .svg or .html file")
    _line_options(p)
    _output_options(p)
    p.set_defaults(run=run_curve)


def _report_command(commands: Commands[_Parser]) -> None:
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


def _export_command(commands: Commands[_Parser]) -> None:
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


def _zoo_command(commands: Commands[_Parser]) -> None:
    p = commands.add_parser("zoo", help="list the bundled networks", description="Lists the bundled networks.")
    p.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    p.set_defaults(run=run_zoo)


def _machines_command(commands: Commands[_Parser]) -> None:
    p = commands.add_parser(
        "machines",
        help="list the bundled machines",
        description="Lists the bundled machines, or says what is known of one, and from where.",
    )
    p.add_argument("machine", nargs="?", metavar="NAME", help="a machine, or a file NAME.toml")
    p.set_defaults(run=run_machines)


def _bench_command(commands: Commands[_Parser]) -> None:
    from fusecut.search import SEARCHERS
    from fusecut.split import SPLITTERS

    bench = commands.add_parser("bench", help="compare searchers", description="Runs benchmarks.")
    p = bench.add_subparsers(metavar="WHAT", required=True, parser_class=_Parser).add_parser(
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
    p.add_argument("--seeds", type=_count, default=10, metavar="N", help="runs of each (default: 10)")
    p.add_argument("--max-plans", type=_count, default=5000, metavar="N", help="budget of a run (default: 5000)")
    p.add_argument("--rows", nargs="+", type=Path, metavar="FILE", help="show rows written before, and run nothing")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="rows as .json or .csv, or the table as .md")
    p.add_argument("--figure", type=Path, metavar="FILE", help="gap against plans and evaluations: .svg, .pdf or .png")
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    p.set_defaults(run=run_bench)


def _reproduce_command(commands: Commands[_Parser]) -> None:
    reproduce = commands.add_parser(
        "reproduce", help="the papers' tables, ours beside theirs", description="Prints a paper's claims beside ours."
    )
    what = reproduce.add_subparsers(metavar="WHAT", required=True, parser_class=_Parser)
    p = what.add_parser(
        "optimus",
        help="the published Optimus model and its baselines",
        description="Runs the published Optimus search under its own model, on its own networks (docs/optimus.md).",
        epilog="Example: fusecut reproduce optimus --networks squeezenet --buffer 256KiB --batch 1",
    )
    p.add_argument("--networks", nargs="+", metavar="NAME", help="of its eight networks (default: all)")
    p.add_argument("--buffer", default="128KiB", metavar="SIZE", help="default: 128KiB")
    p.add_argument("--batch", type=_count, default=4, metavar="N", help="default: 4")
    p.add_argument("--schemes", nargs="+", default=[], metavar="NAME", help="our own plans beside it, e.g. mixed")
    p.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    p.set_defaults(run=run_reproduce, what="optimus")


def _problem_options(p: argparse.ArgumentParser) -> None:
    from fusecut.models import SCHEMES

    _network_options(p)
    p.add_argument("--buffer", metavar="SIZE", help="on-chip buffer, e.g. 256KiB (1024s) or 256KB (1000s)")
    p.add_argument("--machine", metavar="NAME", help="a machine (see: fusecut machines), or a file NAME.toml")
    p.add_argument("--scheme", default="mixed", metavar="NAME", help=f"one of: {', '.join(SCHEMES)} (default: mixed)")
    for what, bits in (("activation", 8), ("weight", 8), ("accumulator", 32)):
        p.add_argument(f"--{what}-bits", type=_count, metavar="N", help=f"default: {bits}, or the machine's")
    _line_options(p)


def _network_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", metavar="MODEL", help="an ONNX file, or zoo:NAME (see: fusecut zoo)")
    p.add_argument(
        "--granularity",
        default="folded",
        metavar="NAME",
        help="folded (default) or op: every ONNX node an op of its own",
    )
    p.add_argument("--batch", type=_count, metavar="N", help="images per inference, in place of the file's")
    p.add_argument(
        "--input-shape",
        action="append",
        default=[],
        metavar="NAME=1x3x224x224",
        help="shape of an input; may be repeated",
    )


def _line_options(p: argparse.ArgumentParser) -> None:
    lines = p.add_argument_group("line buffer (all off by default, see docs/lbdf.md)")
    lines.add_argument("--line-granularity", metavar="NAME", help="row or pixel")
    lines.add_argument("--prefetch-rows", type=_count, metavar="N", help="rows kept ahead at the group's ends")
    lines.add_argument("--squeeze-excite", metavar="NAME", help="full or two_pass (two_pass under mixed)")
    for flag, text in (
        ("--inline-elementwise", "pointwise results replace an operand row"),
        ("--virtual-concat", "concatenations are not copied"),
        ("--skip-separate-buffer", "every reader of a tensor has a ring of its own"),
    ):
        lines.add_argument(flag, action="store_true", default=None, help=text)


def _output_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: one object on stdout (default: text)"
    )
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(part.strip()) for part in text.split(",")]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def run_solve(args: argparse.Namespace) -> int:
    """Solve, print, write; 1 if over ``--fail-above``."""
    from fusecut import commands
    from fusecut.plan_file import to_json, write_text

    limit = commands.limit_bytes(args.fail_above)
    for path in (args.output, args.report):
        commands.check_writable(path)
    solution = commands.solved(args)
    if solution.partition is None:
        print(to_json(solution) if args.format == "json" else "", end="")
        raise FusecutError(commands.refusal(solution))
    if args.output is not None:
        write_text(args.output, to_json(solution))
    if args.report is not None:
        commands.report(solution, args.report, args.quiet)
    _print(to_json(solution) if args.format == "json" else commands.solution_text(solution, args, *_screen()))
    return OK if limit is None or solution.cost.dram_bytes <= limit else NO


def run_explain(args: argparse.Namespace) -> int:
    """Take groups of a plan file apart."""
    from fusecut import commands
    from fusecut.plan_file import load_plan

    solution = load_plan(args.plan)
    groups = range(len(solution.planned)) if args.group is None else [args.group]
    _print(commands.DEFINITION + "\n\n" + commands.explanations(solution, groups, *_screen()))
    return OK


def run_compare(args: argparse.Namespace) -> int:
    """Price plans beside the best one."""
    from dataclasses import asdict

    from fusecut import commands
    from fusecut.report.compare import table

    rows = commands.compared(args)
    _print(json.dumps([asdict(row) for row in rows], indent=2) if args.format == "json" else table(rows, *_screen()))
    return OK


def run_simulate(args: argparse.Namespace) -> int:
    """Execute a plan file; 1 if model and execution disagree."""
    from fusecut import commands
    from fusecut.plan_file import load_plan
    from fusecut.simulate import simulate, write_trace

    commands.check_writable(args.trace)
    done = simulate(
        load_plan(args.plan), seed=args.seed, mode=args.mode, dtype=args.dtype, trace=args.trace is not None
    )
    if args.trace is not None:
        write_trace(done, args.trace)
    _print(done.table(*_screen()))
    return OK if done.agrees else NO


def run_curve(args: argparse.Namespace) -> int:
    """Sweep the buffer; print, write."""
    from fusecut import commands
    from fusecut.plan_file import write_text
    from fusecut.report.curve_text import text

    commands.check_writable(args.output)
    write = commands.curve_writer(args.output)
    curves = commands.curves(args)
    if args.output is not None:
        write_text(args.output, write(curves, args))
    written = "" if args.output is None else f"\n\nwritten to {args.output}"
    if args.format == "json":
        _print(commands.curves_json(curves, args))
    else:
        _print(text(curves, *_screen(), every=args.all) + written)
    return OK


def run_report(args: argparse.Namespace) -> int:
    """Draw a plan file."""
    from fusecut import commands
    from fusecut.plan_file import load_plan

    commands.check_writable(args.output)
    commands.report(load_plan(args.plan), args.output, args.quiet, args.greedy)
    _print(f"written to {args.output}")
    return OK


def run_export(args: argparse.Namespace) -> int:
    """Hand a plan file to other tools."""
    from fusecut import commands

    _print("\n".join(commands.exported(args)))
    return OK


def run_zoo(args: argparse.Namespace) -> int:
    """List the bundled networks."""
    from dataclasses import asdict

    from fusecut import commands
    from fusecut.zoo import index

    entries = index()
    _print(
        json.dumps([asdict(e) for e in entries], indent=2) if args.format == "json" else commands.zoo_text(*_screen())
    )
    return OK


def run_machines(args: argparse.Namespace) -> int:
    """List the bundled machines, or one of them with its sources."""
    from fusecut import commands

    width, colour = _screen()
    known = (
        commands.machines_text(width, colour) if args.machine is None else commands.machine_text(args.machine, width)
    )
    _print(known)
    return OK


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
    _print(text(rows, *_screen()))
    return OK


def run_reproduce(args: argparse.Namespace) -> int:
    """Print a paper's claims beside ours."""
    from fusecut.reproduce import REPRODUCTIONS

    rows, text = REPRODUCTIONS[args.what](args)
    _print(json.dumps(rows, indent=2) if args.format == "json" else text(*_screen()))
    return OK


def _print(text: str) -> None:
    print(text.rstrip("\n"))
    sys.stdout.flush()


def _screen() -> tuple[int, bool]:
    """Width to print at, and whether to use colour: only on a terminal."""
    terminal = sys.stdout.isatty()
    return (max(60, get_terminal_size().columns) if terminal else 100), terminal and "NO_COLOR" not in os.environ
