"""Folding: what is folded, what is not, and that plans never get worse."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import Build, Constants, builder, ints, weights

from fusecut.errors import PartitionError
from fusecut.frontend.normalise import fold
from fusecut.ir import Graph, Group, bits
from fusecut.partition import Partition
from fusecut.zoo import load as load_network
from fusecut.zoo import names as network_names


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return builder(tmp_path)


X = {"x": (1, 4, 6, 6)}


def node(op: str, inputs: str, output: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attrs)


def conv(inputs: str, output: str) -> onnx.NodeProto:
    return node("Conv", f"{inputs} w", output, pads=[1, 1, 1, 1])


CONSTANTS: Constants = {
    "w": weights(4, 4, 3, 3),
    "c": weights(4),
    "c3": weights(4, 1, 1),
    "half": np.array(0.5, np.float32),
    "three": np.array(3, np.float32),
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "flat": ints(1, 144),
    "fc": weights(144, 5),
}


def folded(build: Build, *nodes: onnx.NodeProto, outputs: list[str] | None = None) -> Graph:
    return build(nodes, X, CONSTANTS, outputs=outputs, granularity="folded")


def ops_of(graph: Graph) -> list[tuple[str, tuple[str, ...]]]:
    return [(op.kind, op.members) for op in graph.ops]


BN = node("BatchNormalization", "a c c c c", "bn")


def test_a_unary_op_joins_the_only_op_that_feeds_it(build: Build) -> None:
    graph = folded(build, conv("x", "a"), node("Relu", "a", "r"), conv("r", "y"))
    assert ops_of(graph) == [("conv", ("a", "r")), ("conv", ("y",))]
    assert graph.ops[0].attrs["fused"] == "Relu"


def test_a_batch_norm_after_a_convolution_leaves_one_bias_per_channel(build: Build) -> None:
    graph = folded(build, conv("x", "a"), BN, node("Relu", "bn", "y"))
    (op,) = graph.ops
    assert (op.weight_elements, op.bias_elements, op.attrs["fused"]) == (144, 4, "BatchNormalization,Relu")


def test_a_scale_after_an_activation_keeps_its_own_constants(build: Build) -> None:
    graph = folded(build, conv("x", "a"), node("Relu", "a", "r"), node("Mul", "r c3", "y"))
    (op,) = graph.ops
    assert op.weight_elements == 144 + 4


def constants_after(
    build: Build, maker: onnx.NodeProto, x: tuple[int, ...], *steps: tuple[str, tuple[int, ...]]
) -> Any:
    """(ops, weights, biases) of an op with the constant ``w`` and then one of these constants after the other."""
    nodes, constants, made = [maker], {"w": CONSTANTS_OF[maker.op_type]}, "a"
    for index, (op, shape) in enumerate(steps):
        constants[f"k{index}"] = weights(*shape)
        nodes.append(node(op, f"{made} k{index}", f"t{index}"))
        made = f"t{index}"
    graph = build(nodes, {"x": x}, constants, granularity="folded")
    return len(graph.ops), sum(op.weight_elements for op in graph.ops), sum(op.bias_elements for op in graph.ops)


CONSTANTS_OF = {"Conv": weights(8, 3, 1, 1), "MatMul": weights(16, 16)}
CONV, BEHIND, BEFORE = node("Conv", "x w", "a"), node("MatMul", "x w", "a"), node("MatMul", "w x", "a")


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (8, 1, 1)])
def test_a_constant_per_channel_joins_a_convolution_s_own(build: Build, shape: tuple[int, ...]) -> None:
    image = (1, 3, 6, 6)
    assert constants_after(build, CONV, image, ("Add", shape)) == (1, 24, 8)
    assert constants_after(build, CONV, image, ("Mul", shape)) == (1, 24, 0)
    assert constants_after(build, CONV, image, ("Mul", shape), ("Add", shape), ("Div", shape)) == (1, 24, 8)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
def test_one_number_for_all_channels_is_an_immediate(build: Build, shape: tuple[int, ...]) -> None:
    assert constants_after(build, CONV, (1, 3, 6, 6), ("Add", shape), ("Mul", shape)) == (1, 24, 0)


@pytest.mark.parametrize("x", [(1, 16, 32), (1, 1, 16, 32), (16, 32)])
def test_a_scale_across_the_outputs_of_a_linear_map_is_counted(build: Build, x: tuple[int, ...]) -> None:
    """The rows of a matrix cannot take in a scale of the columns that they are multiplied by."""
    assert constants_after(build, BEFORE, x, ("Mul", (32,))) == (1, 256 + 32, 0)


def test_a_scale_per_head_cannot_join_weights_that_all_heads_share(build: Build) -> None:
    heads = (1, 4, 8, 16)
    assert constants_after(build, BEHIND, heads, ("Mul", (16,)), ("Add", (16,))) == (1, 256, 16)
    assert constants_after(build, BEHIND, heads, ("Mul", (4, 1, 1))) == (1, 256 + 4, 0)
    assert constants_after(build, BEHIND, (1, 16, 8, 16), ("Mul", (16, 1, 1))) == (1, 256 + 16, 0)
    assert constants_after(build, BEHIND, heads, ("Mul", (4, 1, 16))) == (1, 256 + 64, 0)


def test_biases_of_channels_and_of_groups_of_channels_are_one_for_each_channel(build: Build) -> None:
    nodes = [
        CONV,
        node("Reshape", "a s", "r"),
        node("Add", "r g", "b"),
        node("Mul", "b h", "d"),
        node("Add", "d h", "e"),
    ]
    constants = {"w": weights(8, 3, 1, 1), "s": ints(1, 2, 4, 6, 6), "g": weights(2, 1, 1, 1), "h": weights(4, 1, 1)}
    (op,) = build(nodes, {"x": (1, 3, 6, 6)}, constants, granularity="folded").ops
    assert (op.weight_elements, op.bias_elements) == (24, 8)


def test_scales_in_a_row_are_one_scale_and_one_bias(build: Build) -> None:
    nodes = [node("MaxPool", "x", "p", kernel_shape=[1, 2]), node("BatchNormalization", "p c c c c", "bn")]
    graph = folded(
        build, *nodes, node("Mul", "bn c3", "m"), node("Add", "m c3", "y"), conv("p", "z"), outputs=["y", "z"]
    )
    affine = next(op for op in graph.ops if op.kind == "affine")
    assert (affine.members, affine.weight_elements, affine.bias_elements) == (("bn", "m", "y"), 4, 4)


def test_a_unary_op_read_by_parallel_ops_stays(build: Build) -> None:
    nodes = [conv("x", "a"), node("Relu", "a", "r"), conv("r", "b"), conv("r", "d"), node("Add", "b d", "y")]
    assert ("activation", ("r",)) in ops_of(folded(build, *nodes))


def test_a_unary_op_read_along_one_path_is_folded(build: Build) -> None:
    nodes = [conv("x", "a"), node("Relu", "a", "r"), conv("r", "b"), node("Add", "b r", "y")]
    assert ops_of(folded(build, *nodes)) == [("conv", ("a", "r")), ("conv", ("b",)), ("elementwise", ("y",))]


def test_a_unary_op_whose_operand_others_read_stays(build: Build) -> None:
    nodes = [conv("x", "a"), node("Relu", "a", "r"), conv("r", "b"), node("Add", "b a", "y")]
    assert ("activation", ("r",)) in ops_of(folded(build, *nodes))


def test_a_unary_op_of_a_network_output_stays(build: Build) -> None:
    graph = folded(build, conv("x", "a"), node("Relu", "a", "y"), outputs=["a", "y"])
    assert ops_of(graph) == [("conv", ("a",)), ("activation", ("y",))]


def test_a_unary_op_that_makes_a_network_output_is_folded(build: Build) -> None:
    graph = folded(build, conv("x", "a"), node("Relu", "a", "r"), conv("r", "y"), outputs=["r", "y"])
    assert ops_of(graph) == [("conv", ("a", "r")), ("conv", ("y",))]
    assert [graph.tensors[t].name for t in graph.outputs] == ["r", "y"]


def test_an_identity_is_another_name_of_its_input(build: Build) -> None:
    graph = folded(build, node("Identity", "x", "i"), conv("i", "a"), node("Dropout", "a", "d"), conv("d", "y"))
    assert ops_of(graph) == [("conv", ("i", "a", "d")), ("conv", ("y",))]


def test_an_identity_that_makes_a_network_output_keeps_the_output_name(build: Build) -> None:
    graph = folded(build, conv("x", "a"), node("Identity", "a", "y"))
    assert [graph.tensors[t].name for t in graph.outputs] == ["y"]
    assert len(graph) == 1


def test_an_identity_from_input_to_output_stays(build: Build) -> None:
    assert ops_of(folded(build, node("Identity", "x", "y"))) == [("identity", ("y",))]


def test_an_identity_between_two_outputs_stays(build: Build) -> None:
    graph = folded(build, conv("x", "a"), node("Identity", "a", "y"), outputs=["a", "y"])
    assert [graph.tensors[t].name for t in graph.outputs] == ["a", "y"]


SWISH = [node("Sigmoid", "a", "s"), node("Mul", "a s", "y")]
HARD_SWISH = [
    node("Add", "a three", "p"),
    node("Clip", "p zero six", "q"),
    node("Mul", "a q", "m"),
    node("Div", "m six", "y"),
]
GELU = [
    node("Div", "a six", "d"), node("Erf", "d", "e"), node("Add", "e three", "o"), node("Mul", "a o", "m"),
    node("Mul", "m half", "y"),
]  # fmt: skip
SQUARE = [node("Mul", "a a", "y")]
NESTED = [node("Sigmoid", "a", "s"), node("Mul", "a s", "m"), node("Tanh", "m", "t"), node("Add", "t a", "y")]


@pytest.mark.parametrize(
    "region", [SWISH, HARD_SWISH, GELU, SQUARE, NESTED], ids=["swish", "hswish", "gelu", "square", "nested"]
)
def test_an_activation_written_out_joins_the_convolution(region: list[onnx.NodeProto], build: Build) -> None:
    graph = folded(build, conv("x", "a"), *region)
    assert ops_of(graph) == [("conv", ("a", *(n.name for n in region)))]


def test_a_region_with_two_entries_is_no_activation(build: Build) -> None:
    nodes = [conv("x", "a"), conv("a", "b"), node("Sigmoid", "b", "s"), node("Mul", "a s", "y")]
    assert ("elementwise", ("y",)) in ops_of(folded(build, *nodes))


def test_a_region_whose_inner_tensor_is_read_outside_stays(build: Build) -> None:
    nodes = [
        conv("x", "a"),
        node("Sigmoid", "a", "s"),
        node("Mul", "a s", "m"),
        conv("s", "b"),
        node("Add", "m b", "y"),
    ]
    assert ("elementwise", ("m",)) in ops_of(folded(build, *nodes))


def test_a_squeeze_and_excite_product_is_no_activation(build: Build) -> None:
    nodes = [conv("x", "a"), node("GlobalAveragePool", "a", "g"), node("Sigmoid", "g", "s"), node("Mul", "a s", "y")]
    assert ("elementwise", ("y",)) in ops_of(folded(build, *nodes))


def test_a_flatten_joins_the_layer_that_reads_it(build: Build) -> None:
    graph = folded(
        build, conv("x", "a"), node("Reshape", "a flat", "f"), node("Dropout", "f", "d"), node("MatMul", "d fc", "y")
    )
    assert ops_of(graph) == [("conv", ("a",)), ("linear", ("f", "d", "y"))]
    assert graph.ops[1].attrs["flatten"] is True
    assert graph.tensors[graph.ops[1].inputs[0]].shape == (1, 4, 6, 6)


def test_a_flatten_read_twice_stays(build: Build) -> None:
    nodes = [
        node("Reshape", "x flat", "f"),
        node("MatMul", "f fc", "a"),
        node("MatMul", "f fc", "b"),
        node("Add", "a b", "y"),
    ]
    assert ops_of(folded(build, *nodes))[0] == ("reshape", ("f",))


@pytest.mark.parametrize("name", network_names())
def test_folding_keeps_macs_members_and_interfaces(name: str) -> None:
    flat, graph = load_network(name, granularity="op"), load_network(name)
    assert sum(op.macs for op in graph.ops) == sum(op.macs for op in flat.ops)
    assert sorted(m for op in graph.ops for m in op.members) == sorted(op.name for op in flat.ops)
    for ends in ("inputs", "outputs"):
        names = [[g.tensors[t].name for t in getattr(g, ends)] for g in (flat, graph)]
        assert names[0] == names[1]


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "shufflenet_v2_x1_0", "googlenet", "convnext_tiny"])
def test_folding_twice_changes_nothing(name: str) -> None:
    once = load_network(name)
    twice = fold(once)
    assert (twice.ops, twice.tensors) == (once.ops, once.tensors)


def random_network(rng: np.random.Generator, identities: bool = True) -> list[onnx.NodeProto]:
    """Convolutions, unary ops and joins over one shape."""
    names = ["x"]
    nodes = []
    kinds = ["conv", "Relu", "Sigmoid", "Add", "Mul", "bn", *(["Identity"] if identities else [])]
    for index in range(int(rng.integers(4, 9))):
        out = f"t{index}"
        kind = rng.choice(kinds)
        a, b = (str(rng.choice(names[-3:])) for _ in range(2))
        if kind == "conv":
            nodes.append(conv(a, out))
        elif kind == "bn":
            nodes.append(node("BatchNormalization", f"{a} c c c c", out))
        else:
            nodes.append(node(str(kind), f"{a} {b}" if kind in ("Add", "Mul") else a, out))
        names.append(out)
    return nodes


def dead_ends(nodes: list[onnx.NodeProto]) -> list[str]:
    read = {t for n in nodes for t in n.input}
    return [n.output[0] for n in nodes if n.output[0] not in read]


def plans(graph: Graph) -> list[Partition]:
    """Every valid plan of a small graph."""
    groups = [g for g in range(1, graph.everything + 1) if graph.is_connected(g) and graph.is_convex(g)]
    found: list[Partition] = []

    def extend(done: Group, chosen: list[Group]) -> None:
        if done == graph.everything:
            with suppress(PartitionError):  # groups that wait for each other
                found.append(Partition(graph, chosen))
            return
        first = ~done & (done + 1)
        for g in groups:
            if g & first and not g & done:
                extend(done | g, [*chosen, g])

    extend(0, [])
    return found


def traffic(plan: Partition) -> int:
    """Activation bytes read and written."""
    graph = plan.graph
    return sum(graph.tensors[t].nbytes for g in plan.groups for t in (*graph.reads(g), *graph.writes(g)))


def carried_over(plan: Partition, graph: Graph) -> Partition:
    """The plan of the folded graph that keeps each op where the op it is named after was."""
    where = {plan.graph.ops[i].name: k for k, g in enumerate(plan.groups) for i in bits(g)}
    groups = [0] * len(plan)
    for index, op in enumerate(graph.ops):
        groups[where[op.name]] |= 1 << index
    return Partition(graph, filter(None, groups))


@pytest.mark.parametrize("seed", range(60))
def test_every_plan_carries_over_to_the_folded_graph_with_no_more_traffic(seed: int, build: Build) -> None:
    nodes = random_network(np.random.default_rng(seed), identities=False)
    flat = build(nodes, X, CONSTANTS, outputs=dead_ends(nodes))
    graph = fold(flat)
    for plan in plans(flat):
        assert traffic(carried_over(plan, graph)) <= traffic(plan)


@pytest.mark.parametrize("seed", range(40))
def test_a_folded_network_reads_and_writes_what_the_file_does(seed: int, build: Build) -> None:
    nodes = random_network(np.random.default_rng(seed))
    flat = build(nodes, X, CONSTANTS, outputs=dead_ends(nodes))
    graph = fold(flat)
    for tensors in ("inputs", "outputs"):
        assert [graph.tensors[t].name for t in getattr(graph, tensors)] == [
            flat.tensors[t].name for t in getattr(flat, tensors)
        ]
    assert sorted(m for op in graph.ops for m in op.members) == sorted(op.name for op in flat.ops)
    made = [t for op in graph.ops for t in op.outputs]
    assert sorted([*made, *graph.inputs]) == list(range(len(graph.tensors)))


def chain_of(depth: int) -> list[onnx.NodeProto]:
    names = ["x", *(f"r{i}" for i in range(depth))]
    return [node("Relu", a, b) for a, b in pairwise(names)]


def test_a_chain_of_a_thousand_unary_ops_becomes_one(build: Build) -> None:
    assert len(folded(build, *chain_of(1000))) == 1
