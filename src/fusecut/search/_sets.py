"""Sets of covered ops, the cheapest first: the compiled loops of :mod:`fusecut.search._covers`.

A set holds every op below its first open one, and some above: a row of 64-bit words, from the word of the first open
op on. Sets wait in a heap, by what a plan with them costs at least; a hash table knows the cheapest way to each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.jit import compiled, fingerprint, kept
from fusecut.search._net import Rows
from fusecut.search._root import I32, I64

U64 = NDArray[np.uint64]

SOURCES: Final = fingerprint(Path(__file__), "_sets.py")
"""A default of what is kept compiled, so that it is compiled anew when this file has changed."""

REACHED, UNASKED, EMPTY, SPENT = range(4)
"""How :func:`settle` ends."""

ENTRIES, WAITING, SETTLED, GOAL, BEYOND = range(5)
"""Places in ``Sets.counts``: rows taken, rows in the heap, sets settled; what the cheapest way to a goal costs, and
what a way costs at least that uses a group that is not listed."""

NEVER: Final = 1 << 60
"""More than any plan costs."""


class Choices(NamedTuple):
    """Groups, from ``begins[op]`` on those with this lowest op, the cheapest first.

    ``words`` are their ops, from the word of the lowest one on; ``last`` their last ops; ``cost`` is what they cost
    beyond the prices of their ops at least, and ``more`` what the model adds: -1 before it is asked.
    """

    begins: I32
    words: U64
    last: I32
    cost: I64
    more: I64


class Sets(NamedTuple):
    """Rows: sets of covered ops, and how they came about.

    ``open`` is the first op that is not covered, ``sure`` whether the model knows the last group (``choice``), which
    followed the set ``before``; ``following`` is the choice to be tried next, and ``least`` what a plan costs at least.
    """

    open: I32
    words: U64
    spent: I64
    least: I64
    sure: Rows
    before: I32
    choice: I32
    following: I32
    heap: I32
    slots: I32
    counts: I64


def new_sets(rows: int, words: int) -> Sets:
    """Room for so many sets: memory is taken as it is used."""
    narrow, wide = np.empty((5, rows), np.int32), np.empty((2, rows), np.int64)
    slots = np.empty(1 << (2 * rows).bit_length(), np.int32)
    first, before, choice, following, heap = narrow
    return Sets(
        open=first,
        words=np.empty((rows, words), np.uint64),
        spent=wide[0],
        least=wide[1],
        sure=np.empty(rows, np.int8),
        before=before,
        choice=choice,
        following=following,
        heap=heap,
        slots=slots,
        counts=np.empty(5, np.int64),
    )


@compiled
def is_before(sets: Sets, a: int, b: int) -> bool:
    """Whether a set is settled before another: the cheaper one; of equals the one that covers more."""
    more = sets.least[a] - sets.least[b]
    further = sets.open[a] - sets.open[b]
    return bool(more < 0 or (more == 0 and (further > 0 or (further == 0 and a < b))))


@compiled
def push(sets: Sets, row: int) -> None:
    """Put a row into the heap."""
    place = sets.counts[WAITING]
    sets.counts[WAITING] += 1
    while place > 0:
        above = (place - 1) >> 1
        if not is_before(sets, row, sets.heap[above]):
            break
        sets.heap[place] = sets.heap[above]
        place = above
    sets.heap[place] = row


@compiled
def pop(sets: Sets) -> int:
    """Take the first row off the heap."""
    top, many = int(sets.heap[0]), sets.counts[WAITING] - 1
    row, place = sets.heap[many], 0
    sets.counts[WAITING] = many
    while 2 * place + 1 < many:
        below = 2 * place + 1
        if below + 1 < many and is_before(sets, sets.heap[below + 1], sets.heap[below]):
            below += 1
        if not is_before(sets, sets.heap[below], row):
            break
        sets.heap[place] = sets.heap[below]
        place = below
    sets.heap[place] = row
    return top


@compiled
def find(slots: I32, begins: I32 | I64, words: U64, row: int) -> int:
    """The slot of a hash table that holds a row which begins at the same op with the same words, or is free for it."""
    key = np.uint64(begins[row])
    for w in range(words.shape[1]):
        key ^= words[row, w]
        key ^= key << np.uint64(13)
        key ^= key >> np.uint64(7)
        key ^= key << np.uint64(17)
    last = len(slots) - 1
    place = np.int64(key & np.uint64(last))
    while slots[place] >= 0:
        other = slots[place]
        same = begins[other] == begins[row]
        for w in range(words.shape[1]):
            same = same and words[other, w] == words[row, w]
        if same:
            return int(place)
        place = (place + 1) & last
    return int(place)


@compiled
def is_cheapest(sets: Sets, row: int) -> bool:
    """Whether no way to the same set is as cheap; a sure one is entered as the cheapest."""
    place = find(sets.slots, sets.open, sets.words, row)
    if sets.slots[place] >= 0 and sets.spent[sets.slots[place]] <= sets.spent[row]:
        return False
    if sets.sure[row]:
        sets.slots[place] = row
    return True


@compiled
def is_apart(sets: Sets, row: int, words: U64, choice: int) -> bool:
    """Whether a group holds none of the covered ops."""
    for w in range(words.shape[1]):  # noqa: SIM110 (numba compiles no generators)
        if words[choice, w] & sets.words[row, w]:
            return False
    return True


@compiled
def cover(sets: Sets, row: int, words: U64, choice: int, new: int) -> None:
    """The set with a group, in a new row; its first open op moves on."""
    many, one = words.shape[1], np.uint64(1)
    done = 0
    while done < many and sets.words[row, done] | words[choice, done] == ~np.uint64(0):
        done += 1
    for w in range(many):
        left = w + done < many
        sets.words[new, w] = sets.words[row, w + done] | words[choice, w + done] if left else np.uint64(0)
    bit = 0
    while sets.words[new, 0] >> np.uint64(bit) & one:
        bit += 1
    sets.open[new] = (((sets.open[row] >> 6) + done) << 6) + bit


@compiled
def follow(sets: Sets, row: int, choices: Choices, choice: int, tail: int, stop: int) -> None:
    """Add the set with one more group to those that wait, if that may lead to a better plan."""
    new, counts = sets.counts[ENTRIES], sets.counts
    more = choices.more[choice]
    sets.spent[new] = sets.spent[row] + choices.cost[choice] + max(0, more)
    sets.least[new] = max(sets.spent[new] + tail, sets.least[row])
    if sets.least[new] > counts[GOAL] or sets.least[new] >= counts[BEYOND]:
        return
    cover(sets, row, choices.words, choice, new)
    sets.sure[new], sets.before[new], sets.choice[new], sets.following[new] = more >= 0, row, choice, 0
    if is_cheapest(sets, new):
        counts[ENTRIES] += 1
        push(sets, new)
        if sets.sure[new] and sets.open[new] >= stop:
            counts[GOAL] = min(counts[GOAL], sets.least[new])


@compiled
def expand(sets: Sets, row: int, listed: Choices, parts: Choices, tail: int, stop: int) -> bool:
    """The sets after each choice for the first open op that cost no more than this row's ``least``.

    Where others cost more, the row waits again, until its turn comes. False if there is no room left.
    """
    op, place = sets.open[row], sets.following[row]
    free = parts.begins[op + 1] - parts.begins[op]
    many = free + listed.begins[op + 1] - listed.begins[op]
    while place < many:
        choices = parts if place < free else listed
        choice = choices.begins[op] + (place if place < free else place - free)
        least = sets.spent[row] + choices.cost[choice] + tail
        if least > sets.counts[GOAL] or least >= sets.counts[BEYOND]:
            return True
        if choices.more[choice] < NEVER and is_apart(sets, row, choices.words, choice):
            if least > sets.least[row] or sets.counts[ENTRIES] == len(sets.open):
                sets.following[row], sets.least[row] = place, max(least, sets.least[row])
                push(sets, row)
                return bool(sets.counts[ENTRIES] < len(sets.open))
            follow(sets, row, choices, choice, tail, stop)
        place += 1
    return True


@compiled
def learn(sets: Sets, row: int, more: int, tails: I64) -> None:
    """Add what the model says of the last group, and let the set wait again, if it may still lead to a better plan."""
    sets.spent[row] += more
    sets.least[row] = max(sets.least[row], sets.spent[row] + tails[sets.open[sets.before[row]] + 1])
    sets.sure[row] = 1
    good = sets.least[row] <= sets.counts[GOAL] and sets.least[row] < sets.counts[BEYOND]
    if good and is_cheapest(sets, row):
        push(sets, row)


@kept
def begin(sets: Sets, first: int, least: int, room: int, sources: int = SOURCES) -> None:
    """Nothing but the set of all ops below the first one; plans that cost ``room`` or more are not looked for."""
    sets.slots[:] = -1
    sets.counts[:] = 0
    sets.counts[ENTRIES], sets.counts[GOAL], sets.counts[BEYOND] = 1, NEVER, room
    sets.words[0] = 0
    sets.words[0, 0] = (np.uint64(1) << np.uint64(first & 63)) - np.uint64(1)
    sets.open[0], sets.spent[0], sets.least[0], sets.sure[0] = first, 0, least, 1
    sets.before[0], sets.choice[0], sets.following[0] = -1, -1, 0
    is_cheapest(sets, 0)
    push(sets, 0)


@kept
def settle(
    sets: Sets,
    listed: Choices,
    parts: Choices,
    tails: I64,
    beyond: I64,
    stop: int,
    most: int,
    sources: int = SOURCES,
) -> tuple[int, int]:
    """Settle sets, cheapest first, until all ops below ``stop`` are covered: (how it ends, the row at which).

    ``tails[op]`` is what a plan costs at least once the groups with all lowest ops below are chosen, and ``beyond[op]``
    what one costs from there on that takes a group with this lowest op that is not listed.
    """
    counts = sets.counts
    while counts[WAITING] > 0:
        row = sets.heap[0]
        if sets.least[row] >= counts[BEYOND]:
            return EMPTY, row
        if counts[SETTLED] >= most:
            return SPENT, row
        if not sets.sure[row]:
            more = listed.more[sets.choice[row]]
            if more < 0:
                return UNASKED, row
            pop(sets)
            learn(sets, row, more, tails)
            continue
        if sets.slots[find(sets.slots, sets.open, sets.words, row)] != row:
            pop(sets)
            continue
        if sets.open[row] >= stop:
            return REACHED, row
        pop(sets)
        op = sets.open[row]
        if sets.following[row] == 0:
            counts[SETTLED] += 1
            counts[BEYOND] = min(counts[BEYOND], sets.spent[row] + beyond[op])
        if not expand(sets, row, listed, parts, tails[op + 1], stop):
            return SPENT, sets.heap[0]
    return EMPTY, 0


@kept
def crossing(listed: Choices, first: int, budget: int, sources: int = SOURCES) -> tuple[I64, U64]:
    """What groups with a lowest op below hold from an op on, if they cost less than the budget: lowest ops, words.

    Each once. O(groups * words).
    """
    many, width, one = listed.begins[first], listed.words.shape[1], np.uint64(1)
    lowest, words = np.empty(many + 1, np.int64), np.zeros((many + 1, width), np.uint64)
    size = 16
    while size < 2 * many:
        size *= 2
    slots = np.full(size, -1, np.int32)
    count, low = 0, 0
    for choice in range(many):
        while choice >= listed.begins[low + 1]:
            low += 1
        if listed.last[choice] < first or listed.cost[choice] + max(0, listed.more[choice]) >= budget:
            continue
        skip, begun = (first >> 6) - (low >> 6), 0
        for w in range(skip, width):
            word = listed.words[choice, w]
            if w == skip:
                word &= ~np.uint64(0) << np.uint64(first & 63)
            if begun == 0 and word:
                bit = 0
                while not word >> np.uint64(bit) & one:
                    bit += 1
                lowest[count], begun = (((low >> 6) + w) << 6) + bit, w + 1
            if begun:
                words[count, w - begun + 1] = word
        place = find(slots, lowest, words, count)
        if slots[place] < 0:
            slots[place] = count
            count += 1
        else:
            words[count] = 0
    return lowest[:count], words[:count]
