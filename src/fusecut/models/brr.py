"""Buffer requirement reduction: a group whose weights do not fit runs band by band, its weights streamed.

    dram(G) = inputs + rows of inputs read again + outputs + resident weights + bands * streamed weights

The idea is that of Optimus (Cai, Wang, Zhang, LCTES 2021 and ACM TECS 22(1), 2022), the second scheme
of arXiv 2501.00636: give up on holding all weights of a group; cut its output into bands of rows,
bring every op's weights past once for each band, and let feature maps that would be large pass a few
channels at a time, summed up at once by the convolution that reads them. Here nothing is free:
rows that two bands share are held, made again or read again; partial sums have the width of an
accumulator; the slice of weights in use, side inputs and everything else on chip has an address.
docs/brr.md derives the model, :mod:`fusecut.simulate` executes its schedules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from weakref import WeakKeyDictionary

from fusecut.cost import NEVER_BYTES, Dearer, Holdings, Infeasible, Planned, unbeaten
from fusecut.errors import MachineError
from fusecut.ir import Graph, Group, bits, mask_of
from fusecut.machine import Machine
from fusecut.models._band_floor import BandFloor
from fusecut.models._band_group import BandFacts
from fusecut.models._band_search import BandSearch
from fusecut.models._shapes import Shape, moved
from fusecut.models.lbdf import LineBuffer
from fusecut.objective import Objective, tariff

_Key: TypeAlias = tuple[Machine, tuple[int, ...]]
_Answer: TypeAlias = tuple[Shape, Planned | Dearer]
"""The first group of its shape, and how it runs in bands on a machine, or what it moves at least."""


@dataclass(frozen=True)
class Brr:
    """The BRR cost model: line buffers with resident weights where they fit, else bands.

    ``lines`` is how groups run whose weights and rows all fit: such a plan touches everything once,
    no other can be cheaper, so BRR is never worse than LBDF. (Where ``lines`` streams a squeeze-excite
    group twice, bands may be cheaper, and are compared.) ``channels`` is how many channels of a part
    tensor are made at a time, at least. The ``objective`` decides between bytes and repeated MACs.

    The schedule says how a group runs: "lbdf", or "brr" in bands.
    """

    lines: LineBuffer = field(default_factory=LineBuffer)
    channels: int = 1
    objective: Objective = "dram"
    _known: WeakKeyDictionary[Graph, BandFacts] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False, hash=False
    )
    _answers: WeakKeyDictionary[Graph, dict[_Key, _Answer]] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise MachineError(f"channels is {self.channels}: it must be 1 or more")

    @property
    def name(self) -> str:
        return "brr"

    @property
    def touches_once(self) -> bool:
        return True

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        """Schedule and cost of a group, or why it does not fit.

        The best over all numbers of bands, what is done about rows that bands share, and which weights
        are resident; of equally good ones the smallest buffer. O(sqrt(rows)) heights, each with a choice
        of part tensors: O(ops^2) layouts. Of groups that look the same only the first is searched.
        """
        answer = self._plan(graph, group, machine, NEVER_BYTES)
        if isinstance(answer, Dearer):
            return self._search(graph, group, machine).refusal()
        return answer

    def plan_within(
        self, graph: Graph, group: Group, machine: Machine, limit_bytes: int
    ) -> Planned | Infeasible | Dearer:
        """The same where it moves at most ``limit_bytes``: only bands that may are looked at."""
        return self._plan(graph, group, machine, limit_bytes)

    def _plan(self, graph: Graph, group: Group, machine: Machine, limit_bytes: int) -> Planned | Infeasible | Dearer:
        streamed = self.lines.plan(graph, group, machine)
        if isinstance(streamed, Infeasible):
            return streamed if streamed.resource != "buffer" else self._banded(graph, group, machine, limit_bytes)
        if streamed.schedule.passes == 1:
            return streamed
        rank, prices = self._rank_by(graph, machine), tariff(self.objective, machine)
        twice = rank(streamed) // prices.per_byte if prices.per_byte else NEVER_BYTES
        if prices.per_cycle:  # cycles are no sum of bytes: there is no limit to compare with
            twice = limit_bytes = NEVER_BYTES
        banded = self._banded(graph, group, machine, min(limit_bytes, twice))
        if isinstance(banded, Planned):
            return min(streamed, banded, key=rank)
        return streamed if twice <= limit_bytes else Dearer(min(twice, banded.dram_bytes))

    def _banded(self, graph: Graph, group: Group, machine: Machine, limit_bytes: int) -> Planned | Dearer:
        """The best plan in bands within a limit; that of a group that looks the same, where one is known."""
        shape = self.lines.shapes(graph).of(group)
        known = self._answers.setdefault(graph, {})
        key = machine, shape.key
        first, banded = known.get(key, (shape, Dearer(0)))
        if isinstance(banded, Dearer) and banded.dram_bytes <= limit_bytes:
            banded = self._search(graph, mask_of(first.ops), machine).within(limit_bytes)
            known[key] = first, banded
        if isinstance(banded, Dearer) or first.ops == shape.ops:
            return banded
        return Planned(moved(banded.schedule, first, shape), banded.cost)

    def ways(self, graph: Graph, group: Group, machine: Machine) -> tuple[Planned, ...]:
        """Line buffers where everything moves once; else all that bands, or two passes, can trade bytes for MACs."""
        streamed = self.lines.plan(graph, group, machine)
        if isinstance(streamed, Planned) and streamed.schedule.passes == 1:
            return (streamed,)
        if isinstance(streamed, Infeasible):
            return () if streamed.resource != "buffer" else self._search(graph, group, machine).ways()
        return unbeaten([streamed, *self._search(graph, group, machine).ways()])

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        """The same plan with its pooled buffer, and with slices as wide as the buffer has room for."""
        bands = planned.schedule.bands
        if bands is None:
            return self.lines.finish(graph, planned, machine)
        return self._search(graph, planned.schedule.group, machine).widened(planned, bands)

    def holdings(self, graph: Graph, group: Group) -> Holdings:
        """Rings and partial results as without bands. Weights pass by in slices: they are nobody's burden."""
        lines = self.lines
        return Holdings(
            lines.holdings(graph, group).tensors, {i: lines.accumulator_bytes(graph, i) for i in bits(group)}
        )

    def touch_once_buffer_bytes(self, graph: Graph, group: Group, machine: Machine) -> int:
        """A buffer in which the group moves everything once: that of line buffers, or of one band, if it is smaller."""
        lines = self.lines.demand(graph, group).nbytes
        return min(lines, self._search(graph, group, machine).one_band_bytes())

    def choosing_by(self, objective: Objective) -> Brr:
        return replace(self, objective=objective)

    def buffer_floor(self, graph: Graph, machine: Machine) -> BandFloor:
        return self._facts(graph, machine).floor(machine.buffer_bytes)

    def _search(self, graph: Graph, group: Group, machine: Machine) -> BandSearch:
        prices = tariff(self.objective, machine)
        return BandSearch(self._facts(graph, machine), group, machine.buffer_bytes, self.channels, prices)

    def _rank_by(self, graph: Graph, machine: Machine) -> Callable[[Planned], int]:
        prices = tariff(self.objective, machine)

        def rank(planned: Planned) -> int:
            cost = planned.cost
            return prices.rank(cost.macs - cost.recomputed_macs, cost.dram_bytes, cost.recomputed_macs)

        return rank

    def _facts(self, graph: Graph, machine: Machine) -> BandFacts:
        if graph not in self._known:
            self._known[graph] = BandFacts(graph, self.lines.buffer_floor(graph, machine))
        return self._known[graph]
