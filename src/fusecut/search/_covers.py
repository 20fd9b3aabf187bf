"""From near-optimal prices to the optimum: a shortest path over sets of ops that are covered, lowest op first.

Choose a group for the lowest op that no group holds yet, then for the next one: every choice of disjoint groups
that holds all ops is such a path, and the sets of ops covered on the way are its nodes. With prices y of ops and
fines of triples (:mod:`fusecut.search._master`) for which every group pays, completing a set S costs at least::

    h(S) = sum of y(i) over ops outside S - sum of fines of triples with two ops or three outside S

for each of these fines is paid by one of the groups to come at most. h falls along a path by no more than the
group costs, so A* with it is exact; where prices are near-optimal, few groups and few sets are within reach of the
best plan known. The steps of a group G after S cost, in integers::

    bytes(G) - y(G) + fines of triples of which G holds two + fines of triples of which S, G, and the rest hold one each

Groups may still wait for each other in a circle: the bound holds, and the path is a plan only if they do not.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from fusecut.cost import NEVER_BYTES
from fusecut.ir import Group, bits
from fusecut.search._pricing import Duals, Effort, Pricing
from fusecut.search._tables import low_bit

_EFFORT: Final = Effort(2_000, 1000, 50_000)
"""Enough to list all groups of a first op that matter; where it is not, nothing is proved."""

_MOST_GROUPS, _MOST_WAITING = 300_000, 2_000_000
"""Groups listed, and sets waiting to be settled, 300 bytes each."""

_SETS_PER_YIELD: Final = 2_000


class _Choice(NamedTuple):
    """A group, what it costs beyond the prices of its ops at least, and the triples of which it holds one op."""

    cost: int
    group: Group
    ones: tuple[int, ...]


class _Reached(NamedTuple):
    """A set of covered ops, ordered by what is spent, larger ones first; the set before, and whether the model has
    been asked about the group between them."""

    spent: int
    order: int
    covered: Group
    before: Group
    asked: bool


class Covers:
    """All choices of groups that cost less than ``total of the duals + room_bytes``.

    ``bytes_of`` are the bytes of groups that the model knows, ``refused`` those that do not run, and ``ask`` says what
    others move, None if they do not run. Every group that may run must pay for its ops under the duals.
    ``bound_bytes`` holds for every plan; ``chosen`` is the best choice, once ``done``, None if there is none.
    """

    def __init__(
        self,
        pricing: Pricing,
        duals: Duals,
        room_bytes: int,
        bytes_of: Mapping[Group, int],
        refused: Iterable[Group],
        ask: Callable[[Group], int | None],
    ) -> None:
        self._graph, self._duals, self._room, self._ask = pricing.graph, duals, room_bytes, ask
        self._triples = list(duals.fines.items())
        self._through = [
            [k for k, (ops, _) in enumerate(self._triples) if ops >> op & 1] for op in range(len(pricing.graph))
        ]
        self.bound_bytes = duals.total
        self.done = False
        self.chosen: list[Group] | None = None
        self.sets = 0
        self._pricing, self._bytes_of, self._refused = pricing, bytes_of, refused
        self._choices: list[list[_Choice]] = [[] for _ in range(len(pricing.graph))]
        self._extra = dict.fromkeys(bytes_of, 0)

    def _list(self) -> Generator[None, None, bool]:
        """For each first op the groups that may matter, the cheapest first; whether they are not too many."""
        self._pricing.know(self._bytes_of, self._refused)
        for cost, group in self._pricing.reduced(self._bytes_of, self._duals):
            if cost < self._room:
                self._choices[low_bit(group)].append(self._choice(cost, group))
        left = _MOST_GROUPS
        for first in self._pricing.roots:
            priced = self._pricing.groups(first, self._duals, self._room, _EFFORT)
            left -= len(priced.groups)
            if not priced.complete or len(priced.groups) == _EFFORT.groups or left < 0:
                return False
            self._choices[first] += [self._choice(cost, group) for cost, group in priced.groups]
            yield
        for choices in self._choices:
            choices.sort()
        return True

    def _choice(self, cost: int, group: Group) -> _Choice:
        touched = {k for op in bits(group) for k in self._through[op]}
        return _Choice(cost, group, tuple(k for k in touched if (self._triples[k][0] & group).bit_count() == 1))

    def run(self, most_sets: int) -> Iterator[None]:
        """Settle sets of covered ops, cheapest first, until all are covered, none is left, or the sets are spent."""
        if not (yield from self._list()):
            return
        settled: dict[Group, Group] = {}
        queue = [_Reached(0, 0, 0, 0, True)]
        while queue and self.sets < most_sets and len(queue) < _MOST_WAITING:
            spent, _, covered, before, asked = reached = heapq.heappop(queue)
            if covered in settled:
                continue
            more = 0 if asked else self._more(covered ^ before)
            if more:
                if spent + more < self._room:
                    heapq.heappush(queue, reached._replace(spent=spent + more, asked=True))
                continue
            self.sets += 1
            settled[covered] = before
            self.bound_bytes = max(self.bound_bytes, self._duals.total + spent)
            if covered == self._graph.everything:
                self.done, self.chosen = True, _groups(settled, covered)
                return
            for following in self._steps(covered, spent):
                if following.spent < self._room and following.covered not in settled:
                    heapq.heappush(queue, following)
            if self.sets % _SETS_PER_YIELD == 0:
                yield
        if not queue:
            self.done, self.bound_bytes = True, self._duals.total + self._room

    def _steps(self, covered: Group, spent: int) -> Iterator[_Reached]:
        """The sets after each choice for the lowest op that is not covered."""
        lowest = low_bit(~covered)
        for cost, group, ones in self._choices[lowest]:
            if spent + cost >= self._room:
                return
            if not group & covered:
                more, after = self._extra.get(group), covered | group
                total = spent + cost + (more or 0) + sum(self._lost(k, covered) for k in ones)
                yield _Reached(total, -after.bit_count(), after, covered, more is not None)

    def _lost(self, k: int, covered: Group) -> int:
        """The fine of a triple that nobody pays any more once a group takes one of its last two ops."""
        ops, fine = self._triples[k]
        return fine if (ops & ~covered).bit_count() == 2 else 0

    def _more(self, group: Group) -> int:
        """What a group moves beyond what its choice counts, by the model; no end of bytes if it does not run."""
        if group not in self._extra:
            found = self._ask(group)
            self._extra[group] = NEVER_BYTES if found is None else found - self._graph.touch_once_bytes(group)
        return self._extra[group]


def _groups(settled: Mapping[Group, Group], covered: Group) -> list[Group]:
    """The groups on the way to a set."""
    groups = []
    while covered:
        groups.append(covered ^ settled[covered])
        covered = settled[covered]
    return groups
