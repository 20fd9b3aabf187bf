"""What the commands do, between the parsed arguments and the printed text."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from fusecut import machines
from fusecut._version import __version__
from fusecut.bench import Grid, Row, read, run
from fusecut.errors import FusecutError
from fusecut.frontend.onnx import Granularity
from fusecut.ir import Graph
from fusecut.load import fingerprint, load
from fusecut.machine import Machine
from fusecut.models import LineBuffer, scheme_model
from fusecut.partition import Partition
from fusecut.plan_file import LINE_SWITCHES, groups_of, line_buffer, load_plan, read_object, to_json, write_text
from fusecut.problem import Problem
from fusecut.report.compare import Compared, compare
from fusecut.report.explain import explain
from fusecut.search import SEARCHERS, searcher
from fusecut.solution import Provenance, Solution
from fusecut.solve import Progress, solve
from fusecut.split import LEARNED, Splitter, splitter
from fusecut.text import Column, render_table
from fusecut.ticker import Ticker
from fusecut.units import format_bytes, parse_bytes
from fusecut.zoo import index

if TYPE_CHECKING:
    from fusecut.export import Pieces
    from fusecut.reproduce.result import Reproduced
    from fusecut.simulate import Simulation

DEFINITION: Final = (
    "DRAM traffic = bytes read + bytes written for one inference of the whole batch. For each group, every "
    "tensor made outside it and read inside it is read once (again for every pass that reads it again, halos "
    "included); every tensor made inside it that is read outside it, or is a network output, is written once; "
    "weights and biases are read once per pass over them. Network inputs and outputs count, padding does not. "
    "A tensor read by several groups is written once and read by each."
)

Option = str | int | bool


def solved(args: argparse.Namespace) -> Solution:
    """Solve what the arguments ask for, with progress on stderr."""
    search = searcher(args.search)
    split = _splitter(args)
    options = _options(args)
    graph, machine = _graph(args, options), machine_of(args)
    model = scheme_model(args.scheme, _lines(args.scheme, options))
    if split is not None and args.splitter in LEARNED:
        _note_extrapolations(Problem(graph, machine, model), args.quiet)
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
    with Ticker(args.quiet) as ticker:
        return solve(
            graph,
            machine=machine,
            model=model,
            search=search,
            splitter=split,
            objective=getattr(args, "objective", "dram"),
            max_plans=getattr(args, "max_plans", None),
            max_evaluations=getattr(args, "max_evaluations", None),
            max_seconds=getattr(args, "max_seconds", None),
            seed=getattr(args, "seed", 0),
            provenance=provenance,
            on_progress=ticker.of(_searching),
        )


_NEVER_SPLIT: Final = ("exact", "greedy", "lazy_exact", "online")
"""Searchers that ask for no part of a group."""


def _splitter(args: argparse.Namespace) -> Splitter | None:
    """The splitter asked for, if the searcher has a use for one."""
    if not getattr(args, "splitter", None):
        return None
    found = splitter(args.splitter)
    if args.search in _NEVER_SPLIT:
        others = ", ".join(name for name in SEARCHERS if name not in _NEVER_SPLIT)
        raise FusecutError(f"--splitter {args.splitter}: --search {args.search} splits no groups; take one of {others}")
    return found


def _note_extrapolations(problem: Problem, quiet: bool) -> None:
    """Say on stderr where the bundled network is asked about what it never saw; plans are exact in any case.

    Raises:
        WeightsError: no network speaks for the scheme.
    """
    from fusecut.explain.trained import model_for

    notes = model_for(problem).notes(problem.graph, problem.capacity_bytes)
    for note in () if quiet else notes:
        print(f"fusecut: note: {note}", file=sys.stderr)


def graph_of(args: argparse.Namespace) -> Graph:
    """The network that the arguments name."""
    return _graph(args, _options(args))


def lines_of(args: argparse.Namespace) -> LineBuffer:
    """The line buffer that the arguments ask for."""
    return _lines(args.scheme, _options(args))


def _graph(args: argparse.Namespace, options: dict[str, Option]) -> Graph:
    shapes = {key.partition(":")[2]: _dims(str(value)) for key, value in options.items() if ":" in key}
    granularity: Granularity = args.granularity
    return load(args.model, batch=args.batch, input_shapes=shapes, granularity=granularity)


def machine_of(args: argparse.Namespace) -> Machine:
    """The machine asked for, with what else was asked for in place of its own."""
    asked: dict[str, Any] = {} if args.buffer is None else {"buffer_bytes": parse_bytes(args.buffer)}
    for what in ("activation_bits", "weight_bits", "accumulator_bits"):
        if getattr(args, what) is not None:
            asked[what] = getattr(args, what)
    if args.machine is not None:
        return replace(machines.load(args.machine), **asked)
    if args.buffer is None:
        raise FusecutError("the following arguments are required: --buffer SIZE or --machine NAME; see --help")
    return Machine(**asked)


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


def origin(args: argparse.Namespace) -> dict[str, Any]:
    """What a file of results says of where they come from."""
    return {
        "fusecut_version": __version__,
        "model": args.model,
        "model_sha256": fingerprint(args.model),
        "granularity": args.granularity,
        "options": _options(argparse.Namespace(**{**vars(args), "input_shape": []})),
    }


def _dims(text: str) -> tuple[int, ...]:
    parts = text.split("x")
    return tuple(int(p) for p in parts) if all(p.isdecimal() and len(p) < 10 for p in parts) else ()


def _searching(p: Progress) -> str:
    best = "no plan yet" if p.score is None else f"best {p.score:,} {p.unit}"
    return f"{best}, bound {p.bound:,} {p.unit}, {p.evaluations:,} groups priced"


def check_writable(path: Path | None, folder: bool = False) -> None:
    """Refuse a place where no file (no ``folder``) can be written before the work, not after it."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise FusecutError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir() != folder and path.exists():
        raise FusecutError(f"cannot write {path}: it is a {'file' if folder else 'folder'}; give another name")
    if not os.access(path if path.is_dir() else path.parent, os.W_OK):
        raise FusecutError(f"cannot write {path}: no permission to write there; choose another place")


def check_page(path: Path | None) -> None:
    """Refuse a page that cannot be written, or whose name says that it is something else."""
    check_writable(path)
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise FusecutError(f"cannot write {path}: a report is an HTML page; end its name in .html")


def limit_bytes(text: str | None) -> int | None:
    """The limit of ``--fail-above``."""
    return None if text is None else parse_bytes(text)


def over_limit(solution: Solution, limit: int | None) -> str:
    """One line that says by how much the plan moves more than it may; nothing if it does not."""
    dram = solution.cost.dram_bytes
    if limit is None or dram <= limit:
        return ""
    return f"over the limit: the plan moves {dram:,} B, {dram - limit:,} B more than --fail-above {limit:,} B"


def refusal(solution: Solution) -> str:
    """One line that says why there is no plan."""
    buffer = format_bytes(solution.machine.buffer_bytes)
    if solution.interrupted:
        raise KeyboardInterrupt(f"{solution.provenance.model}: interrupted before the first plan")
    if not solution.refusals:
        return f"{solution.provenance.model}: no plan found within the budget; allow more, or a larger buffer"
    name, why = solution.refusals[0]
    more = f" (and {len(solution.refusals) - 1} more ops)" if len(solution.refusals) > 1 else ""
    return f"{solution.provenance.model}: infeasible in a buffer of {buffer}: op {name!r} {why}{more}"


def solution_text(solution: Solution, args: argparse.Namespace, width: int, colour: bool) -> str:
    """The plan as printed by solve."""
    head = f"{solution.provenance.model}, buffer {format_bytes(solution.machine.buffer_bytes)}, scheme {args.scheme}"
    head += "" if args.machine is None else f", machine {solution.machine.name}"
    text = f"{head}\n\n{solution.table(width, colour)}"
    if args.explain:
        details = explanations(solution, range(len(solution.planned)), width, colour)
        text = f"{text}\n\n{details}"
    written = [str(path) for path in (args.output, args.report) if path is not None]
    return f"{text}\nwritten to {' and '.join(written)}" if written else text


def explanations(solution: Solution, groups: Iterable[int], width: int, colour: bool) -> str:
    """What is counted, then groups of a plan, taken apart."""
    lines = line_buffer(solution.provenance.scheme, dict(solution.provenance.options))
    apart = (explain(solution, index, lines).text(width, colour) for index in groups)
    return "\n\n".join([fill(DEFINITION, width), *apart])


def write(solution: Solution, args: argparse.Namespace) -> None:
    """Write the plan and its report, where asked for."""
    if args.output is not None:
        write_text(args.output, to_json(solution))
    if args.report is not None:
        report(solution, args.report, args.quiet)


def report(solution: Solution, path: Path, quiet: bool, greedy: bool | None = None) -> None:
    """Write the report of a plan."""
    from fusecut.report.html import write_report

    with Ticker(quiet) as ticker:
        write_report(solution, path, greedy=greedy, on_progress=ticker.of(_searching))


def simulated(args: argparse.Namespace) -> Simulation:
    """Execute a plan file; write the trace, where asked for."""
    from fusecut.simulate import simulate, trace_json

    check_writable(args.trace)
    solution = load_plan(args.plan)
    with Ticker(args.quiet) as ticker:
        done = simulate(
            solution,
            seed=args.seed,
            mode=args.mode,
            dtype=args.dtype,
            trace=args.trace is not None,
            on_progress=ticker.of(lambda p: f"group {p.group + 1} of {p.groups}, {p.ops} ops"),
        )
    if args.trace is not None:
        write_text(args.trace, trace_json(done))
    return done


def exported(args: argparse.Namespace) -> list[str]:
    """Write what was asked for; one line for each place, and what is missing there."""
    if args.onnx is args.subgraphs is args.stream is None:
        raise FusecutError("nothing to export: give --onnx FILE, --subgraphs DIR or --stream FILE; see --help")
    for path in (args.onnx, args.stream):
        check_writable(path)
    check_writable(args.subgraphs, folder=True)
    from fusecut import export

    pieces = export.Pieces(load_plan(args.plan))
    lines = []
    if args.onnx is not None:
        export.write_onnx(pieces, args.onnx)
        lines += [f"{args.onnx}: {len(pieces.pieces)} functions", *_missing(pieces, args.onnx.parent)]
    if args.subgraphs is not None:
        files = export.write_subgraphs(pieces, args.subgraphs)
        lines += [f"{args.subgraphs}: {len(files)} models", *_missing(pieces, args.subgraphs)]
    if args.stream is not None:
        export.write_stream(pieces, args.stream)
        lines.append(f"{args.stream}: {len(pieces.pieces)} layer stacks")
    return lines


def _missing(pieces: Pieces, folder: Path) -> list[str]:
    from fusecut.export import missing_data

    names = missing_data(pieces, folder)
    if not names:
        return []
    home = pieces.file.parent
    here = [name for name in names if (home / name).is_file()]
    lines = [f"  its weights are in {', '.join(here)}: copy that from {home} to {folder}"] if here else []
    if len(here) < len(names):
        lines.append("  its weights were not with the network and are not here: it opens, and cannot be run")
    return lines


def compared(args: argparse.Namespace) -> list[Compared]:
    """Price the plans given beside the best one."""
    options = _options(args)
    graph = _graph(args, options)
    problem = Problem(graph, machine_of(args), scheme_model(args.scheme, _lines(args.scheme, options)))
    plans = [(str(path), _partition(problem.graph, path)) for path in args.plan]
    args.search = "exact"
    best = solved(args)
    if best.partition is None:
        raise FusecutError(refusal(best))
    return compare(problem, best, plans)


def benched(args: argparse.Namespace) -> list[Row]:
    """The rows of a grid, each announced on stderr; or those of files."""
    if args.rows:
        return [row for path in args.rows for row in read(path)]
    if not args.seeds or not args.max_plans:
        raise FusecutError("--seeds and --max-plans must be at least 1")
    names = ("networks", "buffers", "schemes", "searchers", "splitters")
    networks, buffers, schemes, searchers, splitters = (tuple(getattr(args, name)) for name in names)
    grid = Grid(networks, buffers, schemes, searchers, splitters, args.seeds, args.max_plans)
    rows: list[Row] = []
    try:
        for row in run(grid):
            rows.append(row)
            if not args.quiet:
                label = f"{row.network} {row.buffer} {row.scheme} {row.searcher} {row.splitter} seed {row.seed}"
                print(f"{label}: gap {100 * row.gap:.2f} %, {row.seconds:.1f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        if not rows:
            raise
        print("fusecut: note: interrupted: the rows so far are shown", file=sys.stderr)
    return rows


def check_figure(path: Path | None) -> None:
    """Refuse a figure that cannot be drawn or written before the work, not after it."""
    if path is not None:
        from fusecut.report.plots import check_figure

        check_writable(path)
        check_figure(path)


def write_reproduced(found: Reproduced, args: argparse.Namespace) -> None:
    """The files that ``reproduce`` was asked for."""
    if args.output is not None and found.markdown is not None:
        write_text(args.output, found.markdown())
    if args.figure is not None:
        from fusecut.report.plots import draw

        draw(found.panels, args.figure)


def draw_gaps(rows: list[Row], path: Path | None) -> None:
    """The figure of ``bench searchers --figure``."""
    if path is not None:
        from fusecut.report.plots import draw, gap_curves

        draw(gap_curves(rows), path)


def _partition(graph: Graph, path: Path) -> Partition:
    groups = groups_of(path, read_object(path))
    try:
        return Partition.of_names(graph, groups)
    except FusecutError as error:
        raise FusecutError(f"{path}: {error}") from None


def zoo_text(width: int, colour: bool) -> str:
    """The bundled networks as a table."""
    columns = (
        Column("name", "left"),
        Column("ops"),
        Column("input"),
        Column("weights B"),
        Column("MACs"),
        Column("activations B", optional=True),
    )
    rows = [
        [
            e.name,
            str(e.ops),
            "x".join(map(str, e.input_shape)),
            f"{e.weight_bytes:,}",
            f"{e.macs / 1e6:,.1f} M",
            f"{e.activation_bytes:,}",
        ]
        for e in index()
    ]
    return render_table(columns, rows, width, colour)


def machines_text(width: int, colour: bool) -> str:
    """The bundled machines as a table."""
    columns = (Column("name", "left"), Column("buffer"), Column("bits"), Column("about", "left", flexible=True))
    rows = []
    for name in machines.names():
        known = machines.describe(name)
        bits = f"{known.machine.activation_bits}x{known.machine.weight_bits}"
        rows.append([name, format_bytes(known.machine.buffer_bytes), bits, known.summary])
    return render_table(columns, rows, width, colour)


def machine_text(name: str, width: int) -> str:
    """What a machine's file says, each value with its source beside it."""
    known = machines.describe(name)
    values = {"buffer": format_bytes(known.machine.buffer_bytes), **known.machine.to_dict()}
    sources = dict(known.sources)
    lines = [
        fill(f"{key:<20}{values[key]:>9}   {sources.get(key, '')}", width, subsequent_indent=" " * 32)
        for key in machines.VALUES
        if key in values
    ]
    return "\n".join([f"{name}: {known.summary}", "", *lines])
