"""Ops without reuse across channels, alone in tiles."""

from __future__ import annotations

import pytest
from one_op import cost, floor, one, plan, refusal

from fusecut.cost import Cost
from fusecut.ir import Graph, Op, Tensor

MAP = (1, 8, 16, 16)
ONCE: dict[str, tuple[Graph, int]] = {
    "activation": (one("activation", [MAP, MAP]), 32),
    "identity": (one("identity", [MAP, MAP]), 32),
    "add": (one("elementwise", [MAP, MAP, MAP]), 48),
    "add of a tensor to itself": (one("elementwise", [MAP, MAP], inputs=(0, 0)), 32),
    "squeeze-excite": (one("elementwise", [MAP, (1, 8, 1, 1), MAP]), 33),
    "spatial attention": (one("elementwise", [MAP, (1, 1, 16, 16), MAP]), 48),
    "outer product": (one("elementwise", [(1, 8, 1, 1), (1, 1, 16, 16), MAP]), 40),
    "unknown broadcast": (one("elementwise", [MAP, (1, 2, 3, 4), MAP]), 24 + 32),
    "affine": (one("affine", [MAP, MAP], weights=8, biases=8), 32 + 1 + 4),
    "affine of every element": (one("affine", [MAP, MAP], weights=2048), 48),
    "affine of a broadcast operand": (one("affine", [(1, 8, 1, 1), MAP], weights=8), 1 + 16 + 8),
    "expand": (one("expand", [(1, 8, 1, 1), MAP]), 17),
    "concat": (one("concat", [MAP, MAP, (1, 16, 16, 16)]), 32),
    "slice": (one("slice", [MAP, (1, 8, 8, 16)], starts=(4, 0), steps=(1, 1)), 32),
    "transpose": (one("transpose", [MAP, (1, 16, 16, 8)]), 16),
    "barrier reshape": (one("reshape", [MAP, (1, 64, 8, 4)], barrier=True), 8),
    "depth to space": (one("depth_to_space", [MAP, (1, 2, 32, 32)]), 64),
    "zero pad": (one("pad", [MAP, (1, 8, 18, 18)], pads=(1, 1, 1, 1)), 36),
    "reflecting pad": (one("pad", [MAP, (1, 8, 18, 18)], pads=(1, 1, 1, 1), mode="reflect"), 2 * 16 + 18),
    "max pool": (one("pool", [MAP, (1, 8, 8, 8)], kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), 48 + 8),
    "global pool": (one("pool", [MAP, (1, 8, 1, 1)], kernel=(16, 16)), 1 + 4),
    "pool over rows": (one("pool", [MAP, (1, 8, 1, 14)], kernel=(16, 3)), 16 + 14 * 4),
    "nearest resize": (one("resize", [MAP, (1, 8, 32, 32)], coordinates="asymmetric"), 16 + 32),
    "linear resize": (one("resize", [MAP, (1, 8, 32, 32)], mode="linear"), 32 + 32),
    "global mean": (one("reduce", [MAP, (1, 8, 1, 1)]), 1 + 4),
    "mean of channels": (one("reduce", [MAP, (1, 1, 16, 16)]), 16 + 64),
    "softmax of tokens": (one("softmax", [(1, 5, 24), (1, 5, 24)]), 24 + 8 + 1),
    "softmax of columns": (one("softmax", [MAP, MAP]), 8 * 16 + 8 + 1),
    "softmax across rows": (one("softmax", [MAP, MAP], barrier=True), 2048 + 8 + 1),
    "layer norm": (one("normalise", [(1, 5, 24), (1, 5, 24)], weights=24, biases=24), 24 + 8 + 1 + 24 + 96),
    "opaque": (one("opaque", [MAP, MAP]), 0),
}
"""Ops and the bytes they hold, worked out by hand: a row of one channel, a window, a span."""


@pytest.mark.parametrize("name", ONCE)
def test_each_tensor_is_touched_once(name: str) -> None:
    assert cost(ONCE[name][0], 8192).dram_bytes == floor(ONCE[name][0])


@pytest.mark.parametrize("name", ONCE)
def test_the_buffer_holds_what_a_person_computes(name: str) -> None:
    assert cost(ONCE[name][0], 8192).buffer_bytes == ONCE[name][1]


@pytest.mark.parametrize("name", ["activation", "concat", "squeeze-excite", "mean of channels", "spatial attention"])
def test_where_a_row_does_not_fit_single_elements_do(name: str) -> None:
    graph = ONCE[name][0]
    assert cost(graph, 12).dram_bytes == floor(graph)


def test_a_split_writes_every_part_once() -> None:
    tensors = Tensor("x", MAP), Tensor("a", (1, 4, 16, 16)), Tensor("b", (1, 4, 16, 16))
    graph = Graph("split", tensors, (Op("op", "split", (0,), (1, 2)),), (0,), (1, 2))
    assert cost(graph, 64) == Cost(2048, 2048, 0, 32, 32)


def test_a_pool_in_strips_reads_the_column_halo_again() -> None:
    graph = one("pool", [(1, 2, 8, 8), (1, 2, 8, 8)], kernel=(3, 3), pads=(1, 1, 1, 1))
    assert cost(graph, 3 * 6 + 5).dram_bytes == floor(graph) + 2 * 8 * 2


def test_a_pool_whose_smallest_window_does_not_fit_is_refused() -> None:
    assert refusal(ONCE["max pool"][0], 9).demand == 10


def test_a_span_that_does_not_fit_is_read_twice() -> None:
    graph, _ = ONCE["softmax of tokens"]
    assert cost(graph, 32).dram_bytes == floor(graph) + 5 * 24


def test_a_second_pass_holds_two_statistics_and_one_element() -> None:
    assert cost(ONCE["softmax of tokens"][0], 32).buffer_bytes == 1 + 8 + 1


def test_constants_of_a_normalisation_are_read_for_every_span_where_they_do_not_fit() -> None:
    graph, _ = ONCE["layer norm"]
    found = plan(graph, 100)
    assert (found.cost.weight_bytes, found.schedule.weight_passes) == (5 * 120, 5)
