"""What the HTML report shows, as plain data: everything is computed here, nothing is drawn.

Bytes are exact integers. :func:`report_data` is a pure function of a solution: it explains every
group, replays the schedule in a counting simulation for the occupancy over time, and sets the plan
beside its neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from fusecut.errors import PlanError, SimulationError
from fusecut.ir import bits
from fusecut.models import SCHEMES, LineBuffer
from fusecut.objective import UNITS
from fusecut.partition import Partition
from fusecut.plan_file import line_buffer
from fusecut.report.explain import Explanation, Held, explain
from fusecut.report.words import certificate, how_it_runs, why_it_stops
from fusecut.simulate import simulate
from fusecut.simulate.report import Sample
from fusecut.solution import Solution
from fusecut.units import format_bytes

ROWS: Final = "rows"
WEIGHTS: Final = "weights"
ACCUMULATORS: Final = "accumulators"
KINDS: Final = (ROWS, WEIGHTS, ACCUMULATORS)
"""What the buffer holds, in the order it is stacked; ``rows`` are rows and tiles of tensors."""

_LABELS: Final = {
    "weights": WEIGHTS,
    "constants": WEIGHTS,
    "accumulators": ACCUMULATORS,
    "sums": ACCUMULATORS,
}
_POINTS: Final = 48
"""Points of the timeline for each group; each is the fullest moment of its stretch."""


@dataclass(frozen=True)
class ReportOp:
    """An op of the picture. ``shape`` is that of its first output, as in the file."""

    name: str
    kind: str
    group: int
    shape: str
    macs: int
    weight_bytes: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class ReportTensor:
    """A tensor and where it goes: op indices, -1 for a network input or output.

    ``spilled``: made by one group and read by another, so written to DRAM and read back.
    """

    name: str
    nbytes: int
    source: int
    targets: tuple[int, ...]
    spilled: bool


@dataclass(frozen=True)
class Part:
    """A share of a group's buffer; the parts of a group add up to its ``buffer_bytes``."""

    kind: str
    name: str
    nbytes: int
    detail: str


@dataclass(frozen=True)
class Crossing:
    """A tensor, or all weights, on its way between DRAM and the buffer."""

    name: str
    direction: str
    nbytes: int
    detail: str


@dataclass(frozen=True)
class Offer:
    """What more buffer would buy: the extra bytes, the DRAM bytes saved, and how."""

    change: str
    extra_bytes: int
    saved_bytes: int


@dataclass(frozen=True)
class ReportGroup:
    """A group taken apart. ``timeline`` has (rows, weights, accumulators) in bytes, evenly spaced in steps."""

    index: int
    ops: tuple[int, ...]
    scheme: str
    summary: str
    buffer_bytes: int
    read_bytes: int
    write_bytes: int
    weight_bytes: int
    parts: tuple[Part, ...]
    crossings: tuple[Crossing, ...]
    stops: str
    offers: tuple[Offer, ...]
    timeline: tuple[tuple[int, int, int], ...]

    @property
    def dram_bytes(self) -> int:
        return self.read_bytes + self.write_bytes


@dataclass(frozen=True)
class Rival:
    """A plan or a bound to set this plan beside; ``role`` is what the drawing colours by."""

    name: str
    role: str
    dram_bytes: int
    detail: str


@dataclass(frozen=True)
class Fact:
    """A line of the provenance table."""

    name: str
    value: str


@dataclass(frozen=True)
class ReportData:
    """The whole report."""

    network: str
    machine: str
    capacity_bytes: int
    dram_bytes: int
    read_bytes: int
    write_bytes: int
    weight_bytes: int
    max_buffer_bytes: int
    bound: str
    optimal: bool
    gap_percent: str
    certificate: tuple[str, ...]
    rivals: tuple[Rival, ...]
    ops: tuple[ReportOp, ...]
    tensors: tuple[ReportTensor, ...]
    groups: tuple[ReportGroup, ...]
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]


def lines_of(solution: Solution) -> LineBuffer | None:
    """The line buffer a plan was made with; None for a cost model that has no name here."""
    origin = solution.provenance
    return line_buffer(origin.scheme, dict(origin.options)) if origin.scheme in SCHEMES else None


def report_data(solution: Solution, lines: LineBuffer | None, greedy_bytes: int | None = None) -> ReportData:
    """Everything the report of a plan shows.

    ``lines`` is the line buffer the plan was made with; without it (a cost model of somebody
    else's) groups are not explained. ``greedy_bytes`` is the DRAM traffic of the greedy plan of the
    same problem, where it was computed. O(groups^2) explanations, O(row events) simulation.

    Raises:
        PlanError: the solution holds no plan.
    """
    partition, cost = solution.partition, solution.cost
    if partition is None:
        raise PlanError("there is no plan to report: the search found none")
    return ReportData(
        network=solution.provenance.model,
        machine=solution.machine.name,
        capacity_bytes=solution.machine.buffer_bytes,
        dram_bytes=cost.dram_bytes,
        read_bytes=cost.read_bytes,
        write_bytes=cost.write_bytes,
        weight_bytes=cost.weight_bytes,
        max_buffer_bytes=cost.buffer_bytes,
        bound=f"{solution.bound:,} {UNITS[solution.objective]}",
        optimal=solution.status.name == "optimal",
        gap_percent=f"{100 * solution.gap:.2f} %",
        certificate=certificate(solution),
        rivals=_rivals(solution, greedy_bytes),
        ops=_ops(partition),
        tensors=_tensors(partition),
        groups=_groups(solution, partition, lines),
        facts=_facts(solution),
        notes=solution.notes,
    )


def _rivals(solution: Solution, greedy_bytes: int | None) -> tuple[Rival, ...]:
    """From the most bytes one can do with to the fewest one must."""
    found = []
    if solution.layerwise_bytes is not None:
        found.append(Rival("without fusion", "other", solution.layerwise_bytes, "every op alone, best tiling"))
    if greedy_bytes is not None:
        found.append(Rival("greedy fusion", "other", greedy_bytes, "merge what saves most, again and again"))
    found.append(Rival("this plan", "plan", solution.cost.dram_bytes, f"{len(solution.planned)} groups"))
    if solution.objective == "dram" and solution.bound_bytes < solution.cost.dram_bytes:
        found.append(Rival("proved bound", "bound", solution.bound_bytes, "no plan under this scheme moves less"))
    found.append(Rival("floor", "bound", solution.floor_bytes, "weights, inputs and outputs once"))
    return tuple(found)


def _facts(solution: Solution) -> tuple[Fact, ...]:
    machine, origin = solution.machine, solution.provenance
    rows = [
        ("network", origin.model),
        ("SHA-256 of the file", origin.model_sha256 or "not recorded"),
        ("buffer", format_bytes(machine.buffer_bytes)),
        ("activations, weights", f"{machine.activation_bits} bit, {machine.weight_bits} bit"),
        ("biases, accumulators", f"{machine.accumulator_bits} bit"),
        ("scheme, objective", f"{origin.scheme}, {solution.objective}"),
        ("search", f"{origin.search}, seed {solution.seed}"),
        ("plans, groups priced", f"{solution.plans_proposed:,}, {solution.evaluations:,}"),
        *_figures(solution),
        ("fusecut", origin.fusecut_version),
        *((key.replace("_", " "), str(value)) for key, value in origin.options),
    ]
    return tuple(Fact(name, value) for name, value in rows)


def _figures(solution: Solution) -> list[tuple[str, str]]:
    """Energy and cycles, as far as the machine says."""
    energy, cycles = solution.figures.energy, solution.figures.cycles
    found = [] if energy is None else [("energy", f"{(energy.fj + 500) // 1000:,} pJ")]
    return found if cycles is None else [*found, ("latency", f"{cycles:,} cycles")]


def _ops(partition: Partition) -> tuple[ReportOp, ...]:
    graph, group_of = partition.graph, _group_of(partition)
    return tuple(
        ReportOp(
            name=op.name,
            kind=str(op.attrs.get("op_type") or op.kind),
            group=group_of[i],
            shape=" x ".join(map(str, graph.tensors[op.outputs[0]].dims)),
            macs=op.macs,
            weight_bytes=op.weight_bytes,
            members=op.members if len(op.members) > 1 else (),
        )
        for i, op in enumerate(graph.ops)
    )


def _group_of(partition: Partition) -> dict[int, int]:
    return {op: index for index, group in enumerate(partition.groups) for op in bits(group)}


def _tensors(partition: Partition) -> tuple[ReportTensor, ...]:
    graph, group_of = partition.graph, _group_of(partition)
    found = []
    for t, tensor in enumerate(graph.tensors):
        maker, readers = graph.producer[t], graph.consumers[t]
        spilled = maker >= 0 and any(group_of[r] != group_of[maker] for r in readers)
        targets = (*readers, *((-1,) if t in graph.output_set else ()))
        found.append(ReportTensor(tensor.name, tensor.nbytes, maker, targets, spilled))
    return tuple(found)


def _groups(solution: Solution, partition: Partition, lines: LineBuffer | None) -> tuple[ReportGroup, ...]:
    samples = _replayed(solution)
    return tuple(_group(solution, partition, index, lines, samples.get(index, [])) for index in range(len(partition)))


def _group(
    solution: Solution, partition: Partition, index: int, lines: LineBuffer | None, samples: Sequence[Sample]
) -> ReportGroup:
    schedule, cost = solution.planned[index]
    explained = explain(solution, index, lines) if lines is not None else None
    return ReportGroup(
        index=index,
        ops=tuple(bits(partition.groups[index])),
        scheme=schedule.scheme,
        summary=how_it_runs(schedule) if explained is None or not explained.bands else explained.bands,
        buffer_bytes=cost.buffer_bytes,
        read_bytes=cost.read_bytes,
        write_bytes=cost.write_bytes,
        weight_bytes=cost.weight_bytes,
        parts=_parts(explained, samples, cost.buffer_bytes),
        crossings=_crossings(explained),
        stops="" if explained is None or lines is None else why_it_stops(partition.graph, explained, lines),
        offers=_offers(explained),
        timeline=_timeline(samples, schedule.tile is not None),
    )


def _parts(explained: Explanation | None, samples: Sequence[Sample], buffer_bytes: int) -> tuple[Part, ...]:
    """Rings, weights and accumulators; else what the execution held at its fullest moment."""
    found: list[Part] = []
    if explained is not None and explained.held:
        found += [Part(ROWS, h.tensor, h.nbytes, f"{_rows_text(h)}: {h.why}") for h in explained.held]
        found += [Part(WEIGHTS, f"weights of {name}", size, "") for name, size in explained.weights]
        found += [
            Part(ACCUMULATORS, f"sums of {name}", size, "kept over all rows") for name, size in explained.accumulators
        ]
    else:
        found += [Part(_kind(label), *_said(label, nbytes)) for label, nbytes in _fullest(samples).items() if nbytes]
    rest = buffer_bytes - sum(part.nbytes for part in found)
    if rest > 0:
        found.append(Part(ROWS, "reserved besides", rest, "by another pass, or for another moment"))
    return tuple(sorted(found, key=lambda part: (KINDS.index(part.kind), -part.nbytes, part.name)))


def _said(label: str, nbytes: int) -> tuple[str, int, str]:
    """A label of the execution as name, bytes and detail: rows of a tensor go by the name of the tensor."""
    what, _, name = label.partition(" of ")
    if what in ("halo", "tile"):
        return name, nbytes, "rows that wait for the next band" if what == "halo" else "rows of this step"
    return label, nbytes, ""


def _fullest(samples: Sequence[Sample]) -> dict[str, int]:
    """What each label held at the fullest moment."""
    held: dict[str, int] = {}
    best: dict[str, int] = {}
    total = most = 0
    for sample in samples:
        total += sample.nbytes - held.get(sample.label, 0)
        held[sample.label] = sample.nbytes
        if total > most:
            most, best = total, dict(held)
    return best


def _crossings(explained: Explanation | None) -> tuple[Crossing, ...]:
    if explained is None:
        return ()
    found = [Crossing(m.tensor, m.direction, m.nbytes, m.partner) for m in explained.moved]
    for m in explained.weights_moved:
        found.append(Crossing(m.tensor, m.direction, m.nbytes, "once" if m.times == 1 else f"{m.times} times"))
    return tuple(found)


def _rows_text(held: Held) -> str:
    return f"{held.rows} row{'s' * (held.rows != 1)} of {held.row_bytes:,} B"


def _offers(explained: Explanation | None) -> tuple[Offer, ...]:
    if explained is None:
        return ()
    capacity = explained.capacity_bytes
    return tuple(
        Offer(lever.change, lever.buffer_bytes - capacity, lever.saved_bytes) for lever in explained.levers[:5]
    )


def _replayed(solution: Solution) -> dict[int, list[Sample]]:
    """What the execution of each group held, step by step; nothing where it cannot be executed."""
    try:
        run = simulate(solution, mode="fast", trace=True)
    except SimulationError:
        return {}
    samples: dict[int, list[Sample]] = defaultdict(list)
    for sample in run.trace:
        samples[sample.group].append(sample)
    return samples


def _timeline(samples: Sequence[Sample], tiled: bool) -> tuple[tuple[int, int, int], ...]:
    """What each kind held at the fullest moment of every stretch of steps; one point where nothing changes."""
    held: dict[str, int] = {}
    now = dict.fromkeys(KINDS, 0)
    moments = []
    for sample in samples:
        kind = _kind(sample.label)
        now[kind] += sample.nbytes - held.get(sample.label, 0)
        held[sample.label] = sample.nbytes
        moments.append((now[ROWS], now[WEIGHTS], now[ACCUMULATORS]))
    if tiled or not moments:
        return tuple(moments[-1:])
    return tuple(max(part, key=sum) for part in _slices(moments))


def _slices(moments: Sequence[tuple[int, int, int]]) -> Iterable[Sequence[tuple[int, int, int]]]:
    count = min(_POINTS, len(moments))
    ends = list(accumulate(len(moments) // count + (i < len(moments) % count) for i in range(count)))
    return (moments[start:end] for start, end in zip([0, *ends], ends, strict=False))


def _kind(label: str) -> str:
    return _LABELS.get(label.partition(" of ")[0], ROWS)
