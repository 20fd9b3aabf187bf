"""Groups that cost less than the prices of their ops: all of them, or the best few with a bound of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np

from fusecut.ir import Group, bits
from fusecut.problem import Problem
from fusecut.search._banded import Bands
from fusecut.search._cuts import Reach
from fusecut.search._kernel import search
from fusecut.search._known import reduced
from fusecut.search._net import IN, PRICE
from fusecut.search._root import I32, I64, Root, Tables, localise
from fusecut.search._tables import known_groups, low_bit, packed, tables_of, within_reach

FIRST_PRICE: Final = 16 * PRICE

WEIGHTS_STAY: Final = Bands(0, np.zeros(1, np.int64), np.zeros(1, np.int64))
"""No bands: the floor counts weights."""


class Effort(NamedTuple):
    """What one root may take: cuts, and steps of growth for each of them; and how many groups it may return."""

    cuts: int
    steps: int
    groups: int


class Priced(NamedTuple):
    """Groups with a first op that cost less than asked, as (reduced cost, group), and what all others cost at least.

    ``least_bytes`` bounds the reduced cost of every group with that first op, known ones and itself alone left out;
    ``complete`` says that no group cheaper than the limit is missing, or than the dearest one returned.
    """

    least_bytes: int
    groups: list[tuple[int, Group]]
    complete: bool


class Pricing:
    """Finds groups of negative reduced cost: touch-once bytes less the prices of the ops.

    ``roots`` are the first ops that groups may begin with, each with the ops within its reach.
    """

    def __init__(self, problem: Problem, reach: Reach) -> None:
        graph, floor = problem.graph, getattr(reach.floor, "table", lambda _: None)(problem.graph)
        if floor is None:
            raise AssertionError("a floor that is no table")
        self.graph = graph
        self.tables: Tables = tables_of(graph, floor)
        self.capacity_bytes = problem.capacity_bytes
        shares = self.tables.shares.tolist()
        self.roots: dict[int, I32] = {}
        for op in range(len(graph)):
            near = within_reach(graph, reach, shares, op)
            if near & (near - 1):
                self.roots[op] = np.array(list(bits(near)), np.int32)
        self._price = dict.fromkeys(self.roots, FIRST_PRICE)
        self.steps = 0
        self.know({})

    def least_bytes(self, group: Group) -> int:
        """What a group moves at least."""
        return self.graph.touch_once_bytes(group)

    def know(self, bytes_of: Mapping[Group, int], refused: Iterable[Group] = ()) -> None:
        """Leave these groups out from now on: some of known costs, others that do not run."""
        listed = sorted(bytes_of, key=low_bit)
        self._known = known_groups([*listed, *refused], len(self.graph))
        self._bytes = np.array([bytes_of[group] for group in listed], np.int64)
        self._begins = np.searchsorted(np.array([low_bit(group) for group in listed]), np.arange(len(self.graph) + 1))

    def least_known(self, first: int, prices: I64) -> int:
        """The least reduced cost of the known groups with this first op; 0 if that is positive."""
        begin, end = int(self._begins[first]), int(self._begins[first + 1])
        if begin == end:
            return 0
        masks, nbytes = self._known.masks[begin:end], self._bytes[begin:end]
        return min(0, int(reduced(masks, nbytes, prices).min()))

    def reduced(self, bytes_of: Mapping[Group, int], prices: I64) -> list[tuple[int, Group]]:
        """Groups of so many bytes with their reduced costs."""
        masks, nbytes = packed(list(bytes_of), len(self.graph)), np.array(list(bytes_of.values()), np.int64)
        costs = reduced(masks, nbytes, prices)
        return list(zip(costs.tolist(), bytes_of, strict=True))

    def groups(self, first: int, prices: I64, limit_bytes: int, effort: Effort) -> Priced:
        """Groups with this first op and a reduced cost below the limit."""
        root = localise(self.tables, self.roots[first], prices)
        priced, self._price[first] = self._searched(first, root, WEIGHTS_STAY, limit_bytes, effort, self._price[first])
        return priced

    def _searched(
        self, first: int, root: Root, bands: Bands, limit_bytes: int, effort: Effort, price: int
    ) -> tuple[Priced, int]:
        """What the compiled search finds, the cheapest groups first, and the price of buffer that it ended with."""
        least, complete, steps, price, costs, states = search(
            root, self.capacity_bytes, bands, self._known, limit_bytes, *effort, price
        )
        self.steps += steps
        inside = [self.roots[first][state == IN].tolist() for state in states]
        found = sorted((cost, sum(1 << op for op in ops)) for cost, ops in zip(costs.tolist(), inside, strict=True))
        return Priced(least, found, complete), price
