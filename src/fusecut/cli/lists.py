"""Commands that list what is bundled."""

from __future__ import annotations

import argparse
import json

from fusecut.cli import terminal
from fusecut.cli.options import Commands, Parser


def zoo_command(commands: Commands[Parser]) -> None:
    """``fusecut zoo``."""
    p = commands.add_parser("zoo", help="list the bundled networks", description="Lists the bundled networks.")
    p.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    p.set_defaults(run=run_zoo)


def run_zoo(args: argparse.Namespace) -> int:
    """List the bundled networks."""
    from dataclasses import asdict

    from fusecut import commands
    from fusecut.zoo import index

    terminal.emit_as(
        args.format, json=lambda: json.dumps([asdict(e) for e in index()], indent=2), text=commands.zoo_text
    )
    return terminal.OK


def machines_command(commands: Commands[Parser]) -> None:
    """``fusecut machines``."""
    p = commands.add_parser(
        "machines",
        help="list the bundled machines",
        description="Lists the bundled machines, or says what is known of one, and from where.",
    )
    p.add_argument("machine", nargs="?", metavar="NAME", help="a machine, or a file NAME.toml")
    p.set_defaults(run=run_machines)


def run_machines(args: argparse.Namespace) -> int:
    """List the bundled machines, or one of them with its sources."""
    from fusecut import commands

    width, colour = terminal.screen()
    known = (
        commands.machines_text(width, colour) if args.machine is None else commands.machine_text(args.machine, width)
    )
    terminal.emit(known)
    return terminal.OK
