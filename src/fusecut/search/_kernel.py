"""The inner loops of pricing: groups below one first op that cost less than the prices of their ops.

Every connected, convex group is met once: it grows by one neighbour at a time, taken together with what
lies between, or never taken. A branch is cut off where the floor overflows, and where the bound of a
minimum cut (:mod:`fusecut.search._net`) reaches the limit; docs/proof.md, "The cheapest group".

A branch is a row of bytes: the state of every op of the root, whether it may be taken next, whether it is before or
after some op of the group, how many readers of each tensor are inside, and which nodes of the network are certain.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

import numpy as np

from fusecut.jit import compiled, kept
from fusecut.search._banded import Bands, hold, on_chip, streamed
from fusecut.search._known import Known, is_known
from fusecut.search._net import (
    ARC,
    ENDLESS,
    FIRST,
    FREE,
    IN,
    NODE,
    OUT,
    PRICE,
    SINK,
    SOURCE,
    SOURCES,
    Records,
    Rows,
    best_cut,
    decide,
    lay_out,
)
from fusecut.search._root import I32, I64, Root

FIRST_FLOWS: Final = 8
LATER_FLOWS: Final = 4


class Stack(NamedTuple):
    """Branches: a row of bytes (``words`` are the same memory) and numbers each; ``held`` three for bands.

    These are the bytes of the dearest pair whatever waits and beside what waits, and all weights.
    """

    rows: Rows
    words: I64
    mark: I64
    reduced: I64
    bound: I64
    held: I64


class Found(NamedTuple):
    """The cheapest groups found, and how many; ``limit`` is what the next one must beat, in bytes."""

    cost: I64
    state: Rows
    many: I64
    limit: I64


@compiled
def held(tensors: Records, pairs: Records, rows: Rows, r: int, counts: int, t: int) -> Any:
    """Bytes that the floor counts for a tensor of a group."""
    maker = tensors[t]["maker"]
    if not rows[r, counts + t]:
        return tensors[t]["base"] if maker >= 0 and rows[r, maker] == IN else 0
    for i in range(tensors[t]["pairs"], tensors[t + 1]["pairs"]):
        if rows[r, pairs[i]["a"]] == IN and rows[r, pairs[i]["b"]] == IN:
            return pairs[i]["nbytes"]
    return tensors[t]["base"]


@compiled
def join(
    ops: Records, touch: I32, tensors: Records, pairs: Records, rows: Rows, r: int, counts: int, k: int
) -> tuple[int, int]:
    """Put an op into a group: what that adds to the floor, and to touch-once bytes less prices."""
    mark, moved = ops[k]["fixed"], ops[k]["weight"] - ops[k]["price"]
    for i in range(ops[k]["touch"], ops[k + 1]["touch"]):
        t, making = touch[i] >> 1, touch[i] & 1
        mark -= held(tensors, pairs, rows, r, counts, t)
        size, inside = tensors[t]["size"], rows[r, counts + t]
        if making:
            if inside:
                moved -= size
            if tensors[t]["always"] or inside < tensors[t]["many"]:
                moved += size
        elif tensors[t]["maker"] >= 0 and rows[r, tensors[t]["maker"]] == IN:
            if not tensors[t]["always"] and inside + 1 == tensors[t]["many"]:
                moved -= size
        elif not inside:
            moved += size
    rows[r, k] = IN
    for i in range(ops[k]["touch"], ops[k + 1]["touch"]):
        if not touch[i] & 1:
            rows[r, counts + (touch[i] >> 1)] += 1
    for i in range(ops[k]["touch"], ops[k + 1]["touch"]):
        mark += held(tensors, pairs, rows, r, counts, touch[i] >> 1)
    return mark, moved


@compiled
def relate(rel: Rows, rows: Rows, r: int, k: int) -> None:
    """Mark what is before and after an op that joins."""
    many = rel.shape[0]
    for x in range(k):
        if rel[k, x]:
            rows[r, 2 * many + x] = 1
    for x in range(k + 1, many):
        if rel[k, x]:
            rows[r, 3 * many + x] = 1


@compiled
def between(rel: Rows, rows: Rows, r: int, k: int, joining: I32) -> int:
    """How many ops join with one, itself included, so that the group stays convex; -1 if one of them is OUT."""
    many, count = rel.shape[0], 0
    for x in range(many):
        if x == k:
            joining[count] = k
            count += 1
        elif rel[k, x]:
            state = rows[r, x]
            if state == IN:
                if rel[k, x] == 2:
                    return -1
            elif rows[r, (3 if x < k else 2) * many + x]:
                if state == OUT:
                    return -1
                joining[count] = x
                count += 1
    return count


@compiled
def neighbours(ops: Records, near: I32, rows: Rows, r: int, k: int) -> None:
    """Free neighbours of an op of the group may be taken next, itself no more."""
    many = len(ops) - 1
    rows[r, many + k] = 0
    for i in range(ops[k]["near"], ops[k + 1]["near"]):
        if rows[r, near[i]] == FREE:
            rows[r, many + near[i]] = 1


@compiled
def any_in(rows: Rows, r: int, begin: int, end: int) -> bool:
    """Whether any byte of a part of a row is set."""
    for x in range(begin, end):  # noqa: SIM110 (numba compiles no generators)
        if rows[r, x]:
            return True
    return False


@compiled
def keep(known: Known, ops: Records, found: Found, rows: Rows, r: int, cost: int) -> None:
    """Enter a new group; with all places taken it replaces the dearest, and the limit is the dearest of them."""
    if cost >= found.limit[0] or is_known(known, ops, rows, r):
        return
    most, place = len(found.cost), found.many[0]
    if place < most:
        found.many[0] += 1
    else:
        place = np.argmax(found.cost)
    found.cost[place] = cost
    copy_bytes(rows, r, found.state, place, len(ops) - 1)
    if found.many[0] == most:
        found.limit[0] = min(found.limit[0], found.cost.max())


@compiled
def copy_bytes(source: Rows, i: int, target: Rows, j: int, width: int) -> None:
    """The first bytes of one row to another."""
    for x in range(width):
        target[j, x] = source[i, x]


@compiled
def new_stack(rows: int, width: int) -> Stack:
    """Room for so many branches."""
    row = np.zeros((rows, (width + 7) // 8 * 8), np.int8)
    numbers = np.empty((3, rows), np.int64)
    return Stack(row, row.view(np.int64), numbers[0], numbers[1], numbers[2], np.zeros((rows, 3), np.int64))


@compiled
def copy_branch(stack: Stack, source: int, target: int) -> None:
    """A branch to another row, eight bytes at a time."""
    for word in range(stack.words.shape[1]):
        stack.words[target, word] = stack.words[source, word]
    stack.mark[target], stack.reduced[target] = stack.mark[source], stack.reduced[source]
    stack.bound[target] = stack.bound[source]
    stack.held[target] = stack.held[source]


@compiled
def grow(
    root: Root,
    nodes: Records,
    arcs: Records,
    capacity: int,
    bands: Bands,
    price: int,
    found: Found,
    stack: Stack,
    r: int,
    k: int,
    joining: I32,
) -> bool:
    """A branch with an op and all between; False if it cannot be, or costs too much already."""
    ops, rows, rel = root.ops, stack.rows, root.rel
    counts = 4 * rel.shape[0]
    certain = counts + len(root.tensors)
    count = between(rel, rows, r, k, joining)
    for i in range(count):
        x = joining[i]
        mark, cost = join(ops, root.touch, root.tensors, root.pairs, rows, r, counts, x)
        stack.mark[r] += mark
        if root.profile.shape[0]:
            beside = stack.held[r, 1]
            hold(root, bands, rows, r, x, stack.held[r])
            stack.bound[r] += price * (stack.held[r, 1] - beside)
        if on_chip(stack.mark[r], stack.held[r]) > capacity:
            return False
        stack.bound[r] += decide(nodes, arcs, rows, r, certain, FIRST + x, IN)
        if stack.bound[r] >= found.limit[0] * PRICE:
            return False
        stack.reduced[r] += cost
    for i in range(count):
        relate(rel, rows, r, joining[i])
        neighbours(ops, root.near, rows, r, joining[i])
    return count > 0


@compiled
def choose(nodes: Records, rows: Rows, r: int, many: int) -> tuple[int, bool, bool]:
    """(the op to decide about, whether the minimum cut suggests it, whether others wait): such ops first."""
    lowest, waiting = -1, 0
    for x in range(many):
        if rows[r, many + x]:
            waiting += 1
            if lowest < 0:
                lowest = x
            if nodes[FIRST + x]["current"]:
                return x, True, waiting > 1 or any_in(rows, r, many + x + 1, 2 * many)
    return lowest, False, waiting > 1


@compiled
def divide(
    root: Root,
    nodes: Records,
    arcs: Records,
    capacity: int,
    bands: Bands,
    price: int,
    known: Known,
    found: Found,
    stack: Stack,
    r: int,
    joining: I32,
) -> int:
    """Replace a branch by those without and with one neighbour; how many rows are taken then.

    The one that the minimum cut suggests comes last, to be tried first.
    """
    if stack.bound[r] >= found.limit[0] * PRICE:
        return r
    many, rows = root.rel.shape[0], stack.rows
    k, likely, others = choose(nodes, rows, r, many)
    copy_branch(stack, r, r + 1)
    with_it, without = (r + 1, r) if likely else (r, r + 1)
    grows = grow(root, nodes, arcs, capacity, bands, price, found, stack, with_it, k, joining)
    if grows:
        again = streamed(bands, stack.mark[with_it], stack.held[with_it], capacity)
        keep(known, root.ops, found, rows, with_it, stack.reduced[with_it] + again)
        grows = any_in(rows, with_it, many, 2 * many) and stack.bound[with_it] < found.limit[0] * PRICE
    rows[without, k], rows[without, many + k] = OUT, 0
    certain = 4 * many + len(root.tensors)
    stack.bound[without] += decide(nodes, arcs, rows, without, certain, FIRST + k, OUT)
    stays = others and stack.bound[without] < found.limit[0] * PRICE
    if grows and stays:
        return r + 2
    if not grows and not stays:
        return r
    if (with_it if grows else without) > r:
        copy_branch(stack, r + 1, r)
    return r + 1


@compiled
def narrow(root: Root, capacity: int, bands: Bands, stack: Stack, joining: I32) -> bool:
    """In row 0: leave out what cannot join any more, or no longer hangs together; whether anything may be taken.

    Row 1 is written over.
    """
    ops, rows, many = root.ops, stack.rows, root.rel.shape[0]
    counts = 4 * many
    for x in range(2 * many, counts + len(root.tensors)):
        rows[0, x] = 0
    for k in range(many):
        if rows[0, k] == IN:
            relate(root.rel, rows, 0, k)
            for i in range(ops[k]["touch"], ops[k + 1]["touch"]):
                if not root.touch[i] & 1:
                    rows[0, counts + (root.touch[i] >> 1)] += 1
    for k in range(many):
        if rows[0, k] == FREE:
            count = between(root.rel, rows, 0, k, joining)
            copy_bytes(rows, 0, rows, 1, counts + len(root.tensors))
            stack.mark[1], stack.held[1] = stack.mark[0], stack.held[0]
            for i in range(count):
                stack.mark[1] += join(ops, root.touch, root.tensors, root.pairs, rows, 1, counts, joining[i])[0]
                if root.profile.shape[0]:
                    hold(root, bands, rows, 1, joining[i], stack.held[1])
            if count < 0 or on_chip(stack.mark[1], stack.held[1]) > capacity:
                rows[0, k] = OUT
    hang_together(ops, root.near, rows, joining)
    return any_in(rows, 0, many, 2 * many)


@compiled
def leave_out(root: Root, capacity: int, bands: Bands, stack: Stack, queue: I32) -> bool:
    """In row 0: leave out what cannot share a group with its only op; whether anything may be taken."""
    rows, many = stack.rows, root.rel.shape[0]
    for k in range(1, many):
        pair = root.profile[0, k]
        if max(bands.any_way[pair], bands.beside[pair]) > capacity:
            rows[0, k], rows[0, many + k] = OUT, 0
    hang_together(root.ops, root.near, rows, queue)
    return any_in(rows, 0, many, 2 * many)


@compiled
def hang_together(ops: Records, near: I32, rows: Rows, queue: I32) -> None:
    """Leave out what no way through ops that are not OUT leads to from the group of row 0."""
    many, begin, end = len(ops) - 1, 0, 0
    seen = np.zeros(many, np.int8)
    for k in range(many):
        if rows[0, k] == IN:
            seen[k], queue[end] = 1, k
            end += 1
    while begin < end:
        op = queue[begin]
        begin += 1
        for i in range(ops[op]["near"], ops[op + 1]["near"]):
            if rows[0, near[i]] == FREE and not seen[near[i]]:
                seen[near[i]], queue[end] = 1, near[i]
                end += 1
    for k in range(many):
        if not seen[k]:
            rows[0, k], rows[0, many + k] = OUT, 0


@compiled
def enter_cut(
    root: Root,
    nodes: Records,
    arcs: Records,
    stack: Stack,
    least: int,
    capacity: int,
    price: int,
    most_price: int,
    flows: int,
    enough: int,
) -> int:
    """A cut for the branch in row 0: its bound, certain nodes, and what the cut suggests; the price of buffer found."""
    ops, rows, many = root.ops, stack.rows, root.rel.shape[0]
    count, total = lay_out(ops, root.tensors, root.readers, rows[0], nodes, arcs)
    value, price = best_cut(
        ops, rows[0], nodes, arcs, count, total, capacity - stack.held[0, 1], price, flows, enough, most_price
    )
    certain = 4 * many + len(root.tensors)
    for x in range(certain, rows.shape[1]):
        rows[0, x] = FREE
    rows[0, certain + SOURCE], rows[0, certain + SINK] = IN, OUT
    for k in range(many):
        nodes[FIRST + k]["current"] = nodes[FIRST + k]["level"] >= 0
        if rows[0, k] == IN:
            value += decide(nodes, arcs, rows, 0, certain, FIRST + k, IN)
    stack.bound[0] = max(least, value)
    return price


@kept
def search(
    root: Root,
    capacity: int,
    bands: Bands,
    known: Known,
    limit_bytes: int,
    cuts: int,
    steps: int,
    most: int,
    price: int,
    sources: int = SOURCES,
) -> tuple[int, bool, int, int, I64, Rows]:
    """Groups with the root as their first op that cost less than the limit: the cheapest ``most`` of them.

    (what any such group costs at least, whether none that is wanted is missing, steps taken, the price of buffer at
    the root, reduced costs, states). ``cuts`` minimum cuts, each followed by ``steps`` divisions, at most.
    """
    many = root.rel.shape[0]
    nodes = np.empty(FIRST + many + 2 * len(root.tensors), NODE)
    arcs = np.empty(4 * (many + len(root.readers) + len(root.tensors)), ARC)
    joining = np.empty(many, np.int32)
    stack = new_stack(many + 2, 4 * many + len(root.tensors) + len(nodes))
    waiting = new_stack(16, 2 * many)
    found = Found(
        np.empty(most, np.int64), np.empty((most, many), np.int8), np.zeros(1, np.int64), np.full(1, limit_bytes)
    )
    todo = [(0, 0)]
    todo.pop()
    order, taken, root_price, least = 0, 0, price, -ENDLESS
    stack.mark[0], stack.reduced[0] = join(root.ops, root.touch, root.tensors, root.pairs, stack.rows, 0, 4 * many, 0)
    relate(root.rel, stack.rows, 0, 0)
    neighbours(root.ops, root.near, stack.rows, 0, 0)
    goes_on, flows, most_price = any_in(stack.rows, 0, many, 2 * many), FIRST_FLOWS, ENDLESS
    if root.profile.shape[0]:
        hold(root, bands, stack.rows, 0, 0, stack.held[0])
        most_price = bands.more * PRICE
        goes_on = on_chip(stack.mark[0], stack.held[0]) <= capacity and leave_out(root, capacity, bands, stack, joining)
    for made in range(cuts):
        if made:
            if not todo or todo[0][0] >= found.limit[0] * PRICE:
                break
            least, place = heappop(todo)
            price = waiting.bound[place]
            copy_bytes(waiting.rows, place, stack.rows, 0, 2 * many)
            stack.mark[0], stack.reduced[0] = waiting.mark[place], waiting.reduced[place]
            stack.held[0] = waiting.held[place]
            goes_on, flows = narrow(root, capacity, bands, stack, joining), LATER_FLOWS
        if not goes_on:
            continue
        price = enter_cut(
            root, nodes, arcs, stack, least, capacity, min(price, most_price), most_price, flows, found.limit[0] * PRICE
        )
        root_price = root_price if made else price
        rows = 1
        for _ in range(steps):
            if not rows:
                break
            taken += 1
            rows = divide(root, nodes, arcs, capacity, bands, price, known, found, stack, rows - 1, joining)
        for left in range(rows):
            if stack.bound[left] < found.limit[0] * PRICE:
                if order == len(waiting.mark):
                    waiting = doubled(waiting)
                copy_bytes(stack.rows, left, waiting.rows, order, 2 * many)
                waiting.mark[order], waiting.reduced[order] = stack.mark[left], stack.reduced[left]
                waiting.bound[order], waiting.held[order] = price, stack.held[left]
                heappush(todo, (stack.bound[left], order))
                order += 1
    open_bound = todo[0][0] if todo else ENDLESS
    complete = open_bound >= found.limit[0] * PRICE
    count = found.many[0]
    least_bytes = min(limit_bytes, found.cost[:count].min()) if count else limit_bytes
    if not complete:
        least_bytes = min(least_bytes, -(-open_bound // PRICE))
    return least_bytes, complete, taken, root_price, found.cost[:count], found.state[:count]


@compiled
def doubled(stack: Stack) -> Stack:
    """The same rows and room for as many more."""
    rows, width = stack.rows.shape
    larger = new_stack(2 * rows, width)
    for r in range(rows):
        copy_bytes(stack.rows, r, larger.rows, r, width)
        larger.mark[r], larger.reduced[r], larger.bound[r] = stack.mark[r], stack.reduced[r], stack.bound[r]
        larger.held[r] = stack.held[r]
    return larger
