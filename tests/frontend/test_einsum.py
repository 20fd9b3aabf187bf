"""Einsum: which equations are products, linear maps, or nothing that can be streamed."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper
from onnx_models import Build, builder, weights

from fusecut.errors import ModelError
from fusecut.ir import Graph
from fusecut.ops import ROWS, axis_map

PRODUCTS = {
    "bhid,bhjd->bhij": ((1, 2, 6, 5), (1, 2, 7, 5), 0, (6, 7)),
    "b h i j, b h j d -> b h i d": ((1, 2, 6, 7), (1, 2, 7, 5), 0, (6, 5)),
    "...id,...jd->...ij": ((1, 2, 6, 5), (1, 2, 7, 5), 0, (6, 7)),
    "nkw,nchw->nkhc": ((1, 6, 5), (1, 3, 4, 5), 0, (6, 12)),  # rows of a tensor of three axes are its second
    "bchw,bkhw->bck": ((1, 3, 4, 5), (1, 6, 4, 5), -1, (3, 6)),  # the rows of both are summed over
    "nchw,nchk->nchwk": ((1, 2, 3, 4), (1, 2, 3, 5), -1, (4, 5)),  # both have the row: neither streams alone
}
"""Shapes, the operand that gives the rows, (m, n)."""


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return builder(tmp_path)


def product(build: Build, equation: str, *shapes: tuple[int, ...], constant: tuple[int, ...] = ()) -> Graph:
    names = [f"x{k}" for k in range(len(shapes))]
    nodes = [helper.make_node("Einsum", [*names, *("w" for _ in constant[:1])], ["y"], name="n", equation=equation)]
    return build(nodes, dict(zip(names, shapes, strict=True)), {"w": weights(*constant)} if constant else {})


@pytest.mark.parametrize("equation", PRODUCTS)
def test_two_activations_are_a_product(equation: str, build: Build) -> None:
    left, right, rows, sizes = PRODUCTS[equation]
    graph = product(build, equation, left, right)
    (op,) = graph.ops
    assert (op.kind, op.attrs["row_operand"], op.attrs["product"]) == ("matmul", rows, sizes)
    assert [axis_map(graph, op, k, ROWS).whole for k in (0, 1)] == [rows != 0, rows != 1]


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("bhid,bhjd->bhij", ((1, 2, 6, 5), (1, 2, 7, 5)), 2 * 6 * 5 * 7),
        ("na,nb,nc->nabc", ((1, 2), (1, 3), (1, 4)), 2 * 3 * 4),
        ("nii->ni", ((1, 4, 4),), 4),
    ],
)
def test_macs_are_the_product_of_all_extents(
    equation: str, shapes: tuple[tuple[int, ...], ...], macs: int, build: Build
) -> None:
    assert product(build, equation, *shapes).ops[0].macs == macs


@pytest.mark.parametrize(("equation", "w"), [("bnd,dk->bnk", (5, 8)), ("bnd,kd->bnk", (8, 5))])
def test_a_constant_over_the_last_axis_is_a_linear_map(equation: str, w: tuple[int, ...], build: Build) -> None:
    (op,) = product(build, equation, (1, 6, 5), constant=w).ops
    assert (op.kind, op.weight_elements, op.macs) == ("linear", 40, 6 * 5 * 8)
    assert (op.attrs["in_features"], op.attrs["out_features"]) == (5, 8)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("nii->ni", ((1, 4, 4),)),  # a diagonal
        ("na,nb,nc->nabc", ((1, 2), (1, 3), (1, 4))),
        ("nab,nbc->nac", ((1, 4, 1), (1, 5, 6))),  # one row repeated
        ("nab,mbc->nmac", ((2, 4, 5), (3, 5, 6))),  # images of one factor with those of the other
    ],
)
def test_anything_else_needs_everything(equation: str, shapes: tuple[tuple[int, ...], ...], build: Build) -> None:
    graph = product(build, equation, *shapes)
    (op,) = graph.ops
    assert op.kind == "opaque" and op.macs > 0
    assert "Einsum" in graph.notes[0]


def test_a_constant_inside_the_batch_is_held_whole_with_its_weights(build: Build) -> None:
    (op,) = product(build, "bhid,hde->bhie", (1, 2, 6, 5), constant=(2, 5, 3)).ops
    assert (op.kind, op.weight_elements, op.macs) == ("opaque", 30, 2 * 6 * 5 * 3)


def test_extents_that_do_not_meet_are_refused_by_letter(build: Build) -> None:
    node = helper.make_node("Einsum", ["a", "b"], ["y"], name="n", equation="nik,nkj->nij")
    with pytest.raises(ModelError, match=r"op 'n' \(Einsum\)|shape"):
        build([node], {"a": (1, 4, 5), "b": (1, 6, 3)}, {})
