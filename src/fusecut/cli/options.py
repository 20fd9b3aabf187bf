"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from fusecut.errors import FusecutError, UnknownNameError, meant

Commands = argparse._SubParsersAction


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other refusal."""

    def error(self, message: str) -> NoReturn:
        raise FusecutError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Nothing is left for anybody else to know: what this command does not know is refused, with what was meant."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            hint = meant(unknown[0].partition("=")[0], flags).removeprefix(": ")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint and f' ({hint})'}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """A choice that is not there is refused as every other unknown name is."""
        if action.choices is not None and value not in action.choices:
            what = action.option_strings[0] if action.option_strings else (action.metavar or action.dest)
            raise UnknownNameError(str(what).lower(), str(value), action.choices)


def problem_options(p: argparse.ArgumentParser) -> None:
    """What says which network, in which buffer, under which scheme."""
    from fusecut.models import SCHEMES

    network_options(p)
    p.add_argument("--buffer", metavar="SIZE", help="on-chip buffer, e.g. 256KiB (1024s) or 256KB (1000s)")
    p.add_argument("--machine", metavar="NAME", help="a machine (see: fusecut machines), or a file NAME.toml")
    p.add_argument("--scheme", default="mixed", metavar="NAME", help=f"one of: {', '.join(SCHEMES)} (default: mixed)")
    for what, bits in (("activation", 8), ("weight", 8), ("accumulator", 32)):
        p.add_argument(f"--{what}-bits", type=count, metavar="N", help=f"default: {bits}, or the machine's")
    line_options(p)


def network_options(p: argparse.ArgumentParser) -> None:
    """What says which network, and how it is read."""
    p.add_argument("model", metavar="MODEL", help="an ONNX file, or zoo:NAME (see: fusecut zoo)")
    p.add_argument(
        "--granularity",
        default="folded",
        metavar="NAME",
        help="folded (default) or op: every ONNX node an op of its own",
    )
    p.add_argument("--batch", type=count, metavar="N", help="images per inference, in place of the file's")
    p.add_argument(
        "--input-shape",
        action="append",
        default=[],
        metavar="NAME=1x3x224x224",
        help="shape of an input; may be repeated",
    )


def line_options(p: argparse.ArgumentParser) -> None:
    """The switches of the line buffer."""
    lines = p.add_argument_group("line buffer (all off by default, see docs/lbdf.md)")
    lines.add_argument("--line-granularity", metavar="NAME", help="row or pixel")
    lines.add_argument("--prefetch-rows", type=count, metavar="N", help="rows kept ahead at the group's ends")
    lines.add_argument("--squeeze-excite", metavar="NAME", help="full or two_pass (two_pass under mixed)")
    for flag, text in (
        ("--inline-elementwise", "pointwise results replace an operand row"),
        ("--virtual-concat", "concatenations are not copied"),
        ("--skip-separate-buffer", "every reader of a tensor has a ring of its own"),
    ):
        lines.add_argument(flag, action="store_true", default=None, help=text)


def output_options(p: argparse.ArgumentParser) -> None:
    """What is printed, and how much of it."""
    p.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: one object on stdout (default: text)"
    )
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def count(text: str) -> int:
    """A whole number of 0 or more."""
    if not text.isdecimal() or len(text) > 12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more, of at most 12 digits")
    return int(text)


def counts(text: str) -> list[int]:
    """Whole numbers with commas between."""
    return [count(part.strip()) for part in text.split(",")]


def seconds(text: str) -> float:
    """A number of seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
