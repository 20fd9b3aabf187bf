"""Groups that look the same are planned once: the answer for each is that of a model that never saw another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator

import fusecut as fc
from fusecut.builder import Net
from fusecut.cost import CostModel, Planned
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import Brr, Layerwise, LineBuffer, WithFallback
from fusecut.models._shapes import Shapes
from fusecut.search import Exact

MODELS: dict[str, Callable[[], CostModel]] = {
    "lbdf": LineBuffer,
    "lbdf_two_pass": lambda: LineBuffer(squeeze_excite="two_pass"),
    "lbdf_switches": lambda: LineBuffer("pixel", 1, True, True, True, "two_pass"),
    "brr": lambda: Brr(LineBuffer(squeeze_excite="two_pass")),
    "fallback": lambda: WithFallback(LineBuffer(), Layerwise()),
}


def repeated_graph(rng: Generator, blocks: int = 3) -> Graph:
    """The same few random ops again and again, each block reading the last two; tensors numbered at random."""
    net = Net("repeated")
    x = before = net.input(int(rng.integers(1, 4)), int(rng.integers(4, 9)), 4)
    draws = rng.integers(1 << 30, size=int(rng.integers(2, 5)))
    for _ in range(blocks):
        made = [before, x]
        for draw in draws.tolist():
            made.append(_op(net, made, np.random.default_rng(draw)))
        x, before = made[-1], made[-2 - int(draws[0] % 2)]
    if rng.integers(2):
        net.pool(x, kernel=1, stride=3)  # the rows that it skips at the bottom nobody demands
    graph = net.graph()
    return _renumbered(graph, rng) if rng.integers(2) else graph


def _op(net: Net, made: list[int], rng: Generator) -> int:
    kind = str(rng.choice(["conv", "wide", "depthwise", "add", "se", "concat"]))
    x, y = made[-1 - int(rng.integers(min(2, len(made))))], made[int(rng.integers(len(made)))]
    channels = net.tensors[x].channels
    if kind == "add" and x != y and net.tensors[x].shape == net.tensors[y].shape:
        return net.add(x, y)
    if kind == "concat" and x != y:
        return net.conv(net.concat(x, y), channels, kernel=1)
    if kind == "se":
        return net.squeeze_excite(x, 1)
    if kind == "depthwise":
        return net.depthwise(x)
    return net.conv(x, channels, kernel=int(rng.choice([1, 3, 5])))


def _renumbered(graph: Graph, rng: Generator) -> Graph:
    """The same graph with its tensors in another order."""
    order = rng.permutation(len(graph.tensors)).tolist()
    place = {t: k for k, t in enumerate(order)}

    def moved(tensors: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(place[t] for t in tensors)

    ops = tuple(replace(op, inputs=moved(op.inputs), outputs=moved(op.outputs)) for op in graph.ops)
    tensors = tuple(graph.tensors[t] for t in order)
    return replace(graph, ops=ops, tensors=tensors, inputs=moved(graph.inputs), outputs=moved(graph.outputs))


def some_groups(graph: Graph, rng: Generator, count: int) -> list[Group]:
    """Connected, convex groups."""
    found: list[Group] = []
    while len(found) < count:
        first, size = int(rng.integers(len(graph))), int(rng.integers(1, 7))
        group = sum(1 << i for i in range(first, min(len(graph), first + size)) if rng.random() < 0.9)
        if group and graph.is_connected(group) and graph.is_convex(group):
            found.append(group)
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(12))
def test_the_answer_for_a_group_is_that_of_a_model_that_never_saw_another(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = repeated_graph(rng)
    shared = MODELS[name]()
    whole = LineBuffer().demand(graph, graph.everything).nbytes
    for group in some_groups(graph, rng, 25):
        machine = Machine(max(1, whole // int(rng.integers(1, 12))))
        apart = MODELS[name]()
        planned = shared.plan(graph, group, machine)
        assert planned == apart.plan(graph, group, machine)
        if isinstance(planned, Planned):
            assert shared.finish(graph, planned, machine) == apart.finish(graph, planned, machine)


def test_the_second_block_is_planned_as_the_first() -> None:
    net = Net()
    x = net.input(4, 8, 8)
    for _ in range(4):
        x = net.add(net.conv(net.conv(x, 4), 4), x)
    shapes = Shapes(net.graph())
    first, second, last = (shapes.of(0b111 << 3 * k) for k in (0, 1, 3))
    assert first.key == second.key
    assert second.ops == (3, 4, 5)
    assert last.key == first.key


def test_what_differs_outside_its_group_does_not_matter_and_what_differs_inside_does() -> None:
    net = Net()
    x = net.conv(net.conv(net.input(4, 8, 8), 4), 4)
    y = net.conv(net.conv(net.conv(x, 4, name="kept"), 4), 4, kernel=1)
    graph = net.graph(y)
    shapes = Shapes(graph)
    assert shapes.of(0b00011).key == shapes.of(0b00110).key == shapes.of(0b01100).key
    assert shapes.of(0b00011).key != shapes.of(0b11000).key


def test_a_tensor_that_leaves_makes_another_shape() -> None:
    net = Net()
    made = [net.conv(net.input(4, 8, 8), 4)]
    for _ in range(4):
        made.append(net.conv(made[-1], 4))
    shapes = Shapes(net.graph(made[2], made[-1]))
    assert shapes.of(0b00011).key == shapes.of(0b11000).key
    assert shapes.of(0b00011).key != shapes.of(0b01100).key


def test_tensors_in_another_order_make_another_shape() -> None:
    net = Net()
    x, y = net.input(4, 8, 8), net.input(4, 8, 8)
    a, b = net.conv(x, 4), net.conv(y, 4)
    net.add(a, b), net.add(b, a)
    shapes = Shapes(net.graph())
    assert shapes.of(0b0100).key != shapes.of(0b1000).key


@pytest.mark.parametrize("scheme", ["lbdf", "mixed"])
@pytest.mark.parametrize("seed", range(4))
def test_plans_of_repeated_blocks_run(scheme: str, seed: int) -> None:
    graph = repeated_graph(np.random.default_rng(100 + seed))
    whole = LineBuffer().demand(graph, graph.everything).nbytes
    solution = fc.solve(graph, whole // 3, scheme=scheme, search=Exact(effort=300, questions=20, first_questions=20))
    if solution.partition is not None:
        fc.simulate(solution, inputs="random", seed=0)
