"""Explanation-guided splitting: the categories of Algorithm 1, cuts of an edge, and what is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.random import Generator

from fusecut.bonds import bonds, components
from fusecut.cost import BufferFloor, Cost, Infeasible, NoFloor, Planned
from fusecut.errors import FusecutError
from fusecut.explain import Attribution, Edge, Negated, RandomEdges, Scores, edges
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.partition import Partition
from fusecut.problem import Problem, Splitter
from fusecut.schedule import Schedule
from fusecut.split.explained import DEEPEST, Explained, literal_cut, top
from fusecut.testing import Net, SplitterContract, random_problem


class TestRandomEdges(SplitterContract):
    def make(self) -> Splitter:
        return Explained(RandomEdges())


class TestAttribution(SplitterContract):
    def make(self) -> Splitter:
        return Explained(Attribution())


class TestNegatedWithOneBondForEachEdge(SplitterContract):
    seeds = range(6)

    def make(self) -> Splitter:
        return Explained(Negated(Attribution()), bonds_per_edge=1)


class TestLiteral(SplitterContract):
    seeds = range(6)

    def make(self) -> Splitter:
        return Explained(RandomEdges(), literal=True)


class TestEverySolution(SplitterContract):
    seeds = range(6)

    def make(self) -> Splitter:
        return Explained(RandomEdges(), share=1.0, most_third=None)


@dataclass(frozen=True)
class Table:
    """A cost model with the groups that fit and their prices; single ops cost 100."""

    prices: Mapping[Group, int]
    name: str = "table"
    touches_once: bool = False

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        price = self.prices.get(group, 0 if group & (group - 1) else 100)
        if not price:
            return Infeasible("buffer", 2, 1, "made up")
        return Planned(Schedule(self.name, group, ()), Cost(price, 0, 0, 0))

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


@dataclass(frozen=True)
class Blames:
    """Blames the edges given, and counts what it was asked."""

    guilty: tuple[Edge, ...]
    asked: list[Group] = field(default_factory=list)
    name: str = "blames"

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        self.asked.append(group)
        return {edge: float(edge in self.guilty) for edge in edges(problem.graph, group)}


@dataclass(frozen=True)
class Ranks:
    """Scores given by hand, 0 for other edges."""

    given: Mapping[Edge, float]
    name: str = "ranks"

    def scores(self, problem: Problem, group: Group, rng: Generator) -> Scores:
        return {edge: self.given.get(edge, 0.0) for edge in edges(problem.graph, group)}


def chain(ops: int) -> Graph:
    net = Net()
    x = net.input(1, 4, 4)
    for _ in range(ops):
        x = net.conv(x, 1, 1)
    return net.graph(x)


def residual() -> Graph:
    """conv0 -> conv1 -> conv2 -> add3, and conv0 -> add3."""
    net = Net()
    x = net.conv(net.input(1, 4, 4), 1)
    return net.graph(net.add(net.conv(net.conv(x, 1), 1), x))


def fire() -> Graph:
    """squeeze0 -> expand1, expand2 -> concat3."""
    net = Net()
    x = net.conv(net.input(4, 8, 8), 2, 1)
    return net.graph(net.concat(net.conv(x, 4, 1), net.conv(x, 4, 3)))


def split(graph: Graph, prices: Mapping[Group, int], explained: Explained) -> tuple[Group, ...] | None:
    parts = explained.split(Problem(graph, Machine(1), Table(prices)), graph.everything, np.random.default_rng(0))
    return None if parts is None else tuple(parts)


def every(guilty: tuple[Edge, ...] = (), **options: float) -> Explained:
    return Explained(Blames(guilty), share=1.0, most_third=None, **options)  # type: ignore[arg-type]


# --- categories


def test_of_solutions_of_which_both_halves_fit_the_cheapest_is_taken() -> None:
    prices = {0b0001: 100, 0b1110: 50, 0b0011: 60, 0b1100: 60, 0b0111: 200}
    assert split(chain(4), prices, every()) == (0b0011, 0b1100)


def test_where_both_halves_fit_nothing_else_is_looked_at_even_if_three_parts_are_cheaper() -> None:
    """The paper's belief that more parts cost more is false: (0, 12, 3) would cost 30."""
    prices = {0b0011: 60, 0b1100: 60, 0b0001: 10, 0b0110: 10, 0b1000: 10}
    assert split(chain(4), prices, every()) == (0b0011, 0b1100)


def test_where_one_half_fits_the_one_with_most_ops_is_kept_and_the_rest_is_split_again() -> None:
    prices = {0b00011: 10, 0b11100: 0, 0b00111: 500, 0b11000: 0}
    assert split(chain(5), prices, every()) == (0b00111, 0b01000, 0b10000)


def test_a_fitting_second_half_stays_behind_the_parts_of_the_first() -> None:
    prices = {0b111000: 10, 0b000110: 20}
    assert split(chain(6), prices, every()) == (0b000001, 0b000110, 0b111000)


LATER: dict[Edge, float] = {(2, 3): 9, (4, 5): 8, (1, 2): 7, (5, 6): 6}
"""Of eight ops in a chain the two edges to blame first leave no half that fits; the second one ends cheaper."""
PAIRS: Mapping[Group, int] = {0b11: 10, 0b11000: 10, 0b11000000: 10, 0b11100: 20}


@pytest.mark.parametrize(
    ("most_third", "parts"),
    [(None, (0b11, 0b11100, 0b100000, 0b11000000)), (1, (0b11, 0b100, 0b11000, 0b100000, 0b11000000))],
)
def test_where_no_half_fits_the_solution_that_ends_cheapest_is_taken(
    most_third: int | None, parts: tuple[Group, ...]
) -> None:
    assert split(chain(8), PAIRS, Explained(Ranks(LATER), share=2 / 7, most_third=most_third)) == parts


def test_with_all_edges_two_parts_are_the_best_two_parts() -> None:
    tried = 0
    for seed in range(40):
        problem = random_problem(seed)
        group = max(components(problem.graph, problem.graph.everything), key=int.bit_count)
        costs = [problem.cost(bond) for bond in bonds(problem.graph, group)]
        sums = [cost.dram_bytes for cost in costs if isinstance(cost, Cost)]
        if not problem.fits(group) and sums:
            parts = Explained(RandomEdges(), share=1.0, bonds_per_edge=999).split(
                problem, group, np.random.default_rng(0)
            )
            assert parts is not None and len(parts) == 2
            found = problem.cost(parts)
            assert isinstance(found, Cost) and found.dram_bytes == min(sums)
            tried += 1
    assert tried >= 10


def test_a_group_with_an_op_that_never_fits_has_no_parts() -> None:
    assert split(chain(3), {0b010: 0}, every()) is None


def test_a_search_too_deep_is_given_up_without_a_crash() -> None:
    ops = 2 * DEEPEST + 20
    peel = Explained(Blames(tuple((i, i + 1) for i in range(1, ops, 2))), share=0.5)
    nothing = dict.fromkeys((1 << i for i in range(ops)), 0)
    assert split(chain(ops), nothing, peel) is None


def test_a_long_chain_of_halves_that_fit_is_no_depth() -> None:
    ops = 600
    last = Explained(Blames(()), share=0.001)
    parts = split(chain(ops), {}, last)
    assert parts is not None and sum(parts) == (1 << ops) - 1


# --- which edges


def test_only_the_share_of_edges_is_cut() -> None:
    prices = {0b0001: 100, 0b1110: 1, 0b0011: 60, 0b1100: 60}
    blames = Explained(Blames(((1, 2),)), share=0.30)
    assert split(chain(4), prices, blames) == (0b0011, 0b1100)


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.1, 1), (0.3, 3), (0.31, 4), (1.0, 10)])
def test_the_share_is_rounded_up(share: float, count: int) -> None:
    found = edges(chain(11), (1 << 11) - 1)
    assert len(top(found, dict.fromkeys(found, 0.0), share, np.random.default_rng(0))) == count


def test_ties_are_broken_by_the_generator_and_not_by_place() -> None:
    found = edges(chain(11), (1 << 11) - 1)
    scores = dict.fromkeys(found, 0.0)
    chosen = {tuple(top(found, scores, 0.1, np.random.default_rng(seed))) for seed in range(40)}
    assert len(chosen) >= 8


def test_of_unequal_scores_the_generator_changes_nothing() -> None:
    found = edges(chain(11), (1 << 11) - 1)
    scores = {edge: float(k * 7 % 10) for k, edge in enumerate(found)}
    best = sorted(found, key=lambda edge: -scores[edge])[:3]
    assert all(top(found, scores, 0.3, np.random.default_rng(seed)) == best for seed in range(5))


# --- cuts of an edge


def test_a_skip_over_three_edges_has_three_cuts() -> None:
    """Figure 2(c) of the paper: the skip, and each edge of the path it spans."""
    graph = residual()
    assert [bond[0] for bond in bonds(graph, graph.everything, (0, 3))] == [0b0001, 0b0011, 0b0111]


def test_an_edge_under_a_skip_is_cut_with_the_skip_alone() -> None:
    graph = residual()
    assert list(bonds(graph, graph.everything, (1, 2))) == [(0b0011, 0b1100)]
    assert list(literal_cut(graph, graph.everything, (1, 2))) == [(0b0011, 0b1100)]


def test_no_cut_of_a_fire_module_makes_its_groups_wait_for_each_other() -> None:
    """{expand1} against {squeeze0, expand2, concat3} is connected and cyclic: it must not be proposed."""
    graph = fire()
    found = [bond for edge in edges(graph, graph.everything) for bond in bonds(graph, graph.everything, edge)]
    assert {first for first, _ in found} == {0b0001, 0b0011, 0b0101, 0b0111}
    assert all(len(Partition(graph, bond)) == 2 for bond in found)


def test_the_literal_cut_of_a_skip_is_none_since_the_path_holds_the_halves_together() -> None:
    graph = residual()
    assert list(literal_cut(graph, graph.everything, (0, 3))) == []


def test_every_literal_cut_is_a_bond() -> None:
    for seed in range(20):
        graph = random_problem(seed, 9).graph
        group = max(components(graph, graph.everything), key=int.bit_count)
        legal = set(bonds(graph, group))
        for edge in edges(graph, group):
            for bond in literal_cut(graph, group, edge):
                assert bond in legal and bond[0] >> edge[0] & 1 and bond[1] >> edge[1] & 1


def test_literal_without_a_solution_gives_up() -> None:
    blames = Explained(Blames(((0, 3),)), share=0.2, literal=True)
    assert split(residual(), {}, blames) is None


# --- memory and names


def test_a_group_is_explained_once_for_each_problem() -> None:
    blames, graph = Blames(()), chain(6)
    explained = Explained(blames)
    problem, other = (Problem(graph, Machine(1), Table({})) for _ in range(2))
    first = explained.split(problem, graph.everything, np.random.default_rng(0))
    asked = list(blames.asked)
    assert explained.split(problem, graph.everything, np.random.default_rng(1)) == first
    assert blames.asked == asked and len(set(asked)) == len(asked) == explained.explanations(problem)
    assert explained.explanations(other) == 0


def test_groups_met_on_the_way_are_remembered_with_their_parts() -> None:
    graph, explained = chain(12), Explained(RandomEdges())
    problem = Problem(graph, Machine(1), Table({}))
    whole = explained.split(problem, graph.everything, np.random.default_rng(0))
    assert whole is not None
    for group, parts in explained._memo(problem).parts.items():
        assert parts is not None and sum(parts) == group and set(parts) <= set(whole)


def test_the_name_is_the_explainers_and_says_if_cuts_are_literal() -> None:
    assert Explained(RandomEdges()).name == "random_edges"
    assert Explained(Negated(Attribution()), literal=True).name == "not_attribution_literal"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, "share is 0.0: it must be above 0 and at most 1"),
        ({"share": 1.5}, "share is 1.5: it must be above 0 and at most 1"),
        ({"bonds_per_edge": 0}, "bonds_per_edge is 0: it must be at least 1"),
        ({"most_third": 0}, "most_third is 0: it must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(FusecutError, match=message):
        Explained(RandomEdges(), **options)  # type: ignore[arg-type]
