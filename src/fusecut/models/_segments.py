"""What is on chip under a choice of part tensors, found for one segment of a group at a time.

A tensor is *narrow* if it is all that the ops of a group up to some place in their order have in common with those
after it. While it is full, stages before and after the place have nothing to do with each other: those before run
first, and it waits meanwhile. So what is on chip in each step is that of *segments*, stretches of ops between
narrow tensors that are full. Another choice changes few of them, and other groups have most of them, too.
"""

from __future__ import annotations

from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from fusecut.ir import Graph, Group, bits
from fusecut.models._bands import BandRows
from fusecut.models._occupancy import Occupancy
from fusecut.models._slices import GroupFacts, Habits, Slicing

NONE: Final = -1
"""No tensor."""

_KEPT: Final = 60_000
"""Ops in all choices that are remembered: a sweep over capacities makes the same ones again."""

Part: TypeAlias = frozenset[int]


class Known:
    """Choices for segments of one graph, whatever group they are of."""

    def __init__(self, graph: Graph, habits: list[Habits], accumulators: list[int]) -> None:
        self.graph, self.habits, self.accumulators = graph, habits, accumulators
        self._facts: dict[tuple[Group, int, int], GroupFacts] = {}
        self._made: dict[tuple[Group, int, int, Part, int], Occupancy | None] = {}
        self._ops = 0

    def occupancy(self, segment: _Segment, part: Part, channels: int) -> Occupancy | None:
        """What is on chip in a segment; None where the choice cannot run. O(ops) the first time."""
        key = *segment, part, channels
        if key not in self._made:
            self._ops += segment.ops.bit_count()
            if self._ops > _KEPT:
                self._made.clear()
                self._ops = 0
            self._made[key] = self._new(segment, part, channels)
        return self._made[key]

    def _new(self, segment: _Segment, part: Part, channels: int) -> Occupancy | None:
        facts = self._facts.get(segment)
        if facts is None:
            facts = self._facts[segment] = GroupFacts(self.graph, segment.ops, self.habits, *segment[1:])
        slicing = Slicing(facts, part)
        return Occupancy(self.graph, slicing, self.accumulators, channels) if slicing.valid else None


class _Segment(NamedTuple):
    """Some ops; ``enters`` is made before them, ``leaves`` read after them, or :data:`NONE`."""

    ops: Group
    enters: int
    leaves: int


class _Span(NamedTuple):
    """A segment by its first and last piece, its part tensors, and bytes in its steps, the most first."""

    first: int
    last: int
    part: Part
    loads: list[int]


class Pieces:
    """A group divided at every narrow tensor."""

    def __init__(self, graph: Graph, group: Group) -> None:
        touches: dict[int, list[int]] = {}
        for i in bits(group):
            for t in (*graph.ops[i].inputs, *graph.ops[i].outputs):
                touches.setdefault(t, []).append(i)
        self.touching = {t: sum(1 << i for i in dict.fromkeys(ops)) for t, ops in touches.items()}
        self.ops: list[Group] = [0]
        self.narrow: list[int] = []
        crossing = set[int]()
        for i in bits(group):
            if len(crossing) == 1 and graph.producer[t := min(crossing)] >= 0 and group >> graph.producer[t] & 1:
                self.narrow.append(t)
                self.ops.append(0)
            self.ops[-1] |= 1 << i
            for t in (*graph.ops[i].inputs, *graph.ops[i].outputs):
                (crossing.add if touches[t][-1] > i else crossing.discard)(t)
        self.home = {t: (self._piece(ops[0]), self._piece(ops[-1])) for t, ops in touches.items()}
        self._reach: dict[Part, tuple[int, int]] = {}
        self._inside = [frozenset(t for t, (first, _) in self.home.items() if first == k) for k in range(len(self.ops))]

    def reach(self, tensors: Part) -> tuple[int, int]:
        """The first and the last piece that touch some tensors."""
        known = self._reach.get(tensors)
        if known is None:
            homes = [self.home[t] for t in tensors]
            known = self._reach[tensors] = min(home[0] for home in homes), max(home[1] for home in homes)
        return known

    def _piece(self, op: int) -> int:
        return next(k for k, ops in enumerate(self.ops) if ops >> op & 1)

    def segment(self, first: int, last: int) -> _Segment:
        """The ops of some pieces."""
        enters = self.narrow[first - 1] if first else NONE
        leaves = self.narrow[last] if last < len(self.narrow) else NONE
        return _Segment(sum(self.ops[first : last + 1]), enters, leaves)

    def inside(self, first: int, last: int) -> Part:
        """Tensors that are touched there for the first time."""
        return self._inside[first] if first == last else frozenset().union(*self._inside[first : last + 1])


class Bands:
    """Bands of certain rows of a group: looks at choices, and remembers what it saw."""

    def __init__(self, known: Known, pieces: Pieces, rows: BandRows, images: int, channels: int) -> None:
        self.known, self.pieces, self.rows, self.images, self.channels = known, pieces, rows, images, channels
        self._seen: dict[tuple[int, int, Part], list[int] | None] = {}

    def choice(self, part: Part) -> Choice:
        """The choice of these part tensors, which can run."""
        spans = self.spans(part, 0, len(self.pieces.ops) - 1)
        if spans is None:
            raise AssertionError("a choice to begin with that cannot run")
        return Choice(self, spans)

    def spans(self, part: Part, first: int, last: int, most: int | None = None) -> list[_Span] | None:
        """The segments of some pieces; None where one cannot run, or holds more than ``most``."""
        spans, begin, narrow = list[_Span](), first, self.pieces.narrow
        for k in range(first, last + 1):
            if k == last or narrow[k] not in part:
                inside = part & self.pieces.inside(begin, k)
                loads = self._loads(begin, k, inside)
                if loads is None or (most is not None and loads[0] > most):
                    return None
                spans.append(_Span(begin, k, inside, loads))
                begin = k + 1
        return spans

    def _loads(self, first: int, last: int, part: Part) -> list[int] | None:
        key = first, last, part
        if key not in self._seen:
            occupancy = self.occupancy(first, last, part)
            loads = None if occupancy is None else sorted(occupancy.loads(self.rows, self.images), reverse=True)
            self._seen[key] = loads
        return self._seen[key]

    def occupancy(self, first: int, last: int, part: Part) -> Occupancy | None:
        return self.known.occupancy(self.pieces.segment(first, last), part, self.channels)


class Choice:
    """Part tensors of a whole group. ``loads`` are bytes on chip in all steps, the most first."""

    def __init__(self, bands: Bands, spans: list[_Span]) -> None:
        self.bands, self.spans = bands, spans
        self.loads = sorted(chain.from_iterable(span.loads for span in spans), reverse=True)
        self._span_of = [k for k, span in enumerate(spans) for _ in range(span.first, span.last + 1)]

    @property
    def part(self) -> Part:
        return frozenset().union(*(span.part for span in self.spans))

    def changed(self, change: Part, most: int) -> Choice | None:
        """The choice with some tensors changed; None if it cannot run or some step holds more than ``most``."""
        first, last = self.bands.pieces.reach(change)
        begin, end = self._span_of[first], self._span_of[last]
        part = self.spans[begin].part.union(*(span.part for span in self.spans[begin + 1 : end + 1])) ^ change
        spans = self.bands.spans(part, self.spans[begin].first, self.spans[end].last, most)
        return None if spans is None else Choice(self.bands, [*self.spans[:begin], *spans, *self.spans[end + 1 :]])

    def near(self) -> set[int]:
        """Tensors of the highest steps, and what the ops of the group that touch them read and make."""
        bands, ops, graph = self.bands, 0, self.bands.known.graph
        for first, last, part, loads in self.spans:
            occupancy = bands.occupancy(first, last, part) if loads[0] == self.loads[0] else None
            for step, load in enumerate(occupancy.loads(bands.rows, bands.images) if occupancy else ()):
                if occupancy and load == self.loads[0]:
                    for t in occupancy.at(step):
                        ops |= bands.pieces.touching[t]
        return {t for i in bits(ops) for t in (*graph.ops[i].inputs, *graph.ops[i].outputs)}
