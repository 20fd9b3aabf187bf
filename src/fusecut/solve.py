"""Runs a searcher under a budget and judges what it proposes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Final, NamedTuple

import numpy as np

from fusecut._version import __version__
from fusecut.cost import NEVER_BYTES, NO_COST, Cost, CostModel, Infeasible
from fusecut.errors import FusecutError, check_seed, instead_of
from fusecut.ir import Graph, bits
from fusecut.machine import Machine
from fusecut.models import Layerwise, scheme_model
from fusecut.objective import Objective
from fusecut.partition import Partition
from fusecut.problem import Problem, Splitter
from fusecut.search import NO_PLAN, Exact, Searcher
from fusecut.solution import Provenance, Solution, Status, TracePoint

DEFAULT_PLANS: Final = 5_000
_IDLE_PLANS: Final = 10_000


class Progress(NamedTuple):
    """What a caller may show while a search runs: the best plan so far, and the bound of its score."""

    dram_bytes: int | None
    bound: int
    plans_proposed: int
    evaluations: int
    seconds: float
    score: int | None
    unit: str


@dataclass(frozen=True)
class Budget:
    """When to stop asking the searcher; None: never. Seconds make a run depend on the machine.

    ``max_idle_plans`` counts plans in a row for which no group had to be priced.
    """

    max_plans: int | None = None
    max_evaluations: int | None = None
    max_seconds: float | None = None
    max_idle_plans: int | None = None

    def for_endless(self) -> Budget:
        """A budget that ends any search: plans by default, and no waiting for evaluations that never come."""
        if self.max_plans is self.max_evaluations is self.max_seconds is None:
            return replace(self, max_plans=DEFAULT_PLANS)
        if self.max_plans is None and self.max_seconds is None:
            return replace(self, max_idle_plans=_IDLE_PLANS)
        return self

    def spent(self, plans: int, evaluations: int, seconds: float, idle_plans: int = 0) -> bool:
        return any(
            limit is not None and used >= limit
            for used, limit in (
                (plans, self.max_plans),
                (evaluations, self.max_evaluations),
                (seconds, self.max_seconds),
                (idle_plans, self.max_idle_plans),
            )
        )


@dataclass
class _Run:
    """Best so far; the only judge of what a searcher proposes."""

    problem: Problem
    started: float = field(default_factory=perf_counter)
    best: Partition | None = None
    rank: int | None = None
    dram_bytes: int | None = None
    bound: int = 0
    plans: int = 0
    idle_plans: int = 0
    stopped: bool = False
    interrupted: bool = False
    trace: list[TracePoint] = field(default_factory=list)
    _evaluations: int = 0

    @property
    def score(self) -> int | None:
        return None if self.rank is None else self.problem.prices.score(self.rank)

    def take(self, partition: Partition | None, bound: int | None) -> None:
        if bound is not None:
            self.bound = max(self.bound, bound)
        if partition is None:
            return
        self.plans += 1
        rank = self.problem.rank_of_plan(partition)
        self.idle_plans = self.idle_plans + 1 if self.problem.evaluations == self._evaluations else 0
        self._evaluations = self.problem.evaluations
        if rank is not None and self._improves(partition, rank):
            self._keep(partition, rank)

    def _keep(self, partition: Partition, rank: int) -> None:
        cost = self.problem.cost(partition)
        if isinstance(cost, Cost):
            self.best, self.rank, self.dram_bytes = partition, rank, cost.dram_bytes
            seconds, score = perf_counter() - self.started, self.problem.prices.score(rank)
            self.trace.append(TracePoint(self.plans, self.problem.evaluations, seconds, cost.dram_bytes, score))

    def _improves(self, partition: Partition, rank: int) -> bool:
        """Less rank (fewer bytes), or as much in fewer groups."""
        if self.best is None or self.rank is None:
            return True
        return (rank, len(partition)) < (self.rank, len(self.best))

    def progress(self) -> Progress:
        seconds, problem = perf_counter() - self.started, self.problem
        return Progress(
            self.dram_bytes, self.bound, self.plans, problem.evaluations, seconds, self.score, problem.prices.unit
        )

    def status(self) -> Status:
        if self.best is None:
            return Status.infeasible if self.bound >= NO_PLAN else Status.budget
        if self.score == self.bound:
            return Status.optimal
        return Status.budget if self.stopped else Status.feasible


def solve(
    graph: Graph,
    buffer: str | int | None = None,
    *,
    machine: Machine | None = None,
    scheme: str = "mixed",
    model: CostModel | None = None,
    objective: Objective = "dram",
    search: Searcher | None = None,
    splitter: Splitter | None = None,
    max_plans: int | None = None,
    max_evaluations: int | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Solution:
    """The plan that moves the fewest bytes between buffer and DRAM, or is the best by another objective.

    Args:
        graph: the network, from :func:`fusecut.load` or :func:`fusecut.zoo`.
        buffer: on-chip capacity, ``"256KiB"`` or bytes, 8-bit tensors and weights; or give ``machine``.
        scheme: ``mixed``, ``lbdf``, ``brr`` or ``layerwise``; or give any cost ``model``.
        objective: ``dram``; or ``energy`` or ``latency``, for a ``machine`` that says what bytes, MACs
            and cycles cost (:mod:`fusecut.objective`). Bound, gap and status are of that objective.
        search: the searcher, by default :class:`fusecut.search.Exact`.
        splitter: what the searcher's infeasible groups are split by; by default
            :class:`fusecut.split.Random`. ``Exact``, ``LazyExact`` and ``Greedy`` need none.
        max_plans, max_evaluations, max_seconds: budgets; the best plan so far is returned. They are
            looked at after each plan, so the last plan may overshoot. A search that never ends by
            itself stops after 5,000 plans if no budget is given; if only ``max_evaluations`` is
            given, also when 10,000 plans in a row needed none.
        seed: of all randomness.

    An interrupt (Ctrl-C) ends the search like a spent budget: the best plan so far is returned, and
    ``interrupted`` is true.

    Raises:
        FusecutError: neither or both of ``buffer`` and ``machine`` given.
        UnitError, MachineError, UnknownNameError: see there; a machine that does not say enough for
            the objective.
    """
    if (buffer is None) == (machine is None):
        raise FusecutError("give either a buffer size or a machine")
    machine = machine if machine is not None else Machine.of(buffer or 0)
    model = model if model is not None else scheme_model(scheme)
    search = search if search is not None else Exact()
    if isinstance(search, type) or not hasattr(search, "propose"):
        raise FusecutError(instead_of("a searcher, such as fusecut.search.Exact()", search))
    check_seed(seed)
    problem = Problem(graph, machine, model, splitter, objective)
    run = _Run(problem)
    if _alone(problem, hopeless=True):
        run.bound = NO_PLAN
    else:
        _drive(run, search, Budget(max_plans, max_evaluations, max_seconds), seed, on_progress)
    if provenance is None:
        split = splitter.name if splitter is not None else None
        provenance = Provenance(graph.name, "", "", model.name, search.name, split, __version__)
    return _solution(run, machine, seed, provenance)


def unless_interrupted(solution: Solution) -> Solution:
    """The solution, for whoever goes on to the next one: a search that was interrupted is no row of a table.

    Raises:
        KeyboardInterrupt: the search was interrupted.
    """
    if solution.interrupted:
        raise KeyboardInterrupt
    return solution


def _drive(
    run: _Run, search: Searcher, budget: Budget, seed: int, on_progress: Callable[[Progress], None] | None
) -> None:
    proposals = search.propose(run.problem, np.random.default_rng(seed))
    endless = getattr(search, "endless", False)
    budget = budget.for_endless() if endless else budget
    try:
        for partition, bound in proposals:
            run.take(partition, bound)
            if on_progress is not None:
                on_progress(run.progress())
            if endless and run.score == run.bound:
                return
            if budget.spent(run.plans, run.problem.evaluations, perf_counter() - run.started, run.idle_plans):
                run.stopped = True
                return
        run.stopped = getattr(search, "anytime", False)
    except KeyboardInterrupt:
        run.stopped = run.interrupted = True


def _refusals(problem: Problem) -> list[tuple[str, Infeasible]]:
    """Ops that cannot run alone; those first that the model's floor rules out of every group, too."""
    return [*_alone(problem, hopeless=True), *_alone(problem, hopeless=False)]


def _alone(problem: Problem, hopeless: bool) -> list[tuple[str, Infeasible]]:
    found = []
    for i, op in enumerate(problem.graph.ops):
        planned = problem.plan(1 << i)
        floor = problem.buffer_floor
        never = floor.again_bytes(floor.extend(0, floor.start, i), problem.capacity_bytes) >= NEVER_BYTES
        if isinstance(planned, Infeasible) and never is hopeless:
            found.append((op.name, planned))
    return found


def _solution(run: _Run, machine: Machine, seed: int, provenance: Provenance) -> Solution:
    problem, best = run.problem, run.best
    planned = problem.finished(best) if best is not None else ()
    cost = sum((p.cost for p in planned), NO_COST)
    bound = run.bound if run.bound < NO_PLAN else 0
    objective = problem.prices.objective
    return Solution(
        machine=machine,
        partition=best,
        planned=planned,
        cost=cost,
        status=run.status(),
        bound_bytes=bound if objective == "dram" else problem.floor_bytes(),
        floor_bytes=problem.graph.touch_once_bytes(problem.graph.everything),
        layerwise_bytes=layerwise_bytes(problem.graph, machine),
        plans_proposed=run.plans,
        evaluations=problem.evaluations,
        seconds=perf_counter() - run.started,
        seed=seed,
        provenance=provenance,
        trace=tuple(run.trace),
        refusals=tuple(_refusals(problem)) if best is None else (),
        notes=problem.graph.notes,
        objective=objective,
        bound_score=bound,
        interrupted=run.interrupted,
    )


def layerwise_bytes(graph: Graph, machine: Machine) -> int | None:
    """DRAM bytes with no fusion at all: every op alone under its best tiling; None if one cannot run."""
    total = 0
    model = Layerwise()
    for i in bits(graph.everything):
        planned = model.plan(graph, 1 << i, machine)
        if isinstance(planned, Infeasible):
            return None
        total += planned.cost.dram_bytes
    return total
