"""The choice of part tensors, made segment by segment, against the same made on whole groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from band_nets import grown_groups, strange_net, wide_net
from numpy.random import Generator

import fusecut as fc
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import Brr
from fusecut.models._band_group import BandGroup
from fusecut.models._bands import BandRows, band_rows
from fusecut.models._segments import Pieces
from fusecut.models._slices import Slicing
from fusecut.testing import Net


def bands_of(graph: Graph, group: Group) -> BandGroup:
    return Brr()._search(graph, group, Machine(1 << 40)).bands


def chosen_on_the_whole(group: BandGroup, rows: BandRows) -> tuple[frozenset[int], int]:
    """The best change of what has to do with the highest steps, again and again, every choice built for all ops."""
    ends, others = group.candidates
    best = group.slicings.of(ends)
    while True:
        found, loads, near = None, group.peaks(best, rows, 1), near_the_peak(group, best, rows)
        for change in others:
            slicing = group.slicings.of(best.part ^ change)
            if not change.isdisjoint(near) and slicing.valid and group.peaks(slicing, rows, 1) < loads:
                found, loads = slicing, group.peaks(slicing, rows, 1)
        if found is None:
            return best.part, loads[0]
        best = found


def near_the_peak(group: BandGroup, slicing: Slicing, rows: BandRows) -> set[int]:
    occupancy, graph = group.occupancy(slicing), group.graph
    loads = occupancy.loads(rows, 1)
    held = {t for step, load in enumerate(loads) if load == max(loads) for t in occupancy.at(step)}
    ops = [i for i in group.ops if held & {*graph.ops[i].inputs, *graph.ops[i].outputs}]
    return {t for i in ops for t in (*graph.ops[i].inputs, *graph.ops[i].outputs)}


def all_rows(group: BandGroup) -> Iterator[BandRows]:
    made = frozenset(t for i in group.ops for t in group.graph.ops[i].outputs)
    for height in {1, 3, group.rows} if group.rows >= 3 else {group.rows}:
        for again in (frozenset[int](), made):
            yield band_rows(group.facts.tables, group.group, height, again)


@pytest.mark.parametrize("draw", [wide_net, strange_net])
def test_segments_lead_to_the_same_choice_on_random_networks(draw: Callable[[Generator, int], Graph]) -> None:
    divided = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        graph = draw(rng, 14)
        for ops in grown_groups(graph, rng, 3):
            group = bands_of(graph, ops)
            divided += len(group.pieces.ops) > 1
            for rows in all_rows(group):
                assert group.sliced(rows, 1) == chosen_on_the_whole(group, rows), f"seed {seed}, {ops:b}"
    assert divided > 50


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "mobilenet_v2", "googlenet"])
def test_segments_lead_to_the_same_choice_on_stretches_of_real_networks(name: str) -> None:
    graph = fc.zoo(name).with_bits(8, 8, 32)
    rng = np.random.default_rng(1)
    for _ in range(8):
        first = int(rng.integers(len(graph) - 12))
        ops = ((1 << int(rng.integers(6, 24))) - 1) << first & graph.everything
        if graph.is_connected(ops) and graph.is_convex(ops):
            group = bands_of(graph, ops)
            for rows in all_rows(group):
                assert group.sliced(rows, 1) == chosen_on_the_whole(group, rows), f"{ops:b}"


def test_a_group_is_divided_where_one_tensor_goes_on() -> None:
    net = Net()
    x = net.conv(net.input(4, 8, 8), 4)
    y = net.add(net.conv(x, 4), x)
    net.add(net.conv(y, 4), y)
    pieces = Pieces(net.graph(), 0b11111)
    assert pieces.ops == [0b1, 0b110, 0b11000]
    assert pieces.narrow == [x, y]


def test_a_network_input_read_on_both_sides_keeps_them_together() -> None:
    net = Net()
    x = net.input(4, 8, 8)
    net.add(net.conv(net.conv(x, 4), 4), x)
    assert Pieces(net.graph(), 0b111).ops == [0b111]


def test_every_tensor_but_the_narrow_ones_belongs_to_one_piece() -> None:
    for seed in range(60):
        graph = wide_net(np.random.default_rng(seed), 14)
        if graph.is_connected(graph.everything):
            pieces = Pieces(graph, graph.everything)
            wide = {t for t, (first, last) in pieces.home.items() if first != last}
            assert wide == set(pieces.narrow)
            assert [i for ops in pieces.ops for i in bits(ops)] == list(range(len(graph)))
