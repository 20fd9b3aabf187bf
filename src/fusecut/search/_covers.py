"""From near-optimal prices to the optimum: a shortest path over sets of ops that are covered, lowest op first.

Choose a group for the lowest op that no group holds yet, then for the next one: every choice of disjoint groups
that holds all ops is such a path, and the sets of ops covered on the way are its nodes. With prices y of ops for
which every group pays, a step costs what the group moves beyond the prices of its ops: A* in integers.

What is left of the bound's gap comes up in every part of a network, and A* without a bound of what is to come would
look at all that is within the whole gap in the first part already. So a *tail* is worked out for every op, last op
first: what a plan costs beyond the prices once the groups with all lowest ops below are chosen, whatever they
are. Such a choice leaves some ops from there on covered: parts of groups that begin below. Let them be covered for
nothing by any such parts, find the cheapest path from there to an op further on, and add the tail of that one: A*
again, over a part of the network. With the tails of all ops, A* over all of it looks at little more than its optimum.

Groups may still wait for each other in a circle: then each of them is forbidden in turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.ir import Graph, Group, bits
from fusecut.search._pricing import Effort, Pricing
from fusecut.search._root import I64
from fusecut.search._sets import (
    BEYOND,
    EMPTY,
    NEVER,
    REACHED,
    SETTLED,
    UNASKED,
    Choices,
    Sets,
    begin,
    crossing,
    new_sets,
    settle,
)
from fusecut.search._tables import low_bit

_EFFORT: Final = Effort(2_000, 1000, 50_000)
"""Enough to list all groups of a first op that matter, as a rule."""

_MOST_GROUPS: Final = 1_000_000

_ASKED_AT_ONCE: Final = 64
"""Questions to the model between two signs of life."""

_MOST_SETS: Final = 20_000_000
"""Settled by one search in all, at 2 to 10 microseconds each."""

_CIRCLES: Final = 200
"""So many choices with a circle are divided."""


class Look(NamedTuple):
    """How far ahead tails look, in ops, and how many sets may be settled and kept for each."""

    ahead: int
    sets: int
    kept: int


class Listing(NamedTuple):
    """Groups with what they cost beyond the prices of their ops, at least.

    ``unlisted[op]`` is what every other group with this lowest op costs at least.
    """

    groups: list[tuple[int, Group]]
    unlisted: I64


def list_known(bytes_of: Mapping[Group, int], prices: I64, pricing: Pricing, room: int) -> Listing:
    """The groups known, as if there were no others."""
    groups = [(cost, group) for cost, group in pricing.reduced(bytes_of, prices) if cost < room]
    return Listing(groups, np.full(len(prices), NEVER))


def list_groups(
    pricing: Pricing, prices: I64, known: Mapping[Group, int], refused: Iterable[Group], limit: int, room: int
) -> Generator[None, None, Listing]:
    """The known groups that cost less than ``room`` beyond their prices, and all others below the limit."""
    pricing.know(known, refused)
    listing = list_known(known, prices, pricing, room)
    for first in pricing.roots:
        most = min(_EFFORT.groups, max(1, _MOST_GROUPS - len(listing.groups)))
        priced = pricing.groups(first, prices, limit, _EFFORT._replace(groups=most))
        listing.groups.extend(priced.groups)
        if limit < room:
            listing.unlisted[first] = limit
        if len(priced.groups) == most:
            listing.unlisted[first] = min(limit, priced.groups[-1][0])
        if not priced.complete:
            listing.unlisted[first] = min(limit, priced.least_bytes)
        yield
    return listing


class Covers:
    """All choices of groups that cost less than ``room`` beyond all prices.

    ``known`` are groups whose costs are certain, and ``ask`` says what another one moves, None if it does not run.
    Every group must pay for its ops. ``bound`` is what every plan costs beyond all prices at least, ``room`` at most;
    ``chosen`` is the best choice whose groups do not wait in a circle, once ``done``; None if there is none.
    """

    def __init__(
        self,
        pricing: Pricing,
        listing: Listing,
        room: int,
        known: Collection[Group],
        ask: Callable[[Group], int | None],
    ) -> None:
        self._graph: Graph = pricing.graph
        self._ask, self._room = ask, room
        listed = sorted(listing.groups, key=lambda entry: (low_bit(entry[1]), entry))
        self._groups = [group for _, group in listed]
        self._listed = _choices(listed, known, len(self._graph))
        self._unlisted = listing.unlisted
        self._ends = np.arange(1, len(self._graph) + 1)
        for first, near in pricing.roots.items():
            self._ends[first] = near[-1] + 1
        self._tails = np.zeros(len(self._graph) + 1, np.int64)
        self._left = _MOST_SETS
        self.bound = 0
        self.done = False
        self.chosen: list[Group] | None = None

    @property
    def spent(self) -> bool:
        """Whether as many sets are settled as may be."""
        return self._left <= 0

    def run(self, looks: Sequence[Look], last: Look) -> Iterator[None]:
        """Tails, one look further than the other, then the best choice."""
        for look in looks:
            yield from self._look(look)
            if self.bound >= self._room:
                self.done = True
                return
        yield from self._choose(last)

    def _look(self, look: Look) -> Iterator[None]:
        """The tail of every op, the last one first."""
        sets = new_sets(look.kept, self._listed.words.shape[1])
        for op in reversed(range(len(self._graph))):
            least, _ = yield from self._settle(sets, op, min(op + look.ahead, len(self._graph)), look.sets)
            self._tails[op] = max(self._tails[op], least)
            self.bound = max(self.bound, min(int(self._tails[op]), int(self._beyond()[:op].min(initial=NEVER))))
            if self.bound >= self._room or self.spent:
                return
            yield

    def _settle(self, sets: Sets, first: int, stop: int, most: int) -> Generator[None, None, tuple[int, int | None]]:
        """What a plan costs at least once all lowest ops below the first one are chosen; the row reached, if any."""
        beyond = self._beyond()
        parts = self._parts(first, min(int(self._tails[first + 1]), int(beyond[first:].min())))
        begin(sets, first, min(int(self._tails[first + 1]), int(beyond[first])), self._room)
        asked = 0
        while True:
            end, row = settle(sets, self._listed, parts, self._tails, beyond, stop, min(most, self._left))
            if end != UNASKED:
                break
            self._learn(int(sets.choice[row]))
            asked += 1
            if asked % _ASKED_AT_ONCE == 0:
                yield
        self._left -= int(sets.counts[SETTLED])
        if end == EMPTY:
            return int(sets.counts[BEYOND]), None
        return int(sets.least[row]), int(row) if end == REACHED else None

    def _beyond(self) -> I64:
        """What a plan costs at least from an op on that takes a group with this lowest op which is not listed.

        Tails count parts of listed groups only: so the one that holds is that of an op which no such group reaches, if
        none of those between has another group that is not listed.
        """
        beyond = np.full(len(self._tails), NEVER)
        for op in np.flatnonzero(self._unlisted < NEVER)[::-1].tolist():
            end = self._ends[op]
            after = min(self._tails[end], beyond[op + 1 : end].min(initial=NEVER))
            beyond[op] = min(NEVER, self._unlisted[op] + after)
        return beyond

    def _learn(self, choice: int) -> None:
        """Ask the model about a group."""
        group = self._groups[choice]
        nbytes = self._ask(group)
        self._listed.more[choice] = NEVER if nbytes is None else nbytes - self._graph.touch_once_bytes(group)

    def _parts(self, first: int, after: int) -> Choices:
        """What groups that begin below an op hold from it on, for nothing: those a plan with ``after`` more can pay."""
        lowest, words = crossing(self._listed, first, self._room - after)
        order = np.argsort(lowest, kind="stable")
        begins = np.searchsorted(lowest[order], np.arange(len(self._graph) + 1)).astype(np.int32)
        nothing = np.zeros(len(order), np.int64)
        return Choices(begins, words[order], nothing.astype(np.int32), nothing, nothing)

    def _choose(self, look: Look) -> Iterator[None]:
        """The best choice without a circle: of one with a circle, each group in turn is forbidden."""
        sets = new_sets(look.kept, self._listed.words.shape[1])
        place = {group: choice for choice, group in enumerate(self._groups)}
        waiting: list[tuple[int, int, tuple[int, ...], list[Group] | None]] = [(self.bound, 0, (), None)]
        for made in range(_CIRCLES):
            least, _, forbidden, groups = heapq.heappop(waiting)
            self.bound = max(self.bound, min(least, self._room))
            if groups is not None or least >= self._room:
                self.done, self.chosen = bool(groups) or least >= self._room, groups or None
                return
            least, groups = yield from self._without(sets, forbidden, look.sets)
            circle = _in_circles(self._graph, groups)
            for k, group in enumerate(circle):
                heapq.heappush(waiting, (least, made * len(place) + k, (*forbidden, place[group]), None))
            if not circle:
                heapq.heappush(waiting, (least, made * len(place), forbidden, groups))

    def _without(
        self, sets: Sets, forbidden: Sequence[int], most: int
    ) -> Generator[None, None, tuple[int, list[Group]]]:
        """What choices without some groups cost at least, and the best one, if it is found and costs no more."""
        places = list(forbidden)
        more = self._listed.more[places]
        self._listed.more[places] = NEVER
        least, row = yield from self._settle(sets, 0, len(self._graph), most)
        self._listed.more[places] = more
        return least, [] if row is None else self._way(sets, row)

    def _way(self, sets: Sets, row: int) -> list[Group]:
        """The groups on the way to a set."""
        groups = []
        while sets.before[row] >= 0:
            groups.append(self._groups[sets.choice[row]])
            row = int(sets.before[row])
        return groups


def _choices(listed: Sequence[tuple[int, Group]], known: Collection[Group], ops: int) -> Choices:
    """Groups, sorted by their lowest op and then by cost, as arrays."""
    lowest = [low_bit(group) for _, group in listed]
    last = [group.bit_length() - 1 for _, group in listed]
    width = 1 + max(((b >> 6) - (a >> 6) for a, b in zip(lowest, last, strict=True)), default=0)
    rows = [
        (group >> (low & ~63)).to_bytes(8 * width, "little") for low, (_, group) in zip(lowest, listed, strict=True)
    ]
    words: NDArray[np.uint64] = np.frombuffer(b"".join(rows), np.uint64).reshape(len(listed), width).copy()
    return Choices(
        begins=np.searchsorted(lowest, np.arange(ops + 1)).astype(np.int32),
        words=words,
        last=np.array(last, np.int32),
        cost=np.array([cost for cost, _ in listed], np.int64),
        more=np.array([0 if group in known else -1 for _, group in listed], np.int64),
    )


def _in_circles(graph: Graph, groups: Sequence[Group]) -> list[Group]:
    """The groups that wait for each other, and those between two such circles. O(groups^2)."""
    around = [(group, _joined(graph.preds, group), _joined(graph.succs, group)) for group in groups]
    many = -1
    while many != len(around):
        many, rest = len(around), sum(group for group, _, _ in around)
        around = [entry for entry in around if entry[1] & rest and entry[2] & rest]
    return [group for group, _, _ in around]


def _joined(neighbours: Sequence[Group], group: Group) -> Group:
    """The neighbours of a group's ops outside it."""
    joined = 0
    for op in bits(group):
        joined |= neighbours[op]
    return joined & ~group
