"""Commands that train what fusecut learns."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from fusecut.cli import terminal
from fusecut.cli.options import Commands, Parser, count
from fusecut.cli.predict import train_devices_command, train_families_command, train_predictor_command


def train_command(commands: Commands[Parser]) -> None:
    """``fusecut train``."""
    train = commands.add_parser(
        "train", help="train what is learned", description="Trains predictors, and what the learned explainers need."
    )
    what = train.add_subparsers(metavar="KIND", required=True, parser_class=Parser)
    _dataset_command(what)
    _validity_command(what)
    _explainer_command(what)
    train_predictor_command(what)
    train_devices_command(what)
    train_families_command(what)
    _judge_command(what)


def _dataset_command(commands: Commands[Parser]) -> None:
    p = commands.add_parser(
        "dataset",
        help="groups of networks, and whether they fit",
        description="Labels the groups that a random search meets (docs/validity.md). Writes a NumPy archive.",
        epilog="Example: fusecut train dataset --scheme lbdf -o groups.npz",
    )
    _options(p, data=False)
    _counted(p, "groups", 900, "most of each network")
    p.set_defaults(run=run_dataset)


def _validity_command(commands: Commands[Parser]) -> None:
    p = commands.add_parser(
        "validity",
        help="the network that tells whether a group fits",
        description="Trains the validity network (docs/validity.md). Writes a safetensors file.",
        epilog="Example: fusecut train validity --scheme lbdf --data groups.npz -o validity.safetensors",
    )
    _options(p)
    _counted(p, "epochs", 12, "at most")
    p.set_defaults(run=run_validity)


def _explainer_command(commands: Commands[Parser]) -> None:
    p = commands.add_parser(
        "explainer",
        help="an explainer that is taught: pg or rg",
        description="Teaches PGExplainer or RG-Explainer (docs/explainers.md). Writes a safetensors file.",
        epilog="Example: fusecut train explainer --name rg --scheme lbdf --data groups.npz -o rg.safetensors",
    )
    _options(p)
    p.add_argument("--name", required=True, metavar="NAME", help="pg or rg")
    p.add_argument("--validity", type=Path, metavar="FILE", help="what it explains (default: the bundled network)")
    _counted(p, "groups", 240, "infeasible groups")
    p.set_defaults(run=run_explainer)


def _judge_command(commands: Commands[Parser]) -> None:
    p = commands.add_parser(
        "judge",
        help="how good networks and explainers are",
        description="Trains on parts of a data set, tries on the rest; compares the bundled explainers. Markdown.",
        epilog="Example: fusecut train judge --scheme lbdf --data groups.npz --groups 200",
    )
    _options(p, writes=False)
    p.add_argument("--what", choices=("validity", "explainers"), default="validity", help="default: validity")
    _counted(p, "groups", 200, "of each network; infeasible ones in all")
    _counted(p, "epochs", 8, "of each training")
    p.set_defaults(run=run_judge)


def _options(p: argparse.ArgumentParser, data: bool = True, writes: bool = True) -> None:
    """What all have in common; whether it reads a data set, and writes a file."""
    p.add_argument("--scheme", required=True, metavar="NAME", help="lbdf or brr")
    for flag, text in (("--networks", "learn from these (default: all teachers)"), ("--without", "not from these")):
        p.add_argument(flag, nargs="+", default=[], metavar="NAME", help=f"{text}; names of the zoo, or families")
    _counted(p, "seed", 0)
    if data:
        p.add_argument("--data", type=Path, metavar="FILE", help="a data set (default: make one)")
    if writes:
        p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write")
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def _counted(p: argparse.ArgumentParser, name: str, default: int, text: str = "") -> None:
    said = f"{text} (default: {default})" if text else f"default: {default}"
    p.add_argument(f"--{name}", type=count, default=default, metavar="N", help=said)


def run_dataset(args: argparse.Namespace) -> int:
    """Collect and label groups."""
    from fusecut.train import command

    return _written(args, lambda: command.dataset(args.scheme, _networks(args), args.groups, args.seed, _report(args)))


def run_validity(args: argparse.Namespace) -> int:
    """Train a validity network."""
    from fusecut.train import command

    def trained() -> tuple[bytes, str]:
        samples = command.given(args.data, args.scheme, _networks(args), args.seed, _report(args))
        return command.validity(samples, args.epochs, args.seed, _report(args))

    return _written(args, trained)


def run_explainer(args: argparse.Namespace) -> int:
    """Teach an explainer."""
    from fusecut.train import command

    def taught() -> tuple[bytes, str]:
        model = command.explained(args.scheme, args.validity)
        samples = command.given(args.data, args.scheme, _networks(args), args.seed, _report(args))
        return command.explainer(args.name, model, samples, args.groups, args.seed, _report(args))

    return _written(args, taught)


def run_judge(args: argparse.Namespace) -> int:
    """Print a table, row by row as it is found."""
    from fusecut.train import command

    samples = command.given(args.data, args.scheme, _networks(args), args.seed, _report(args))
    if args.what == "explainers":
        rows, headings = command.judged_explainers(samples, args.groups, args.seed), command.EXPLAINER_HEADINGS
    else:
        rows = command.judged_validity(samples, args.groups, args.epochs, args.seed, _report(args))
        headings = command.VALIDITY_HEADINGS
    terminal.emit(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for row in rows:
        terminal.emit(f"| {' | '.join(row)} |")
    return terminal.OK


def _written(args: argparse.Namespace, made: Callable[[], tuple[bytes, str]]) -> int:
    """Make a file, once it is sure that it can be written, and say what is in it."""
    from fusecut import commands
    from fusecut.plan_file import write_bytes

    commands.check_writable(args.output)
    content, line = made()
    write_bytes(args.output, content)
    terminal.emit(f"{args.output}: {line}")
    return terminal.OK


def _networks(args: argparse.Namespace) -> tuple[str, ...]:
    from fusecut.train.networks import chosen

    return chosen(tuple(args.networks), tuple(args.without))


def _report(args: argparse.Namespace) -> Callable[[str], None] | None:
    return None if args.quiet else lambda line: print(line, file=sys.stderr, flush=True)
