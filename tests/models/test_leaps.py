"""Runs that leap over periods, against runs that serve every row."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from numpy.random import Generator

from fusecut.ir import Group, bits
from fusecut.models._bounds import RowBounds
from fusecut.models._events import RowMachine
from fusecut.models._program import Lowering, Pass, Program, lower
from fusecut.testing import Net, random_graph

SEEDS = 60


def programs(seed: int) -> Iterator[Program]:
    """Groups of a random network with many rows, under switches drawn at random, some at pixel granularity."""
    rng = np.random.default_rng(seed)
    rows, inputs = int(rng.choice([24, 37, 64, 96])), int(rng.integers(1, 3))
    graph, pixels = random_graph(rng, int(rng.integers(1, 9)), rows, inputs), bool(rng.random() < 0.15)
    maps = RowBounds(graph, pixels).maps
    for group in sorted({graph.everything, *(int(rng.integers(1, graph.everything + 1)) for _ in range(4))}):
        yield lower(graph, maps, some_pass(rng, group, graph.ops), Lowering(*(rng.random(3) < 0.3).tolist()), pixels)


def some_pass(rng: Generator, group: Group, ops: tuple[object, ...]) -> Pass:
    """Sometimes only the last op's rows leave, sometimes a tensor stays for a later pass."""
    made = [t for i in bits(group) for t in ops[i].outputs]  # type: ignore[attr-defined]
    leaving = 1 << group.bit_length() - 1 if rng.random() < 0.3 else None
    kept = (made[int(rng.integers(len(made)))],) if rng.random() < 0.2 else ()
    return Pass(group, leaving, kept=kept)


@cache
def runs() -> tuple[tuple[RowMachine, RowMachine, RowMachine], ...]:
    """(every row, whole periods leapt over, peaks only) of each program under both policies."""
    return tuple(
        (
            RowMachine(program, arrival, observer=lambda *_: None).run(),
            RowMachine(program, arrival).run(to_the_end=True),
            RowMachine(program, arrival).run(),
        )
        for seed in range(SEEDS)
        for program in programs(seed)
        for arrival in (True, False)
    )


def test_a_leap_changes_no_peak_of_a_ring_and_none_of_the_pool() -> None:
    assert len(runs()) > 500
    assert [(leapt.peaks, leapt.pooled) for _, leapt, _ in runs()] == [
        (full.peaks, full.pooled) for full, _, _ in runs()
    ]


def test_a_leap_arrives_where_every_row_is_made() -> None:
    assert [leapt.made for _, leapt, _ in runs()] == [full.made for full, _, _ in runs()]


def test_peaks_alone_are_those_of_the_full_run() -> None:
    assert [peaks.peaks for _, _, peaks in runs()] == [full.peaks for full, _, _ in runs()]


class Counting(RowMachine):
    """Counts the rows it makes."""

    count = 0

    def _fire(self, stream: int) -> None:
        self.count += 1
        super()._fire(stream)


@pytest.mark.parametrize("sinks", [1, 2])
def test_the_work_does_not_grow_with_the_rows(sinks: int) -> None:
    made = []
    for rows in (200, 2_000):
        net = Net("tall")
        first = net.conv(net.input(1, rows, 4), 1)
        last = net.conv(net.conv(first, 1, kernel=5), 1)
        graph = net.graph(*[first, last][2 - sinks :])
        machine = Counting(lower(graph, RowBounds(graph).maps, Pass(graph.everything)), True)
        machine.run(to_the_end=True)
        made.append(machine.count)
    assert made[0] == made[1] < 120
