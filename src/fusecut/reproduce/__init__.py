"""The papers' tables, ours beside theirs: what ``fusecut reproduce NAME`` prints.

``REPRODUCTIONS`` are the names of the command line. Each takes the parsed arguments of its
sub-command and is loaded only when asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final

from fusecut.reproduce.result import Reproduced
from fusecut.units import parse_bytes

if TYPE_CHECKING:
    from fusecut.reproduce.aiop import Row


def _optimus(args: argparse.Namespace) -> Reproduced:
    from fusecut.reproduce import optimus
    from fusecut.reproduce.optimus_nets import NETWORKS

    networks = tuple(args.networks or NETWORKS)
    rows = list(optimus.rows(networks, parse_bytes(args.buffer), args.batch, tuple(args.schemes)))
    return Reproduced([asdict(row) for row in rows], partial(optimus.text, rows))


def _get(args: argparse.Namespace) -> Reproduced:
    from fusecut.reproduce.get.main import reproduced

    return reproduced(args)


GET: Final = {
    "table1": "the data set: groups met by a random search (Table I)",
    "table2": "DRAM bytes under LBDF, 256 KiB (Table II)",
    "table3": "DRAM bytes under BRR, 128 KiB (Table III)",
    "table4": "DRAM bytes under LBDF, 128 KiB (Table IV)",
    "table5": "rectify rate and time on MobileNetV2 (Table V)",
    "figure3": "share of groups that fit against the buffer (Figure 3)",
    "figure5": "best plan against plans proposed (Figure 5)",
}
"""Parts of arXiv 2501.00636."""


def _aiop(args: argparse.Namespace) -> Reproduced:
    from fusecut.reproduce import aiop

    known = aiop.read_rows(args.rows) if args.rows is not None else []
    have = {row.key for row in known}
    found = []
    for row in _aiop_rows(args, known):
        found.append(row)
        if row.key not in have and args.rows is not None:
            aiop.append_row(args.rows, row)
    return Reproduced([asdict(row) for row in found], partial(aiop.text, found))


def _aiop_rows(args: argparse.Namespace, known: Sequence[Row]) -> Iterator[Row]:
    from fusecut.predict.bundle import FOLDER
    from fusecut.reproduce import aiop
    from fusecut.train.solved import read_labels

    experiments, seeds = args.experiments or aiop.EXPERIMENTS, 10 if args.full else 2
    asked = args.methods or [*aiop.METHODS, *(aiop.FAMILY_NETWORKS if args.full else ())]
    closed = [m for m in asked if m not in aiop.GRAPH_NETWORKS]
    if len(closed) < len(asked):
        _require_torch()
    targets = aiop.targets(experiments, args.latencies, not args.full, lambda step: print(step, file=sys.stderr))
    yield from aiop.rows(targets if closed else (), seeds, known, methods=closed)
    networks = [m for m in asked if m in aiop.FAMILY_NETWORKS]
    if networks and "family" in experiments:
        from fusecut.reproduce.aiop_gnn import family_rows

        yield from family_rows(read_labels(FOLDER / "solved.csv"), networks, min(seeds, 5), known)
    yield from _aiop_network_rows(args, experiments, seeds, known)


def _require_torch() -> None:
    """Raise FusecutError where graph networks cannot be trained."""
    from fusecut.errors import FusecutError

    try:
        import torch_geometric  # noqa: F401
    except ImportError as error:
        raise FusecutError(
            f"{error.name} is missing: graph networks need pip install 'fusecut[gnn]'; or name other --methods"
        ) from None


def _aiop_network_rows(
    args: argparse.Namespace, experiments: Sequence[str], seeds: int, known: Sequence[Row]
) -> Iterator[Row]:
    """Rows of graph networks on measured devices, for the methods that are named."""
    from fusecut.reproduce import aiop

    methods = [m for m in args.methods if m in aiop.GRAPH_NETWORKS]
    measured = [e for e in experiments if e in aiop.MEASURED]
    if methods and measured and args.latencies is not None:
        from fusecut.predict.gnn_stack import usable
        from fusecut.reproduce.aiop_device_rows import Plan, rows

        device = usable(args.torch_device)
        spaces = aiop.measured_spaces(args.latencies, lambda step: print(step, file=sys.stderr))
        targets = aiop.targets_of(spaces, measured)
        yield from rows(spaces, targets, Plan(methods, seeds, device), known)


REPRODUCTIONS: Final[dict[str, Callable[[argparse.Namespace], Reproduced]]] = {
    "optimus": _optimus,
    **dict.fromkeys(GET, _get),
    "aiop": _aiop,
}
