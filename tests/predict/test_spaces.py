"""Architecture strings become the networks that were published."""

from __future__ import annotations

import numpy as np
import pytest

from fusecut.errors import ModelError, UnknownNameError
from fusecut.ir import Graph
from fusecut.predict.spaces import SPACES, fbnet, nasbench201, ofa_mbv3, space

CONV_CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
ZERO_CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
NORMS_AT_THE_END = 2 * 64


def macs(graph: Graph) -> int:
    return sum(op.macs for op in graph.ops)


def trained_parameters(graph: Graph) -> int:
    """With the two parameters of every batch norm that a folded bias stands for."""
    folded = sum(op.weight_elements + 2 * op.bias_elements for op in graph.ops)
    return folded - graph.ops[-1].bias_elements + NORMS_AT_THE_END


def test_every_convolution_in_nasbench201_costs_the_published_flops() -> None:
    assert round(macs(nasbench201.graph(CONV_CELL)) / 1e6, 2) == 220.12


def test_every_convolution_in_nasbench201_has_the_published_parameters() -> None:
    assert trained_parameters(nasbench201.graph(CONV_CELL)) == 1_531_546


def test_the_empty_cell_of_nasbench201_costs_the_published_flops() -> None:
    assert round(macs(nasbench201.graph(ZERO_CELL)) / 1e6, 2) == 7.78


def test_the_empty_cell_of_nasbench201_has_the_published_parameters() -> None:
    assert trained_parameters(nasbench201.graph(ZERO_CELL)) == 73_306


def test_ops_that_nothing_reads_are_left_out_of_a_cell() -> None:
    dead = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    assert macs(nasbench201.graph(dead)) == macs(nasbench201.graph(ZERO_CELL))


def test_fbnet_has_the_places_of_the_published_table() -> None:
    shapes = {(p.channels, p.stride, p.row) for p in fbnet.PLACES}
    assert len(shapes) == fbnet.ROWS == 12


def test_fbnet_ends_on_a_map_of_four_by_four() -> None:
    graph = fbnet.graph(" ".join(["k3_e6"] * 22))
    (head,) = [op for op in graph.ops if graph.tensors[op.outputs[0]].shape[1:] == (1504, 4, 4)]
    assert head.weight_elements == 352 * 1504


def test_an_fbnet_of_skips_has_only_the_convolutions_that_change_shape() -> None:
    graph = fbnet.graph(" ".join(["skip"] * 22))
    assert sum(op.kind == "conv" for op in graph.ops) == 1 + 6 + 1


def test_ofa_ignores_the_blocks_beyond_the_depth() -> None:
    rng = np.random.default_rng(0)
    read = ofa_mbv3.parse(ofa_mbv3.sample(rng))
    assert all(place < 4 for _, place, _, _ in read.blocks) and 10 <= len(read.blocks) <= 20


def test_what_ofa_computes_on_maps_grows_with_the_square_of_the_resolution() -> None:
    arch = '{"d": [2,2,2,2,2], "ks": %s, "e": %s, "r": %d}'
    small, large = (ofa_mbv3.graph(arch % ([3] * 20, [3] * 20, r)) for r in (128, 256))
    assert macs_on_maps(large) == 4 * macs_on_maps(small)


def macs_on_maps(graph: Graph) -> int:
    return sum(op.macs for op in graph.ops if graph.tensors[op.outputs[0]].rows > 1)


@pytest.mark.parametrize("name", SPACES)
def test_any_drawn_network_is_read_back(name: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        arch = SPACES[name].sample(rng)
        assert len(SPACES[name].graph(arch)) > 5


@pytest.mark.parametrize("name", SPACES)
def test_choices_tell_drawn_networks_apart(name: str) -> None:
    rng = np.random.default_rng(2)
    archs = {SPACES[name].sample(rng) for _ in range(20)}
    assert len({SPACES[name].choices(a).tobytes() for a in archs}) == len(archs)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(
    "text", ["", "k9_e1", "|none~0|", '{"d": [9]}', "[1]", "[" * 9999, '{"d": [true, 2, 2, 2, 2]}']
)
def test_a_string_that_is_no_network_says_what_was_expected(name: str, text: str) -> None:
    with pytest.raises(ModelError, match="expected"):
        SPACES[name].graph(text)


def test_an_unknown_space_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="nasbench201"):
        space("nasbench101")
