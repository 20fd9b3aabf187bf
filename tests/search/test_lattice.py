"""What the proof rests on: steps between ideals, the bound on the rest of a plan, forced cuts, seeds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from small_problems import MODELS, small_graph, small_problem

from fusecut.cost import NEVER_BYTES, Planned
from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem
from fusecut.search._cuts import ForcedCuts, Reach, disjoint_paths
from fusecut.search._lattice import Lattice, Step
from fusecut.testing import random_graph

SEEDS = range(90)
every_model = pytest.mark.parametrize("model", MODELS)


class EverySeed(Reach):
    """Grows the next group from any ready op: no sufficient set is picked."""

    def seeds(self, ideal: Group) -> list[int]:
        rest = self.graph.everything & ~ideal
        return [op for op in bits(rest) if not self.graph.preds[op] & rest]


def lattice_of(problem: Problem, every_seed: bool = False) -> Lattice:
    reach = EverySeed(problem) if every_seed else Reach(problem)
    return Lattice(problem, reach, ForcedCuts(problem, reach))


def price(problem: Problem, group: Group) -> int | None:
    planned = problem.plan(group)
    return planned.cost.dram_bytes if isinstance(planned, Planned) else None


def ideals(graph: Graph) -> list[Group]:
    """Sets of ops that hold every predecessor of their members, smallest numbers first."""
    return [mask for mask in range(1 << len(graph)) if all(not graph.preds[i] & ~mask for i in bits(mask))]


@cache
def completions(seed: int, model: str) -> dict[Group, int | None]:
    """Fewest bytes of the rest of a plan after each ideal, by trying every next group; None: there is none.

    A group is any connected set whose outside predecessors are done. The lattice is not used.
    """
    problem = small_problem(seed, model)
    graph = problem.graph
    found: dict[Group, int | None] = {graph.everything: 0}
    every = ideals(graph)
    for ideal in sorted(every, key=lambda mask: -mask.bit_count())[1:]:
        ways = []
        for after in every:
            group = after & ~ideal
            if ideal & ~after or not group or not graph.is_connected(group):
                continue
            rest, mine = found[after], price(problem, group)
            if rest is not None and mine is not None:
                ways.append(rest + mine)
        found[ideal] = min(ways, default=None)
    return found


def all_steps(lattice: Lattice) -> Iterator[tuple[Group, int, Step]]:
    """Every step from every ideal that can be reached: (ideal, its rest, step)."""
    todo, seen = [(0, lattice.whole)], {0}
    while todo:
        ideal, rest = todo.pop()
        for step in lattice.groups_from(ideal, rest):
            yield ideal, rest, step
            after = ideal | step.group
            if after not in seen:
                seen.add(after)
                todo.append((after, step.rest_bytes))


# The bound on the rest ---------------------------------------------------------------------------


@every_model
def test_the_rest_of_an_ideal_does_not_depend_on_the_way_there(model: str) -> None:
    for seed in SEEDS:
        lattice = lattice_of(small_problem(seed, model), every_seed=True)
        rests = {0: lattice.whole}
        for ideal, _, step in all_steps(lattice):
            assert rests.setdefault(ideal | step.group, step.rest_bytes) == step.rest_bytes, f"seed {seed}"


@every_model
def test_nothing_is_left_when_everything_is_done(model: str) -> None:
    for seed in SEEDS:
        problem = small_problem(seed, model)
        last = [s.rest_bytes for i, _, s in all_steps(lattice_of(problem)) if i | s.group == problem.graph.everything]
        assert set(last) <= {0}, f"seed {seed}"


@every_model
def test_the_rest_never_exceeds_the_cheapest_completion(model: str) -> None:
    for seed in SEEDS:
        lattice = lattice_of(small_problem(seed, model), every_seed=True)
        best = completions(seed, model)
        assert best[0] is None or lattice.whole <= best[0], f"seed {seed}"
        for ideal, _, step in all_steps(lattice):
            cheapest = best[ideal | step.group]
            assert cheapest is None or step.rest_bytes <= cheapest, f"seed {seed}"


@every_model
def test_a_step_never_pays_more_than_it_takes_off_the_rest(model: str) -> None:
    """Consistency with the true price: rest(I) <= dram(S) + rest(I + S)."""
    for seed in SEEDS:
        problem = small_problem(seed, model)
        for _, rest, step in all_steps(lattice_of(problem, every_seed=True)):
            mine = price(problem, step.group)
            assert mine is None or rest <= mine + step.rest_bytes, f"seed {seed}"


@every_model
def test_the_optimistic_price_of_a_step_never_exceeds_the_true_one(model: str) -> None:
    for seed in SEEDS:
        problem = small_problem(seed, model)
        for _, _, step in all_steps(lattice_of(problem, every_seed=True)):
            mine = price(problem, step.group)
            assert mine is None or step.dram_bytes <= mine, f"seed {seed}"


@every_model
def test_what_every_plan_must_move_does_not_exceed_the_optimum(model: str) -> None:
    for seed in range(300):
        if len(small_graph(seed)) > 6:
            continue
        problem = small_problem(seed, model)
        reach = Reach(problem)
        best = completions(seed, model)[0]
        assert best is None or ForcedCuts(problem, reach).total_bytes <= best, f"seed {seed}"


def test_forced_cuts_raise_the_bound_above_touching_everything_once() -> None:
    raised = 0
    for seed in SEEDS:
        problem = small_problem(seed, "fallback")
        raised += ForcedCuts(problem, Reach(problem)).total_bytes > problem.floor_bytes()
    assert raised > 20


def test_a_model_that_promises_nothing_is_bounded_by_nothing() -> None:
    for seed in SEEDS:
        assert lattice_of(small_problem(seed, "black_box")).whole == 0


# Steps -------------------------------------------------------------------------------------------


@every_model
def test_from_every_seed_each_group_that_may_come_next_is_proposed_once(model: str) -> None:
    """All connected groups whose predecessors are done and whose floor fits; single ops always."""
    for seed in SEEDS:
        problem = small_problem(seed, model)
        graph = problem.graph
        if len(graph) > 6:
            continue
        lattice = lattice_of(problem, every_seed=True)
        every = ideals(graph)
        for ideal in every:
            proposed = [step.group for step in lattice.groups_from(ideal, 0)]
            expected = [
                after & ~ideal
                for after in every
                if not ideal & ~after and graph.is_connected(after & ~ideal) and fits(problem, after & ~ideal)
            ]
            assert sorted(proposed) == sorted(expected), f"seed {seed} ideal {ideal:b}"


def mark_of(problem: Problem, group: Group) -> int:
    """The mark of a group, op by op in their order."""
    mark, done = problem.buffer_floor.start, 0
    for op in bits(group):
        mark, done = problem.buffer_floor.extend(done, mark, op), done | 1 << op
    return mark


def fits(problem: Problem, group: Group) -> bool:
    again = problem.buffer_floor.again_bytes(mark_of(problem, group), problem.capacity_bytes)
    return not group & (group - 1) or again < NEVER_BYTES


@every_model
def test_a_step_knows_the_floor_of_its_group(model: str) -> None:
    for seed in range(30):
        problem = small_problem(seed, model)
        for _, _, step in all_steps(lattice_of(problem)):
            again = problem.buffer_floor.again_bytes(step.mark, problem.capacity_bytes)
            assert step.mark == mark_of(problem, step.group)
            assert step.again_bytes == again or not step.group & (step.group - 1)


def test_the_effort_counts_every_proposed_step() -> None:
    lattice = lattice_of(small_problem(5, "lbdf"))
    assert sum(1 for _ in all_steps(lattice)) == lattice.steps


# Seeds -------------------------------------------------------------------------------------------


def best_through(lattice: Lattice, problem: Problem) -> int | None:
    """The cheapest path of the lattice at true prices, by dynamic programming over ideals."""
    best: dict[Group, int] = {0: 0}
    order = sorted(all_steps(lattice), key=lambda entry: entry[0].bit_count())
    for ideal, _, step in order:
        mine = price(problem, step.group)
        if mine is not None and ideal in best:
            after = ideal | step.group
            best[after] = min(best.get(after, best[ideal] + mine), best[ideal] + mine)
    return best.get(problem.graph.everything)


@every_model
def test_the_chosen_seeds_lead_to_a_best_plan(model: str) -> None:
    for seed in range(250):
        problem = small_problem(seed, model)
        assert best_through(lattice_of(problem), problem) == completions(seed, model)[0], f"seed {seed}"


def test_on_wider_networks_the_chosen_seeds_lead_where_all_seeds_lead() -> None:
    for seed in range(25):
        graph = random_graph(np.random.default_rng(seed), 10, inputs=2)
        if len(graph) > 11:
            continue
        template = small_problem(seed, "fallback")
        problem = Problem(graph, template.machine, template.model)
        chosen, every = lattice_of(problem), lattice_of(problem, every_seed=True)
        assert best_through(chosen, problem) == best_through(every, problem), f"seed {seed}"


def test_choosing_seeds_saves_steps() -> None:
    saved = 0
    for seed in SEEDS:
        problem = small_problem(seed, "fallback")
        chosen, every = lattice_of(problem), lattice_of(problem, every_seed=True)
        saved += sum(1 for _ in all_steps(every)) - sum(1 for _ in all_steps(chosen))
    assert saved > 0


# Mates -------------------------------------------------------------------------------------------


@every_model
def test_mates_are_the_descendants_whose_convex_closure_fits(model: str) -> None:
    for seed in range(250):
        problem = small_problem(seed, model)
        graph, reach = problem.graph, Reach(problem)
        for op in range(len(graph)):
            expected = 0
            for mate in bits(graph.descendants[op]):
                between = graph.descendants[op] & graph.ancestors[mate]
                if fits(problem, between | 1 << op | 1 << mate):
                    expected |= 1 << mate
            assert reach.mates(op) == expected, f"seed {seed} op {op}"


# Paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_disjoint_paths_cover_every_op_once(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), 15, inputs=2)
    assert sorted(op for path in disjoint_paths(graph) for op in path) == list(range(len(graph)))


@pytest.mark.parametrize("seed", range(60))
def test_disjoint_paths_follow_the_edges(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), 15, inputs=2)
    for path in disjoint_paths(graph):
        assert all(graph.succs[a] >> b & 1 for a, b in pairwise(path))


def test_the_first_path_is_a_longest_one() -> None:
    for seed in range(60):
        graph = random_graph(np.random.default_rng(seed), 15, inputs=2)
        depth: list[int] = []
        for i in range(len(graph)):
            depth.append(1 + max((depth[p] for p in bits(graph.preds[i])), default=0))
        assert len(disjoint_paths(graph)[0]) == max(depth)
