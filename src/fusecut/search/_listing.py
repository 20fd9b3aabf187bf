"""All groups with a given first op, where they are few: listed once, priced together from then on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.ir import Group, bits
from fusecut.search._growth import Grown, Growth


class _Branch(NamedTuple):
    grown: Grown
    banned: Group
    frontier: Group


def all_groups(growth: Growth, first: int, most: int) -> list[Grown] | None:
    """Every connected, convex group with this first op that the floor allows; None if they are more than ``most``."""
    single = growth.single(first)
    banned = (1 << first) - 1
    found = [single]
    stack = [_Branch(single, banned, growth.neighbours[first] & ~banned)]
    while stack:
        grown, banned, frontier = stack.pop()
        if not frontier:
            continue
        low = frontier & -frontier
        stack.append(_Branch(grown, banned | low, frontier ^ low))
        joining = growth.closure(grown, low.bit_length() - 1)
        larger = None if joining & banned else growth.with_op(grown, low.bit_length() - 1)
        if larger is None:
            continue
        found.append(larger)
        if len(found) > most:
            return None
        near = frontier
        for op in bits(joining):
            near |= growth.neighbours[op]
        stack.append(_Branch(larger, banned, near & ~larger.group & ~banned))
    return found


class Listing:
    """Groups in the order of their first ops, and their touch-once bytes; those of a first op are priced at once."""

    def __init__(self, ops: int, groups: list[Grown]) -> None:
        from scipy.sparse import csr_matrix

        self.groups = [grown.group for grown in groups]
        self.bytes = np.array([grown.dram_bytes for grown in groups], np.int64)
        self._ends = np.searchsorted([(group & -group).bit_length() - 1 for group in self.groups], range(ops + 1))
        ends = np.cumsum([0, *(group.bit_count() for group in self.groups)])
        columns = np.fromiter((op for group in self.groups for op in bits(group)), np.int32, int(ends[-1]))
        shape = (len(self.groups), ops)
        self._holds: Any = csr_matrix((np.ones(len(columns), np.int64), columns, ends), shape=shape)

    def reduced(
        self, first: int, prices: NDArray[np.int64], fines: dict[Group, int]
    ) -> tuple[list[Group], NDArray[np.int64]]:
        """The groups of a first op, and the reduced cost of each."""
        start, end = int(self._ends[first]), int(self._ends[first + 1])
        holds = self._holds[start:end]
        reduced: NDArray[np.int64] = self.bytes[start:end] - holds @ prices
        for ops, fine in fines.items() if start < end else ():
            member = np.zeros(len(prices), np.int64)
            member[list(bits(ops))] = 1
            reduced += fine * (holds @ member > 1)
        return self.groups[start:end], reduced
