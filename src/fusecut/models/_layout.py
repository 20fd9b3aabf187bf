"""Where on chip things lie that are not all there at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Need(NamedTuple):
    """So many bytes from one step to another, both included."""

    nbytes: int
    first: int
    last: int


def layout(needs: Sequence[Need]) -> tuple[list[int], int]:
    """(offset of each need, height): no two that are there together overlap.

    The largest first, each at the lowest place that is free all the time it is there, as in TFLite's
    greedy-by-size memory planner. The height is at least the peak and usually equal to it. O(n^2 log n).
    """
    offsets = [0] * len(needs)
    placed: list[int] = []
    height = 0
    for i in sorted(range(len(needs)), key=lambda i: (-needs[i].nbytes, i)):
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
