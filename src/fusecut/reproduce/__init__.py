"""The papers' tables, ours beside theirs: what ``fusecut reproduce NAME`` prints.

``REPRODUCTIONS`` are the names of the command line. Each takes the parsed arguments of its
sub-command and is loaded only when asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final, NamedTuple

from fusecut.units import parse_bytes


class Reproduced(NamedTuple):
    """Rows as plain data, and the same as text of a width, in colour or not."""

    rows: list[dict[str, Any]]
    text: Callable[[int, bool], str]


def _optimus(args: argparse.Namespace) -> Reproduced:
    from fusecut.reproduce import optimus
    from fusecut.reproduce.optimus_nets import NETWORKS

    networks = tuple(args.networks or NETWORKS)
    rows = list(optimus.rows(networks, parse_bytes(args.buffer), args.batch, tuple(args.schemes)))
    return Reproduced([asdict(row) for row in rows], partial(optimus.text, rows))


REPRODUCTIONS: Final[dict[str, Callable[[argparse.Namespace], Reproduced]]] = {
    "optimus": _optimus,
}
