"""Addresses: nothing overlaps what is there at the same time, and little room is lost."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from numpy.random import Generator

from fusecut.models._layout import Need, layout


def drawn(rng: Generator, most: int = 12) -> list[Need]:
    needs = []
    for _ in range(int(rng.integers(1, most))):
        first = int(rng.integers(0, 6))
        needs.append(Need(int(rng.integers(0, 40)), first, first + int(rng.integers(0, 4))))
    return needs


def peak(needs: list[Need]) -> int:
    """Bytes in the fullest step."""
    return max(sum(n.nbytes for n in needs if n.first <= step <= n.last) for step in range(12))


def lowest(needs: list[Need]) -> int:
    """The least height of any layout: first fit in some order is optimal, so all orders are tried."""
    best = sum(n.nbytes for n in needs)
    for order in permutations(range(len(needs))):
        tops: list[tuple[int, int, Need]] = []
        for i in order:
            need, at = needs[i], 0
            for low, high, other in sorted(tops):
                if other.first <= need.last and need.first <= other.last and low < at + need.nbytes and at < high:
                    at = high
            tops.append((at, at + need.nbytes, need))
        best = min(best, max(high for _, high, _ in tops))
    return best


@pytest.mark.parametrize("seed", range(100))
def test_what_is_there_at_the_same_time_does_not_overlap(seed: int) -> None:
    needs = drawn(np.random.default_rng(seed))
    offsets, height = layout(needs)
    for (a, p), (b, q) in combinations(zip(needs, offsets, strict=True), 2):
        if a.first <= b.last and b.first <= a.last:
            assert p + a.nbytes <= q or q + b.nbytes <= p
    assert height == max(p + n.nbytes for n, p in zip(needs, offsets, strict=True))


def test_the_height_is_never_below_the_peak_and_seldom_above() -> None:
    at_peak = 0
    for seed in range(200):
        needs = drawn(np.random.default_rng(seed))
        height = layout(needs)[1]
        assert height >= peak(needs)
        at_peak += height == peak(needs)
    assert at_peak >= 120


def test_the_height_is_within_a_quarter_of_the_best_of_all_layouts() -> None:
    for seed in range(60):
        needs = drawn(np.random.default_rng(seed), most=6)
        assert lowest(needs) <= layout(needs)[1] <= 1.25 * lowest(needs)


def test_a_large_thing_lies_at_the_bottom_and_small_ones_share_what_is_above_it() -> None:
    needs = [Need(3, 0, 0), Need(10, 0, 2), Need(4, 2, 2)]
    assert layout(needs) == ([10, 0, 10], 14)


def test_a_gap_below_something_that_stays_is_used() -> None:
    """The 9 leave after step 0; the 8 lie above them until step 1, where the 5 come in below."""
    needs = [Need(9, 0, 0), Need(8, 0, 1), Need(5, 1, 1)]
    assert layout(needs) == ([0, 9, 0], 17)


def test_nothing_needs_nothing() -> None:
    assert layout([]) == ([], 0)
