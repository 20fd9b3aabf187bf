"""The cost model of Optimus as published: a yardstick, with its faults.

Optimus (Cai, Wang, Zhang, LCTES 2021; ACM TECS 22(1) 2022, 10.1145/3520142) fuses groups of layers
whose weights need not fit: convolutions alternate between keeping all channels of a row tile and 32
at a time, weights stream once per tile. Here are its closed-form costs for one buffer shared by
inputs, outputs and weights, a 32 x 32 array of PEs with 64 B each, and elements of 16 bits, equal to
the public implementation's to the last printed digit. A group's *objective* is what its search
minimises; the *reported* traffic and energy are counted differently, and are often lower.

Do not believe it. None of its plans need be executable; ``brr`` is the same idea made true. Known
faults, each with a test in ``tests/models/test_optimus_faults.py``:

1.  The weight slice that streams through a group has no space in the buffer.
2.  Operands of sums and concatenations that come from outside the group have none either.
3.  Reported weights count once where both channel loops are whole, though nothing keeps them.
4.  Reported passes may be fractions: 6.1 and 6.75 where seven tiles run.
5.  Halo rows between tiles are free: neither kept, nor read again, nor computed again.
6.  Pools, sums, concatenations and depthwise convolutions move nothing when alone, and have no
    weights and no MACs ever; none may start a fused group.
7.  The input of a convolution alone is taken to be C * H * W * stride^2 of its *output* size.
8.  Tiles of single layers may exceed the buffer by one step of rounding, and any buffer by their
    lower bounds: AlexNet has a plan in two bytes.
9.  A single layer's schedule is chosen by a formula that may charge twice its reported traffic.
10. A tile may hold more images than the batch has.
11. Colours alternate by force: of a join of a full and a part branch a reader believes that all
    channels are there.
12. The price depends on the order in which the search took the layers that share an input.
13. Groups may fall into parts that no tensor inside connects.
14. The search never grows a group that cannot run, though a larger one might.
15. Networks with squeeze-excite or attention are left out: they are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from typing import Final

from fusecut.errors import MachineError, UnknownNameError
from fusecut.ir import Graph, Group
from fusecut.models._optimus_energy import EnergyTable, on_chip
from fusecut.models._optimus_groups import Streamed, streamed
from fusecut.models._optimus_layers import Network, network_of
from fusecut.models._optimus_loops import SCHEDULERS, LoopSchedule, Scheduler, cheapest, output_stationary
from fusecut.models._optimus_tiles import Traffic, order_of, passes, reported, whole

__all__ = [
    "ELEMENT_BYTES",
    "ENERGIES",
    "VARIANTS",
    "EnergyTable",
    "LoopSchedule",
    "PublishedGroup",
    "PublishedModel",
    "PublishedPlan",
    "Streamed",
    "Traffic",
    "Variant",
    "variant",
]

ELEMENT_BYTES: Final = 2

ENERGIES: Final = EnergyTable()

_NOTHING: Final = Traffic(0, 0, 0)


@dataclass(frozen=True)
class Variant:
    """What may be fused, and how a layer alone may run.

    ``parts``: convolutions may keep part of their channels. ``resident``: all weights of a group
    must fit. ``chains``: no member of a group has two predecessors or two readers. ``linear``: the
    baselines' linear order is cut instead of the graph.
    """

    name: str
    fuse: bool = True
    parts: bool = True
    resident: bool = False
    chains: bool = False
    linear: bool = False
    schedulers: tuple[Scheduler, ...] = SCHEDULERS


_FIXED: Final = (output_stationary,)

VARIANTS: Final[dict[str, Variant]] = {
    v.name: v
    for v in (
        Variant("optimus"),
        Variant("efficient_s", parts=False, resident=True, linear=True, schedulers=_FIXED),
        Variant("dnnvm", parts=False, resident=True, chains=True, linear=True, schedulers=_FIXED),
        Variant("unfused", fuse=False, schedulers=_FIXED),
        Variant("best_unfused", fuse=False),
    )
}
"""Optimus; its three baselines, every layer alone output-stationary in all of them; and the honest
baseline, every layer alone under the best of the five schedules."""


def variant(name: str) -> Variant:
    """A variant by name.

    Raises:
        UnknownNameError: lists the known variants.
    """
    if name not in VARIANTS:
        raise UnknownNameError("Optimus variant", name, VARIANTS)
    return VARIANTS[name]


@dataclass(frozen=True)
class PublishedGroup:
    """One group. ``objective_elements`` is what the search minimised, ``dram`` what is reported.

    ``schedule`` is None for a free layer alone.
    """

    ops: tuple[str, ...]
    objective_elements: int
    dram: Traffic
    buffer: Traffic
    energy_pj: float
    schedule: Streamed | LoopSchedule | None


@dataclass(frozen=True)
class PublishedPlan:
    """A plan under the published model. ``states`` are those of the search, 0 without one."""

    network: str
    variant: str
    batch: int
    buffer_bytes: int
    groups: tuple[PublishedGroup, ...]
    states: int = 0

    @cached_property
    def objective_elements(self) -> int:
        return sum(g.objective_elements for g in self.groups)

    @cached_property
    def dram(self) -> Traffic:
        """Reported elements."""
        return Traffic(*(sum(part) for part in zip(*(g.dram for g in self.groups), strict=True)))

    @property
    def objective_bytes(self) -> int:
        return self.objective_elements * ELEMENT_BYTES

    @property
    def dram_bytes(self) -> int:
        """Reported bytes."""
        return self.dram.total * ELEMENT_BYTES

    @cached_property
    def energy_pj(self) -> float:
        return sum(g.energy_pj for g in self.groups)


@dataclass(frozen=True, eq=False)
class PublishedModel:
    """Prices groups of one network in one buffer, each once.

    Args:
        network: from :meth:`of`.
        buffer_bytes: half of it, rounded down, is the capacity in elements.

    Raises:
        MachineError: a buffer that holds no element.

    >>> from fusecut.testing import Net
    >>> net = Net()
    >>> y = net.conv(net.conv(net.input(16, 32, 32), 32), 16)
    >>> model = PublishedModel.of(net.graph(), buffer_bytes=65536)
    >>> model.price((0,)), model.price((0, 1))
    (54068, 41984)
    """

    network: Network
    buffer_bytes: int = 131072
    rules: Variant = VARIANTS["optimus"]
    energies: EnergyTable = ENERGIES
    _known: dict[tuple[Group, tuple[int, ...]], int | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise MachineError(f"a buffer of {self.buffer_bytes} bytes holds no 16-bit element: give at least 2 bytes")

    @classmethod
    def of(
        cls, graph: Graph, buffer_bytes: int = 131072, batch: int | None = None, rules: Variant = VARIANTS["optimus"]
    ) -> PublishedModel:
        """The model of a graph.

        Raises:
            GraphError: the graph has an op that the published model does not know.
            MachineError: a buffer that holds no element.
        """
        return cls(network_of(graph, batch), buffer_bytes, rules)

    @property
    def capacity(self) -> int:
        """Elements."""
        return self.buffer_bytes // ELEMENT_BYTES

    def price(self, ops: Sequence[int]) -> int | None:
        """The objective of a group in elements; None where the model has no schedule. Memoised.

        Of the order of ``ops`` only that of layers without a predecessor inside matters.
        """
        group = sum(1 << v for v in ops)
        key = group, tuple(v for v in ops if not self.network.pred_masks[v] & group)
        if key not in self._known:
            self._known[key] = self._priced(ops)
        return self._known[key]

    def _priced(self, ops: Sequence[int]) -> int | None:
        if len(ops) > 1:
            found = self._streamed(ops)
            return None if found is None else found.elements
        if self.network.layers[ops[0]].local:
            return 0
        schedule = cheapest(self.network.layers[ops[0]], self.capacity, self.rules.schedulers)
        return None if schedule is None else schedule.elements

    def _streamed(self, ops: Sequence[int]) -> Streamed | None:
        rules, network = self.rules, self.network
        if not rules.fuse or (rules.chains and any(self._branches(v) for v in ops)):
            return None
        if rules.resident and sum(network.layers[v].weight_elements for v in ops) > self.capacity:
            return None
        return streamed(network, ops, self.capacity, parts=rules.parts, resident=rules.resident)

    def _branches(self, v: int) -> bool:
        return len(self.network.preds[v]) > 1 or len(self.network.succs[v]) > 1

    def group(self, ops: Sequence[int]) -> PublishedGroup | None:
        """A group with its reported traffic and energy; None where the model has no schedule."""
        if len(ops) == 1:
            return self._alone(ops[0])
        found = self._streamed(ops)
        return None if found is None else self._fused(found)

    def _alone(self, v: int) -> PublishedGroup | None:
        layer = self.network.layers[v]
        if layer.local:
            return PublishedGroup((layer.name,), 0, _NOTHING, _NOTHING, 0.0, None)
        schedule = cheapest(layer, self.capacity, self.rules.schedulers)
        if schedule is None:
            return None
        extent = whole(layer)
        order = order_of(schedule.tile, extent, schedule.innermost)
        dram = reported(layer, passes(extent, schedule.tile, extent, order))
        chip = on_chip(layer, schedule.tile, self.energies)
        energy = self._energy(dram, chip.buffer, chip.other_pj)
        return PublishedGroup((layer.name,), schedule.elements, dram, chip.buffer, energy, schedule)

    def _fused(self, found: Streamed) -> PublishedGroup:
        layers = self.network.layers
        weights = sum(layers[v].weight_elements * found.weight_passes(v) for v in found.convolutions)
        dram = Traffic(found.inputs, found.outputs, ceil(weights))
        chips = [on_chip(layers[v], found.tile(v), self.energies) for v in found.convolutions]
        buffer = Traffic(*(sum(part) for part in zip(*(c.buffer for c in chips), strict=True)))
        energy = self._energy(dram, buffer, sum(c.other_pj for c in chips))
        names = tuple(layers[v].name for v in found.rows_of.order)
        return PublishedGroup(names, found.elements, dram, buffer, energy, found)

    def _energy(self, dram: Traffic, buffer: Traffic, other_pj: float) -> float:
        return dram.total * self.energies.dram_pj + buffer.total * self.energies.buffer_pj + other_pj
