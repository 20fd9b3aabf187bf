"""Groups that pricing has met before: which they are, and what they cost at other prices. Compiled loops."""

from __future__ import annotations

from typing import NamedTuple

from fusecut.jit import compiled, kept
from fusecut.search._net import IN, SOURCES, Records, Rows
from fusecut.search._root import I32, I64, U8


class Known(NamedTuple):
    """Groups that need not be found again: a hash table of their masks, one bit for each op."""

    keys: I64
    slots: I32
    hashes: I64
    sizes: I32
    masks: U8


@compiled
def is_known(known: Known, ops: Records, rows: Rows, r: int) -> bool:
    """Whether a group is in the table."""
    key, size, many = 0, 0, len(ops) - 1
    for k in range(many):
        if rows[r, k] == IN:
            key ^= known.keys[ops[k]["op"]]
            size += 1
    last = len(known.slots) - 1
    place = key & last
    while known.slots[place] >= 0:
        entry = known.slots[place]
        if known.hashes[entry] == key and known.sizes[entry] == size:
            same = True
            for k in range(many):
                op = ops[k]["op"]
                if rows[r, k] == IN and not known.masks[entry, op >> 3] >> (op & 7) & 1:
                    same = False
                    break
            if same:
                return True
        place = (place + 1) & last
    return False


@kept
def enter(known: Known, sources: int = SOURCES) -> None:
    """Fill the hash table with the masks, which are given."""
    for entry in range(len(known.masks)):
        key, size = 0, 0
        for op in range(len(known.keys)):
            if known.masks[entry, op >> 3] >> (op & 7) & 1:
                key ^= known.keys[op]
                size += 1
        known.hashes[entry], known.sizes[entry] = key, size
        place = key & (len(known.slots) - 1)
        while known.slots[place] >= 0:
            place = (place + 1) & (len(known.slots) - 1)
        known.slots[place] = entry


@kept
def reduced(masks: U8, nbytes: I64, prices: I64, sources: int = SOURCES) -> I64:
    """Reduced costs of groups given as masks: bytes less the prices of their ops."""
    costs = nbytes.copy()
    for entry in range(len(masks)):
        mask = masks[entry]
        for byte in range(len(mask)):
            if mask[byte]:
                for bit in range(8):
                    if mask[byte] >> bit & 1:
                        costs[entry] -= prices[8 * byte + bit]
    return costs
