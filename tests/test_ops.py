"""Op kinds: which row rule each has, what its attributes mean, and what it accumulates."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fusecut import ops, rowmap
from fusecut.ir import AttrValue, Graph, Op, Tensor
from fusecut.rowmap import RowMap
from fusecut.testing import Net


def single(kind: str, sizes: list[int], out: int, **attrs: AttrValue) -> Graph:
    """A network of one op with operands of these row counts, all with 2 channels and 4 columns."""
    made = len(sizes)
    tensors = [Tensor(f"t{i}", (1, 2, rows, 4)) for i, rows in enumerate([*sizes, out])]
    op = Op("op", kind, tuple(range(made)), (made,), attrs)
    return Graph("net", tuple(tensors), (op,), op.inputs, op.outputs)


def row_map(kind: str, size: int, out: int, **attrs: AttrValue) -> RowMap:
    return ops.row_maps(single(kind, [size], out, **attrs))[0][0]


WINDOW: dict[str, AttrValue] = {
    "kernel": (3, 1),
    "strides": (2, 1),
    "dilations": (2, 1),
    "pads": (1, 0, 0, 0),
}


@pytest.mark.parametrize(
    ("kind", "size", "out", "attrs", "expected"),
    [
        ("conv", 12, 5, WINDOW, rowmap.window(12, 5, 3, 2, 2, 1)),
        ("conv", 6, 6, {}, rowmap.window(6, 6)),
        ("pool", 12, 6, {"kernel": (2, 2), "strides": (2, 2)}, rowmap.window(12, 6, 2, 2)),
        ("pool", 6, 1, {"kernel": (6, 6)}, rowmap.reduction(6, 1)),
        ("pool", 6, 1, {"kernel": (7, 7), "pads": (1, 1, 1, 1)}, rowmap.reduction(6, 1)),
        ("pool", 6, 1, {"kernel": (3, 3), "dilations": (2, 2)}, rowmap.window(6, 1, 3, 1, 2)),
        ("pool", 6, 1, {"kernel": (5, 5)}, rowmap.window(6, 1, 5)),
        ("conv", 6, 1, {"kernel": (6, 6)}, rowmap.window(6, 1, 6)),
        ("conv_transpose", 4, 8, {"kernel": (2, 2), "strides": (2, 2)}, rowmap.transposed(4, 8, 2, 2, 1, 0)),
        ("linear", 5, 5, {}, rowmap.window(5, 5)),
        ("linear", 5, 1, {"flatten": True}, rowmap.reduction(5, 1)),
        ("activation", 5, 5, {}, rowmap.window(5, 5)),
        ("affine", 5, 5, {}, rowmap.window(5, 5)),
        ("identity", 5, 5, {}, rowmap.window(5, 5)),
        ("normalise", 5, 5, {}, rowmap.window(5, 5)),
        ("softmax", 5, 5, {}, rowmap.window(5, 5)),
        ("transpose", 5, 5, {}, rowmap.window(5, 5)),
        ("transpose", 5, 4, {}, rowmap.barrier(5, 4)),
        ("elementwise", 1, 7, {}, rowmap.broadcast(7)),
        ("expand", 1, 7, {}, rowmap.broadcast(7)),
        ("elementwise", 3, 7, {}, rowmap.barrier(3, 7)),
        ("reduce", 5, 1, {}, rowmap.reduction(5, 1)),
        ("reduce", 5, 5, {}, rowmap.window(5, 5)),
        ("reduce", 1, 1, {}, rowmap.window(1, 1)),
        ("split", 5, 5, {"starts": (0, 0)}, rowmap.window(5, 5)),
        ("slice", 9, 3, {"starts": (2, 0), "steps": (3, 1)}, rowmap.window(9, 3, stride=3, pad=-2)),
        ("slice", 9, 9, {"starts": (8, 0), "steps": (-1, 1)}, rowmap.barrier(9, 9)),
        ("pad", 4, 7, {"pads": (1, 0, 2, 0)}, rowmap.padded(4, 7, 1, "constant")),
        ("pad", 4, 7, {"pads": (1, 0, 2, 0), "mode": "reflect"}, rowmap.padded(4, 7, 1, "reflect")),
        (
            "resize",
            4,
            8,
            {"mode": "linear", "coordinates": "align_corners"},
            rowmap.resized(4, 8, Fraction(2), "linear", "align_corners"),
        ),
        (
            "resize",
            5,
            7,
            {"mode": "nearest", "nearest": "ceil", "scale": (3, 2, 1, 1)},
            rowmap.resized(5, 7, Fraction(3, 2), "nearest", "half_pixel", "ceil"),
        ),
        ("depth_to_space", 4, 8, {}, rowmap.spread(4, 8, 2)),
        ("space_to_depth", 8, 4, {}, rowmap.gather(8, 4, 2)),
        ("reshape", 6, 6, {}, rowmap.spread(6, 6, 1)),
        ("reshape", 6, 4, {}, rowmap.barrier(6, 4)),
        ("opaque", 6, 6, {}, rowmap.barrier(6, 6)),
    ],
)
def test_the_row_rule_of_a_kind(kind: str, size: int, out: int, attrs: dict[str, AttrValue], expected: RowMap) -> None:
    assert row_map(kind, size, out, **attrs) == expected


@pytest.mark.parametrize("kind", sorted(ops.RULES))
def test_every_rule_explains_itself(kind: str) -> None:
    assert ops.RULES[kind].__doc__


@pytest.mark.parametrize("kind", sorted(ops.RULES))
def test_any_kind_may_be_marked_a_barrier(kind: str) -> None:
    assert row_map(kind, 6, 6, barrier=True) == rowmap.barrier(6, 6)


def test_the_matrix_product_streams_its_row_operand_and_holds_the_other() -> None:
    graph = single("matmul", [6, 6], 6, row_operand=0)
    assert ops.row_maps(graph)[0] == (rowmap.window(6, 6), rowmap.barrier(6, 6))


def test_the_columns_of_a_matrix_product_are_needed_whole() -> None:
    graph = single("matmul", [6, 6], 6, row_operand=0)
    assert ops.axis_map(graph, graph.ops[0], 0, ops.COLS) == rowmap.barrier(4, 4)


def test_a_concatenation_over_rows_shifts_its_operands() -> None:
    graph = single("concat", [3, 4], 7, axis=0, offsets=(0, 3))
    assert ops.row_maps(graph)[0] == (rowmap.window(3, 7), rowmap.window(4, 7, pad=3))


def test_a_concatenation_over_channels_is_row_by_row() -> None:
    graph = single("concat", [4, 4], 4, axis=-1)
    assert ops.row_maps(graph)[0] == (rowmap.window(4, 4), rowmap.window(4, 4))


def test_columns_follow_the_second_number_of_each_pair() -> None:
    net = Net()
    net.op("conv", [net.input(1, 9, 9)], (1, 9, 4), kernel=(1, 3), strides=(1, 2), pads=(0, 1, 0, 1))
    graph = net.graph()
    assert ops.axis_map(graph, graph.ops[0], 0, ops.COLS) == rowmap.window(9, 4, 3, 2, 1, 1)
    assert ops.axis_map(graph, graph.ops[0], 0, ops.ROWS) == rowmap.window(9, 9, 1, 1, 1, 0)


def test_a_missing_pair_takes_the_default() -> None:
    assert ops.pair(Op("o", "conv", (0,), (1,)), "kernel", ops.ROWS, 1) == 1


def test_an_op_has_an_event_for_each_output_row() -> None:
    graph = single("conv", [9], 4, kernel=(3, 3), strides=(2, 2))
    assert ops.event_rows(graph, graph.ops[0]) == 4


@pytest.mark.parametrize(
    ("kind", "out", "attrs", "expected"),
    [
        ("reduce", 1, {}, 2 * 4),
        ("linear", 1, {"flatten": True}, 2 * 4),
        ("pool", 1, {"kernel": (6, 6)}, 2 * 4),
        ("conv", 6, {}, 0),
        ("opaque", 6, {}, 0),
    ],
)
def test_only_reductions_accumulate_one_output_row(
    kind: str, out: int, attrs: dict[str, AttrValue], expected: int
) -> None:
    graph = single(kind, [6], out, **attrs)
    assert ops.accumulator_elements(graph, graph.ops[0]) == expected


def test_a_reduction_over_one_row_accumulates_nothing() -> None:
    graph = single("reduce", [1], 1)
    assert ops.accumulator_elements(graph, graph.ops[0]) == 0


def test_the_kinds_that_fold_are_pointwise_kinds_with_a_rule() -> None:
    assert ops.UNARY_KINDS < ops.POINTWISE_KINDS <= set(ops.RULES)


def test_maps_run_between_canonical_extents_whatever_the_file_says() -> None:
    tensors = (Tensor("x", (1, 8, 6, 1), dims=(6, 8), row_axis=0), Tensor("y", (1, 3, 6, 1), dims=(6, 3), row_axis=0))
    graph = Graph("n", tensors, (Op("fc", "linear", (0,), (1,)),), (0,), (1,))
    assert ops.row_maps(graph)[0][0] == rowmap.window(6, 6)
