"""The layerwise model as a cost model: groups, refusals, what is searched and what is not."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from one_op import HUGE, MODEL, cost, floor, plan, refusal, square

from fusecut.cost import CostModel, Infeasible, Planned
from fusecut.ir import Graph, Op, Tensor, mask_of
from fusecut.machine import Machine
from fusecut.models import _tiling
from fusecut.models.lbdf import LineBuffer


def network() -> Graph:
    """A stem, an inverted residual with squeeze-excite, a pool, attention over the map, a classifier."""
    shapes = [(1, 3, 64, 64), (1, 32, 32, 32), (1, 32, 32, 32), (1, 32, 1, 1), (1, 32, 1, 1), (1, 32, 32, 32)]
    shapes += [(1, 32, 32, 32), (1, 32, 16, 16), (1, 32, 16, 16), (1, 32, 16, 16), (1, 1000, 1, 1)]
    tensors = tuple(Tensor(f"t{i}", s) for i, s in enumerate(shapes))

    def op(kind: str, inputs: tuple[int, ...], made: int, weights: int = 0, **attrs: object) -> Op:
        return Op(f"op{made}", kind, inputs, (made,), MappingProxyType(attrs), weights)  # type: ignore[arg-type]

    ops = (
        op("conv", (0,), 1, 864, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        op("conv", (1,), 2, 288, kernel=(3, 3), pads=(1, 1, 1, 1), groups=32),
        op("reduce", (2,), 3),
        op("conv", (3,), 4, 1024, kernel=(1, 1)),
        op("elementwise", (2, 4), 5),
        op("elementwise", (1, 5), 6),
        op("pool", (6,), 7, kernel=(2, 2), strides=(2, 2)),
        op("normalise", (7,), 8, 32),
        op("softmax", (8,), 9),
        op("linear", (9,), 10, 32 * 256 * 1000, flatten=True),
    )
    return Graph("net", tensors, ops, (0,), (10,))


def test_every_op_of_a_network_runs_within_8_kib() -> None:
    graph = network()
    assert all(isinstance(MODEL.plan(graph, 1 << i, Machine(8192)), Planned) for i in range(len(graph)))


@pytest.mark.parametrize("buffer", [512, 4096, 32 * 1024, 512 * 1024])
def test_no_op_alone_is_cheaper_as_a_line_buffer(buffer: int) -> None:
    graph, machine = network(), Machine(buffer)
    for i in range(len(graph)):
        lines, tiles = LineBuffer().plan(graph, 1 << i, machine), MODEL.plan(graph, 1 << i, machine)
        assert isinstance(lines, Infeasible) or tiles.cost.dram_bytes <= lines.cost.dram_bytes  # type: ignore[union-attr]


def test_a_group_of_two_ops_is_refused_whatever_the_buffer() -> None:
    refused = MODEL.plan(network(), mask_of([0, 1]), Machine(HUGE))
    assert isinstance(refused, Infeasible) and (refused.resource, refused.demand, refused.limit) == ("group size", 2, 1)


def test_the_buffer_floor_rules_out_exactly_groups_of_two_ops() -> None:
    bound = MODEL.buffer_floor(network(), Machine(8192))
    assert [bound.start, bound.extend(0, 0, 3), bound.extend(1 << 3, 0, 4) > HUGE] == [0, 0, True]


def test_a_refusal_names_the_op_and_what_fills_its_smallest_tile() -> None:
    text = str(refusal(square(4, 4, 8).graph(), 10))
    assert text == (
        "needs 26 B, the buffer has 10 B: 16 B over; conv 'op' cannot run even alone: its smallest tile holds "
        "9 B of inputs, 9 B of weights, 4 B of biases and 4 B of outputs; a buffer of 26 B holds its smallest tile"
    )


def test_it_is_a_cost_model() -> None:
    assert isinstance(MODEL, CostModel)


def test_read_bytes_include_weights_and_the_macs_are_the_ops() -> None:
    spec = square(4, 4, 8)
    found = cost(spec.graph(), HUGE)
    assert (found.read_bytes, found.weight_bytes, found.macs) == (256 + 144 + 16, 144 + 16, 144 * 64)


def test_equal_layers_with_other_names_share_one_search() -> None:
    graph = square(8, 8, 12).graph()
    renamed = Graph("other", graph.tensors, (replace(graph.ops[0], name="again", members=("again",)),), (0,), (1,))
    plan(graph, 777)
    before = _tiling.best.cache_info().hits
    plan(renamed, 777)
    assert _tiling.best.cache_info().hits == before + 1


def test_an_op_that_can_touch_everything_once_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiling, "_search", lambda *_: pytest.fail("searched"))
    assert cost(square(8, 8, 20).graph(), HUGE).dram_bytes == floor(square(8, 8, 20).graph())
