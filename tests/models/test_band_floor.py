"""The floor that prices groups in bands: what a search may rely on, against all ways to run small groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from band_nets import CAPACITIES, grown_groups, strange_net, wide_net

from fusecut.cost import NEVER_BYTES, BufferFloor, Infeasible, Planned
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import Brr, LineBuffer
from fusecut.models._band_floor import NEVER
from fusecut.models._bands import band_rows
from fusecut.testing import Net

MODEL = Brr()


def networks(seeds: range) -> Iterator[tuple[Graph, list[Group], np.random.Generator]]:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        graph = (wide_net if seed % 2 else strange_net)(rng)
        yield graph, list(grown_groups(graph, rng, 4)), rng


def mark_of(floor: BufferFloor, ops: list[int]) -> int:
    mark, seen = floor.start, 0
    for i in ops:
        mark, seen = floor.extend(seen, mark, i), seen | 1 << i
    return mark


def again(graph: Graph, group: Group, capacity: int) -> int:
    floor = MODEL.buffer_floor(graph, Machine(capacity))
    return floor.again_bytes(mark_of(floor, list(bits(group))), capacity)


# What the protocol promises ------------------------------------------------------------------------


def test_the_mark_of_a_group_does_not_depend_on_the_order_of_its_ops() -> None:
    for graph, groups, rng in networks(range(40)):
        floor = MODEL.buffer_floor(graph, Machine(1500))
        for group in groups:
            ops = list(bits(group))
            shuffled = [int(i) for i in rng.permutation(ops)]
            assert mark_of(floor, ops) == mark_of(floor, shuffled)


def test_the_floor_only_grows_when_ops_join() -> None:
    for graph, groups, rng in networks(range(60)):
        for capacity in CAPACITIES:
            floor = MODEL.buffer_floor(graph, Machine(capacity))
            for group in groups:
                mark, seen, price = floor.start, 0, 0
                for i in (int(i) for i in rng.permutation(list(bits(group)))):
                    mark, seen, before = floor.extend(seen, mark, i), seen | 1 << i, price
                    price = floor.again_bytes(mark, capacity)
                    assert price >= before


def test_groups_without_a_common_op_pay_no_less_when_they_are_merged() -> None:
    paid = 0
    for graph, groups, _ in networks(range(80)):
        for capacity in CAPACITIES:
            for a, b in combinations(groups, 2):
                rest = b & ~a
                if not rest:
                    continue
                both = again(graph, a, capacity) + again(graph, rest, capacity)
                assert again(graph, a | rest, capacity) >= min(both, NEVER_BYTES)
                paid += 0 < both < NEVER_BYTES
    assert paid > 20


def test_a_larger_buffer_never_raises_the_floor() -> None:
    for graph, groups, _ in networks(range(60)):
        for group in groups:
            prices = [again(graph, group, capacity) for capacity in CAPACITIES]
            assert prices == sorted(prices, reverse=True)


# Never above the truth -------------------------------------------------------------------------------


def test_no_plan_of_the_model_moves_less_again_than_the_floor_says() -> None:
    """In its own buffer, where the floor says the most."""
    priced = tight = 0
    for graph, groups, _ in networks(range(150)):
        for group in groups:
            for capacity in CAPACITIES:
                planned = MODEL.plan(graph, group, Machine(capacity))
                if not isinstance(planned, Planned):
                    continue
                extra = planned.cost.dram_bytes - graph.touch_once_bytes(group)
                least = again(graph, group, planned.cost.buffer_bytes)
                assert least <= extra
                priced += extra > 0
                tight += extra > 0 and least > 0
    assert priced > 150 and tight > 50


def fewest_bands(graph: Graph, group: Group) -> dict[int, int]:
    """Bytes -> the fewest bands that need no more than that, by trying every height and choice of part tensors."""
    search = MODEL._search(graph, group, Machine(1 << 40)).bands
    tensors = sorted({t for change in search.candidates[1] for t in change} | search.candidates[0])
    made = [t for i in bits(group) for t in graph.ops[i].outputs]
    agains = (frozenset[int](), frozenset(made), frozenset((*made, *graph.reads(group))))
    slicings = [
        slicing
        for count in range(len(tensors) + 1)
        for part in combinations(tensors, count)
        if (slicing := search.slicings.of(frozenset(part))).valid
    ]
    found: dict[int, int] = {}
    for images, height, count in search.sizes():
        for kept in agains:
            rows = band_rows(search.facts.tables, group, height, kept)
            nbytes = min(search.peaks(slicing, rows, images)[0] for slicing in slicings)
            found[nbytes] = min(count, found.get(nbytes, count))
    return found


def test_no_way_at_all_runs_a_group_in_fewer_bands_than_the_floor_says() -> None:
    tried = tight = 0
    for graph, groups, _ in networks(range(60)):
        for group in groups[:2]:
            search = MODEL._search(graph, group, Machine(1 << 40)).bands
            if len({t for change in search.candidates[1] for t in change} | search.candidates[0]) > 7:
                continue
            best = 1 << 60
            for nbytes, count in sorted(fewest_bands(graph, group).items()):
                if count < best:
                    best = count
                    least = MODEL.buffer_floor(graph, Machine(nbytes)).bands(group)
                    assert least <= count
                    tried, tight = tried + 1, tight + (least == count)
    assert tried > 150 and tight > tried // 4


def needed(graph: Graph, group: Group) -> Iterator[tuple[int, int]]:
    """(the floor, the least of any choice of part tensors) for every height; nothing where choices are many."""
    least = MODEL._search(graph, group, Machine(1 << 40)).least
    search = MODEL._search(graph, group, Machine(1 << 40)).bands
    ends, others = search.candidates
    tensors = sorted(ends.union(*others))
    if len(tensors) > 7:
        return
    parts = (frozenset(part) for count in range(len(tensors) + 1) for part in combinations(tensors, count))
    slicings = [slicing for part in parts if (slicing := search.slicings.of(part)).valid]
    made = frozenset(t for i in bits(group) for t in graph.ops[i].outputs)
    for images, height, count in search.sizes():
        rows = [band_rows(search.facts.tables, group, height, again) for again in (frozenset[int](), made)]
        rows.append(band_rows(search.facts.tables, group, height, made.union(graph.reads(group))))
        yield least(count), min(search.peaks(slicing, r, images)[0] for r in rows for slicing in slicings)


def check_needs(seeds: range) -> list[float]:
    """How near the floor comes, everywhere at most 1."""
    shares = []
    for graph, groups, _ in networks(seeds):
        for group in groups:
            for floor, least in needed(graph, group):
                assert floor <= least
                shares.append(floor / least)
    return sorted(shares)


def test_in_no_number_of_bands_any_choice_has_less_on_chip_than_the_floor_says() -> None:
    shares = check_needs(range(60))
    assert len(shares) > 400 and shares[len(shares) // 2] > 0.7


@pytest.mark.slow
def test_thousands_of_bands_have_no_less_on_chip_than_the_floor_says() -> None:
    assert len(check_needs(range(60, 900))) > 5000


def test_what_the_floor_forbids_the_model_refuses() -> None:
    never = 0
    for graph, groups, _ in networks(range(200, 330)):
        for group in groups:
            for capacity in CAPACITIES:
                if again(graph, group, capacity) >= NEVER_BYTES:
                    assert isinstance(MODEL.plan(graph, group, Machine(capacity)), Infeasible)
                    never += 1
    assert never > 80


# Worked examples -------------------------------------------------------------------------------------


def two_convolutions() -> Graph:
    """16 channels, 12 rows of 8 columns: rows of 128 B, 2,304 B of weights each."""
    net = Net()
    net.conv(net.conv(net.input(16, 12, 8), 16), 16)
    return net.graph()


def test_where_line_buffers_fit_nothing_moves_again() -> None:
    graph = two_convolutions()
    needed = LineBuffer().demand(graph, 0b11).nbytes
    assert again(graph, 0b11, needed) == 0
    assert again(graph, 0b11, needed - 1) == 0  # one band of all rows might do
    assert again(graph, 0b11, 3000) > 0


def test_two_convolutions_need_two_bands_and_stream_what_does_not_fit_once_more() -> None:
    """Twelve rows of an end (1,536 B) and twelve of the middle (1,536 B) are not there together in 2,100 B.

    The first of two bands looks at eight rows of the input for seven of the middle, with a slice of 144 B of
    weights, and resident weights have only the rest of the buffer.
    """
    graph = two_convolutions()
    assert MODEL.buffer_floor(graph, Machine(2100)).bands(0b11) == 2
    assert again(graph, 0b11, 2100) == 4608 - (2100 - (8 * 128 + 7 * 128 + 144))


def test_a_row_that_does_not_fit_runs_in_no_number_of_bands() -> None:
    """A row in the middle looks at three rows, 384 B, beside 144 B of weights; its sums of 32 bits would take 512 B."""
    graph = two_convolutions()
    assert MODEL.buffer_floor(graph, Machine(527)).bands(0b01) == NEVER
    assert again(graph, 0b11, 527) == NEVER_BYTES
    assert MODEL.buffer_floor(graph, Machine(528)).bands(0b01) < NEVER


def test_squeeze_excite_runs_in_no_number_of_bands_where_its_map_does_not_fit() -> None:
    net = Net()
    net.squeeze_excite(net.conv(net.input(4, 16, 16), 8), 2)
    graph = net.graph()
    whole = 8 * 16 * 16
    assert again(graph, graph.everything, whole - 1) == NEVER_BYTES
    assert again(graph, graph.everything, 100_000) == 0


def test_where_a_skip_waits_beside_a_gate_the_floor_is_what_one_band_needs_to_the_byte() -> None:
    """Its map, the sums that slices of the gated map go into, and what the addition reads later are there together."""
    net = Net()
    skip = net.conv(net.input(4, 16, 16), 8)
    wide = net.conv(skip, 48, 1, biases=True)
    net.add(net.conv(net.squeeze_excite(net.depthwise(wide), 12), 8, 1, biases=True), skip)
    graph = net.graph()
    search = MODEL._search(graph, graph.everything, Machine(1 << 40))
    assert search.least(1) == search.one_band_bytes() > (48 + 8 + 4 * 8) * 16 * 16
    assert MODEL.buffer_floor(graph, Machine(search.one_band_bytes() - 1)).bands(graph.everything) > 1
