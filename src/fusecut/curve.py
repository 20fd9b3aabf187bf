"""The fewest DRAM bytes as a function of the buffer: every breakpoint, with the plan at it.

>>> import fusecut as fc
>>> curve = fc.curve(fc.zoo("squeezenet1_1"), "64KiB", "128KiB")
>>> curve.proved, curve.at("100KiB").dram_bytes == fc.solve(fc.zoo("squeezenet1_1"), "100KiB").bound
(True, True)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import log2
from time import perf_counter
from typing import Any, Final, NamedTuple

from fusecut._descent import Remembered, Stretch, descend, refusal
from fusecut.cost import CostModel, Planned
from fusecut.errors import FusecutError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import never_rising, scheme_model
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import Exact, Searcher
from fusecut.units import format_bytes, parse_bytes

KNEES: Final = 3
INTERRUPTED: Final = "interrupted"
_COLUMN_EFFORT: Final = 200_000
"""Of the search at each point by default: curves have many, and a network that takes more ends with a gap."""

_LEAST_BEND: Final = 0.05


@dataclass(frozen=True)
class Point:
    """From ``buffer_bytes`` on, up to the next point, ``partition`` moves ``dram_bytes``.

    No plan moves less than ``bound_bytes`` there; one that moves as much is proved best. Then no
    smaller buffer allows as few bytes, except at the first point, which the range may cut off.
    """

    buffer_bytes: int
    dram_bytes: int
    bound_bytes: int
    partition: Partition

    @property
    def proved(self) -> bool:
        """Whether no plan moves fewer bytes, at any buffer up to the next point."""
        return self.dram_bytes == self.bound_bytes

    @property
    def gap(self) -> float:
        """(dram - bound) / dram: 0.0 where the plan is proved to be the best."""
        return (self.dram_bytes - self.bound_bytes) / self.dram_bytes if self.dram_bytes else 0.0


class Progress(NamedTuple):
    """How far down a sweep has come."""

    buffer_bytes: int
    dram_bytes: int
    stretches: int
    evaluations: int
    seconds: float


@dataclass(frozen=True)
class Curve:
    """DRAM bytes of the best plan at every buffer from the first point up to ``machine.buffer_bytes``.

    ``points`` go from the smallest buffer to the largest. ``from_bytes`` is where the range was
    asked to begin; where the first point lies above it, ``ended`` says why: the network does not run
    in less, or the sweep was stopped. ``floor_bytes`` are weights, network inputs and outputs once.
    """

    graph: Graph
    machine: Machine
    scheme: str
    from_bytes: int
    floor_bytes: int
    points: tuple[Point, ...]
    ended: str
    evaluations: int
    seconds: float = field(compare=False)
    model: CostModel = field(repr=False, compare=False)

    @property
    def proved(self) -> bool:
        """Whether every point is proved to be the best."""
        return all(point.proved for point in self.points)

    def at(self, buffer: str | int) -> Point:
        """The point whose plan is used in a buffer of this size. O(log points).

        Raises:
            FusecutError: the size is outside the curve.
            UnitError: not a size.
        """
        size = parse_bytes(buffer)
        index = bisect_right([point.buffer_bytes for point in self.points], size) - 1
        if index < 0 or size > self.machine.buffer_bytes:
            first = format_bytes(self.points[0].buffer_bytes) if self.points else "nothing"
            last = format_bytes(self.machine.buffer_bytes)
            raise FusecutError(f"a buffer of {format_bytes(size)} is not on the curve: it goes from {first} to {last}")
        return self.points[index]

    def planned(self, buffer: str | int) -> tuple[Planned, ...]:
        """Schedule and cost of every group of the plan at a buffer, as a :class:`Solution` has them."""
        machine = replace(self.machine, buffer_bytes=parse_bytes(buffer))
        return Problem(self.graph, machine, self.model).finished(self.at(buffer).partition)

    def gained(self, point: Point) -> float:
        """What a buffer buys of all there is to gain: (first - dram) / (first - floor), from 0.0 to 1.0.

        ``first`` is the traffic at the smallest buffer of the curve. 1.0 is the floor, which no
        buffer beats; 0.0 throughout where even the first point is on it.
        """
        most = self.points[0].dram_bytes - self.floor_bytes
        return (self.points[0].dram_bytes - point.dram_bytes) / most if most else 0.0

    def knees(self, most: int = KNEES) -> tuple[Point, ...]:
        """Points after which more buffer buys less than before, the most pronounced ones, by buffer.

        A knee lies farthest below the chord of a stretch of the curve, over log2 of the buffer
        (Satopaa et al., "Finding a Kneedle in a haystack", 2011), by at least 5 % of the height of
        the curve; every knee divides its stretch in two. None where the curve is flat.
        """
        bends = [] if len(self.points) < 2 else _bends(self._corners(), most)
        return tuple(self.points[index] for index in sorted(bends))

    def _corners(self) -> list[tuple[float, float]]:
        """(log2 buffer, bytes) of every point and of the end of the last step, both scaled to 0..1."""
        ends = [(p.buffer_bytes, p.dram_bytes) for p in self.points]
        ends.append((self.machine.buffer_bytes, self.points[-1].dram_bytes))
        low, wide = log2(ends[0][0]), log2(ends[-1][0]) - log2(ends[0][0])
        least, high = ends[-1][1], max(1, ends[0][1] - ends[-1][1])
        return [((log2(x) - low) / wide, (y - least) / high) for x, y in ends]

    def to_dict(self) -> dict[str, Any]:
        """Plain data in the layout of docs/curve.md; plans are listed once, and points say which is theirs."""
        plans = {point.partition.groups: point.partition for point in self.points}
        place = {groups: index for index, groups in enumerate(plans)}
        inputs = [self.graph.tensors[t] for t in self.graph.inputs]
        return {
            "scheme": self.scheme,
            "machine": self.machine.to_dict(),
            "inputs": {tensor.name: list(tensor.shape) for tensor in inputs},
            "from_bytes": self.from_bytes,
            "to_bytes": self.machine.buffer_bytes,
            "ended": self.ended,
            "proved": self.proved,
            "floor_dram_bytes": self.floor_bytes,
            "evaluations": self.evaluations,
            "knees": [point.buffer_bytes for point in self.knees()],
            "points": [
                {
                    "buffer_bytes": point.buffer_bytes,
                    "dram_bytes": point.dram_bytes,
                    "bound_bytes": point.bound_bytes,
                    "gained": round(self.gained(point), 6),
                    "plan": place[point.partition.groups],
                }
                for point in self.points
            ],
            "plans": [plan.names() for plan in plans.values()],
        }


def curve(
    graph: Graph,
    from_buffer: str | int,
    to_buffer: str | int,
    *,
    machine: Machine | None = None,
    scheme: str = "mixed",
    model: CostModel | None = None,
    search: Searcher | None = None,
    tolerance: float = 0.0,
    max_seconds: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Curve:
    """The fewest DRAM bytes at every buffer of a range, both ends included, as a step function.

    The range is swept from its end down: a search at one capacity gives the best plan for every
    capacity down to what that plan needs, and the next search starts one byte below (docs/curve.md has
    the proof). No grid: between two points nothing is left to find, unless a ``tolerance`` says otherwise.

    Args:
        graph: the network, from :func:`fusecut.load` or :func:`fusecut.zoo`.
        from_buffer, to_buffer: the range, ``"16KiB"`` or bytes.
        machine: bits and whatever else a machine has; its buffer is not looked at.
        scheme: a name of :data:`fusecut.models.SCHEMES`; or give any cost ``model`` that never moves
            more in a larger buffer and reports as ``buffer_bytes`` all that a schedule needs. Ops that run
            alone under ``brr`` do so in bands or in tiles, whichever moves less
            (:func:`fusecut.models.never_rising`).
        search: one that ends by itself, by default :class:`fusecut.search.Exact`. Points it cannot prove
            carry its bound.
        tolerance: the share of DRAM bytes that points may be above the best plan at the end of their step. Where
            large groups run in bands a few bytes of buffer buy a few bytes less traffic, for hundreds of KiB; with a
            tolerance such a slope takes few points, which carry their bounds.
        max_seconds: stop after so many seconds, with the upper part of the curve.

    An interrupt (Ctrl-C) also ends the sweep with the part that is done.

    Complexity: one search for every best partition in the range; groups are priced once for each
    capacity at which their price changes.

    Raises:
        FusecutError: the range is empty, the search never ends, or the tolerance is not from 0 to below 1.
        UnitError, MachineError, UnknownNameError: see there.
        CostModelError: the model charged less in a smaller buffer.
    """
    low, high = parse_bytes(from_buffer), parse_bytes(to_buffer)
    search = search or Exact(column_effort=_COLUMN_EFFORT)
    _check(low, high, search, tolerance)
    machine = replace(machine or Machine(high), buffer_bytes=high)
    remembered = Remembered(never_rising(model if model is not None else scheme_model(scheme)))
    graph = graph.with_bits(machine.activation_bits, machine.weight_bits, machine.accumulator_bits)
    sweep = _Sweep(remembered, max_seconds, on_progress)
    reason = sweep.run(descend(graph, machine, remembered, search, low, sweep.out_of_time, tolerance))
    lowest = sweep.stretches[-1].low_bytes if sweep.stretches else high + 1
    return Curve(
        graph=graph,
        machine=machine,
        scheme=scheme if model is None else model.name,
        from_bytes=low,
        floor_bytes=graph.touch_once_bytes(graph.everything),
        points=_points(sweep.stretches),
        ended=reason or _refused(Problem(graph, replace(machine, buffer_bytes=max(1, lowest - 1)), remembered), low),
        evaluations=remembered.evaluations,
        seconds=perf_counter() - sweep.started,
        model=remembered.model,
    )


def _check(low: int, high: int, search: Searcher, tolerance: float) -> None:
    if not 0 <= tolerance < 1:
        raise FusecutError(f"a tolerance of {tolerance}: give a share of DRAM bytes, such as 0.001")
    if not 0 < low <= high:
        raise FusecutError(
            f"a curve from {format_bytes(low)} to {format_bytes(high)} is empty: begin with at least 1 byte, "
            "and end with at least as much"
        )
    if getattr(search, "endless", False):
        raise FusecutError(f"search {search.name!r} never ends by itself: a curve needs one that does, such as exact")


class _Sweep:
    """Collects the stretches of a sweep until it is over, interrupted, or out of time."""

    def __init__(
        self, model: Remembered, max_seconds: float | None, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.model, self.max_seconds, self.on_progress = model, max_seconds, on_progress
        self.started = perf_counter()
        self.late = False
        self.stretches: list[Stretch] = []

    def out_of_time(self) -> bool:
        self.late = self.max_seconds is not None and perf_counter() - self.started >= self.max_seconds
        return self.late

    def run(self, stretches: Iterator[Stretch]) -> str:
        """Why the sweep ended early; nothing where it came to its end."""
        try:
            for stretch in stretches:
                self.stretches.append(stretch)
                self._report(stretch)
                if self.out_of_time():
                    break
        except KeyboardInterrupt:
            return INTERRUPTED
        return "out of time" if self.late else ""

    def _report(self, stretch: Stretch) -> None:
        if self.on_progress is not None:
            seconds, evaluations = perf_counter() - self.started, self.model.evaluations
            at = stretch.low_bytes, stretch.dram_bytes, len(self.stretches)
            self.on_progress(Progress(*at, evaluations, seconds))


def _refused(below: Problem, low: int) -> str:
    """Why a sweep that nobody stopped ended above ``low``; nothing where it did not."""
    if below.capacity_bytes < low:
        return ""
    why = refusal(below)
    size = format_bytes(below.capacity_bytes)
    return f"no plan in {size}" if why is None else f"no plan in {size}: op {why[0]!r} {why[1]}"


def _points(stretches: Sequence[Stretch]) -> tuple[Point, ...]:
    """Stretches, largest first, as points, smallest first.

    Where a plan for a smaller buffer does as well it takes the place of a worse one: without proof
    that can be. A point without gain is left only where a weaker bound begins.
    """
    points: list[Point] = []
    for low, _, dram, bound, partition in reversed(stretches):
        if points and points[-1].dram_bytes <= dram:
            last = points[-1]
            if bound < min(last.bound_bytes, last.dram_bytes):
                points.append(Point(low, last.dram_bytes, bound, last.partition))
        else:
            points.append(Point(low, dram, bound, partition))
    return tuple(points)


def _bends(corners: Sequence[tuple[float, float]], most: int) -> list[int]:
    """Places of the most pronounced knees; the first corner and the last two are none."""
    ends, bends = [0, len(corners) - 1], list[int]()
    while len(bends) < most:
        found = max((_bend(corners, a, b) for a, b in pairwise(ends)), default=(0.0, 0))
        if found[0] < _LEAST_BEND:
            break
        bends.append(-found[1])
        ends = sorted([*ends, -found[1]])
    return bends


def _bend(corners: Sequence[tuple[float, float]], first: int, last: int) -> tuple[float, int]:
    """How far the lowest corner between two is below their chord, and where it is, negated."""
    (x0, y0), (x1, y1) = corners[first], corners[last]
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    inside: Iterable[int] = range(first + 1, last)
    return max(((y0 + slope * (corners[i][0] - x0) - corners[i][1], -i) for i in inside), default=(0.0, 0))
