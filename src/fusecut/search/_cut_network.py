"""A bound of every group between two sets of ops, by one minimum cut, and what each decision adds to it.

For a price y(i) of every op and a price l of a byte of buffer, a group G with share(G) <= floor(G) <=
capacity satisfies::

    dram(G) - y(G)  >=  f(G) = dram(G) - y(G) + l * (share(G) - capacity)

dram(G) is a cut function: a tensor is read if a reader is inside and the maker is not, and written if
the maker is inside and a reader is not; weights, prices and shares are sums over ops. So the least
f(G) over all sets between two given ones, connected, convex and fitting or not, is a minimum cut
(Picard & Ratliff, Networks 1975, for functions of this form). The maximum flow that proves it leaves
f(G) = minimum + residual capacities that G cuts, all of them >= 0: every decision about an op adds
what it cuts for certain, in O(degree), and the sum stays a lower bound of f.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.ir import Group, bits
from fusecut.search._growth import Growth

_SOURCE, _SINK, _FIRST = 0, 1, 2
_PRICE_BITS: Final = 12
_ENDLESS: Final = 1 << 28
_CERTAIN: Final = 1 << 29
_UNIT_BITS: Final = 22
_MOST: Final = 1 << 30
"""Capacities stay below this, so that sums of them fit 32 bits; cutting one down only lowers the bound."""

Nodes = int
"""A set of nodes of the network, ops and helpers, as a bit mask."""


class CutNetwork:
    """Sets of ops that hold ``group`` and lie within ``allowed``.

    Costs are counted in units of ``unit_bytes`` / 8, rounded down, so that they fit 32-bit flows.
    """

    def __init__(self, growth: Growth, allowed: Group, group: Group, unit_bytes: int) -> None:
        self.growth, self.allowed, self.unit_bytes = growth, allowed, unit_bytes
        graph = growth.graph
        self.ops = list(bits(allowed))
        self.place = {op: k for k, op in enumerate(self.ops, _FIRST)}
        self.nodes = _FIRST + len(self.ops)
        self.pulled: dict[int, list[int]] = {}
        self.pushed: dict[int, list[int]] = {}
        self._fixed = [graph.ops[op].weight_bytes for op in self.ops]
        self._arcs: list[tuple[int, int, int]] = []
        touched = {t for op in self.ops for t in (*graph.ops[op].inputs, *graph.ops[op].outputs)}
        for t in sorted(touched):
            self._tensor(t)
        self._fixed_bytes = np.array(self._fixed, np.int64)
        self._shares = np.array([growth.shares[op] for op in self.ops], np.int64)
        self._index = np.array(self.ops)
        self._held = np.array([self.place[op] - _FIRST for op in bits(group)])
        self._lay_out()

    def _lay_out(self) -> None:
        """The flow network with an arc back for every arc, so that all flows have one pattern."""
        from scipy.sparse import coo_matrix

        places = range(_FIRST, _FIRST + len(self.ops))
        ends = [(tail, head) for tail, head, _ in self._arcs]
        ends += [(_SOURCE, place) for place in places] + [(place, _SINK) for place in places]
        pattern = {end: None for tail, head in ends for end in ((tail, head), (head, tail))}
        order = sorted(pattern)
        slot = {end: k for k, end in enumerate(order)}
        self.tails, self.heads = ([end[k] for end in order] for k in (0, 1))
        shape = (self.nodes, self.nodes)
        self._network = coo_matrix((np.ones(len(order), np.int32), (self.tails, self.heads)), shape=shape).tocsr()
        self._base = np.zeros(len(order), np.int64)
        for tail, head, nbytes in self._arcs:
            self._base[slot[tail, head]] += min(nbytes * 8 // self.unit_bytes, _ENDLESS)
        self._gain_slots = np.array([slot[_SOURCE, place] for place in places])
        self._loss_slots = np.array([slot[place, _SINK] for place in places])

    def _tensor(self, t: int) -> None:
        """Arcs of the price of reading and of writing one tensor."""
        growth, graph, place = self.growth, self.growth.graph, self.place
        size, maker, readers = graph.tensors[t].nbytes, graph.producer[t], graph.consumer_mask[t]
        inside = maker >= 0 and bool(self.allowed >> maker & 1)
        here = [place[r] for r in bits(readers & self.allowed)]
        if len(here) == 1 and not inside:
            self._fixed[here[0] - _FIRST] += size
        elif here:
            self._read(here, place[maker] if inside else _SINK, size)
        if inside and (readers & ~self.allowed or growth.stays(t)):
            self._fixed[place[maker] - _FIRST] += size
        elif inside:
            self._written(here, place[maker], size)

    def _read(self, readers: list[int], maker: int, size: int) -> None:
        if len(readers) == 1:
            self._arcs.append((readers[0], maker, size))
            return
        helper = self._helper()
        self._arcs.append((helper, maker, size))
        for reader in readers:
            self._arcs.append((reader, helper, self.unit_bytes * _ENDLESS))
            self.pulled.setdefault(reader, []).append(helper)

    def _written(self, readers: list[int], maker: int, size: int) -> None:
        if len(readers) == 1:
            self._arcs.append((maker, readers[0], size))
            return
        helper = self._helper()
        self._arcs.append((maker, helper, size))
        for reader in readers:
            self._arcs.append((helper, reader, self.unit_bytes * _ENDLESS))
            self.pushed.setdefault(reader, []).append(helper)

    def _helper(self) -> int:
        self.nodes += 1
        return self.nodes - 1

    def solve(self, prices: NDArray[np.int64], price: int, steps: int, enough: int) -> CutBound:
        """The best bound over prices of a byte of buffer, from ``price`` on, in ``steps`` flows at most.

        The bound is concave in the price: it rises while the best set needs more than the capacity.
        Stops at a bound of ``enough``.
        """
        best: CutBound | None = None
        low, high = 0, None
        for _ in range(steps):
            cut = self._cut(prices, price)
            if best is None or cut.value > best.value:
                best = cut
            if best.value >= enough:
                break
            if sum(self.growth.shares[op] for op in bits(cut.likely)) > self.growth.capacity:
                low, price = price, (price * 2 if high is None else (price + high) // 2)
            else:
                high, price = price, (price + low) // 2
            if price in (low, high):
                break
        if best is None:
            raise AssertionError("at least one step")
        return best

    def _cut(self, prices: NDArray[np.int64], price: int) -> CutBound:
        from scipy.sparse.csgraph import maximum_flow

        worth = (self._fixed_bytes - prices[self._index]) * 8 // self.unit_bytes
        worth += price * self._shares >> _PRICE_BITS
        base = int(worth[self._held].sum())
        worth[self._held] = 0
        gain = np.maximum(-worth, 0)
        base -= int(gain.sum())
        gain[self._held] = _CERTAIN
        capacities = self._base.copy()
        capacities[self._gain_slots] += gain
        capacities[self._loss_slots] += np.maximum(worth, 0)
        self._network.data = np.minimum(capacities, _MOST).astype(np.int32)
        flow = maximum_flow(self._network, _SOURCE, _SINK)
        value = base + int(flow.flow_value) + (-(price * self.growth.capacity) >> _PRICE_BITS)
        return CutBound(self, value, price, (self._network.data - flow.flow.data).tolist())


class CutBound:
    """The least f over all sets of a network, at one price of buffer, and the residual capacities.

    ``likely`` is a set that reaches it. ``taken`` and ``dropped`` give the nodes that are certainly
    inside or outside after a decision, and the bound after it.
    """

    def __init__(self, network: CutNetwork, value: int, price: int, residual: list[int]) -> None:
        self.network, self.value, self.price, self._residual = network, value, price, residual
        self._ahead_of: list[Nodes] = [0] * network.nodes
        for tail, head, left in zip(network.tails, network.heads, residual, strict=True):
            if left:
                self._ahead_of[tail] |= 1 << head
        self.likely = self._reached()

    def _reached(self) -> Group:
        """Ops on the source's side of the cut."""
        seen = frontier = 1 << _SOURCE
        while frontier:
            near = 0
            for node in bits(frontier):
                near |= self._ahead_of[node]
            frontier = near & ~seen
            seen |= frontier
        return sum(1 << op for op, place in self.network.place.items() if seen >> place & 1)

    def _prepare(self) -> None:
        count, network = self.network.nodes, self.network
        self._ahead: list[dict[int, int]] = [{} for _ in range(count)]
        self._behind: list[dict[int, int]] = [{} for _ in range(count)]
        for tail, head, left in zip(network.tails, network.heads, self._residual, strict=True):
            if left:
                self._ahead[tail][head] = left
                self._behind[head][tail] = left
        self._behind_of = [sum(1 << n for n in arcs) for arcs in self._behind]

    def begun(self, group: Group) -> tuple[int, Nodes]:
        """(bound, nodes certainly inside) of all sets that hold a group; the sink is outside, the source inside."""
        self._prepare()
        inside, bound = 1 << _SOURCE, self.value
        for op in bits(group):
            inside, bound = self.taken(op, inside, 1 << _SINK, bound)
        return bound, inside

    def taken(self, op: int, inside: Nodes, outside: Nodes, bound: int) -> tuple[Nodes, int]:
        """Nodes inside, and the bound, once an op is in the group."""
        place = self.network.place[op]
        for node in (place, *self.network.pulled.get(place, ())):
            if not inside >> node & 1:
                cut, inside = self._ahead_of[node] & outside, inside | 1 << node
                if cut:
                    ahead = self._ahead[node]
                    bound += sum(ahead[n] for n in bits(cut))
        return inside, bound

    def dropped(self, op: int, inside: Nodes, outside: Nodes, bound: int) -> tuple[Nodes, int]:
        """Nodes outside, and the bound, once an op is known not to be in the group."""
        place = self.network.place[op]
        for node in (place, *self.network.pushed.get(place, ())):
            if not outside >> node & 1:
                cut, outside = self._behind_of[node] & inside, outside | 1 << node
                if cut:
                    behind = self._behind[node]
                    bound += sum(behind[n] for n in bits(cut))
        return outside, bound


def unit_bytes_of(growth: Growth) -> int:
    """Bytes of a unit, a power of two: sums over any network stay far below 31 bits."""
    graph = growth.graph
    tensors = [sum(graph.tensors[t].nbytes for t in (*op.inputs, *op.outputs)) for op in graph.ops]
    most = max(moved + op.weight_bytes for moved, op in zip(tensors, graph.ops, strict=True))
    return 1 << max(0, (most * 8).bit_length() - _UNIT_BITS)
