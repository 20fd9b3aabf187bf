"""The command that sweeps the buffer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fusecut.cli import terminal
from fusecut.cli.options import Commands, Parser, count, counts, line_options, network_options, output_options, seconds
from fusecut.errors import FusecutError

if TYPE_CHECKING:
    from fusecut.sweeps import Sweep


def curve_command(commands: Commands[Parser]) -> None:
    """``fusecut curve``."""
    from fusecut.models import SCHEMES
    from fusecut.sweeps import OVER

    p = commands.add_parser(
        "curve",
        help="DRAM bytes against buffer size, with every breakpoint",
        description="Finds the fewest DRAM bytes at every buffer size of a range, with the plan at every breakpoint.",
        epilog="Example: fusecut curve zoo:mobilenet_v2 --from 16KiB --to 8MiB -o curve.html. "
        "Several values of A,B, and several shapes of one input, give a curve each. With --over, one buffer and "
        "something else that changes: fusecut curve zoo:mobilenet_v2 --over resolution --buffer 256KiB -o sizes.html",
    )
    network_options(p)
    p.add_argument("--from", dest="start", metavar="SIZE", help="least buffer (default: 16KiB)")
    p.add_argument("--to", dest="end", metavar="SIZE", help="largest buffer (default: 8MiB)")
    p.add_argument("--over", choices=OVER, metavar="WHAT", help=f"in one buffer, over one of: {', '.join(OVER)}")
    p.add_argument(
        "--values", type=counts, metavar="A,B", help="values of --over (default: 4,8,16 bits, 96..512 pixels)"
    )
    p.add_argument("--buffer", metavar="SIZE", help="the buffer of --over")
    p.add_argument("--machine", metavar="NAME", help="a machine whose widths to take, and with --over its buffer")
    known = ", ".join(SCHEMES)
    p.add_argument("--scheme", default="mixed,layerwise", metavar="A,B", help=f"of: {known} (default: mixed,layerwise)")
    for what, bits in (("activation", 8), ("weight", 8)):
        p.add_argument(f"--{what}-bits", type=counts, metavar="A,B", help=f"default: {bits}, or the machine's")
    p.add_argument("--accumulator-bits", type=count, metavar="N", help="default: 32, or the machine's")
    p.add_argument(
        "--tolerance", type=float, default=0.0, metavar="SHARE", help="fewer points, this far above the best (0.001)"
    )
    p.add_argument("--max-seconds", type=seconds, metavar="S", help="stop each curve after so many seconds")
    p.add_argument("--all", action="store_true", help="print every breakpoint, not only the large ones")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a .csv, .json, .svg or .html file")
    line_options(p)
    output_options(p)
    p.set_defaults(run=run_curve)


def run_curve(args: argparse.Namespace) -> int:
    """Sweep the buffer, or what ``--over`` says; print, write."""
    from fusecut import sweeps

    if args.over is None and (args.values or args.buffer is not None):
        raise FusecutError("--values and --buffer belong to --over WHAT; the range of buffers is --from and --to")
    if args.over is not None and (args.start is not None or args.end is not None):
        raise FusecutError("--from and --to are the range of buffers; --over WHAT takes one buffer, --buffer")
    _range(args, "16KiB", "8MiB")
    return _run(args, sweeps.CURVES if args.over is None else sweeps.SERIES)


def _range(args: argparse.Namespace, start: str, end: str) -> None:
    """The range of buffers, where none was given."""
    args.start = start if args.start is None else args.start
    args.end = end if args.end is None else args.end


def pareto_command(commands: Commands[Parser]) -> None:
    """``fusecut pareto``."""
    from fusecut.models import SCHEMES

    p = commands.add_parser(
        "pareto",
        help="DRAM bytes against buffer size and repeated MACs, every plan worth having",
        description="Finds every plan that no other plan beats in DRAM bytes, buffer bytes and repeated MACs.",
        epilog="Example: fusecut pareto zoo:mobilenet_v2 --buffer 64KiB -o front.html",
    )
    network_options(p)
    p.add_argument("--buffer", metavar="SIZE", help="one buffer, in place of a range")
    p.add_argument("--from", dest="start", metavar="SIZE", help="least buffer (default: 64KiB)")
    p.add_argument("--to", dest="end", metavar="SIZE", help="largest buffer (default: 256KiB)")
    p.add_argument("--machine", metavar="NAME", help="a machine whose widths to take; its buffer is not looked at")
    p.add_argument("--scheme", default="mixed", metavar="NAME", help=f"one of: {', '.join(SCHEMES)} (default: mixed)")
    for what, bits in (("activation", 8), ("weight", 8), ("accumulator", 32)):
        p.add_argument(f"--{what}-bits", type=count, metavar="N", help=f"default: {bits}, or the machine's")
    p.add_argument("--max-seconds", type=seconds, metavar="S", help="stop after so many seconds, with what is found")
    p.add_argument("--all", action="store_true", help="print every plan, not only the first ones")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a .csv, .json, .svg or .html file")
    line_options(p)
    output_options(p)
    p.set_defaults(run=run_pareto)


def run_pareto(args: argparse.Namespace) -> int:
    """Find the front; print, write."""
    from fusecut import sweeps

    if args.buffer is not None and (args.start is not None or args.end is not None):
        raise FusecutError("--buffer is one buffer, --from and --to are a range: give one or the other")
    _range(args, "64KiB", "256KiB")
    return _run(args, sweeps.FRONT)


def _run(args: argparse.Namespace, sweep: Sweep) -> int:
    """Refuse a file that cannot be written before the work, not after it; then sweep, write, print."""
    from fusecut import commands
    from fusecut.plan_file import write_text

    commands.check_writable(args.output)
    write = sweep.writer(args.output)
    found = sweep.find(args)
    if args.output is not None:
        write_text(args.output, write(found, args))
    written = "" if args.output is None else f"\n\nwritten to {args.output}"
    terminal.emit_as(
        args.format,
        json=lambda: sweep.to_json(found, args),
        text=lambda width, colour: sweep.text(found, width, colour, args.all) + written,
    )
    return terminal.OK
