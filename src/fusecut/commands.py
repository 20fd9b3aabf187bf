"""What the commands do, between the parsed arguments and the printed text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from fusecut._version import __version__
from fusecut.bench import Grid, Row, run
from fusecut.errors import FusecutError
from fusecut.frontend.onnx import Granularity
from fusecut.ir import Graph
from fusecut.load import fingerprint, load
from fusecut.machine import Machine
from fusecut.models import LineBuffer, scheme_model
from fusecut.partition import Partition
from fusecut.plan_file import LINE_SWITCHES, groups_of, line_buffer, read_object
from fusecut.problem import Problem
from fusecut.report.compare import Compared, compare
from fusecut.report.explain import explain
from fusecut.search import searcher
from fusecut.solution import Provenance, Solution
from fusecut.solve import Progress, solve
from fusecut.split import splitter
from fusecut.text import Column, render_table
from fusecut.units import format_bytes, parse_bytes
from fusecut.zoo import index

DEFINITION: Final = """\
DRAM traffic = bytes read + bytes written for one inference of the whole batch. For each group, every
tensor made outside it and read inside it is read once (again for every pass that reads it again,
halos included); every tensor made inside it that is read outside it, or is a network output, is
written once; weights and biases are read once per pass over them. Network inputs and outputs count,
padding does not. A tensor read by several groups is written once and read by each."""

Option = str | int | bool


def solved(args: argparse.Namespace) -> Solution:
    """Solve what the arguments ask for, with progress on stderr."""
    search = searcher(args.search)
    split = splitter(args.splitter) if getattr(args, "splitter", None) else None
    options = _options(args)
    graph = _graph(args, options)
    provenance = Provenance(
        args.model,
        fingerprint(args.model),
        args.granularity,
        args.scheme,
        search.name,
        split.name if split is not None else None,
        __version__,
        tuple(sorted(options.items())),
    )
    return solve(
        graph,
        machine=_machine(args),
        model=scheme_model(args.scheme, _lines(args.scheme, options)),
        search=search,
        splitter=split,
        max_plans=getattr(args, "max_plans", None),
        max_evaluations=getattr(args, "max_evaluations", None),
        max_seconds=getattr(args, "max_seconds", None),
        seed=getattr(args, "seed", 0),
        provenance=provenance,
        on_progress=_progress(args.quiet),
    )


def _graph(args: argparse.Namespace, options: dict[str, Option]) -> Graph:
    shapes = {key.partition(":")[2]: _dims(str(value)) for key, value in options.items() if ":" in key}
    granularity: Granularity = args.granularity
    return load(args.model, batch=args.batch, input_shapes=shapes, granularity=granularity)


def _machine(args: argparse.Namespace) -> Machine:
    return Machine.of(args.buffer, args.activation_bits, args.weight_bits, args.accumulator_bits)


def _lines(scheme: str, options: dict[str, Option]) -> LineBuffer:
    scheme_model(scheme)
    return line_buffer(scheme, options)


def _options(args: argparse.Namespace) -> dict[str, Option]:
    """Everything that a plan file must remember to price the plan again."""
    options: dict[str, Option] = {} if args.batch is None else {"batch": args.batch}
    for text in args.input_shape:
        name, _, dims = text.rpartition("=")
        if not name or not _dims(dims):
            raise FusecutError(f"--input-shape {text!r}: write NAME=1x3x224x224")
        options[f"input_shape:{name}"] = dims
    options |= {name: getattr(args, name) for name in LINE_SWITCHES if getattr(args, name) is not None}
    return options


def _dims(text: str) -> tuple[int, ...]:
    parts = text.split("x")
    return tuple(int(p) for p in parts) if all(p.isdecimal() and len(p) < 10 for p in parts) else ()


def _progress(quiet: bool) -> Callable[[Progress], None] | None:
    """A line that rewrites itself once a second, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        return None
    shown = 0.0

    def show(p: Progress) -> None:
        nonlocal shown
        if p.seconds - shown >= 1.0:
            shown = p.seconds
            best = "no plan yet" if p.dram_bytes is None else f"best {p.dram_bytes:,} B"
            line = f"{p.seconds:5.0f} s  {best}, bound {p.bound_bytes:,} B, {p.evaluations:,} groups priced"
            print(f"\r{line:<78}\r", end="", file=sys.stderr, flush=True)

    return show


def check_writable(path: Path | None) -> None:
    """Refuse a place that cannot be written before the search, not after it."""
    if path is not None and not path.parent.is_dir():
        raise FusecutError(f"cannot write {path}: there is no folder {path.parent}")


def limit_bytes(text: str | None) -> int | None:
    """The limit of ``--fail-above``."""
    return None if text is None else parse_bytes(text)


def refusal(solution: Solution) -> str:
    """One line that says why there is no plan."""
    buffer = format_bytes(solution.machine.buffer_bytes)
    if not solution.refusals:
        return f"{solution.provenance.model}: no plan found within the budget; allow more, or a larger buffer"
    name, why = solution.refusals[0]
    more = f" (and {len(solution.refusals) - 1} more ops)" if len(solution.refusals) > 1 else ""
    return f"{solution.provenance.model}: infeasible in a buffer of {buffer}: op {name!r} {why}{more}"


def solution_text(solution: Solution, args: argparse.Namespace, width: int, colour: bool) -> str:
    """The plan as printed by solve."""
    head = f"{solution.provenance.model}, buffer {format_bytes(solution.machine.buffer_bytes)}, scheme {args.scheme}"
    text = f"{head}\n\n{solution.table(width, colour)}"
    if args.explain:
        details = explanations(solution, range(len(solution.planned)), width, colour)
        text = f"{text}\n\n{DEFINITION}\n\n{details}"
    return text if args.output is None else f"{text}\nwritten to {args.output}"


def explanations(solution: Solution, groups: Iterable[int], width: int, colour: bool) -> str:
    """Groups of a plan, taken apart."""
    lines = line_buffer(solution.provenance.scheme, dict(solution.provenance.options))
    return "\n\n".join(explain(solution, index, lines).text(width, colour) for index in groups)


def compared(args: argparse.Namespace) -> list[Compared]:
    """Price the plans given beside the best one."""
    options = _options(args)
    graph = _graph(args, options)
    problem = Problem(graph, _machine(args), scheme_model(args.scheme, _lines(args.scheme, options)))
    plans = [(str(path), _partition(problem.graph, path)) for path in args.plan]
    args.search = "exact"
    best = solved(args)
    if best.partition is None:
        raise FusecutError(refusal(best))
    return compare(problem, best, plans)


def benched(args: argparse.Namespace) -> list[Row]:
    """The rows of a grid, each announced on stderr."""
    if not args.seeds or not args.max_plans:
        raise FusecutError("--seeds and --max-plans must be at least 1")
    names = ("networks", "buffers", "schemes", "searchers", "splitters")
    networks, buffers, schemes, searchers, splitters = (tuple(getattr(args, name)) for name in names)
    grid = Grid(networks, buffers, schemes, searchers, splitters, args.seeds, args.max_plans)
    rows = []
    for row in run(grid):
        rows.append(row)
        if not args.quiet:
            label = f"{row.network} {row.buffer} {row.scheme} {row.searcher} {row.splitter} seed {row.seed}"
            print(f"{label}: gap {100 * row.gap:.2f} %, {row.seconds:.1f} s", file=sys.stderr, flush=True)
    return rows


def _partition(graph: Graph, path: Path) -> Partition:
    try:
        return Partition.of_names(graph, groups_of(path, read_object(path)))
    except FusecutError as error:
        text = str(error)
        raise FusecutError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def zoo_text(width: int, colour: bool) -> str:
    """The bundled networks as a table."""
    columns = (
        Column("name", "left"),
        Column("ops"),
        Column("input"),
        Column("weights B"),
        Column("activations B"),
        Column("MACs"),
    )
    rows = [
        [
            e.name,
            str(e.ops),
            "x".join(map(str, e.input_shape)),
            f"{e.weight_bytes:,}",
            f"{e.activation_bytes:,}",
            f"{e.macs:,}",
        ]
        for e in index()
    ]
    return render_table(columns, rows, width, colour)
