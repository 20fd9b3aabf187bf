"""What ``curve`` and ``pareto`` do, between the parsed arguments and the printed text."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any, Final

from fusecut import commands
from fusecut.curve import INTERRUPTED, Curve, curve
from fusecut.curve import Progress as CurveProgress
from fusecut.errors import FusecutError
from fusecut.ir import Graph
from fusecut.models import scheme_model
from fusecut.pareto import ParetoFront, pareto
from fusecut.pareto import Progress as ParetoProgress
from fusecut.report import curve_plot, curve_text
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


@dataclass(frozen=True)
class Sweep:
    """A kind of sweep: how it is made, and as what it can be shown.

    Attributes:
        against: what DRAM bytes are set against, for titles.
        find: does the work; raises :class:`FusecutError` where nothing is found.
        text: for a terminal of a width, in colour or not; every row or the telling ones.
        json: one object, with where the results come from.
        csv: one line for each result.
        svg: a picture under a title.
        html: a page under a title.
    """

    against: Callable[[argparse.Namespace], str]
    find: Callable[[argparse.Namespace], Any]
    text: Callable[[Any, int, bool, bool], str]
    json: Callable[[Any, dict[str, Any]], str]
    csv: Callable[[Any], str]
    svg: Callable[[Any, str], str]
    html: Callable[[Any, str], str]

    def to_json(self, found: Any, args: argparse.Namespace) -> str:
        """What was found as one JSON object."""
        return self.json(found, commands.origin(args))

    def writer(self, path: Path | None) -> Callable[[Any, argparse.Namespace], str]:
        """What makes the file that a name asks for.

        Raises:
            FusecutError: no such kind of file.
        """

        def title(args: argparse.Namespace) -> str:
            return f"{args.model}: DRAM traffic against {self.against(args)}"

        kinds: dict[str, Callable[[Any, argparse.Namespace], str]] = {
            ".csv": lambda found, _: self.csv(found),
            ".json": self.to_json,
            ".svg": lambda found, args: self.svg(found, title(args)),
            ".html": lambda found, args: self.html(found, title(args)),
        }
        suffix = ".json" if path is None else path.suffix.lower()
        if suffix not in kinds:
            raise FusecutError(f"cannot tell what to write into {path}: end its name in {', '.join(kinds)}")
        return kinds[suffix]


def curves(args: argparse.Namespace) -> list[Curve]:
    """A curve for every combination of input shapes, widths and schemes, schemes side by side."""
    found: list[Curve] = []
    for shape in _shape_choices(args):
        graph = commands.graph_of(shape)
        for one in _choices(shape, args.end):
            found.append(_curve(graph, one))
            if found[-1].ended == INTERRUPTED:
                return _shown(found, args)
    return _shown(found, args)


def _shown(found: list[Curve], args: argparse.Namespace) -> list[Curve]:
    """The curves, unless there is nothing on any of them."""
    if not any(curve.points for curve in found):
        raise _nothing(args, found[0].ended)
    return found


def _shape_choices(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The arguments once for each combination of shapes: an input named twice has two of them."""
    shapes: dict[str, list[str]] = {}
    for text in args.input_shape:
        shapes.setdefault(text.rpartition("=")[0], []).append(text)
    for chosen in product(*shapes.values()):
        yield argparse.Namespace(**{**vars(args), "input_shape": list(chosen)})


def _choices(args: argparse.Namespace, buffer: str | None) -> Iterator[argparse.Namespace]:
    """The arguments once for each combination of widths and schemes."""
    schemes = dict.fromkeys(name.strip() for name in args.scheme.split(","))
    for activation, weight in product(args.activation_bits or [None], args.weight_bits or [None]):
        for scheme in schemes:
            bits = {"activation_bits": activation, "weight_bits": weight}
            yield argparse.Namespace(**{**vars(args), **bits, "scheme": scheme, "buffer": buffer})


def _curve(graph: Graph, args: argparse.Namespace) -> Curve:
    def sweeping(p: CurveProgress) -> str:
        return f"{args.scheme}: down to {p.buffer_bytes:,} B, DRAM {p.dram_bytes:,} B"

    with Ticker(args.quiet) as ticker:
        return curve(
            graph,
            args.start,
            args.end,
            machine=commands.machine_of(args),
            model=scheme_model(args.scheme, commands.lines_of(args)),
            tolerance=args.tolerance,
            max_seconds=args.max_seconds,
            on_progress=ticker.of(sweeping),
        )


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
    for one in _choices(fixed, args.buffer):
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
        raise _nothing(args, found[0].ended if first is None else first.refused)
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
        raise _nothing(args, found.ended)
    return found


def _nothing(args: argparse.Namespace, why: str) -> BaseException:
    """What to raise where there is nothing to show."""
    if why.startswith(INTERRUPTED):
        return KeyboardInterrupt(f"{args.model}: {why}, before the first plan")
    return FusecutError(f"{args.model}: {why if why.startswith(('no plan', 'op ')) else f'no plan found: {why}'}")


CURVES: Final = Sweep(
    against=lambda _: "buffer",
    find=curves,
    text=curve_text.text,
    json=curve_text.to_json,
    csv=curve_text.to_csv,
    svg=curve_plot.svg,
    html=curve_plot.html,
)
"""``curve``: over the buffer."""

SERIES: Final = Sweep(
    against=lambda args: args.over.replace("-", " "),
    find=all_series,
    text=lambda found, width, colour, _: series_report.text(found, width, colour),
    json=series_report.to_json,
    csv=series_report.to_csv,
    svg=series_report.svg,
    html=series_report.html,
)
"""``curve --over``: over bits or resolution, in one buffer."""

FRONT: Final = Sweep(
    against=lambda _: "buffer and repeated MACs",
    find=front,
    text=pareto_report.text,
    json=pareto_report.to_json,
    csv=pareto_report.to_csv,
    svg=pareto_report.svg,
    html=pareto_report.html,
)
"""``pareto``: every plan worth having."""
