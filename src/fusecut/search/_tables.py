"""A network and the floor of its groups as arrays, for the compiled loops of :mod:`fusecut.search._kernel`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from fusecut.cost import FloorTable
from fusecut.ir import Graph, Group, bits
from fusecut.search._cuts import Reach
from fusecut.search._known import Known, enter
from fusecut.search._net import PAIR, Records
from fusecut.search._root import Tables

_KEYS_SEED = 0


def tables_of(graph: Graph, floor: FloorTable) -> Tables:
    """The arrays of a problem. O(ops^2 / 8) bytes for what is before and after each op."""
    reads = [tuple(dict.fromkeys(op.inputs)) for op in graph.ops]
    neighbours = [list(bits(p | s)) for p, s in zip(graph.preds, graph.succs, strict=True)]
    pairs = [[(mask.bit_length() - 1, low_bit(mask), nbytes) for mask, nbytes in each] for each in floor.pairs]
    stays = [t in graph.output_set or not graph.consumer_mask[t] for t in range(len(graph.tensors))]
    return Tables(
        weights=_wide(op.weight_bytes for op in graph.ops),
        fixed=_wide(floor.fixed),
        shares=_wide(shares_of(graph, floor)),
        **_listed("reads", reads),
        **_listed("makes", [op.outputs for op in graph.ops]),
        size=_wide(t.nbytes for t in graph.tensors),
        maker=np.array(graph.producer, np.int32),
        stays=np.array(stays, np.int8),
        **_listed("readers", [bits(mask) for mask in graph.consumer_mask]),
        base=_wide(floor.base),
        pairs_at=_begins(pairs),
        pairs=pair_records([entry for each in pairs for entry in each]),
        **_listed("near", neighbours),
        before=packed(graph.ancestors, len(graph)),
        after=packed(graph.descendants, len(graph)),
    )


def shares_of(graph: Graph, floor: FloorTable) -> list[int]:
    """Bytes for each op that add up to no more than the floor, whatever the group.

    What an op holds in any case, what it holds of each tensor it makes as long as nobody reads it, and the rest of each
    tensor of which it needs more than any other reader alone.
    """
    shares = list(floor.fixed)
    for t, maker in enumerate(graph.producer):
        made = floor.base[t] if maker >= 0 else 0
        if maker >= 0:
            shares[maker] += made
        alone = [(nbytes, -low_bit(mask)) for mask, nbytes in floor.pairs[t] if not mask & (mask - 1)]
        if alone:
            most, reader = max(alone)
            shares[-reader] += max(0, most - made)
    return shares


def within_reach(graph: Graph, reach: Reach, shares: Sequence[int], first: int) -> Group:
    """Ops from ``first`` on that some group with it as its first op may hold.

    Such a group holds a path of ops to each of them, and the shares of a path's ops add up to no
    more than the floor of the group. O(E log V) within the capacity.
    """
    allowed = ~((1 << first) - 1) & ~(graph.descendants[first] & ~reach.mates(first))
    nearest, queue, seen = {first: shares[first]}, [(shares[first], first)], 0
    while queue:
        used, op = heappop(queue)
        if seen >> op & 1:
            continue
        seen |= 1 << op
        for near in bits((graph.preds[op] | graph.succs[op]) & ~seen & allowed):
            there = used + shares[near]
            if there <= reach.capacity and there < nearest.get(near, there + 1):
                nearest[near] = there
                heappush(queue, (there, near))
    return seen


def known_groups(groups: Sequence[Group], ops: int) -> Known:
    """A hash table of groups, by exclusive or of random keys of their ops."""
    many = len(groups)
    keys = np.random.default_rng(_KEYS_SEED).integers(0, 1 << 62, ops)
    slots = np.full(1 << (2 * many + 1).bit_length(), -1, np.int32)
    known = Known(keys, slots, np.empty(many, np.int64), np.empty(many, np.int32), packed(groups, ops))
    enter(known)
    return known


def packed(masks: Sequence[Group], ops: int) -> NDArray[np.uint8]:
    """Masks as rows of bytes, the first ops first."""
    size = -(-ops // 8)
    return np.frombuffer(b"".join(mask.to_bytes(size, "little") for mask in masks), np.uint8).reshape(len(masks), size)


def low_bit(mask: Group) -> int:
    """The least op of a set."""
    return (mask & -mask).bit_length() - 1


def pair_records(pairs: Sequence[tuple[int, int, int]]) -> Records:
    """Two ops and bytes each, as records."""
    return np.array(list(pairs), PAIR)


def _wide(numbers: Iterable[int]) -> NDArray[np.int64]:
    return np.array(list(numbers), np.int64)


def _begins(lists: Sequence[Sequence[object]]) -> NDArray[np.int32]:
    return np.cumsum([0, *map(len, lists)]).astype(np.int32)


def ragged(lists: Sequence[Iterable[int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(where each list begins, all entries)."""
    whole = [list(each) for each in lists]
    return _begins(whole), np.array([entry for each in whole for entry in each], np.int32)


def _listed(name: str, lists: Sequence[Iterable[int]]) -> dict[str, NDArray[np.int32]]:
    begins, entries = ragged(lists)
    return {name: entries, f"{name}_at": begins}
