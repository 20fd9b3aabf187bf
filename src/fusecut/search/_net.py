"""A bound of every group between two sets of ops, by one minimum cut, and what each decision adds to it.

For a price y(i) of every op and a price l of a byte of buffer, a group G with share(G) <= floor(G) <=
capacity satisfies::

    dram(G) - y(G)  >=  f(G) = dram(G) - y(G) + l * (share(G) - capacity)

dram(G) is a cut function: a tensor is read if a reader is inside and the maker is not, and written if
the maker is inside and a reader is not; weights, prices and shares are sums over ops. So the least
f(G) over all sets between two given ones, connected, convex and fitting or not, is a minimum cut
(Picard & Ratliff, Networks 1975, for functions of this form). The maximum flow that proves it leaves
f(G) = minimum + residual capacities that G cuts, all of them >= 0: every decision about an op adds
what it cuts for certain, in O(degree), and the sum stays a lower bound of f. Costs are counted in
1/4096 of a byte, exactly, in 64 bits.

Loops over arrays of records, compiled by :mod:`fusecut.jit`; the ops of a root count from 0 in the order of the
network. An op is FREE, IN the group or OUT for good; so is a node of the network that follows from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fusecut.jit import compiled, fingerprint

Records = NDArray[np.void]
Rows = NDArray[np.int8]

FREE: Final = 0
IN: Final = 1
OUT: Final = 2
SOURCE: Final = 0
SINK: Final = 1
FIRST: Final = 2
PRICE: Final = 4096
SOURCES: Final = fingerprint(Path(__file__), "_net.py", "_root.py", "_known.py", "_banded.py", "_kernel.py")
"""A default of what is kept compiled, so that it is compiled anew when any of these files has changed."""

ENDLESS: Final = 1 << 54
CERTAIN: Final = 1 << 55

_Fields = list[tuple[str, Any]]


def _record(narrow: str, wide: str) -> np.dtype[np.void]:
    """A record of 32-bit and 64-bit fields."""
    fields: _Fields = [(name, np.int32) for name in narrow.split()] + [(name, np.int64) for name in wide.split()]
    return np.dtype(fields, align=True)


OP: Final = _record("op touch near", "weight fixed share price own")
"""An op of a root: where its lists begin; ``own`` is what it moves whatever else is in the present network."""

TENSOR: Final = _record("maker readers pairs many always", "size base")
"""A tensor: its maker, where its lists begin, how many readers; written whenever made if ``always``."""

PAIR: Final = _record("a b", "nbytes")
"""Two ops, or one twice, and bytes that go with both."""

ARC: Final = _record("head following", "base left endless")
"""Arcs 2 k and 2 k + 1 are each other's reverse; those that leave a node are a chain."""

NODE: Final = _record("first level current queue path", "")
"""A node: its chain of arcs, its distance from the source; and room for lists of nodes and arcs."""


@compiled
def arc(nodes: Records, arcs: Records, k: int, tail: int, head: int, capacity: int) -> int:
    """Enter an arc and its reverse at k; where the next one goes."""
    arcs[k]["head"] = head
    arcs[k]["following"] = nodes[tail]["first"]
    arcs[k]["base"] = capacity
    arcs[k]["endless"] = capacity == ENDLESS
    nodes[tail]["first"] = k
    arcs[k + 1]["head"] = tail
    arcs[k + 1]["following"] = nodes[head]["first"]
    arcs[k + 1]["base"] = 0
    arcs[k + 1]["endless"] = 0
    nodes[head]["first"] = k + 1
    return k + 2


@compiled
def lay_out(
    ops: Records, tensors: Records, readers: NDArray[np.int32], row: Rows, nodes: Records, arcs: Records
) -> tuple[int, int]:
    """The network of all ops that are not OUT: how many nodes and arcs it has.

    Arcs 4 k lead from the source to op k, 4 k + 2 from it to the sink; those of tensors come after.
    """
    many, k = len(ops) - 1, 0
    count = FIRST + many
    for node in range(len(nodes)):
        nodes[node]["first"] = -1
    for op in range(many):
        k = arc(nodes, arcs, k, SOURCE, FIRST + op, 0)
        k = arc(nodes, arcs, k, FIRST + op, SINK, 0)
        ops[op]["own"] = ops[op]["weight"]
    for t in range(len(tensors) - 1):
        maker, size, always = tensors[t]["maker"], tensors[t]["size"], tensors[t]["always"]
        inside = maker >= 0 and row[maker] != OUT
        begin, end = tensors[t]["readers"], tensors[t + 1]["readers"]
        here, last = 0, -1
        for i in range(begin, end):
            if row[readers[i]] == OUT:
                always = 1
            else:
                here, last = here + 1, readers[i]
        if here == 1 and not inside:
            ops[last]["own"] += size
        elif here:
            to = FIRST + maker if inside else SINK
            count, k = tensor(nodes, arcs, count, k, readers[begin:end], row, to, here, size, True)
        if inside and always:
            ops[maker]["own"] += size
        elif inside and here:
            count, k = tensor(nodes, arcs, count, k, readers[begin:end], row, FIRST + maker, here, size, False)
    return count, k


@compiled
def tensor(
    nodes: Records,
    arcs: Records,
    count: int,
    k: int,
    readers: NDArray[np.int32],
    row: Rows,
    maker: int,
    here: int,
    size: int,
    reading: bool,
) -> tuple[int, int]:
    """Arcs of the price of reading a tensor (a reader inside, the maker not) or of writing it (the other way)."""
    middle, capacity = maker, size * PRICE
    if here > 1:
        middle, capacity, count = count, ENDLESS, count + 1
        tail, head = (middle, maker) if reading else (maker, middle)
        k = arc(nodes, arcs, k, tail, head, size * PRICE)
    for reader in readers:
        if row[reader] != OUT and reading:
            k = arc(nodes, arcs, k, FIRST + reader, middle, capacity)
        elif row[reader] != OUT:
            k = arc(nodes, arcs, k, middle, FIRST + reader, capacity)
    return count, k


@compiled
def flow(nodes: Records, arcs: Records, count: int, total_arcs: int) -> int:
    """Maximum flow from source to sink (Dinic 1970); ``left`` are the residual capacities, ``level`` >= 0 its side."""
    for k in range(total_arcs):
        arcs[k]["left"] = arcs[k]["base"]
    total = 0
    while reaches(nodes, arcs, count):
        total += blocking(nodes, arcs, count)
    return total


@compiled
def reaches(nodes: Records, arcs: Records, count: int) -> bool:
    """Distance of every node from the source along arcs with capacity left, -1 where there is no way; whether the
    sink has one."""
    for node in range(count):
        nodes[node]["level"] = -1
        nodes[node]["current"] = nodes[node]["first"]
    nodes[SOURCE]["level"] = 0
    nodes[0]["queue"] = SOURCE
    begin, end = 0, 1
    while begin < end:
        node = nodes[begin]["queue"]
        begin += 1
        k = nodes[node]["first"]
        while k >= 0:
            head = arcs[k]["head"]
            if arcs[k]["left"] > 0 and nodes[head]["level"] < 0:
                nodes[head]["level"] = nodes[node]["level"] + 1
                nodes[end]["queue"] = head
                end += 1
            k = arcs[k]["following"]
    return bool(nodes[SINK]["level"] >= 0)


@compiled
def blocking(nodes: Records, arcs: Records, count: int) -> int:
    """Flow along shortest ways until none is left."""
    node, depth, total = SOURCE, 0, 0
    while True:
        if node == SINK:
            most = arcs[nodes[0]["path"]]["left"]
            for i in range(1, depth):
                most = min(most, arcs[nodes[i]["path"]]["left"])
            total += most
            for i in range(depth - 1, -1, -1):
                k = nodes[i]["path"]
                arcs[k]["left"] -= most
                arcs[k ^ 1]["left"] += most
                if not arcs[k]["left"]:
                    depth = i
            node = arcs[nodes[depth]["path"] ^ 1]["head"]
            continue
        k, below = nodes[node]["current"], nodes[node]["level"] + 1
        while k >= 0 and not (arcs[k]["left"] > 0 and nodes[arcs[k]["head"]]["level"] == below):
            k = arcs[k]["following"]
        nodes[node]["current"] = k
        if k >= 0:
            nodes[depth]["path"] = k
            depth += 1
            node = arcs[k]["head"]
        elif depth == 0:
            return total
        else:
            nodes[node]["level"] = -1
            depth -= 1
            node = arcs[nodes[depth]["path"] ^ 1]["head"]


@compiled
def cut(
    ops: Records, row: Rows, nodes: Records, arcs: Records, count: int, total_arcs: int, capacity: int, price: int
) -> tuple[int, int]:
    """(the least f at a price of a byte of buffer, in 1/4096 byte; bytes that the best set needs beyond the capacity).

    Residual capacities stay in the network.
    """
    value = -price * capacity
    for k in range(len(ops) - 1):
        gain, loss = 0, 0
        if row[k] != OUT:
            worth = (ops[k]["own"] - ops[k]["price"]) * PRICE + price * ops[k]["share"]
            if row[k] == IN:
                value += worth
                gain = CERTAIN
            elif worth < 0:
                value += worth
                gain = -worth
            else:
                loss = worth
        arcs[4 * k]["base"], arcs[4 * k + 2]["base"] = gain, loss
    value += flow(nodes, arcs, count, total_arcs)
    over = -capacity
    for k in range(len(ops) - 1):
        if nodes[FIRST + k]["level"] >= 0:
            over += ops[k]["share"]
    return value, over


@compiled
def best_cut(
    ops: Records,
    row: Rows,
    nodes: Records,
    arcs: Records,
    count: int,
    total_arcs: int,
    capacity: int,
    price: int,
    flows: int,
    enough: int,
    most_price: int = ENDLESS,
) -> tuple[int, int]:
    """(the best bound over prices of buffer up to a most, its price): it is concave in the price.

    It rises while the best set needs more than the capacity. The next price looked at is where the lines of two such
    sets meet whose slopes are of different signs, or twice the price while there is none that falls.
    """
    best, best_price, looked = -ENDLESS, price, -1
    low, low_value, low_over = 0, 0, 0
    high, high_value, high_over = -1, 0, 0
    for _ in range(flows):
        value, over = cut(ops, row, nodes, arcs, count, total_arcs, capacity, price)
        looked = price
        if value > best:
            best, best_price = value, price
        if best >= enough:
            break
        if over > 0:
            low, low_value, low_over = price, value, over
        else:
            high, high_value, high_over = price, value, over
        if high < 0:
            price = min(2 * price, most_price)
        elif low_over <= 0:
            price = high // 2
        else:
            meet = (low_value - low_over * low - high_value + high_over * high) // (high_over - low_over)
            price = min(max(meet, low + (high - low) // 8), high - (high - low) // 8)
        if price in (low, high):
            break
    if looked != best_price:
        cut(ops, row, nodes, arcs, count, total_arcs, capacity, best_price)
    return best, best_price


@compiled
def decide(nodes: Records, arcs: Records, rows: Rows, r: int, certain: int, node: int, side: int) -> int:
    """A node is IN or OUT, and so are those that endless arcs tie to it: what that adds to the bound.

    ``rows[r, certain + node]`` is what is known of a node.
    """
    if rows[r, certain + node] == side:
        return 0
    rows[r, certain + node] = side
    total = 0
    k = nodes[node]["first"]
    while k >= 0:
        head = arcs[k]["head"]
        if rows[r, certain + head] == IN + OUT - side:
            total += arcs[k]["left"] if side == IN else arcs[k ^ 1]["left"]
        elif rows[r, certain + head] == FREE and (arcs[k]["endless"] if side == IN else arcs[k ^ 1]["endless"]):
            total += tied(nodes, arcs, rows, r, certain, head, side)
        k = arcs[k]["following"]
    return total


@compiled
def tied(nodes: Records, arcs: Records, rows: Rows, r: int, certain: int, node: int, side: int) -> int:
    """The same for a node between a tensor's maker and its readers, which ties no other."""
    rows[r, certain + node] = side
    total = 0
    k = nodes[node]["first"]
    while k >= 0:
        if rows[r, certain + arcs[k]["head"]] == IN + OUT - side:
            total += arcs[k]["left"] if side == IN else arcs[k ^ 1]["left"]
        k = arcs[k]["following"]
    return total
