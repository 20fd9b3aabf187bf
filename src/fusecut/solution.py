"""The answer: a plan, what it costs, and how good it is proved to be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from functools import cached_property
from html import escape
from typing import Any, Final

from fusecut.cost import Cost, Infeasible, Planned
from fusecut.ir import Graph, bits
from fusecut.machine import Machine
from fusecut.objective import UNITS, Figures, Objective, figures
from fusecut.partition import Partition
from fusecut.schedule import Bands, Place, Schedule
from fusecut.text import Column, html_table, render_table, wrapped
from fusecut.units import format_bytes, format_kib

SCHEMA_VERSION: Final = 1
_NAMED: Final = 4
_REMARKS: Final = 34
"""Where the last column of the summary begins."""
_COLUMNS: Final = (
    Column("#"),
    Column("ops", "left", flexible=True),
    Column("n"),
    Column("scheme", "left"),
    Column("buffer B"),
    Column("weights B"),
    Column("DRAM B"),
)
_LEVELS: Final = ("DRAM", "buffer", "MACs")
_OPTIMAL: Final[dict[Objective, str]] = {
    "dram": "optimal: no plan moves fewer bytes",
    "energy": "optimal: no plan takes less energy",
    "latency": "optimal: no plan takes fewer cycles",
}


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
    score: int


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

    ``score`` is what was minimised: DRAM bytes, femtojoules or cycles; ``bound`` is a proved lower
    bound of the score of every plan under the same scheme, ``gap`` is (score - bound) / score.
    ``bound_bytes`` bounds the DRAM bytes of every plan: the same under ``dram``; under another
    objective only the floor, or 0 for a model that promises nothing. ``layerwise_bytes`` is the total
    without any fusion (None when an op cannot run alone), ``floor_bytes`` weights, network inputs and
    outputs once. When the status is infeasible there is no plan and ``refusals`` names the ops that
    run nowhere. ``interrupted``: a Ctrl-C ended the search.
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
    objective: Objective = "dram"
    bound_score: int = 0
    interrupted: bool = False

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        return tuple(p.schedule for p in self.planned)

    @property
    def bound(self) -> int:
        """The proved lower bound of the score: in bytes, unless another objective was asked for."""
        return self.bound_bytes if self.objective == "dram" else self.bound_score

    @cached_property
    def group_figures(self) -> tuple[Figures, ...]:
        """Energy and cycles of each group, as far as the machine says."""
        if self.partition is None:
            return ()
        graph, machine = self.partition.graph, self.machine
        return tuple(
            figures(graph, machine, p.schedule.group, p.cost.dram_bytes, p.cost.recomputed_macs) for p in self.planned
        )

    @cached_property
    def figures(self) -> Figures:
        """Energy and cycles of the plan, as far as the machine says."""
        total, *others = self.group_figures or (Figures(None, None),)
        for one in others:
            total += one
        return total

    @property
    def score(self) -> int:
        """What the objective counts: DRAM bytes, femtojoules or cycles; 0 if there is no plan."""
        if self.objective == "dram":
            return self.cost.dram_bytes
        energy = self.figures.energy
        return (self.figures.cycles if self.objective == "latency" else energy and energy.fj) or 0

    @property
    def gap(self) -> float:
        """(score - bound) / score: 0.0 when the plan is proved optimal."""
        return (self.score - self.bound) / self.score if self.score else 0.0

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
            "objective": self.objective,
            "score": self.score,
            "bound": self.bound,
            "score_unit": UNITS[self.objective],
            **_figures_dict(self.figures),
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
                **_figures_dict(self.group_figures[index]),
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
        summary = (wrapped(line, width, _indent(line)) for line in self._summary())
        return "\n".join([render_table(_COLUMNS, self._rows(self.partition.graph), width, colour), "", *summary])

    def _repr_html_(self) -> str:
        """The same for notebooks."""
        if self.partition is None:
            return f"<pre>{escape(self.table())}</pre>"
        caption = f"{self.provenance.model}, buffer {format_bytes(self.machine.buffer_bytes)}"
        summary = escape("\n".join(self._summary()))
        return f"{html_table(_COLUMNS, self._rows(self.partition.graph), caption)}<pre>{summary}</pre>"

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
        traffic = (
            f"DRAM traffic   {dram:>14,} B   read {self.cost.read_bytes:,} (weights {self.cost.weight_bytes:,}), "
            f"written {self.cost.write_bytes:,}"
        )
        bound = f"proved bound   {_counted(self.bound, self.objective)}   {self._verdict()}"
        lines = [traffic, bound, *self._figure_lines()]
        if self.objective != "dram":
            lines = [*self._figure_lines(), bound, traffic]
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

    def _figure_lines(self) -> list[str]:
        """Energy and cycles, where the machine says enough for them."""
        lines, (energy, cycles) = [], (self.figures.energy, self.figures.cycles)
        if energy is not None:
            shares = (f"{name} {100 * fj / (energy.fj or 1):.1f} %" for name, fj in zip(_LEVELS, energy, strict=True))
            lines.append(f"energy         {_counted(energy.fj, 'energy')}   {', '.join(shares)}")
        if cycles is not None:
            lines.append(
                f"latency        {_counted(cycles, 'latency')}   compute or transfer, the longer of each group"
            )
        return lines

    def _verdict(self) -> str:
        if self.status is Status.optimal:
            return _OPTIMAL[self.objective]
        return f"gap {100 * self.gap:.2f} %: {self.status.value}"


def _indent(line: str) -> int:
    """Where a line of the summary goes on: below its last column, or below where it begins."""
    return _REMARKS if line[:1].isalpha() and not line.startswith("note: ") else len(line) - len(line.lstrip()) or 6


def _counted(score: int, objective: Objective) -> str:
    """A score for a column of the summary; energy in whole picojoules, rounded."""
    if objective == "energy":
        return f"{(score + 500) // 1000:>14,} pJ"
    return f"{score:>14,} {UNITS[objective]}"


def _figures_dict(figures: Figures) -> dict[str, Any]:
    energy = figures.energy
    parts = {level.removesuffix("_fj"): fj / 1000 for level, fj in energy._asdict().items()} if energy else None
    return {
        "energy_pj": energy.fj / 1000 if energy else None,
        "energy_parts_pj": parts,
        "cycles": figures.cycles,
    }


def runs_dict(graph: Graph, schedule: Schedule) -> list[list[str]]:
    """Names of the ops of each pass; nothing where one pass runs them all."""
    return [[graph.ops[i].name for i in bits(run)] for run in schedule.runs]


def _schedule_dict(graph: Graph, schedule: Schedule) -> dict[str, Any]:
    tile = schedule.tile
    return {
        "policy": schedule.policy,
        "passes": schedule.passes,
        "runs": runs_dict(graph, schedule),
        "weight_passes": schedule.weight_passes,
        "rows_per_step": schedule.rows_per_step,
        "order": [graph.ops[i].name for i in schedule.order],
        "rows_held": [
            {
                "tensor": graph.tensors[h.tensor].name,
                "rows": h.rows,
                "cols": h.cols,
                "bytes": h.nbytes,
                "pass": h.stage,
                "over": [graph.tensors[t].name for t in h.over],
            }
            for h in schedule.holds
        ],
        "tile": None if tile is None else asdict(tile),
        "bands": None if schedule.bands is None else _bands_dict(graph, schedule.bands),
    }


def _bands_dict(graph: Graph, bands: Bands) -> dict[str, Any]:
    """How a group runs band by band, and what lies where in which steps."""

    def name(place: Place) -> str | None:
        if place.what == "slice":
            return None
        return graph.tensors[place.index].name if place.what in ("halo", "tile") else graph.ops[place.index].name

    return {
        "clock": graph.ops[bands.clock].name,
        "rows": bands.rows,
        "images": bands.images,
        "channels": bands.channels,
        "stages": [[graph.ops[i].name for i in bits(stage)] for stage in bands.stages],
        "part": [graph.tensors[t].name for t in bands.part],
        "again": [graph.tensors[t].name for t in bands.again],
        "resident": [graph.ops[i].name for i in bands.resident],
        "places": [
            {
                "what": p.what,
                "of": name(p),
                "rows": p.rows,
                "offset": p.offset,
                "bytes": p.nbytes,
                "first_step": p.first,
                "last_step": p.last,
            }
            for p in bands.places
        ],
    }
