"""The explainers that need no network: the placebo, the exact attribution, and turning one round."""

from __future__ import annotations

import numpy as np
import pytest

from fusecut.cost import Holdings
from fusecut.errors import UnknownNameError
from fusecut.explain import Attribution, Explainer, Negated, RandomEdges, edges
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import BlackBox, Brr, Layerwise, LineBuffer, WithFallback, scheme_model
from fusecut.problem import Problem
from fusecut.testing import Net, random_problem

CONTROLS: list[Explainer] = [RandomEdges(), Attribution(), Attribution("tensors"), Negated(Attribution())]


def heavy_middle() -> Graph:
    """Four 3x3 convolutions; the third reads and makes by far the most channels."""
    net = Net()
    x = net.input(2, 16, 16)
    for channels in (2, 8, 8, 2):
        x = net.conv(x, channels)
    return net.graph(x)


@pytest.mark.parametrize("explainer", CONTROLS, ids=lambda e: e.name)
def test_every_edge_of_the_group_gets_a_finite_score_and_no_other(explainer: Explainer) -> None:
    for seed in range(8):
        problem = random_problem(seed, 9)
        for group in (problem.graph.everything, problem.graph.everything >> 1 << 1):
            scores = explainer.scores(problem, group, np.random.default_rng(seed))
            assert sorted(scores) == edges(problem.graph, group)
            assert all(np.isfinite(score) for score in scores.values())


def test_random_scores_come_from_the_generator_alone() -> None:
    problem = random_problem(1, 9)
    first, again, other = (
        RandomEdges().scores(problem, problem.graph.everything, np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert first == again != other


def test_the_parts_add_up_to_what_the_model_demands() -> None:
    for seed in range(10):
        problem = random_problem(seed, 9)
        everything, lines = problem.graph.everything, LineBuffer()
        held = lines.holdings(problem.graph, everything)
        total = sum(held.tensors.values()) + sum(held.ops.values())
        assert total == lines.demand(problem.graph, everything).nbytes


def test_attribution_is_what_the_ring_and_both_ends_hold() -> None:
    graph = heavy_middle()
    problem = Problem(graph, Machine(100), LineBuffer())
    scores = Attribution().scores(problem, graph.everything, np.random.default_rng(0))
    rings = {(i, i + 1): 3 * 16 * channels for i, channels in enumerate((2, 8, 8))}
    weights = [36, 144, 576, 144]
    assert scores == {(i, j): rings[i, j] + weights[i] + weights[j] for i, j in rings}


def test_attribution_of_tensors_leaves_the_ends_out() -> None:
    graph = heavy_middle()
    problem = Problem(graph, Machine(100), LineBuffer())
    scores = Attribution("tensors").scores(problem, graph.everything, np.random.default_rng(0))
    assert scores == {(0, 1): 96, (1, 2): 384, (2, 3): 384}


def test_of_a_black_box_shapes_are_known() -> None:
    graph = heavy_middle()
    problem = Problem(graph, Machine(100), BlackBox(lambda question: {"feasible": False}))
    assert problem.holdings(graph.everything) is None
    scores = Attribution().scores(problem, graph.everything, np.random.default_rng(0))
    assert scores == {(0, 1): 32 + 36 + 144, (1, 2): 128 + 144 + 576, (2, 3): 128 + 576 + 144}


def test_weights_that_pass_in_slices_are_not_blamed() -> None:
    graph = heavy_middle()
    lines, bands = LineBuffer().holdings(graph, 0b1111), Brr().holdings(graph, 0b1111)
    assert bands == Holdings(lines.tensors, dict.fromkeys(range(4), 0))


@pytest.mark.parametrize(("scheme", "said"), [("lbdf", True), ("brr", True), ("mixed", True), ("layerwise", False)])
def test_a_composed_model_says_what_its_scheme_says(scheme: str, said: bool) -> None:
    graph = heavy_middle()
    problem = Problem(graph, Machine(100), scheme_model(scheme))
    assert (problem.holdings(graph.everything) is not None) is said


def test_asking_what_fills_the_buffer_is_no_evaluation() -> None:
    problem = Problem(heavy_middle(), Machine(100), WithFallback(LineBuffer(), Layerwise()))
    problem.holdings(0b1111)
    assert problem.evaluations == 0


def test_negated_turns_the_order_round_under_a_name_of_its_own() -> None:
    problem = random_problem(2, 9)
    group, rng = problem.graph.everything, np.random.default_rng(0)
    plain, turned = (e.scores(problem, group, rng) for e in (Attribution(), Negated(Attribution())))
    assert turned == {edge: -score for edge, score in plain.items()}
    assert Negated(Attribution()).name == "not_attribution"


def test_an_unknown_attribution_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown attribution of 'tensor': did you mean 'tensors'"):
        Attribution("tensor")  # type: ignore[arg-type]
