"""Rows of bands, derived a second time: row by row, as sets, with no formula for ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from band_nets import grown_groups, strange_net, wide_net
from numpy.random import Generator
from row_nets import everyday_net, odd_net, shifted_net

from fusecut.ir import Graph, Group, bits
from fusecut.models._bands import BandRows, Tables, band_rows, distinct_heights
from fusecut.ops import row_maps
from fusecut.testing import Net

Rows = set[int]
NETS: dict[str, Callable[[Generator], Graph]] = {
    "everyday": everyday_net,
    "odd": odd_net,
    "shifted": shifted_net,
    "wide": wide_net,
    "strange": strange_net,
}
every_net = pytest.mark.parametrize("kind", NETS)


def drawn(kind: str, seeds: range) -> Iterator[tuple[Graph, Group, int, frozenset[int]]]:
    """(network, group, rows of the clock in a band, tensors made or read again)."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        graph = NETS[kind](rng)
        tables = Tables(graph)
        for group in grown_groups(graph, rng, 3):
            inside = sorted({t for i in bits(group) for t in (*graph.ops[i].inputs, *graph.ops[i].outputs)})
            again = frozenset(t for t in inside if rng.random() < rng.choice([0, 0.5, 1]))
            yield graph, group, int(rng.integers(1, tables.size[tables.clock(group)] + 1)), again


class SlowBands:
    """Which rows of each tensor each band makes (or loads), looks at and finds waiting.

    A row made of padding alone looks at nothing, but points at the row where the next window begins.
    """

    def __init__(self, graph: Graph, group: Group, height: int, again: frozenset[int]) -> None:
        self.graph, self.group, self.again = graph, group, again
        self.maps = row_maps(graph)
        self.ops = list(bits(group))
        self.rows = {i: graph.tensors[graph.ops[i].outputs[0]].rows for i in self.ops}
        ends = [i for i in self.ops if not graph.succs[i] & group]
        self.clock = min(self.rows[i] for i in ends)
        self.tensors = [*graph.reads(group), *(t for i in self.ops for t in graph.ops[i].outputs)]
        self.made: list[dict[int, Rows]] = []
        self.pointed: list[dict[int, Rows]] = []
        done: dict[int, Rows] = {t: set() for t in self.tensors}
        for tick in range(height, self.clock + height, height):
            self._band(min(tick, self.clock), done)
            done = {t: done[t] | rows for t, rows in self.made[-1].items()}

    def _band(self, tick: int, done: dict[int, Rows]) -> None:
        made: dict[int, Rows] = {}
        looked: dict[int, Rows] = {t: set() for t in self.tensors}
        pointed: dict[int, Rows] = {t: set() for t in self.tensors}
        for i in reversed(self.ops):
            op = self.graph.ops[i]
            wanted = set().union(*(looked[t] for t in op.outputs))
            if any(self.graph.leaves(t, self.group) for t in op.outputs):
                wanted |= {r for r in range(self.rows[i]) if r * self.clock < tick * self.rows[i]}
            rows = self._made(wanted, done[op.outputs[0]], not self.again.isdisjoint(op.outputs), op.outputs, pointed)
            for t in op.outputs:
                made[t] = rows
            for t, rowmap in zip(op.inputs, self.maps[i], strict=True):
                for q in rows:
                    looked[t] |= set(range(rowmap.lo[q], rowmap.hi[q] + 1))
                    pointed[t] |= looked[t] | {rowmap.lo[q]}
        for t in self.graph.reads(self.group):
            made[t] = self._made(looked[t], done[t], t in self.again, (t,), pointed)
        self.made.append(made)
        self.pointed.append(pointed)

    def _made(self, wanted: Rows, done: Rows, again: bool, tensors: tuple[int, ...], pointed: dict[int, Rows]) -> Rows:
        """In order and without gaps: what is new up to the last row wanted; all over again from the first looked at."""
        end = max(wanted | done, default=-1) + 1
        used = set().union(*(pointed[t] for t in tensors))
        start = min({len(done)} | used) if again else len(done)
        return set(range(start, end))

    def kept(self, tensor: int, band: int) -> Rows:
        """Rows made in earlier bands, from the first that this band or a later one looks at."""
        if tensor in self.again:
            return set()
        waited = set().union(*(pointed[tensor] for pointed in self.pointed[band:]))
        before = set().union(*(made[tensor] for made in self.made[:band]))
        return {r for r in before if waited and r >= min(waited)}

    def counts(self, tensor: int) -> tuple[int, int, int, int, int]:
        """Halo, tile, moved, distinct, most."""
        bands = range(len(self.made))
        made = [m[tensor] for m in self.made]
        halo = max(len(self.kept(tensor, b)) for b in bands)
        there = max(len(self.kept(tensor, b) | made[b]) for b in bands)
        return halo, there - halo, sum(map(len, made)), len(set().union(*made)), max(map(len, made))


def counts(rows: BandRows, tensor: int) -> tuple[int, int, int, int, int]:
    held = rows.tensors[tensor]
    return held.halo, held.tile, held.moved, held.distinct, held.most


@every_net
def test_row_ranges_are_those_found_row_by_row(kind: str) -> None:
    tried = 0
    for graph, group, height, again in drawn(kind, range(60)):
        rows, slow = band_rows(Tables(graph), group, height, again), SlowBands(graph, group, height, again)
        assert rows.count == len(slow.made)
        for t in slow.tensors:
            assert counts(rows, t) == slow.counts(t), (graph, bin(group), height, again, t)
        tried += 1
    assert tried > 40


@every_net
def test_halo_bytes_are_those_of_whole_rows_of_all_tensors(kind: str) -> None:
    for graph, group, height, again in drawn(kind, range(20)):
        rows, slow = band_rows(Tables(graph), group, height, again), SlowBands(graph, group, height, again)
        assert rows.halo_bytes == sum(slow.counts(t)[0] * graph.tensors[t].row_bytes for t in slow.tensors)


@every_net
def test_every_row_that_leaves_is_made(kind: str) -> None:
    for graph, group, height, again in drawn(kind, range(20)):
        rows = band_rows(Tables(graph), group, height, again)
        for t in graph.writes(group):
            assert rows.tensors[t].distinct == graph.tensors[t].rows


@every_net
def test_one_band_of_everything_waits_for_nothing(kind: str) -> None:
    for graph, group, _, again in drawn(kind, range(20)):
        tables = Tables(graph)
        rows = band_rows(tables, group, tables.size[tables.clock(group)], again)
        assert rows.count == 1 and rows.halo_bytes == 0
        assert all(held.again == 0 for held in rows.tensors.values())


def two_convolutions(rows: int = 8) -> Graph:
    net = Net()
    net.conv(net.conv(net.input(2, rows, 4), 2), 2)
    return net.graph()


def test_between_two_bands_of_two_convolutions_four_rows_overlap() -> None:
    """3x3 over 3x3: two rows of the middle and two rows of the input are looked at by both bands."""
    rows = band_rows(Tables(two_convolutions()), 0b11, 4, frozenset())
    assert (rows.tensors[0].halo, rows.tensors[1].halo, rows.tensors[2].halo) == (2, 2, 0)
    assert [rows.tensors[t].most for t in (0, 1, 2)] == [6, 5, 4]
    assert [rows.tensors[t].tile for t in (0, 1, 2)] == [4, 3, 4]


def test_rows_made_again_are_those_of_the_overlap() -> None:
    again = band_rows(Tables(two_convolutions()), 0b11, 4, frozenset({1}))
    assert (again.tensors[1].halo, again.tensors[1].again, again.tensors[1].tile) == (0, 2, 5)
    assert again.tensors[0].halo == 4  # the input waits for the rows that are made again
    both = band_rows(Tables(two_convolutions()), 0b11, 4, frozenset({0, 1}))
    assert (both.tensors[0].halo, both.tensors[0].again, both.tensors[0].tile) == (0, 4, 6)


def test_the_clock_is_the_end_with_the_fewest_rows() -> None:
    net = Net()
    x = net.conv(net.input(2, 8, 8), 2)
    net.conv(x, 2)
    net.pool(x)
    net.pool(x)
    assert Tables(net.graph()).clock(0b1111) == 2


@pytest.mark.parametrize("rows", range(1, 40))
def test_heights_are_the_lowest_for_each_number_of_bands(rows: int) -> None:
    lowest = {}
    for height in range(rows, 0, -1):
        lowest[-(-rows // height)] = height
    assert list(distinct_heights(rows)) == list(lowest.values())
