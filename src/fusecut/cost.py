"""What a group costs, or why it cannot run; and the protocol every cost model follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.objective import Objective
from fusecut.schedule import Schedule


@dataclass(frozen=True)
class Cost:
    """Exact integer bytes of one group, or of a whole plan (then ``buffer_bytes`` is the maximum).

    ``read_bytes`` includes ``weight_bytes``. ``recomputed_macs`` are part of ``macs``.
    ``pooled_buffer_bytes`` is what one shared pool would need instead of a ring per tensor; it is
    filled in for the groups of an answer only.
    """

    read_bytes: int
    write_bytes: int
    weight_bytes: int
    buffer_bytes: int
    pooled_buffer_bytes: int = 0
    macs: int = 0
    recomputed_macs: int = 0

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic: bytes read plus bytes written, for one inference of the whole batch."""
        return self.read_bytes + self.write_bytes

    def __add__(self, other: Cost) -> Cost:
        """The cost of running both, one after the other: bytes add up, buffers take the larger."""
        return Cost(
            self.read_bytes + other.read_bytes,
            self.write_bytes + other.write_bytes,
            self.weight_bytes + other.weight_bytes,
            max(self.buffer_bytes, other.buffer_bytes),
            max(self.pooled_buffer_bytes, other.pooled_buffer_bytes),
            self.macs + other.macs,
            self.recomputed_macs + other.recomputed_macs,
        )


NO_COST = Cost(0, 0, 0, 0)


@dataclass(frozen=True)
class Infeasible:
    """Why a group cannot run under a scheme: a value, never an exception.

    ``demand`` and ``limit`` are bytes of ``resource``; ``demand`` may be a proven lower bound
    (``at_least``). ``where`` names what takes most of it, ``levers`` what would help.
    """

    resource: str
    demand: int
    limit: int
    where: str
    levers: tuple[str, ...] = ()
    at_least: bool = False

    def __str__(self) -> str:
        if self.resource != "buffer":
            return f"{self.where}"
        need = "at least " if self.at_least else ""
        text = (
            f"needs {need}{self.demand:,} B, the buffer has {self.limit:,} B: "
            f"{self.demand - self.limit:,} B over; {self.where}"
        )
        return text + "".join(f"; {lever}" for lever in self.levers)


class Planned(NamedTuple):
    """A feasible group: how it runs, and what that costs."""

    schedule: Schedule
    cost: Cost


@dataclass(frozen=True)
class Dearer:
    """The answer to whoever set a limit: the group moves ``dram_bytes`` or more, above it, or cannot run."""

    dram_bytes: int


NEVER_BYTES: Final = 1 << 200
"""More than anything moves: what a group that cannot run costs."""


class BufferFloor(Protocol):
    """What a small buffer costs at least, told from the ops of a group; it only grows when ops join the group.

    It speaks for groups of two ops or more: a single op may be run by another scheme.

    ``extend(group, mark, op)`` is the mark of ``group`` with ``op`` added, given the mark of ``group``;
    ``start`` that of the empty group. A mark means something to its floor only, which turns it into
    ``again_bytes``: what any feasible group with at least these ops moves beyond touching every
    tensor and weight once, :data:`NEVER_BYTES` where no such group is feasible. Groups without a
    common op that are merged pay at least what both would pay.
    """

    start: int

    def extend(self, group: Group, mark: int, op: int) -> int: ...

    def again_bytes(self, mark: int, capacity_bytes: int) -> int: ...


class FloorTable(NamedTuple):
    """A floor of bytes on chip as a table.

    A group holds ``fixed[op]`` bytes for each op, and for each tensor that it makes or reads the bytes of the first of
    ``pairs[tensor]`` whose readers (one or two) are all inside, or else ``base[tensor]``. Larger pairs come first.
    """

    fixed: Sequence[int]
    base: Sequence[int]
    pairs: Sequence[Sequence[tuple[Group, int]]]


class FittingFloor(BufferFloor, Protocol):
    """A floor that forbids groups and prices none, and may be known as a table."""

    def table(self, graph: Graph) -> FloorTable | None: ...


class BandTable(NamedTuple):
    """A floor of groups that fit as they are (``fits``), or run in bands and stream their weights.

    In ``more[k]`` bands beyond the first, up to those of k + 1, a group holds at least the most over its pairs of ops,
    one leading to the other, and single ops, of ``any_way[p][k]``, p being ``profile[first][last]``; and
    for every tensor, the bytes of the first of ``halos`` whose ops are all inside beside ``beside[p][k]``, or
    ``again[p][k]``. Weights have the rest: what does not fit in there passes once more in every further band.
    """

    fits: FloorTable
    more: Sequence[int]
    profile: Sequence[Sequence[int]]
    any_way: Sequence[Sequence[int]]
    beside: Sequence[Sequence[int]]
    again: Sequence[Sequence[int]]
    halos: Sequence[Sequence[tuple[Group, int]]]


@runtime_checkable
class Banded(Protocol):
    """A floor of groups that fit as they are, which ``fits`` knows, or run in bands."""

    @property
    def fits(self) -> FittingFloor: ...

    def bands_table(self, graph: Graph, ops: Group) -> BandTable:
        """The floor of groups of some ops as a table."""
        ...


class FitFloor:
    """A floor whose marks are bytes on chip: groups above the capacity cannot run, others pay nothing."""

    def table(self, graph: Graph) -> FloorTable | None:
        """The floor as a table, for the compiled loops; None where it is none."""
        return None

    def again_bytes(self, mark: int, capacity_bytes: int) -> int:
        return 0 if mark <= capacity_bytes else NEVER_BYTES


class NoFloor(FitFloor):
    """The floor of a model about which nothing is known: 0 for every group."""

    start = 0

    def extend(self, group: Group, mark: int, op: int) -> int:
        return 0

    def table(self, graph: Graph) -> FloorTable:
        none = [0] * len(graph.tensors)
        return FloorTable([0] * len(graph), none, [()] * len(none))


@runtime_checkable
class CostModel(Protocol):
    """Prices one group of ops; the only thing a new execution scheme must supply.

    ``plan`` is a pure function of its arguments: the schedule and cost of a connected, convex
    group, or why it cannot run. It is called once for each group that a search cares about.

    Two facts let an exact search leave groups out without asking; a model that cannot promise
    them says ``False`` and returns :class:`NoFloor`:

    * ``touches_once``: no schedule of this model moves fewer bytes than every tensor that enters or
      leaves the group, and every weight, once.
    * ``buffer_floor``: a monotone lower bound of what does not fit.
    """

    @property
    def name(self) -> str: ...

    @property
    def touches_once(self) -> bool: ...

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible: ...

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        """The plan of a group that made it into the answer, with figures too dear for a search."""
        ...

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor: ...


@runtime_checkable
class Chooser(Protocol):
    """A cost model that runs a group in the best of several ways, and has to be told what is best."""

    def choosing_by(self, objective: Objective) -> CostModel:
        """The same model with its choices made by another objective."""
        ...


def chosen_by(model: CostModel, objective: Objective) -> CostModel:
    """The model that chooses by an objective; the model itself where it has no choice to make."""
    return model.choosing_by(objective) if isinstance(model, Chooser) else model


@runtime_checkable
class Menu(Protocol):
    """A cost model that knows more than one way to run a group; optional."""

    def ways(self, graph: Graph, group: Group, machine: Machine) -> Sequence[Planned]:
        """Every way that no other one beats in both DRAM bytes and repeated MACs, fewest bytes first; () if none runs.

        The first moves as many bytes as ``plan`` says. Of ways equal in both, one of the smallest buffer.
        """
        ...


def ways_of(model: CostModel, graph: Graph, group: Group, machine: Machine) -> Sequence[Planned]:
    """The ways a model knows to run a group; the one it plans where it has no menu."""
    if isinstance(model, Menu):
        return model.ways(graph, group, machine)
    planned = model.plan(graph, group, machine)
    return () if isinstance(planned, Infeasible) else (planned,)


def unbeaten(ways: Iterable[Planned]) -> tuple[Planned, ...]:
    """Ways that no other one beats in both DRAM bytes and repeated MACs, fewest bytes first. O(n log n)."""
    kept: list[Planned] = []
    for way in sorted(ways, key=lambda w: (w.cost.dram_bytes, w.cost.recomputed_macs, w.cost.buffer_bytes)):
        if not kept or way.cost.recomputed_macs < kept[-1].cost.recomputed_macs:
            kept.append(way)
    return tuple(kept)


@runtime_checkable
class Limited(Protocol):
    """A cost model that saves itself work where only cheap plans matter; optional."""

    def plan_within(
        self, graph: Graph, group: Group, machine: Machine, limit_bytes: int
    ) -> Planned | Infeasible | Dearer:
        """What ``plan`` says, or, where that moves more than ``limit_bytes``, perhaps just so."""
        ...


def planned_within(
    model: CostModel, graph: Graph, group: Group, machine: Machine, limit_bytes: int
) -> Planned | Infeasible | Dearer:
    """A model's answer where plans that move more than ``limit_bytes`` do not matter."""
    if isinstance(model, Limited):
        return model.plan_within(graph, group, machine, limit_bytes)
    return model.plan(graph, group, machine)


class Holdings(NamedTuple):
    """What a group holds on chip: bytes of each tensor, and of each op (weights, partial results)."""

    tensors: Mapping[int, int]
    ops: Mapping[int, int]


@runtime_checkable
class Itemised(Protocol):
    """A cost model that can say what fills the buffer; optional, a black box need not.

    ``holdings`` is about a connected, convex group, fitting or not. None where nothing is known. It
    explains a refusal and decides nothing.
    """

    def holdings(self, graph: Graph, group: Group) -> Holdings | None: ...


def holdings_of(model: CostModel, graph: Graph, group: Group) -> Holdings | None:
    """What a model says fills the buffer; None from a model that does not say."""
    return model.holdings(graph, group) if isinstance(model, Itemised) else None
