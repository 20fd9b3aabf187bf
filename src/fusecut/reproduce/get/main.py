"""``fusecut reproduce table1`` to ``table5``, ``figure3`` and ``figure5``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Final

from fusecut.errors import FusecutError, UnknownNameError
from fusecut.report.plots import Panel
from fusecut.reproduce.get import curves, grid, groups, tables
from fusecut.reproduce.get.cases import FIGURE5, FULL, QUICK, TABLES, USUAL, Effort, needs_gnn
from fusecut.reproduce.get.published import NETWORKS
from fusecut.reproduce.get.runs import Case, Row, cases_of, gathered, read_rows, run
from fusecut.reproduce.result import Reproduced
from fusecut.text import Column

CURVE_METHODS: Final = ("random", "gnne", "rg", "occlusion", "surrogate", "random_edges", "cost_guided")
NOTES: Final = """\
Bytes are those of the groups that run under the scheme (ops that do not fit alone left out), KB is read as
1,024 bytes, and the paper's cost function is not public: compare changes, not bytes. "vs plain" is the mean
over paired seeds. The gap is (ours - optimum) / ours; the optimum is proved. Intervals are 95 %, p-values
Wilcoxon's over pairs (cell, seed), Holm-corrected within the table; seeds of a cell share its network, so they
are worth less than they look. "random_edges" is the paper's algorithm with edges drawn at random."""


def reproduced(args: argparse.Namespace) -> Reproduced:
    """One table or figure.

    Raises:
        FusecutError: unknown networks or methods, an extra that is missing, a rows file that is none.
    """
    if args.what in ("table1", "figure3"):
        return _groups(args)
    if args.figure is not None and args.what != "figure5":
        raise FusecutError(f"{args.what} has no figure: leave out --figure")
    if args.show and not read_rows(args.rows):
        raise FusecutError("--show needs a file of earlier runs: --rows FILE")
    return _figure5(args) if args.what == "figure5" else _table(args)


def effort_of(args: argparse.Namespace) -> Effort:
    """What ``--quick``, ``--full``, ``--seeds`` and ``--plans`` ask for."""
    effort = QUICK if args.quick else FULL if args.full else USUAL
    if args.seeds is not None:
        effort = replace(effort, seeds=args.seeds)
    return effort if args.plans is None else replace(effort, plans=args.plans)


def _table(args: argparse.Namespace) -> Reproduced:
    table, effort = TABLES[args.what], effort_of(args)
    if args.networks:
        table, effort = replace(table, networks=_known(args.networks)), replace(effort, networks=None)
    if args.searchers:
        table = replace(table, searchers=tuple(args.searchers))
    methods, missing = _methods(args, table.methods)
    known = read_rows(args.rows)
    cases = [case for case in cases_of(known) if table.has(case)] if args.show else table.cases(effort)
    rows = known if args.show else _run(args, known, cases, methods, effort)
    found = tables.cells(rows, cases, methods)
    title = f"{args.what}: {table.title}"
    if args.what == "table5":
        first: tables.Sheet = (title, tables.RATE_COLUMNS, tables.rate_lines(found))
    else:
        first = (title, tables.COLUMNS, tables.lines(found))
    sheets = [first, *grid.sheets(rows, cases, methods)]
    return _answer([asdict(cell) for cell in found], sheets, [*missing, NOTES])


def _figure5(args: argparse.Namespace) -> Reproduced:
    effort = effort_of(args)
    methods, missing = _methods(args, CURVE_METHODS)
    cases = [case._replace(plans=effort.plans_of(case.searcher, case.plans)) for case in FIGURE5]
    cases = cases[: effort.networks]
    known = read_rows(args.rows)
    cases = [case for case in cases_of(known) if case in FIGURE5] if args.show else cases
    rows = known if args.show else _run(args, known, cases, methods, effort)
    sheet: tables.Sheet = ("figure5: best plan so far, fusible MB", _quarters(), curves.lines(rows, cases, methods))
    data = [asdict(panel) for panel in curves.panels(rows, cases, methods)]
    return _answer(data, [sheet], missing, curves.panels(rows, cases, methods))


def _quarters() -> tuple[Column, ...]:
    names = [Column(name, "left") for name in ("case", "splitter")]
    return (*names, *(Column(name) for name in ("plans", "after 1/4", "1/2", "3/4", "all")))


def _groups(args: argparse.Namespace) -> Reproduced:
    effort = effort_of(args)
    data, sheets, panels = [], list[tables.Sheet](), list[Panel]()
    for scheme in ("lbdf", "brr") if args.dataset is None else (None,):
        share = effort.share / (20 if scheme == "brr" and not args.full else 1)
        found = groups.samples(scheme or "", effort.networks, share, args.dataset, _note(args))
        rows = groups.shares(found)
        data += [asdict(row) for row in rows]
        sheets.append(
            (f"{args.what}: groups under {found.scheme}, % that fit", groups.columns(rows), groups.lines(rows))
        )
        panels.append(groups.panel(rows))
    return _answer(data, sheets, [], tuple(panels))


def _answer(
    rows: list[dict[str, object]], sheets: Sequence[tables.Sheet], notes: Sequence[str], panels: tuple[Panel, ...] = ()
) -> Reproduced:
    below = "".join(f"\n{note}\n" for note in notes)

    def text(width: int, colour: bool) -> str:
        return f"{tables.text(sheets, width, colour)}\n{below}".rstrip("\n")

    return Reproduced(rows, text, partial(_page, sheets, below), panels)


def _page(sheets: Sequence[tables.Sheet], below: str) -> str:
    return f"{tables.markdown(sheets)}{below}"


def _run(
    args: argparse.Namespace, known: list[Row], cases: Sequence[Case], methods: Sequence[str], effort: Effort
) -> list[Row]:
    fresh = run(cases, methods, effort.seeds, known, effort.limits())
    return gathered(fresh, known, args.rows, _note(args))


def _note(args: argparse.Namespace) -> Callable[[str], None]:
    def note(text: str) -> None:
        if not args.quiet:
            print(text, file=sys.stderr, flush=True)

    return note


def _methods(args: argparse.Namespace, usual: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The methods asked for; without any, the usual ones that can run here, and what is missing."""
    if args.methods:
        return tuple(args.methods), []
    from importlib.util import find_spec

    if all(find_spec(package) for package in ("torch", "torch_geometric", "safetensors")):
        return tuple(usual), []
    left = tuple(method for method in usual if not needs_gnn(method))
    return left, ["The methods that learned are left out: they need pip install 'fusecut[gnn]'."]


def _known(networks: Sequence[str]) -> tuple[str, ...]:
    for name in networks:
        if name not in NETWORKS:
            raise UnknownNameError("network of the paper", name, NETWORKS)
    return tuple(networks)
