"""Groups that cost less than the prices of their ops: all of them, or the best few with a bound of the rest.

Every connected, convex group is met once, with its first op (the one of least index) as the root:
it grows by one neighbour at a time, taken together with what lies between, or never taken. Branches
are cut off by the floor and by the minimum cuts of :mod:`fusecut.search._cut_network`; where a
branch goes on for long, a new cut is found for it, with its own decisions built in.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping, Sequence
from itertools import count
from typing import Final, NamedTuple

import numpy as np

from fusecut.ir import Group, bits
from fusecut.search._cut_network import CutBound, CutNetwork, Nodes, unit_bytes_of
from fusecut.search._growth import Grown, Growth
from fusecut.search._listing import Listing, all_groups

FEW: Final = 300
"""First ops with no more groups than this have them listed; the others are ``roots``, to be searched."""

_FIRST_PRICE = 16 << 12
_FIRST_STEPS, _LATER_STEPS = 8, 4
_SINK_ONLY: Nodes = 1 << 1


class Duals:
    """Prices of a relaxed plan: of every op, and a fine for each pair of ops from a set of three.

    A group pays the fine of a set once if it holds two or three of its ops.
    """

    def __init__(self, prices: Sequence[int], fines: Mapping[Group, int]) -> None:
        self.prices, self.fines = tuple(prices), dict(fines)
        self.vector = np.array(self.prices, np.int64)
        self.total = sum(self.prices) - sum(self.fines.values())
        self._sets: dict[int, list[tuple[Group, int]]] = {}
        for ops, fine in self.fines.items():
            for op in bits(ops):
                self._sets.setdefault(op, []).append((ops, fine))

    def lowered(self, op: int, nbytes: int) -> Duals:
        """The same with one price lower by so many bytes."""
        return Duals([price - nbytes * (i == op) for i, price in enumerate(self.prices)], self.fines)

    def fined(self, group: Group, op: int) -> int:
        """Fines that a group pays when an op joins it."""
        return sum(fine for ops, fine in self._sets.get(op, ()) if (ops & group).bit_count() == 1)

    def reduced(self, group: Group, nbytes: int) -> int:
        """The reduced cost of a group of so many bytes."""
        fines = sum(fine for ops, fine in self.fines.items() if (ops & group).bit_count() > 1)
        return nbytes + fines - sum(self.prices[op] for op in bits(group))


class Effort(NamedTuple):
    """What one root may take: cuts, and steps of growth for each of them; and how many groups it may return."""

    cuts: int
    steps: int
    groups: int


class Priced(NamedTuple):
    """Groups with a first op that cost less than asked, as (reduced cost, group), and what all others cost at least.

    ``least_bytes`` bounds the reduced cost of every group with that first op; ``complete`` says that
    no group cheaper than the limit is missing, or than the dearest one returned.
    """

    least_bytes: int
    groups: list[tuple[int, Group]]
    complete: bool


class _Branch(NamedTuple):
    """A group, what it may not take any more, and what it may take next; its bound and reduced cost."""

    bound: int
    grown: Grown
    banned: Group
    frontier: Group
    inside: Nodes
    outside: Nodes


class Pricing:
    """Finds groups of negative reduced cost: touch-once bytes and fines less the prices of the ops."""

    def __init__(self, growth: Growth, few: int = FEW) -> None:
        self.growth = growth
        listed: list[Grown] = []
        self.roots: dict[int, Grown] = {}
        for op in range(len(growth.graph)):
            single = growth.single(op)
            listable = all_groups(growth, op, few) if growth.fits(single.mark) else []
            if listable is None:
                self.roots[op] = single
            else:
                listed += listable
        self.listing = Listing(len(growth.graph), listed)
        self._allowed = {op: growth.within_reach(op) for op in self.roots}
        self._networks: dict[int, CutNetwork] = {}
        self._price = dict.fromkeys(self.roots, _FIRST_PRICE)
        self.unit_bytes = unit_bytes_of(growth)
        self.steps = 0

    def groups(
        self, first: int, duals: Duals, limit_bytes: int, effort: Effort, known: Container[Group] = ()
    ) -> Priced:
        """Groups with this first op and a reduced cost below the limit, the ``known`` ones left out."""
        search = _Search(self, duals, limit_bytes, effort, known)
        complete = search.run(first)
        self.steps += search.steps
        search.found.sort()
        least = min([limit_bytes, *(cost for cost, _ in search.found[:1]), *search.open_bytes()])
        return Priced(least, search.found, complete)

    def network(self, first: int) -> CutNetwork:
        """The network of everything within reach of a first op; made once."""
        known = self._networks.get(first)
        if known is None:
            known = CutNetwork(self.growth, self._allowed[first], 1 << first, self.unit_bytes)
            self._networks[first] = known
        return known

    def bound(self, first: int, duals: Duals, enough: int) -> CutBound:
        """The cut of a whole root; the price of buffer is remembered for the next time."""
        cut = self.network(first).solve(duals.vector, self._price[first], _FIRST_STEPS, enough)
        self._price[first] = cut.price
        return cut


class _Search:
    """One root of a pricing."""

    def __init__(
        self, pricing: Pricing, duals: Duals, limit_bytes: int, effort: Effort, known: Container[Group]
    ) -> None:
        self.pricing, self.growth, self.duals, self.known = pricing, pricing.growth, duals, known
        self.effort, self.limit_bytes, self.limit = effort, limit_bytes, self._units(limit_bytes)
        self.found: list[tuple[int, Group]] = []
        self.todo: list[tuple[int, int, _Branch, CutNetwork | None, int]] = []
        self.order = count()
        self.steps = 0

    def _units(self, nbytes: int) -> int:
        """The least units that are as much as so many bytes."""
        return -(-nbytes * 8 // self.pricing.unit_bytes)

    def open_bytes(self) -> list[int]:
        """What groups that were not looked at cost at least."""
        return [self.todo[0][0] * self.pricing.unit_bytes // 8] if self.todo else []

    def run(self, first: int) -> bool:
        """Whether nothing is left to be looked at."""
        growth = self.growth
        single = self.pricing.roots[first]
        banned = (1 << first) - 1
        reduced = single._replace(dram_bytes=single.dram_bytes - self.duals.prices[first])
        frontier = growth.neighbours[first] & self.pricing.network(first).allowed & ~banned
        cut = self.pricing.bound(first, self.duals, self.limit)
        self._begin(cut, _Branch(cut.value, reduced, banned, frontier, 0, 0))
        cuts = 1
        while self.todo and self.todo[0][0] < self.limit and cuts < self.effort.cuts:
            bound, _, branch, network, price = heapq.heappop(self.todo)
            if network is not None:
                cuts += 1
                self._narrow(bound, branch, network, price)
        if self.todo and self.todo[0][0] >= self.limit:
            self.todo.clear()
        return not self.todo

    def _narrow(self, least: int, branch: _Branch, network: CutNetwork, price: int) -> None:
        """Go on with a branch under a cut of its own, among the ops that still fit."""
        growth, grown = self.growth, branch.grown
        allowed = network.allowed & ~branch.banned | grown.group
        for op in bits(allowed & ~grown.group):
            if growth.closure(grown, op) & ~allowed or not growth.fits_with(grown, op):
                allowed ^= 1 << op
        allowed = growth.connected(allowed, grown.group)
        if branch.frontier & allowed:
            own = CutNetwork(growth, allowed, grown.group, network.unit_bytes)
            cut = own.solve(self.duals.vector, price, _LATER_STEPS, self.limit)
            self._begin(cut, branch._replace(bound=max(least, cut.value), frontier=branch.frontier & allowed))

    def _begin(self, cut: CutBound, branch: _Branch) -> None:
        if cut.value >= self.limit or not branch.frontier:
            return
        bound, inside = cut.begun(branch.grown.group)
        stack = [branch._replace(bound=max(bound, branch.bound), inside=inside, outside=_SINK_ONLY)]
        for _ in range(self.effort.steps):
            if not stack:
                return
            self.steps += 1
            stack += self._divide(cut, stack.pop())
        for left in stack:
            heapq.heappush(self.todo, (left.bound, next(self.order), left, cut.network, cut.price))

    def _divide(self, cut: CutBound, branch: _Branch) -> list[_Branch]:
        """A branch without and with one neighbour; the one that the cut suggests comes last, to be tried first."""
        if branch.bound >= self.limit:
            return []
        likely = branch.frontier & cut.likely
        low = likely & -likely if likely else branch.frontier & -branch.frontier
        op, left = low.bit_length() - 1, branch.frontier ^ low
        both = []
        if left:
            outside, bound = cut.dropped(op, branch.inside, branch.outside, branch.bound)
            if bound < self.limit:
                both.append(branch._replace(bound=bound, banned=branch.banned | low, frontier=left, outside=outside))
        grown = self._taken(cut, branch, op)
        if grown is not None:
            both.append(grown)
        return both if likely else both[::-1]

    def _taken(self, cut: CutBound, branch: _Branch, op: int) -> _Branch | None:
        """The branch with an op and all between; None if it does not fit, costs too much, or cannot grow."""
        growth, floor, graph = self.growth, self.growth.floor, self.growth.graph
        joining = growth.closure(branch.grown, op)
        if joining & branch.banned or joining & ~cut.network.allowed:
            return None
        group, mark, reduced, before, after = branch.grown
        duals = self.duals
        inside, bound, frontier = branch.inside, branch.bound, branch.frontier
        for new in bits(joining):
            mark = floor.extend(group, mark, new)
            if not growth.fits(mark):
                return None
            inside, bound = cut.taken(new, inside, branch.outside, bound)
            fine = duals.fined(group, new)
            bound += fine * 8 // self.pricing.unit_bytes
            if bound >= self.limit:
                return None
            reduced += growth.added_bytes(group, new) - duals.prices[new] + fine
            group |= 1 << new
            before |= graph.ancestors[new]
            after |= graph.descendants[new]
            frontier |= growth.neighbours[new]
        if reduced < self.limit_bytes:
            self._keep(reduced, group)
        frontier &= cut.network.allowed & ~group & ~branch.banned
        grown = Grown(group, mark, reduced, before, after)
        return _Branch(bound, grown, branch.banned, frontier, inside, branch.outside) if frontier else None

    def _keep(self, reduced: int, group: Group) -> None:
        if group in self.known:
            return
        self.found.append((reduced, group))
        if len(self.found) >= self.effort.groups:
            self.found.sort()
            del self.found[self.effort.groups :]
            self.limit_bytes = min(self.limit_bytes, self.found[-1][0])
            self.limit = self._units(self.limit_bytes)
