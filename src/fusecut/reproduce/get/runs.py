"""Runs of searchers with splitters, one row each, in a file that an interrupted run goes on with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any, Final, NamedTuple

from numpy.random import Generator

from fusecut.cost import BufferFloor, CostModel, Holdings, Infeasible, Planned, holdings_of
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.explain import Attribution, Explainer, Negated, RandomEdges
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.problem import Problem, Splitter
from fusecut.reproduce import kept
from fusecut.search import searcher
from fusecut.solution import Solution, Status
from fusecut.solve import solve, unless_interrupted
from fusecut.split import CostGuided, Explained, Random, Surrogate
from fusecut.zoo import load


def _occlusion() -> Explainer:
    from fusecut.explain.occlusion import Occlusion

    return Occlusion()


def _gnne() -> Explainer:
    from fusecut.explain.gnnexplainer import GNNExplainer

    return GNNExplainer()


def _pg() -> Explainer:
    from fusecut.explain.pgexplainer import PGExplainer

    return PGExplainer()


def _rg() -> Explainer:
    from fusecut.explain.rgexplainer import RGExplainer

    return RGExplainer()


EXPLAINERS: Final[dict[str, Callable[[], Explainer]]] = {
    "random_edges": RandomEdges,
    "attribution": Attribution,
    "gnne": _gnne,
    "pg": _pg,
    "rg": _rg,
    "occlusion": _occlusion,
    "not_occlusion": lambda: Negated(_occlusion()),
}


def _explained(make: Callable[[], Explainer], literal: bool) -> Callable[[], Splitter]:
    return lambda: Explained(make(), literal=literal)


METHODS: Final[dict[str, Callable[[], Splitter]]] = {
    "random": Random,
    "cost_guided": CostGuided,
    **{name: _explained(make, literal=False) for name, make in EXPLAINERS.items()},
    **{f"{name}_literal": _explained(make, literal=True) for name, make in EXPLAINERS.items()},
    "surrogate": Surrogate,
}
"""Splitters by the names of the tables; ``random`` is the paper's plain search."""

UNLEARNED: Final = frozenset({"random", "cost_guided", "random_edges", "attribution"})
"""Methods that need no extra; so do their literal forms."""


class Case(NamedTuple):
    """A cell of a table: what is searched, by whom, for how many plans."""

    network: str
    scheme: str
    buffer: str
    searcher: str
    plans: int


@dataclass(frozen=True)
class Row:
    """One run; the exact search has a row of its own for each network, scheme and buffer.

    ``dram_bytes`` is the whole network, ``fusible_bytes`` the paper's metric: without the ops that do not
    fit alone. ``infeasible_groups`` are distinct groups of plans that had to be split, ``rectified_groups``
    those that the splitter split without help. ``trace`` has (plans, evaluations, DRAM bytes) of each improvement.
    ``cpu_seconds`` of ``brr`` are of no use: its runs share the answers of the cost model.
    """

    network: str
    scheme: str
    buffer: str
    searcher: str
    method: str
    seed: int
    plans: int
    dram_bytes: int
    fusible_bytes: int
    buffer_bytes: int
    evaluations: int
    infeasible_groups: int
    rectified_groups: int
    explanations: int
    cpu_seconds: float
    proved: bool = False
    trace: tuple[tuple[int, int, int], ...] = ()

    @property
    def key(self) -> tuple[str, str, str, str, str, int, int]:
        """What no two runs share."""
        return self.network, self.scheme, self.buffer, self.searcher, self.method, self.seed, self.plans


def cases_of(rows: Iterable[Row]) -> list[Case]:
    """The cases that rows are of, in their order; those of the exact search aside."""
    cases = (Case(r.network, r.scheme, r.buffer, r.searcher, r.plans) for r in rows if r.searcher != "exact")
    return list(dict.fromkeys(cases))


class Tally:
    """A splitter that counts: groups asked for, groups split, explanations made on the way."""

    def __init__(self, splitter: Splitter) -> None:
        self.splitter = splitter
        self.name = splitter.name
        self.redraws: bool = getattr(splitter, "redraws", False)
        self.split_groups: set[Group] = set()
        self.failed: set[Group] = set()
        self.explanations = 0

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None:
        parts = self.splitter.split(problem, group, rng)
        (self.failed if parts is None else self.split_groups).add(group)
        if isinstance(self.splitter, Explained):
            self.explanations = self.splitter.explanations(problem)
        return parts


class Shared:
    """A cost model whose answers are kept for the next run. Evaluations are counted as if they were not."""

    def __init__(self, model: CostModel) -> None:
        self.model = model
        self.name, self.touches_once = model.name, model.touches_once
        self._known: dict[tuple[Group, int], Planned | Infeasible] = {}

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        known = self._known.get((group, machine.buffer_bytes))
        if known is None:
            known = self._known[group, machine.buffer_bytes] = self.model.plan(graph, group, machine)
        return known

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        """The plan as it is: the tables need no figures of answers only."""
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return self.model.buffer_floor(graph, machine)

    def holdings(self, graph: Graph, group: Group) -> Holdings | None:
        return holdings_of(self.model, graph, group)


@cache
def _graph(network: str) -> Graph:
    return load(network).with_bits(8, 8, 32)


@cache
def _shared(network: str, scheme: str, buffer: str) -> Shared:
    return Shared(scheme_model(scheme))


def check(methods: Iterable[str]) -> None:
    """Refuse methods that do not exist, or that need what is not installed, before any work."""
    for name in methods:
        if name not in METHODS:
            raise UnknownNameError("method", name, METHODS)
        if name.removesuffix("_literal") not in UNLEARNED:
            from fusecut.explain.weights_file import require_gnn

            require_gnn()


def run(
    cases: Sequence[Case], methods: Sequence[str], seeds: int, known: Iterable[Row], limits: Callable[[Case, str], int]
) -> Iterator[Row]:
    """The rows that are not known yet: the exact ones first, then seed by seed, so that a run that is
    stopped has all cells for fewer seeds. ``limits`` says how many seeds a method gets in a case.

    Raises:
        UnknownNameError, FusecutError: see :func:`check`; a network that runs in no plan.
    """
    check(methods)
    done = {row.key for row in known}
    for network, scheme, buffer in dict.fromkeys(case[:3] for case in cases):
        if (network, scheme, buffer, "exact", "", 0, 0) not in done:
            yield _exact(network, scheme, buffer)
    for seed in range(seeds):
        for case in cases:
            for method in methods:
                if (*case[:4], method, seed, case.plans) not in done and seed < limits(case, method):
                    yield _searched(case, method, seed)


def _exact(network: str, scheme: str, buffer: str) -> Row:
    started = process_time()
    found = unless_interrupted(solve(_graph(network), buffer, scheme=scheme))
    if found.partition is None:
        raise FusecutError(f"{network} does not run in {buffer} under {scheme}")
    return _row(Case(network, scheme, buffer, "exact", 0), "", 0, found, None, process_time() - started)


def _searched(case: Case, method: str, seed: int) -> Row:
    tally = Tally(METHODS[method]())
    model = _shared(*case[:3]) if case.scheme == "brr" else scheme_model(case.scheme)
    started = process_time()
    found = solve(
        _graph(case.network),
        case.buffer,
        model=model,
        search=searcher(case.searcher),
        splitter=tally,
        max_plans=case.plans,
        seed=seed,
    )
    return _row(case, method, seed, unless_interrupted(found), tally, process_time() - started)


def _row(case: Case, method: str, seed: int, found: Solution, tally: Tally | None, seconds: float) -> Row:
    return Row(
        *case[:4],
        method=method,
        seed=seed,
        plans=case.plans,
        dram_bytes=found.cost.dram_bytes,
        fusible_bytes=found.fusible_bytes,
        buffer_bytes=max((p.cost.buffer_bytes for p in found.planned if p.schedule.scheme != "layerwise"), default=0),
        evaluations=found.evaluations,
        infeasible_groups=len(tally.split_groups | tally.failed) if tally else 0,
        rectified_groups=len(tally.split_groups - tally.failed) if tally else 0,
        explanations=tally.explanations if tally else 0,
        cpu_seconds=round(seconds, 3),
        proved=found.status is Status.optimal,
        trace=tuple((p.plans_proposed, p.evaluations, p.dram_bytes) for p in found.trace),
    )


# --- the file


def read_rows(path: Path | None) -> list[Row]:
    """Rows written before; see :func:`fusecut.reproduce.kept.read`."""
    return kept.read(path, _parsed)


_TEXTS: Final = ("network", "scheme", "buffer", "searcher", "method")


def _parsed(data: dict[str, Any]) -> Row:
    values = {field.name: data[field.name] for field in fields(Row)}
    values["trace"] = tuple((int(p), int(e), int(b)) for p, e, b in values["trace"])
    for name, value in values.items():
        number = type(value) is int and 0 <= value < 2**62
        sound = {"trace": True, "proved": isinstance(value, bool), "cpu_seconds": isinstance(value, int | float)}
        if not sound.get(name, isinstance(value, str) if name in _TEXTS else number):
            raise ValueError(f"{name!r} is not what it should be")
    return Row(**values)


def gathered(rows: Iterator[Row], known: list[Row], path: Path | None, note: Callable[[str], None]) -> list[Row]:
    """Known and new rows; each new one goes into the file at once. An interrupt keeps what there is.

    Raises:
        FusecutError: the file cannot be written.
    """
    found = list(known)
    try:
        for row in rows:
            if path is not None:
                kept.append(path, asdict(row))
            found.append(row)
            note(f"{row.network} {row.scheme} {row.buffer} {row.searcher} {row.method} seed {row.seed}: "
                 f"{row.fusible_bytes / 1e6:.3f} MB, {row.cpu_seconds:.1f} s")  # fmt: skip
    except KeyboardInterrupt:
        note("interrupted: the tables show the rows so far")
    return found
