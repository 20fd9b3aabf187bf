"""Tensors, ops and graphs: bytes, relations between ops against brute force, and refusals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecut.errors import GraphError
from fusecut.ir import Graph, Op, Tensor, bits, mask_of
from fusecut.testing import Net, random_graph

SEEDS = range(40)


def random_net(seed: int, ops: int = 8) -> Graph:
    rng = np.random.default_rng(seed)
    return random_graph(rng, int(rng.integers(1, ops)), inputs=int(rng.integers(1, 3)))


def edges(graph: Graph) -> set[tuple[int, int]]:
    """(op, op) pairs joined by a tensor, from the definition."""
    return {
        (a, b)
        for a, maker in enumerate(graph.ops)
        for b, reader in enumerate(graph.ops)
        if set(maker.outputs) & set(reader.inputs)
    }


def closure(graph: Graph) -> set[tuple[int, int]]:
    """Transitive closure of the edges, by repeated squaring of a boolean matrix."""
    size = len(graph)
    reach = np.zeros((size, size), dtype=bool)
    for a, b in edges(graph):
        reach[a, b] = True
    for _ in range(size):
        reach = reach | (reach @ reach)
    return {(int(a), int(b)) for a, b in np.argwhere(reach)}


def subsets(graph: Graph) -> list[int]:
    return list(range(1, 1 << len(graph)))


# Masks -------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 300)))
def test_a_mask_and_its_bits_say_the_same(indices: set[int]) -> None:
    assert list(bits(mask_of(indices))) == sorted(indices)


# Bytes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "width", "row_bytes", "nbytes"),
    [
        ((1, 3, 4, 5), 8, 15, 60),
        ((1, 3, 4, 5), 16, 30, 120),
        ((1, 3, 4, 5), 4, 8, 32),
        ((1, 3, 4, 5), 1, 2, 8),
        ((2, 3, 4, 5), 4, 8, 64),
    ],
)
def test_each_row_of_a_tensor_is_rounded_up_to_whole_bytes(
    shape: tuple[int, int, int, int], width: int, row_bytes: int, nbytes: int
) -> None:
    tensor = Tensor("t", shape, width)
    assert (tensor.row_bytes, tensor.nbytes) == (row_bytes, nbytes)


def test_a_tensor_names_its_extents() -> None:
    tensor = Tensor("t", (2, 3, 5, 7))
    assert (tensor.batch, tensor.channels, tensor.rows, tensor.cols, tensor.elements) == (2, 3, 5, 7, 210)


def test_the_dimensions_of_the_file_default_to_the_canonical_ones() -> None:
    assert Tensor("t", (1, 2, 3, 4)).dims == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("weight_bits", "bias_bits", "expected"), [(8, 32, 9 + 12), (4, 32, 5 + 12), (1, 16, 2 + 6), (16, 8, 18 + 3)]
)
def test_weights_and_biases_have_widths_of_their_own(weight_bits: int, bias_bits: int, expected: int) -> None:
    op = Op("o", "conv", (0,), (1,), weight_elements=9, bias_elements=3, weight_bits=weight_bits, bias_bits=bias_bits)
    assert op.weight_bytes == expected


def test_an_op_stands_for_itself_unless_told_otherwise() -> None:
    assert Op("o", "conv", (0,), (1,)).members == ("o",)


def test_other_widths_change_tensors_and_weights() -> None:
    net = Net()
    net.conv(net.input(3, 4, 5), 2, kernel=1, biases=True)
    wide = net.graph().with_bits(16, 4, 64)
    assert [t.row_bytes for t in wide.tensors] == [30, 20]
    assert wide.ops[0].weight_bytes == 3 + 16


def test_the_same_widths_give_the_same_graph() -> None:
    graph = random_net(0)
    assert graph.with_bits(8, 8, 32) is graph


# Refusals ----------------------------------------------------------------------------------------

A, B, C = Tensor("a", (1, 1, 4, 4)), Tensor("b", (1, 1, 4, 4)), Tensor("c", (1, 1, 2, 4))


@pytest.mark.parametrize(
    ("tensors", "ops", "inputs", "outputs", "message"),
    [
        ((A,), (), (0,), (0,), "network 'n' has no operators that compute anything"),
        ((A, A), (Op("o", "conv", (0,), (1,)),), (0,), (1,), "network 'n' has two tensors named 'a'"),
        (
            (A, B, C),
            (Op("o", "conv", (0,), (1,)), Op("o", "conv", (1,), (2,))),
            (0,),
            (2,),
            "network 'n' has two ops named 'o'",
        ),
        ((A, B), (Op("o", "conv", (), (1,)),), (0,), (1,), "op 'o' must read and make at least one tensor"),
        ((A, B), (Op("o", "conv", (0,), ()),), (0,), (0,), "op 'o' must read and make at least one tensor"),
        ((A, B), (Op("o", "conv", (0,), (1,)),), (), (1,), "op 'o' reads 'a' before anything makes it"),
        ((A, B), (Op("o", "conv", (1,), (1,)),), (0,), (1,), "op 'o' reads 'b' before anything makes it"),
        (
            (A, B),
            (Op("o", "conv", (0,), (1,)), Op("p", "conv", (0,), (1,))),
            (0,),
            (1,),
            "op 'p' makes 'b', which exists already",
        ),
        ((A, B), (Op("o", "conv", (0,), (0,)),), (0,), (0,), "op 'o' makes 'a', which exists already"),
        (
            (A, B, C),
            (Op("o", "split", (0,), (1, 2)),),
            (0,),
            (1, 2),
            "the outputs of op 'o' differ in rows: split it into one op for each",
        ),
        ((A, B, C), (Op("o", "conv", (0,), (1,)),), (0,), (2,), "output 'c' of network 'n' is made by no op"),
    ],
)
def test_a_graph_that_is_no_dag_is_refused(
    tensors: tuple[Tensor, ...], ops: tuple[Op, ...], inputs: tuple[int, ...], outputs: tuple[int, ...], message: str
) -> None:
    with pytest.raises(GraphError) as caught:
        Graph("n", tensors, ops, inputs, outputs)
    assert str(caught.value) == message


def test_a_tensor_without_elements_is_refused() -> None:
    with pytest.raises(GraphError) as caught:
        Tensor("t", (1, 0, 4, 4))
    assert str(caught.value) == "tensor 't' has shape (1, 0, 4, 4): every dimension must be at least 1"


# Relations between ops ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_predecessors_and_successors_follow_the_tensors(seed: int) -> None:
    graph = random_net(seed)
    assert {(a, b) for b, m in enumerate(graph.preds) for a in bits(m)} == edges(graph)
    assert {(a, b) for a, m in enumerate(graph.succs) for b in bits(m)} == edges(graph)


@pytest.mark.parametrize("seed", SEEDS)
def test_ancestors_and_descendants_are_the_transitive_closure(seed: int) -> None:
    graph = random_net(seed)
    assert {(a, b) for b, m in enumerate(graph.ancestors) for a in bits(m)} == closure(graph)
    assert {(a, b) for a, m in enumerate(graph.descendants) for b in bits(m)} == closure(graph)


@pytest.mark.parametrize("seed", SEEDS)
def test_convex_means_that_no_path_leaves_and_returns(seed: int) -> None:
    graph = random_net(seed)
    reach = closure(graph)
    for group in subsets(graph):
        inside = set(bits(group))
        outside = set(range(len(graph))) - inside
        broken = any((a, x) in reach and (x, b) in reach for x in outside for a in inside for b in inside)
        assert graph.is_convex(group) == (not broken)


@pytest.mark.parametrize("seed", SEEDS)
def test_connected_means_one_piece_when_directions_are_forgotten(seed: int) -> None:
    graph = random_net(seed)
    joined = edges(graph)
    for group in subsets(graph):
        label = {i: i for i in bits(group)}
        for a, b in combinations(label, 2):
            if (a, b) in joined or (b, a) in joined:
                old, new = label[a], label[b]
                label = {i: new if piece == old else piece for i, piece in label.items()}
        assert graph.is_connected(group) == (len(set(label.values())) == 1)


def test_no_ops_are_not_connected() -> None:
    assert not random_net(0).is_connected(0)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_group_reads_and_writes_follows_from_the_definition(seed: int) -> None:
    graph = random_net(seed)
    for group in subsets(graph):
        inside = [graph.ops[i] for i in bits(group)]
        others = [graph.ops[i] for i in bits(graph.everything & ~group)]
        made = {t for op in inside for t in op.outputs}
        read = {t for op in inside for t in op.inputs}
        wanted = {t for op in others for t in op.inputs} | set(graph.outputs)
        unread = {t for t in made if not any(t in op.inputs for op in graph.ops)}
        assert set(graph.reads(group)) == read - made
        assert set(graph.writes(group)) == made & (wanted | unread)


@pytest.mark.parametrize("seed", SEEDS)
def test_touching_once_counts_every_tensor_at_the_border_and_every_weight(seed: int) -> None:
    graph = random_net(seed)
    for group in subsets(graph):
        moved = [*graph.reads(group), *graph.writes(group)]
        expected = sum(graph.tensors[t].nbytes for t in moved) + sum(graph.ops[i].weight_bytes for i in bits(group))
        assert graph.touch_once_bytes(group) == expected


def test_a_tensor_read_twice_by_one_op_is_read_once() -> None:
    net = Net()
    x = net.input(1, 2, 2)
    net.op("elementwise", [x, x], (1, 2, 2))
    assert net.graph().reads(1) == (x,)


def test_an_unread_tensor_is_written() -> None:
    tensors = (A, B, Tensor("d", (1, 1, 4, 4)))
    graph = Graph("n", tensors, (Op("o", "split", (0,), (1, 2)),), (0,), (1,))
    assert graph.writes(1) == (1, 2)


def test_the_names_of_folded_nodes_find_their_op() -> None:
    ops = (Op("conv", "conv", (0,), (1,), members=("conv", "bn", "relu")),)
    graph = Graph("n", (A, B), ops, (0,), (1,))
    assert [graph.op_index[name] for name in ("conv", "bn", "relu")] == [0, 0, 0]


def test_graphs_are_compared_by_identity() -> None:
    assert random_net(3) != random_net(3)
