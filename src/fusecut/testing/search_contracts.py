"""What every searcher and every splitter must do, as tests: for ours and for yours.

Subclass :class:`SearcherContract` or :class:`SplitterContract`, name the class ``Test...``, define
``make``, and pytest (or any runner that calls ``test_`` methods) runs the suite on your algorithm::

    class TestMine(SearcherContract):
        def make(self) -> Searcher:
            return MySearcher()
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np

from fusecut.bonds import components
from fusecut.cost import Cost
from fusecut.ir import Group, bits
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.partition import Partition
from fusecut.problem import Problem, Splitter
from fusecut.search import Searcher
from fusecut.search.encoding import random_plan
from fusecut.solution import Solution
from fusecut.solve import Progress, solve
from fusecut.testing.nets import brute_force, random_graph


def random_problem(seed: int, ops: int = 7) -> Problem:
    """A small random network whose buffer holds some of its groups and not others."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, ops)
    whole = LineBuffer().demand(graph, graph.everything).nbytes
    machine = Machine(int(rng.integers(whole // 3, whole)))
    return Problem(graph, machine, WithFallback(LineBuffer(), Layerwise()))


class SearcherContract:
    """What every searcher must do; subclass it and define ``make``.

    ``seeds`` are the random problems it is tried on, ``max_plans`` the plans it may propose on each. Define
    ``problem``, too, to try it on problems of another kind.
    """

    seeds: Sequence[int] = range(6)
    max_plans: int = 40

    def make(self) -> Searcher:
        """A fresh searcher."""
        raise NotImplementedError

    def problem(self, seed: int) -> Problem:
        """A small problem of which some plan is feasible."""
        return random_problem(seed)

    def plans(self, problem: Problem, seed: int = 0) -> list[Partition]:
        """The first plans proposed."""
        found = (p.partition for p in self.make().propose(problem, np.random.default_rng(seed)))
        return list(islice((plan for plan in found if plan is not None), self.max_plans))

    def solved(self, problem: Problem, max_plans: int) -> Solution:
        return solve(
            problem.graph, machine=problem.machine, model=problem.model, search=self.make(), max_plans=max_plans
        )

    def test_every_plan_is_a_valid_plan_of_the_graph(self) -> None:
        for seed in self.seeds:
            problem = self.problem(seed)
            for plan in self.plans(problem):
                assert plan.graph is problem.graph
                assert Partition(problem.graph, plan.groups).groups == plan.groups

    def test_the_same_seed_gives_the_same_plans(self) -> None:
        for seed in self.seeds:
            first, again = (self.plans(self.problem(seed), seed) for _ in range(2))
            assert [plan.groups for plan in first] == [plan.groups for plan in again]

    def test_plans_do_not_depend_on_the_hash_seed_of_the_process(self) -> None:
        """Needs a searcher whose class can be imported and made without arguments."""
        kind = type(self.make())
        command = [sys.executable, "-c", _FRESH, kind.__module__, kind.__qualname__]
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        said = {
            subprocess.run(  # noqa: S603 (this interpreter, this package)
                command, env={**os.environ, **path, "PYTHONHASHSEED": seed}, check=True, capture_output=True
            ).stdout
            for seed in ("1", "4242")
        }
        assert len(said) == 1 and said != {b""}

    def test_neither_plans_nor_bounds_beat_brute_force(self) -> None:
        for seed in self.seeds:
            problem = self.problem(seed)
            best = brute_force(problem)
            assert best is not None
            for proposal in islice(self.make().propose(problem, np.random.default_rng(seed)), self.max_plans):
                assert proposal.bound is None or proposal.bound <= best
                cost = None if proposal.partition is None else problem.cost(proposal.partition)
                assert not isinstance(cost, Cost) or cost.dram_bytes >= best

    def test_a_budget_of_plans_is_kept(self) -> None:
        for limit in (1, 7):
            assert self.solved(self.problem(self.seeds[0]), limit).plans_proposed <= limit

    def test_an_interrupt_returns_the_best_plan_so_far(self) -> None:
        problem = self.problem(self.seeds[0])

        def interrupt(progress: Progress) -> None:
            if progress.dram_bytes is not None:
                raise KeyboardInterrupt

        found = solve(
            problem.graph, machine=problem.machine, model=problem.model, search=self.make(), on_progress=interrupt
        )
        assert found.interrupted and found.partition is not None and found.plans_proposed >= 1

    def test_it_can_be_dropped_after_any_proposal(self) -> None:
        proposals = self.make().propose(self.problem(self.seeds[0]), np.random.default_rng(0))
        next(iter(proposals))
        del proposals


_FRESH: Final = """
import importlib, itertools, sys
import numpy as np
from fusecut.testing import random_problem
search = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])()
proposals = search.propose(random_problem(3, 20), np.random.default_rng(5))
plans = (p.partition.groups for p in itertools.islice(proposals, 60) if p.partition is not None)
print(list(plans))
"""


class SplitterContract:
    """What every splitter must do; subclass it and define ``make``.

    It is tried on the infeasible groups of random plans of random problems, ``seeds`` of each.
    """

    seeds: Sequence[int] = range(12)

    def make(self) -> Splitter:
        """A fresh splitter."""
        raise NotImplementedError

    def infeasible(self, seed: int) -> Iterator[tuple[Problem, Partition, Group]]:
        """Problem, plan, and a group of the plan that does not fit."""
        problem = random_problem(seed, 9)
        rng = np.random.default_rng(seed)
        plans = [
            Partition(problem.graph, components(problem.graph, problem.graph.everything)),
            *(random_plan(problem.graph, rng) for _ in range(20)),
        ]
        for plan in plans:
            yield from ((problem, plan, group) for group in plan.groups if not problem.fits(group))

    def test_there_is_something_to_split(self) -> None:
        assert sum(1 for seed in self.seeds for _ in self.infeasible(seed)) >= len(self.seeds)

    def test_parts_are_feasible_and_together_the_group(self) -> None:
        for seed in self.seeds:
            for problem, _, group in self.infeasible(seed):
                parts = self.make().split(problem, group, np.random.default_rng(seed))
                if parts is not None:
                    assert len(parts) >= 2 and all(problem.fits(part) for part in parts)
                    assert sum(parts) == group and sum(p.bit_count() for p in parts) == group.bit_count()

    def test_the_plan_stays_valid_with_the_parts_in_place_of_the_group(self) -> None:
        for seed in self.seeds:
            for problem, plan, group in self.infeasible(seed):
                parts = self.make().split(problem, group, np.random.default_rng(seed))
                if parts is not None:
                    rest = [other for other in plan.groups if other != group]
                    Partition(problem.graph, [*rest, *parts])

    def test_parts_come_in_an_order_in_which_they_run(self) -> None:
        for seed in self.seeds:
            for problem, _, group in self.infeasible(seed):
                done = ~group
                for part in self.make().split(problem, group, np.random.default_rng(seed)) or ():
                    done |= part
                    assert all(not problem.graph.preds[i] & ~done for i in bits(part))

    def test_every_group_whose_ops_fit_alone_can_be_repaired(self) -> None:
        for seed in self.seeds:
            for problem, _, group in self.infeasible(seed):
                if all(problem.fits(1 << i) for i in bits(group)):
                    repaired = Problem(problem.graph, problem.machine, problem.model, self.make())
                    plan = repaired.repaired(
                        Partition(problem.graph, [group, *(1 << i for i in bits(problem.graph.everything & ~group))]),
                        np.random.default_rng(seed),
                    )
                    assert all(repaired.fits(part) for part in plan.groups)

    def test_the_same_generator_gives_the_same_parts(self) -> None:
        for seed in self.seeds:
            for problem, _, group in self.infeasible(seed):
                first, again = (self.make().split(problem, group, np.random.default_rng(7)) for _ in range(2))
                assert first == again
