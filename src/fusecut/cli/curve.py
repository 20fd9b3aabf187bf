"""The command that sweeps the buffer."""

from __future__ import annotations

import argparse
from pathlib import Path

from fusecut.cli import terminal
from fusecut.cli.options import Commands, Parser, count, counts, line_options, network_options, output_options, seconds


def curve_command(commands: Commands[Parser]) -> None:
    """``fusecut curve``."""
    from fusecut.models import SCHEMES

    p = commands.add_parser(
        "curve",
        help="DRAM bytes against buffer size, with every breakpoint",
        description="Finds the fewest DRAM bytes at every buffer size of a range, with the plan at every breakpoint.",
        epilog="Example: fusecut curve zoo:mobilenet_v2 --from 16KiB --to 8MiB -o curve.html. "
        "Several values of A,B, and several shapes of one input, give a curve each.",
    )
    network_options(p)
    p.add_argument("--from", dest="start", default="16KiB", metavar="SIZE", help="least buffer (default: 16KiB)")
    p.add_argument("--to", dest="end", default="8MiB", metavar="SIZE", help="largest buffer (default: 8MiB)")
    p.add_argument("--machine", metavar="NAME", help="a machine whose widths to take; its buffer is not looked at")
    known = ", ".join(SCHEMES)
    p.add_argument("--scheme", default="mixed,layerwise", metavar="A,B", help=f"of: {known} (default: mixed,layerwise)")
    for what, bits in (("activation", 8), ("weight", 8)):
        p.add_argument(f"--{what}-bits", type=counts, metavar="A,B", help=f"default: {bits}, or the machine's")
    p.add_argument("--accumulator-bits", type=count, metavar="N", help="default: 32, or the machine's")
    p.add_argument("--max-seconds", type=seconds, metavar="S", help="stop each curve after so many seconds")
    p.add_argument("--all", action="store_true", help="print every breakpoint, not only the large ones")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a .csv, .json, .svg or .html file")
    line_options(p)
    output_options(p)
    p.set_defaults(run=run_curve)


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
    terminal.emit_as(
        args.format,
        json=lambda: commands.curves_json(curves, args),
        text=lambda width, colour: text(curves, width, colour, every=args.all) + written,
    )
    return terminal.OK
