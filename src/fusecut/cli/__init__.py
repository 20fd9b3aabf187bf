"""The command line: reads arguments, calls the library, prints. Nothing is decided here.

Exit codes: 0 solved; 1 the answer is no; 2 bad input, one line on stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from fusecut import _start
from fusecut._version import __version__
from fusecut.cli import bench, curve, lists, plan, predict, solve, train
from fusecut.cli.files import check_apart
from fusecut.cli.options import Commands, Parser
from fusecut.cli.terminal import BAD_INPUT, OK, discard_output, print_anything
from fusecut.errors import FusecutError, shown
from fusecut.text import printable

COMMANDS: Final[tuple[Callable[[Commands[Parser]], None], ...]] = (
    solve.solve_command,
    plan.explain_command,
    solve.compare_command,
    plan.simulate_command,
    curve.curve_command,
    curve.pareto_command,
    plan.report_command,
    plan.export_command,
    lists.zoo_command,
    lists.machines_command,
    predict.predict_command,
    predict.rank_command,
    bench.bench_command,
    bench.reproduce_command,
    train.train_command,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    print_anything()
    try:
        _start.release()
        args = parser().parse_args(arguments)
        check_apart(args)
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except FusecutError as error:
        print(f"fusecut: {printable(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        discard_output()
        return OK
    except OSError as error:  # what nobody foresaw: a name that is too long, a disk that went away
        place = "" if error.filename is None else f"{shown(error.filename)}: "
        print(f"fusecut: {place}{error.strerror or error}; choose another place", file=sys.stderr)
        return BAD_INPUT
    except MemoryError:
        print("fusecut: not enough memory; take a smaller network, or more memory", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as interrupt:
        print(f"fusecut: {interrupt.args[0] if interrupt.args else 'interrupted'}", file=sys.stderr)
        return _start.INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="fusecut",
        description="Finds which operators to run fused so that the fewest bytes cross to DRAM, with proof.",
        epilog="Exit codes: 0 solved, 1 the answer is no, 2 bad input.",
    )
    top.add_argument("--version", action="version", version=f"fusecut {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for add in COMMANDS:
        add(commands)
    return top
