"""The answer: a plan, what it costs, and how good it is proved to be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from fusecut.cost import Cost, Infeasible, Planned
from fusecut.ir import Graph, bits
from fusecut.machine import Machine
from fusecut.partition import Partition
from fusecut.schedule import Schedule
from fusecut.text import Column, render_table
from fusecut.units import format_kib

SCHEMA_VERSION: Final = 1
_NAMED: Final = 4


class Status(Enum):
    """How a search ended; the value is what to make of it."""

    optimal = "no plan moves fewer bytes: proved"
    feasible = "the search ended on its own, without a proof that this plan is the best"
    budget = "stopped early: the best plan so far and the bound proved so far"
    infeasible = "no plan exists: some op runs under no scheme in this buffer"


@dataclass(frozen=True)
class TracePoint:
    """The best plan after so many proposals, evaluations and seconds."""

    plans_proposed: int
    evaluations: int
    seconds: float
    dram_bytes: int


@dataclass(frozen=True)
class Provenance:
    """What was solved, so that a plan file can be read back and checked."""

    model: str
    model_sha256: str
    granularity: str
    scheme: str
    search: str
    splitter: str | None
    fusecut_version: str
    options: tuple[tuple[str, str | int | bool], ...] = ()


@dataclass(frozen=True)
class Solution:
    """A plan of a network on a machine, with certificate.

    ``bound_bytes`` is a proved lower bound of the DRAM bytes of every plan under the same scheme,
    ``gap`` is (dram - bound) / dram. ``layerwise_bytes`` is the total without any fusion (None when
    an op cannot run alone), ``floor_bytes`` weights, network inputs and outputs once. When the
    status is infeasible there is no plan and ``refusals`` names the ops that run nowhere.
    """

    machine: Machine
    partition: Partition | None
    planned: tuple[Planned, ...]
    cost: Cost
    status: Status
    bound_bytes: int
    floor_bytes: int
    layerwise_bytes: int | None
    plans_proposed: int
    evaluations: int
    seconds: float
    seed: int
    provenance: Provenance
    trace: tuple[TracePoint, ...] = ()
    refusals: tuple[tuple[str, Infeasible], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        return tuple(p.schedule for p in self.planned)

    @property
    def bound(self) -> int:
        """The proved lower bound in bytes."""
        return self.bound_bytes

    @property
    def gap(self) -> float:
        """(dram - bound) / dram: 0.0 when the plan is proved optimal."""
        dram = self.cost.dram_bytes
        return (dram - self.bound_bytes) / dram if dram else 0.0

    @property
    def unfusible_ops(self) -> tuple[str, ...]:
        """Ops that no fusing scheme could run, not even alone: they run as tiled loops."""
        if self.partition is None:
            return ()
        graph = self.partition.graph
        alone = [p.schedule.group for p in self.planned if p.schedule.scheme == "layerwise"]
        return tuple(graph.ops[i].name for group in alone for i in bits(group))

    @property
    def fusible_bytes(self) -> int:
        """DRAM bytes of the groups that run under a fusing scheme: the papers' metric."""
        return sum(p.cost.dram_bytes for p in self.planned if p.schedule.scheme != "layerwise")

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, in the published JSON layout (docs/json.md)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "fusecut_version": self.provenance.fusecut_version,
            "model": self.provenance.model,
            "model_sha256": self.provenance.model_sha256,
            "machine": self.machine.to_dict(),
            "granularity": self.provenance.granularity,
            "scheme": self.provenance.scheme,
            "search": self.provenance.search,
            "splitter": self.provenance.splitter,
            "options": dict(self.provenance.options),
            "seed": self.seed,
            "status": self.status.name,
            "dram_bytes": self.cost.dram_bytes,
            "dram_read_bytes": self.cost.read_bytes,
            "dram_write_bytes": self.cost.write_bytes,
            "weight_bytes": self.cost.weight_bytes,
            "fusible_dram_bytes": self.fusible_bytes,
            "unfusible_ops": list(self.unfusible_ops),
            "layerwise_dram_bytes": self.layerwise_bytes,
            "floor_dram_bytes": self.floor_bytes,
            "bound_bytes": self.bound_bytes,
            "gap": self.gap,
            "max_buffer_bytes": self.cost.buffer_bytes,
            "plans_proposed": self.plans_proposed,
            "evaluations": self.evaluations,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "refusals": [{"op": name, "why": str(why)} for name, why in self.refusals],
            "groups": self._groups(),
        }

    def _groups(self) -> list[dict[str, Any]]:
        if self.partition is None:
            return []
        graph, names = self.partition.graph, self.partition.names()
        return [
            {
                "index": index,
                "ops": names[index],
                "scheme": schedule.scheme,
                "buffer_bytes": cost.buffer_bytes,
                "pooled_buffer_bytes": cost.pooled_buffer_bytes,
                "dram_read_bytes": cost.read_bytes,
                "dram_write_bytes": cost.write_bytes,
                "weight_bytes": cost.weight_bytes,
                "macs": cost.macs,
                "recomputed_macs": cost.recomputed_macs,
                "schedule": _schedule_dict(graph, schedule),
            }
            for index, (schedule, cost) in enumerate(self.planned)
        ]

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 80, colour: bool = False) -> str:
        """The plan as text: one line for each group, then the totals and the certificate."""
        if self.partition is None:
            lines = [f"infeasible: {name} {why}" for name, why in self.refusals]
            return "\n".join(lines)
        columns = (
            Column("#"),
            Column("ops", "left", flexible=True),
            Column("n"),
            Column("scheme", "left"),
            Column("buffer B"),
            Column("weights B"),
            Column("DRAM B"),
        )
        return "\n".join([render_table(columns, self._rows(self.partition.graph), width, colour), "", *self._summary()])

    def _rows(self, graph: Graph) -> list[list[str]]:
        rows = []
        for index, (schedule, cost) in enumerate(self.planned):
            ops = [graph.ops[i].name for i in bits(schedule.group)]
            span = ops[0] if len(ops) == 1 else f"{ops[0]}..{ops[-1]}"
            scheme = schedule.scheme + (f" x{schedule.passes}" if schedule.passes > 1 else "")
            figures = [cost.buffer_bytes, cost.weight_bytes, cost.dram_bytes]
            rows.append([str(index), span, str(len(ops)), scheme, *(f"{n:,}" for n in figures)])
        return rows

    def _summary(self) -> list[str]:
        dram = self.cost.dram_bytes
        lines = [
            f"DRAM traffic   {dram:>14,} B   read {self.cost.read_bytes:,} (weights {self.cost.weight_bytes:,}), "
            f"written {self.cost.write_bytes:,}",
            f"proved bound   {self.bound_bytes:>14,} B   {self._verdict()}",
        ]
        if self.layerwise_bytes is not None:
            saved = 100 * (self.layerwise_bytes - dram) / self.layerwise_bytes
            lines.append(f"without fusion {self.layerwise_bytes:>14,} B   this plan moves {saved:.1f} % less")
        lines.append(f"floor          {self.floor_bytes:>14,} B   weights, network inputs and outputs once")
        lines.append(
            f"buffer         {self.cost.buffer_bytes:>14,} B   of {self.machine.buffer_bytes:,} "
            f"({format_kib(self.machine.buffer_bytes)}) at most"
        )
        if alone := self.unfusible_ops:
            more = f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
            lines.append(
                f"tiled loops    {self.cost.dram_bytes - self.fusible_bytes:>14,} B   for ops too big to stream:"
            )
            lines.append(f"               {', '.join(alone[:_NAMED])}{more}")
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def _verdict(self) -> str:
        if self.status is Status.optimal:
            return "optimal: no plan moves fewer bytes"
        return f"gap {100 * self.gap:.2f} %: {self.status.value}"


def _schedule_dict(graph: Graph, schedule: Schedule) -> dict[str, Any]:
    tile = schedule.tile
    return {
        "policy": schedule.policy,
        "passes": schedule.passes,
        "weight_passes": schedule.weight_passes,
        "rows_per_step": schedule.rows_per_step,
        "order": [graph.ops[i].name for i in schedule.order],
        "rows_held": [
            {"tensor": graph.tensors[h.tensor].name, "rows": h.rows, "cols": h.cols, "bytes": h.nbytes, "pass": h.stage}
            for h in schedule.holds
        ],
        "tile": None if tile is None else asdict(tile),
    }
