"""What ``curve --over`` and ``pareto`` do, between the parsed arguments and the printed text."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from fusecut import commands
from fusecut.errors import FusecutError
from fusecut.ir import Graph
from fusecut.models import scheme_model
from fusecut.pareto import ParetoFront, pareto
from fusecut.pareto import Progress as ParetoProgress
from fusecut.report import pareto as pareto_report
from fusecut.report import series as series_report
from fusecut.series import Case, Series, series
from fusecut.solve import Progress
from fusecut.ticker import Ticker

OVER: Final[dict[str, tuple[int, ...]]] = {
    "weight-bits": (4, 8, 16),
    "activation-bits": (4, 8, 16),
    "resolution": (96, 128, 160, 192, 224, 256, 320, 384, 448, 512),
}
"""What DRAM bytes are set against besides the buffer, and at which values unless told otherwise."""


def all_series(args: argparse.Namespace) -> list[Series]:
    """A series for each combination of schemes and of widths that do not change along it.

    Raises:
        FusecutError: there is no ``--buffer`` or machine, the resolution of the network cannot be changed, or
            nothing runs at any value.
    """
    values = args.values or OVER[args.over]
    field = args.over.replace("-", "_")
    fixed = argparse.Namespace(**vars(args))
    if args.over != "resolution":
        setattr(fixed, field, None)
    cases: dict[int, Graph] = {}
    found: list[Series] = []
    for one in commands.choices(fixed, args.buffer):
        lines = commands.lines_of(one)
        with Ticker(args.quiet) as ticker:
            found.append(
                series(
                    args.over.replace("-", " "),
                    _cases(one, field, values, cases),
                    scheme=one.scheme,
                    model=lambda one=one, lines=lines: scheme_model(one.scheme, lines),  # type: ignore[misc]
                    max_seconds=args.max_seconds,
                    on_progress=ticker.of(lambda p, one=one: _solving(one, p)),  # type: ignore[misc]
                )
            )
        if found[-1].ended:
            break
    if not any(sample.dram_bytes is not None for one in found for sample in one.samples):
        first = next(chain.from_iterable(one.samples for one in found), None)
        raise FusecutError(f"{args.model}: {found[0].ended if first is None else first.refused}")
    return found


def _solving(args: argparse.Namespace, p: Progress) -> str:
    best = "no plan yet" if p.dram_bytes is None else f"DRAM {p.dram_bytes:,} B"
    return f"{args.scheme} over {args.over}: {best}, bound {p.bound:,} B"


def _cases(args: argparse.Namespace, field: str, values: Sequence[int], read: dict[int, Graph]) -> Iterator[Case]:
    """Networks and machines by value; a network is read once for each resolution."""
    for value in sorted(set(values)):
        if field == "resolution":
            if value not in read:
                read[value] = _resized(args, value)
            yield Case(value, read[value], commands.machine_of(args))
        else:
            if not read:
                read[0] = commands.graph_of(args)
            yield Case(value, read[0], commands.machine_of(argparse.Namespace(**{**vars(args), field: value})))


def _resized(args: argparse.Namespace, pixels: int) -> Graph:
    """The network with a square input of so many pixels a side.

    Raises:
        FusecutError: its input is not one image, or something in it insists on another size.
    """
    graph = commands.graph_of(argparse.Namespace(**{**vars(args), "input_shape": []}))
    inputs = [graph.tensors[t] for t in graph.inputs]
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = ", ".join(f"{t.name} {'x'.join(map(str, t.shape))}" for t in inputs)
        raise FusecutError(
            f"{args.model}: resolution means one input of batch x channels x rows x columns, and this network reads "
            f"{shapes}: give --input-shape to a solve for each size instead"
        )
    if pixels < 1:
        raise FusecutError(f"--values: a resolution of {pixels} pixels: give 1 or more")
    batch, channels = inputs[0].shape[:2]
    shape = f"{inputs[0].name}={batch}x{channels}x{pixels}x{pixels}"
    try:
        return commands.graph_of(argparse.Namespace(**{**vars(args), "input_shape": [shape]}))
    except FusecutError as error:
        raise FusecutError(f"at {pixels} pixels: {error}") from None


def front(args: argparse.Namespace) -> ParetoFront:
    """The front that the arguments ask for.

    Raises:
        FusecutError: nothing runs in any buffer of the range, or the effort ran out before the first plan.
    """

    def sweeping(p: ParetoProgress) -> str:
        return f"{args.scheme}: at {p.buffer_bytes:,} B, {p.points:,} plans, {p.evaluations:,} groups priced"

    start, end = (args.buffer, args.buffer) if args.buffer is not None else (args.start, args.end)
    with Ticker(args.quiet) as ticker:
        found = pareto(
            commands.graph_of(args),
            start,
            end,
            machine=commands.machine_of(argparse.Namespace(**{**vars(args), "buffer": end})),
            model=scheme_model(args.scheme, commands.lines_of(args)),
            max_seconds=args.max_seconds,
            on_progress=ticker.of(sweeping),
        )
    if not found.points:
        raise FusecutError(f"{args.model}: no plan found: {found.ended}")
    return found


def series_json(found: Sequence[Series], args: argparse.Namespace) -> str:
    """The series as one JSON object."""
    return series_report.to_json(found, commands.origin(args))


def front_json(found: ParetoFront, args: argparse.Namespace) -> str:
    """The front as one JSON object."""
    return pareto_report.to_json(found, commands.origin(args))


def series_writer(path: Path | None) -> commands.Writer:
    """What makes the file that a name asks for."""
    return commands.by_suffix(
        path,
        {
            ".csv": lambda found, _: series_report.to_csv(found),
            ".json": series_json,
            ".svg": lambda found, args: series_report.svg(found, _title(args, args.over.replace("-", " "))),
            ".html": lambda found, args: series_report.html(found, _title(args, args.over.replace("-", " "))),
        },
    )


def front_writer(path: Path | None) -> commands.Writer:
    """What makes the file that a name asks for."""
    return commands.by_suffix(
        path,
        {
            ".csv": lambda found, _: pareto_report.to_csv(found),
            ".json": front_json,
            ".svg": lambda found, args: pareto_report.svg(found, _title(args, "buffer and repeated MACs")),
            ".html": lambda found, args: pareto_report.html(found, _title(args, "buffer and repeated MACs")),
        },
    )


def _title(args: argparse.Namespace, against: str) -> str:
    return f"{args.model}: DRAM traffic against {against}"
