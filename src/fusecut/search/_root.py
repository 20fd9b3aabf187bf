"""What is within reach of a first op, as records and lists in numbers of its own, for the compiled loops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.jit import compiled, kept
from fusecut.search._net import OP, PAIR, SOURCES, TENSOR, Records, Rows

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]


class Tables(NamedTuple):
    """A network and its floor as arrays; a list of lists is (where each begins, all entries)."""

    weights: I64
    fixed: I64
    shares: I64
    reads_at: I32
    reads: I32
    makes_at: I32
    makes: I32
    size: I64
    maker: I32
    stays: Rows
    readers_at: I32
    readers: I32
    base: I64
    pairs_at: I32
    pairs: Records
    near_at: I32
    near: I32
    before: U8
    after: U8


class Root(NamedTuple):
    """What is within reach of a first op: records and lists in numbers of its own.

    ``touch`` are the tensors of an op, 2 t + 1 if it makes t, 2 t if it reads it. ``rel[a, b]``: 1 if one of two ops
    depends on the other, 2 if it does through an op that is not within reach. ``profile`` says what a pair of ops needs
    in bands (no rows where that is not asked).
    """

    ops: Records
    touch: I32
    near: I32
    tensors: Records
    readers: I32
    pairs: Records
    rel: Rows
    profile: I32


@compiled
def related(tables: Tables, here: I32, place: I32) -> Rows:
    """How pairs of ops are related. O(ops^2 + outside ops between pairs / 8)."""
    many = len(here)
    rel = np.zeros((many, many), np.int8)
    outside = np.full(tables.before.shape[1], 255, np.uint8)
    for k in range(many):
        outside[here[k] >> 3] &= 255 - (1 << (here[k] & 7))
    for b in range(many):
        for a in range(b):
            if tables.before[here[b], here[a] >> 3] >> (here[a] & 7) & 1:
                rel[a, b] = 1
                for byte in range(here[a] >> 3, (here[b] >> 3) + 1):
                    if tables.after[here[a], byte] & tables.before[here[b], byte] & outside[byte]:
                        rel[a, b] = 2
                        break
                rel[b, a] = rel[a, b]
    return rel


@compiled
def touched(tables: Tables, here: I32) -> tuple[I32, I32]:
    """(the number of every tensor around these ops, -1 for others; these tensors)."""
    number = np.full(len(tables.size), -1, np.int32)
    tensors = np.empty(len(tables.size), np.int32)
    met = 0
    for op in here:
        for i in range(tables.reads_at[op], tables.reads_at[op + 1]):
            if number[tables.reads[i]] < 0:
                number[tables.reads[i]], tensors[met] = met, tables.reads[i]
                met += 1
        for i in range(tables.makes_at[op], tables.makes_at[op + 1]):
            if number[tables.makes[i]] < 0:
                number[tables.makes[i]], tensors[met] = met, tables.makes[i]
                met += 1
    return number, tensors[:met]


@kept
def localise(tables: Tables, here: I32, prices: I64, sources: int = SOURCES) -> Root:
    """A root's records. O(lists around its ops, and :func:`related`)."""
    many = len(here)
    place = np.full(len(tables.weights), -1, np.int32)
    for k in range(many):
        place[here[k]] = k
    number, tensors = touched(tables, here)
    made, readers, pairs = tensors_of(tables, place, tensors)
    ops = np.empty(many + 1, OP)
    touch, near = np.empty(2 * len(readers) + 4 * len(tensors) + many, np.int32), np.empty(many * many, np.int32)
    t, n = 0, 0
    for k in range(many + 1):
        ops[k]["touch"], ops[k]["near"] = t, n
        if k == many:
            break
        op = here[k]
        ops[k]["op"], ops[k]["weight"], ops[k]["fixed"] = op, tables.weights[op], tables.fixed[op]
        ops[k]["share"], ops[k]["price"], ops[k]["own"] = tables.shares[op], prices[op], 0
        for i in range(tables.reads_at[op], tables.reads_at[op + 1]):
            touch[t] = 2 * number[tables.reads[i]]
            t += 1
        for i in range(tables.makes_at[op], tables.makes_at[op + 1]):
            touch[t] = 2 * number[tables.makes[i]] + 1
            t += 1
        for i in range(tables.near_at[op], tables.near_at[op + 1]):
            if place[tables.near[i]] >= 0:
                near[n] = place[tables.near[i]]
                n += 1
    return Root(
        ops, touch[:t], near[:n], made, readers, pairs, related(tables, here, place), np.empty((0, 0), np.int32)
    )


@compiled
def tensors_of(tables: Tables, place: I32, tensors: I32) -> tuple[Records, I32, Records]:
    """Records of tensors, their readers within reach, and pairs of readers that hold rows."""
    made = np.empty(len(tensors) + 1, TENSOR)
    wanted, paired = 0, 0
    for t in tensors:
        wanted += tables.readers_at[t + 1] - tables.readers_at[t]
        paired += tables.pairs_at[t + 1] - tables.pairs_at[t]
    readers, pairs = np.empty(wanted, np.int32), np.empty(paired, PAIR)
    r, p = 0, 0
    for k in range(len(tensors) + 1):
        made[k]["readers"], made[k]["pairs"] = r, p
        if k == len(tensors):
            break
        t = tensors[k]
        maker = tables.maker[t]
        made[k]["maker"] = place[maker] if maker >= 0 else -1
        made[k]["size"], made[k]["base"] = tables.size[t], tables.base[t]
        made[k]["always"] = tables.stays[t]
        for i in range(tables.readers_at[t], tables.readers_at[t + 1]):
            if place[tables.readers[i]] >= 0:
                readers[r] = place[tables.readers[i]]
                r += 1
            else:
                made[k]["always"] = 1
        made[k]["many"] = r - made[k]["readers"]
        for i in range(tables.pairs_at[t], tables.pairs_at[t + 1]):
            a, b = place[tables.pairs[i]["a"]], place[tables.pairs[i]["b"]]
            if a >= 0 and b >= 0:
                pairs[p]["a"], pairs[p]["b"], pairs[p]["nbytes"] = a, b, tables.pairs[i]["nbytes"]
                p += 1
    return made, readers[:r], pairs
