"""Where on chip things lie that are not all there at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

_RETRIES: Final = 12
"""Layouts tried beyond the simple ones."""


class Need(NamedTuple):
    """So many bytes from one step to another, both included."""

    nbytes: int
    first: int
    last: int


def layout(needs: Sequence[Need]) -> tuple[list[int], int]:
    """(offset of each need, height): no two that are there together overlap.

    Each at the lowest place that is free all the time it is there: the largest first, as in TFLite's
    greedy-by-size memory planner; or those there the longest first; or in the order in which they come.
    The lowest of these layouts, the first of equally low ones. While it is higher than the peak, what
    ends at the top is placed before everything else instead, :data:`_RETRIES` times, and the lowest
    layout counts. The height is at least the peak and nearly always equal to it. O(n^2 log n).
    """
    every = range(len(needs))
    peak = _peak(needs)
    best = _placed(needs, sorted(every, key=lambda i: (-needs[i].nbytes, i)))
    if best[1] == peak:
        return best
    orders = [
        sorted(every, key=lambda i: (needs[i].first - needs[i].last, -needs[i].nbytes, i)),
        sorted(every, key=lambda i: (needs[i].first, -needs[i].nbytes, i)),
    ]
    for order in orders:
        best = min(best, _placed(needs, order), key=lambda tried: tried[1])
    order = sorted(every, key=lambda i: (-needs[i].nbytes, i))
    tried = _placed(needs, order)
    for _ in range(_RETRIES):
        if best[1] == peak:
            break
        top = [i for i in order if tried[0][i] + needs[i].nbytes == tried[1]]
        order = [*top, *(i for i in order if i not in top)]
        tried = _placed(needs, order)
        best = min(best, tried, key=lambda tried: tried[1])
    return best


def _peak(needs: Sequence[Need]) -> int:
    """Bytes in the fullest step."""
    change: dict[int, int] = {}
    for need in needs:
        change[need.first] = change.get(need.first, 0) + need.nbytes
        change[need.last + 1] = change.get(need.last + 1, 0) - need.nbytes
    load = peak = 0
    for step in sorted(change):
        load += change[step]
        peak = max(peak, load)
    return peak


def _placed(needs: Sequence[Need], order: Sequence[int]) -> tuple[list[int], int]:
    """Offsets and height if needs are placed in an order, each as low as it can be."""
    offsets = [0] * len(needs)
    placed: list[int] = []
    height = 0
    for i in order:
        need = needs[i]
        others = sorted(
            (offsets[j], offsets[j] + needs[j].nbytes)
            for j in placed
            if needs[j].first <= need.last and need.first <= needs[j].last
        )
        at = 0
        for begin, end in others:
            if begin - at >= need.nbytes:
                break
            at = max(at, end)
        offsets[i] = at
        placed.append(i)
        height = max(height, at + need.nbytes)
    return offsets, height
