"""Groups within a window that cost less than the prices of their ops, where groups may also run in bands.

In n bands a group moves its touch-once bytes and, in every band but the first, the weights for which there is
no room beside what it holds. What it holds is at least the most over its pairs of ops: so the loops that find the
cheapest group that fits find the cheapest one in bands, once for every range of n and way to treat shared rows.

A *window* is a convex set of ops. What a group moves, the part of it in each window moves at least: the weights of the
part; tensors made and read in the same window that the part cuts; and what the part moves again, by the floor.
So prices that the parts of groups pay in every window bound all plans. A tensor read by two windows counts in
that of its maker alone, a network input in the first. Parts need not be connected, but those that share no tensor that
counts pay for themselves: so readers of one tensor are neighbours here.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final, NamedTuple

import numpy as np

from fusecut.cost import BandTable, FloorTable
from fusecut.ir import Group, bits
from fusecut.problem import Problem
from fusecut.search._banded import Bands
from fusecut.search._cuts import Reach
from fusecut.search._net import Records
from fusecut.search._pricing import FIRST_PRICE, WEIGHTS_STAY, Effort, Priced, Pricing
from fusecut.search._root import I32, I64, Root, Tables, localise
from fusecut.search._tables import low_bit, ragged, shares_of, tables_of

_FAR: Final = 1 << 60
_LOOK: Final = Effort(1, 0, 1)
"""A cut and no growth: what a range of bands could bring at most."""

_LONG: Final = 200
_QUICK_CALLS, _CALLS = 10, 60
"""Ranges of bands looked at below a first op: where growth is short, and else."""

_STEPS_PER_CUT: Final = 50
"""A cut takes as long as so many steps, roughly."""

_BEGINS: Final = (0, 1, 2, 3, 5, 8, 12)
"""More bands than the first where ranges begin."""

_EITHER, _KEPT, _AGAIN = 0, 1, 2
"""What is done about rows that bands share."""


class _Range(NamedTuple):
    """Numbers of bands (from, up to, of those of the table), and what is done about shared rows."""

    begin: int
    end: int
    way: int

    def parts(self) -> list[_Range]:
        """What it is divided into; nothing if it is one number and one way."""
        if self.way == _EITHER and self.begin:
            return [self._replace(way=_KEPT), self._replace(way=_AGAIN)]
        middle = (self.begin + self.end) // 2
        return [self._replace(end=middle), self._replace(begin=middle)] if middle > self.begin else []


class BandPricing(Pricing):
    """Pricing of the parts of groups within a window. ``table`` is the floor of its ops; ``fits`` knows who may fit."""

    def __init__(self, problem: Problem, table: BandTable, fits: Reach, window: Group) -> None:
        self.graph = graph = problem.graph
        self.floor, self.capacity_bytes, self.window = problem.buffer_floor, problem.capacity_bytes, window
        self._fits = fits
        self.steps = 0
        nothing, none = [0] * len(graph.tensors), [0] * len(graph)
        self._weights = [op.weight_bytes for op in graph.ops]
        self.counts = self._counted()
        self._near = self._neighbours()
        self.tables = self._within(tables_of(graph, table.fits))
        self._band_tables = self._within(tables_of(graph, FloorTable(none, nothing, table.halos)))
        self._shares = np.array(shares_of(graph, FloorTable(self._weights, nothing, table.halos)), np.int64)
        self._place = {op: k for k, op in enumerate(bits(window))}
        self._profile = np.array(table.profile, np.int32)
        self._more = list(table.more)
        any_way, beside, again = (np.minimum(np.array(each, np.int64), _FAR).T for each in table[3:6])
        again[0] = any_way[0]
        self._figures = any_way, beside, again
        self._ways: dict[_Range, Bands] = {}
        starts = [k for k, more in enumerate(self._more) if more in _BEGINS]
        ends = [*starts[1:], len(self._more)]
        self._ranges = [_Range(begin, end, _EITHER) for begin, end in zip(starts, ends, strict=True)]
        self.roots = {op: here for op in bits(window) if len(here := self._within_reach(op)) > 1}
        self._prices: dict[tuple[int, _Range | None], int] = {}
        self.know({})

    def _counted(self) -> list[int]:
        """Tensors that count here: those made here, and network inputs that nobody reads before."""
        graph, window = self.graph, self.window
        first = low_bit(window)
        begins = [maker if maker >= 0 else low_bit(graph.consumer_mask[t]) for t, maker in enumerate(graph.producer)]
        return [t for t, op in enumerate(begins) if op >= first and window >> op & 1]

    def _neighbours(self) -> list[Group]:
        """Ops of the window next to each, readers of a tensor that counts among them."""
        graph, window = self.graph, self.window
        near = [(graph.preds[i] | graph.succs[i]) & window if window >> i & 1 else 0 for i in range(len(graph))]
        for t in self.counts:
            readers = graph.consumer_mask[t] & window
            for i in bits(readers):
                near[i] |= readers & ~(1 << i)
        return near

    def _within(self, tables: Tables) -> Tables:
        """The arrays of a window."""
        size = np.zeros_like(tables.size)
        size[self.counts] = tables.size[self.counts]
        readers_at, readers = ragged([bits(mask & self.window) for mask in self.graph.consumer_mask])
        near_at, near = ragged([bits(mask) for mask in self._near])
        return tables._replace(size=size, readers_at=readers_at, readers=readers, near_at=near_at, near=near)

    def _within_reach(self, first: int) -> I32:
        """Ops from ``first`` on that some group with it as its first op may hold, in bands or as they are."""
        least = np.minimum(self._figures[0].min(axis=0), self._figures[2].min(axis=0))
        needs = least[self._profile[self._place[first]]]
        apart = self.graph.descendants[first] & ~self._fits.mates(first)
        allowed = sum(
            1 << op
            for op, k in self._place.items()
            if op >= first and (needs[k] <= self.capacity_bytes or not apart >> op & 1)
        )
        seen = near = 1 << first
        while near:
            op = low_bit(near)
            near &= near - 1
            new = self._near[op] & allowed & ~seen
            seen, near = seen | new, near | new
        return np.array(list(bits(seen)), np.int32)

    def least_bytes(self, group: Group) -> int:
        """What a group with this part in the window moves there at least; a lone op moves nothing again."""
        graph = self.graph
        nbytes = sum(self._weights[i] for i in bits(group))
        for t in self.counts:
            maker, readers = graph.producer[t], graph.consumer_mask[t] & self.window
            size = graph.tensors[t].nbytes
            if maker >= 0 and group >> maker & 1:
                if readers & ~group or t in graph.output_set or not graph.consumer_mask[t]:
                    nbytes += size
            elif readers & group:
                nbytes += size
        if not group & (group - 1):
            return nbytes
        mark, seen = self.floor.start, 0
        for op in bits(group):
            mark, seen = self.floor.extend(seen, mark, op), seen | 1 << op
        return nbytes + self.floor.again_bytes(mark, self.capacity_bytes)

    def groups(self, first: int, prices: I64, limit_bytes: int, effort: Effort) -> Priced:
        """Groups with this first op and a reduced cost below the limit."""
        found, least, complete, limit = dict[Group, int](), limit_bytes, True, limit_bytes
        waiting, free = self._roots(first, prices)
        todo: list[tuple[int, int, _Range | None]] = [(-_FAR, -1, None)]
        for k, whole in enumerate(self._ranges):
            bound = self._search(first, free, whole, limit, _LOOK).least_bytes
            if bound < limit:
                heappush(todo, (bound, k, whole))
        calls, order = _QUICK_CALLS if effort.steps < _LONG else _CALLS, len(self._ranges)
        while todo and todo[0][0] < limit and calls:
            calls -= 1
            each = heappop(todo)[2]
            root = waiting if each is not None and each.way == _KEPT else free
            if each is None:
                root = localise(self.tables, self.roots[first], prices)
            priced = self._search(first, root, each, limit, effort)
            true = {group: self.least_bytes(group) - self._worth(group, prices) for _, group in priced.groups}
            found.update((group, cost) for group, cost in true.items() if cost < limit)
            parts = each.parts() if each is not None else []
            if priced.complete and len(true) < effort.groups:
                least = min([least, *true.values()])
            elif parts and (effort.steps >= _LONG or min(true.values(), default=0) >= 0):
                for part in parts:
                    root = waiting if part.way == _KEPT else free
                    bound = max(priced.least_bytes, self._search(first, root, part, limit, _LOOK).least_bytes)
                    if bound < limit:
                        order += 1
                        heappush(todo, (bound, order, part))
            else:
                least, complete = min(least, priced.least_bytes), complete and priced.complete
            if len(found) >= effort.groups:
                limit = min(limit, sorted(found.values())[effort.groups - 1])
        if todo and todo[0][0] < limit:
            least, complete = min(least, todo[0][0]), False
        ranked = sorted((cost, group) for group, cost in found.items())[: effort.groups]
        return Priced(min(least, ranked[0][0]) if ranked else least, ranked, complete)

    def _worth(self, group: Group, prices: I64) -> int:
        return int(prices[list(bits(group))].sum())

    def _search(self, first: int, root: Root, each: _Range | None, limit_bytes: int, effort: Effort) -> Priced:
        price = self._prices.get((first, each), FIRST_PRICE)
        priced, price = self._searched(first, root, self._bands(each), limit_bytes, effort, price)
        self._prices[first, each] = max(1, price)
        self.steps += _STEPS_PER_CUT
        return priced

    def _bands(self, each: _Range | None) -> Bands:
        if each is None:
            return WEIGHTS_STAY
        if each not in self._ways:
            any_way, beside, again = (figures[each.begin : each.end].min(axis=0) for figures in self._figures)
            pair = any_way, beside
            if each.way == _AGAIN or each.begin == 0:
                pair = again, again
            elif each.way == _EITHER:
                either = np.minimum(again, np.maximum(any_way, beside))
                pair = either, either
            self._ways[each] = Bands(self._more[each.begin], *(np.ascontiguousarray(figures) for figures in pair))
        return self._ways[each]

    def _roots(self, first: int, prices: I64) -> tuple[Root, Root]:
        """What is within reach, with rows that wait between bands and without."""
        here = self.roots[first]
        root = localise(self._band_tables, here, prices)
        places = [self._place[op] for op in here.tolist()]
        profile: I32 = np.ascontiguousarray(self._profile[np.ix_(places, places)])
        ops: Records = root.ops
        free_ops, free_pairs = ops.copy(), root.pairs.copy()
        ops["share"][:-1] = self._shares[here]
        free_ops["share"][:-1] = free_ops["weight"][:-1]
        free_pairs["nbytes"] = 0
        waiting = root._replace(profile=profile)
        return waiting, waiting._replace(ops=free_ops, pairs=free_pairs)
