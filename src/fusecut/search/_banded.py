"""What groups hold and move in bands: for the compiled loops of :mod:`fusecut.search._kernel`."""

from __future__ import annotations

from typing import Any, NamedTuple

from fusecut.jit import compiled
from fusecut.search._net import IN, Rows
from fusecut.search._root import I64, Root


class Bands(NamedTuple):
    """A way to run in bands: ``more`` beyond the first. Groups hold the bytes of the dearest pair of ops in them.

    Of pairs by profile: whatever waits between bands, and beside it. No profiles: weights are part of the floor.
    """

    more: int
    any_way: I64
    beside: I64


@compiled
def hold(root: Root, bands: Bands, rows: Rows, r: int, x: int, held: I64) -> None:
    """Pairs of an op that has joined with all others of the group, and its weights."""
    for y in range(root.profile.shape[0]):
        if rows[r, y] == IN and root.profile[x, y]:
            pair = root.profile[x, y]
            held[0], held[1] = max(held[0], bands.any_way[pair]), max(held[1], bands.beside[pair])
    held[2] += root.ops[x]["weight"]


@compiled
def on_chip(mark: int, held: I64) -> Any:
    """Bytes on chip at least, streamed weights left out; ``mark`` are those of the floor, or what waits."""
    return max(mark + held[1], held[0])


@compiled
def streamed(bands: Bands, mark: int, held: I64, capacity: int) -> Any:
    """Bytes of weights that pass again: those that have no room on chip."""
    return bands.more * max(0, held[2] + on_chip(mark, held) - capacity)
