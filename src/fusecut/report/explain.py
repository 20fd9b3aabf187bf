"""Why a group is as it is: what fills the buffer, what crosses to DRAM, and what would let it grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from textwrap import wrap
from typing import Final

from fusecut.cost import Infeasible, Planned
from fusecut.errors import PlanError
from fusecut.ir import Graph, Group, bits
from fusecut.models import Brr, Layerwise, LineBuffer
from fusecut.partition import Partition
from fusecut.schedule import Place
from fusecut.solution import Solution
from fusecut.text import Column, render_table, wrapped
from fusecut.units import format_bytes

_SHOWN: Final = 12


@dataclass(frozen=True)
class Held:
    """A ring buffer of the group: rows times bytes, and who makes it that high."""

    tensor: str
    rows: int
    row_bytes: int
    nbytes: int
    why: str


@dataclass(frozen=True)
class Moved:
    """A tensor that crosses to DRAM, and for whom."""

    tensor: str
    direction: str
    times: int
    nbytes: int
    partner: str


@dataclass(frozen=True)
class Lever:
    """A way for the group to grow: the buffer it takes, and the DRAM bytes it saves."""

    change: str
    buffer_bytes: int
    saved_bytes: int


@dataclass(frozen=True)
class Lying:
    """Something that is on chip in the fullest step of a band, and where; ``rows`` 0: not rows of a tensor."""

    what: str
    rows: int
    nbytes: int
    offset: int


@dataclass(frozen=True)
class Explanation:
    """One group of a plan, taken apart. Every list adds up to the group's own figures."""

    index: int
    ops: tuple[str, ...]
    planned: Planned
    capacity_bytes: int
    held: tuple[Held, ...]
    weights: tuple[tuple[str, int], ...]
    accumulators: tuple[tuple[str, int], ...]
    moved: tuple[Moved, ...]
    weights_moved: tuple[Moved, ...]
    levers: tuple[Lever, ...]
    places: tuple[Lying, ...] = ()
    bands: str = ""

    def text(self, width: int = 80, colour: bool = False) -> str:
        """The explanation as it is printed."""
        return "\n".join(_text(self, width, colour))


def explain(solution: Solution, index: int, lines: LineBuffer) -> Explanation:
    """Take one group of a plan apart.

    ``lines`` is the line buffer the plan was made with.

    Raises:
        PlanError: the plan has no such group, or no plan at all.
    """
    partition = solution.partition
    if partition is None or not 0 <= index < len(partition):
        count = 0 if partition is None else len(partition)
        raise PlanError(f"the plan has {count} groups, 0 to {count - 1}: there is no group {index}")
    graph, planned = partition.graph, solution.planned[index]
    group = partition.groups[index]
    return Explanation(
        index=index,
        ops=tuple(graph.ops[i].name for i in bits(group)),
        planned=planned,
        capacity_bytes=solution.machine.buffer_bytes,
        held=_held(graph, planned, lines),
        weights=tuple((graph.ops[i].name, graph.ops[i].weight_bytes) for i in bits(group) if graph.ops[i].weight_bytes),
        accumulators=_accumulators(graph, planned, lines),
        moved=_moved(partition, index, planned),
        weights_moved=_weights_moved(graph, planned),
        levers=_levers(solution, partition, index, lines),
        places=_places(graph, planned),
        bands=_bands(graph, planned),
    )


def _bands(graph: Graph, planned: Planned) -> str:
    """How a group in bands runs, in words."""
    bands = planned.schedule.bands
    if bands is None:
        return ""
    count = planned.schedule.weight_passes
    rows = f"{bands.rows} rows" if bands.rows > 1 else "one row"
    text = f"Runs in {count} bands of {rows} of {graph.ops[bands.clock].name}" if count > 1 else "Runs in one band"
    text += f", in {len(bands.stages)} stages."
    streamed = len([i for i in planned.schedule.order if graph.ops[i].weight_bytes and i not in bands.resident])
    often = f"{count} times" if count > 1 else "once"
    if not streamed:
        text += " All weights stay on chip."
    elif not bands.resident:
        text += f" Weights pass by {often}."
    else:
        text += f" Weights of {len(bands.resident)} ops stay on chip, those of {streamed} pass by {often}."
    if bands.part:
        text += f" {len(bands.part)} tensors pass {bands.channels} channels at a time."
    if bands.again:
        text += " Rows that bands share are made again" + (
            " or read again." if any(graph.producer[t] < 0 for t in bands.again) else "."
        )
    return text


def _places(graph: Graph, planned: Planned) -> tuple[Lying, ...]:
    """What lies on chip in the fullest step, the largest first."""
    bands = planned.schedule.bands
    if bands is None:
        return ()
    loads = [sum(p.nbytes for p in bands.places if p.first <= step <= p.last) for step in range(2 * len(bands.stages))]
    step = loads.index(max(loads))
    found = [Lying(_named(graph, p), p.rows, p.nbytes, p.offset) for p in bands.places if p.first <= step <= p.last]
    return tuple(sorted(found, key=lambda lying: (-lying.nbytes, lying.offset)))


def _named(graph: Graph, place: Place) -> str:
    if place.what == "slice":
        return "weights in use"
    if place.what in ("tile", "halo"):
        name = graph.tensors[place.index].name
        return name if place.what == "tile" else f"{name}, kept for the next band"
    return f"{place.what} of {graph.ops[place.index].name}"


def _held(graph: Graph, planned: Planned, lines: LineBuffer) -> tuple[Held, ...]:
    schedule = planned.schedule
    return tuple(
        Held(graph.tensors[h.tensor].name, h.rows, h.row_bytes, h.nbytes, _why(graph, schedule.group, h.tensor, lines))
        for h in schedule.holds
        if h.stage == schedule.passes - 1
    )


def _why(graph: Graph, group: Group, tensor: int, lines: LineBuffer) -> str:
    reason = lines.reason(graph, tensor, group)
    if reason is None:
        return "written row by row"
    rows, late, early = reason
    if rows == 1:
        return f"read row by row by {graph.ops[late].name}"
    if late == early:
        return f"window of {graph.ops[late].name}"
    return f"{graph.ops[late].name} waits for {graph.ops[early].name}"


def _accumulators(graph: Graph, planned: Planned, lines: LineBuffer) -> tuple[tuple[str, int], ...]:
    if planned.schedule.scheme != "lbdf":
        return ()
    return tuple(
        (graph.ops[i].name, lines.accumulator_bytes(graph, i))
        for i in bits(planned.schedule.group)
        if lines.accumulator_bytes(graph, i)
    )


def _moved(partition: Partition, index: int, planned: Planned) -> tuple[Moved, ...]:
    graph, group = partition.graph, partition.groups[index]
    rows = []
    inputs = {t: graph.tensors[t].nbytes for t in graph.reads(group)}
    extra = planned.cost.read_bytes - planned.cost.weight_bytes - sum(inputs.values())
    for t, nbytes in inputs.items():
        maker = graph.producer[t]
        partner = "network input" if maker < 0 else f"from group {_group_of(partition, maker)}"
        again = 1 + (extra // nbytes if len(inputs) == 1 and extra % nbytes == 0 else 0)
        rows.append(Moved(graph.tensors[t].name, "read", again, nbytes * again, partner))
    counted = sum(row.nbytes for row in rows)
    if counted != planned.cost.read_bytes - planned.cost.weight_bytes:
        rest = planned.cost.read_bytes - planned.cost.weight_bytes - counted
        rows.append(Moved("(inputs streamed again)", "read", planned.schedule.passes, rest, "the same tensors"))
    for t in graph.writes(group):
        readers = sorted({_group_of(partition, r) for r in graph.consumers[t] if not group >> r & 1})
        to = [f"group {r}" for r in readers] + (["network output"] if t in graph.output_set else [])
        rows.append(
            Moved(graph.tensors[t].name, "write", 1, graph.tensors[t].nbytes, "to " + (", ".join(to) or "nobody"))
        )
    written = sum(row.nbytes for row in rows if row.direction == "write")
    if planned.cost.write_bytes != written:
        rows.append(Moved("(partial sums)", "write", 1, planned.cost.write_bytes - written, "and read back"))
    return tuple(rows)


def _weights_moved(graph: Graph, planned: Planned) -> tuple[Moved, ...]:
    """Weights and biases, apart where some stay on chip and others pass by once for each band."""
    schedule, total = planned.schedule, planned.cost.weight_bytes
    resident = () if schedule.bands is None else schedule.bands.resident
    staying = sum(graph.ops[i].weight_bytes for i in resident)
    parts = [("weights and biases", schedule.weight_passes, total)]
    if staying:
        parts = [("weights that stay on chip", 1, staying), ("weights that pass by", parts[0][1], total - staying)]
    return tuple(Moved(name, "read", times, nbytes, "") for name, times, nbytes in parts if nbytes)


def _group_of(partition: Partition, op: int) -> int:
    return next(i for i, group in enumerate(partition.groups) if group >> op & 1)


def _levers(solution: Solution, partition: Partition, index: int, lines: LineBuffer) -> tuple[Lever, ...]:
    """Unions with a neighbouring group that save bytes, the smallest buffer first."""
    graph, group = partition.graph, partition.groups[index]
    need = _needed(solution, graph, lines)
    found = []
    for other, mate in enumerate(partition.groups):
        union = group | mate
        if other == index or not graph.is_connected(union) or not graph.is_convex(union):
            continue
        saved = solution.planned[index].cost.dram_bytes + solution.planned[other].cost.dram_bytes
        saved -= graph.touch_once_bytes(union)
        if saved > 0 and need(union) > solution.machine.buffer_bytes:
            found.append(Lever(f"fuse with group {other}", need(union), saved))
    grown = _one_more(solution, partition, index, lines)
    return tuple(sorted([*found, *grown], key=lambda lever: (lever.buffer_bytes, -lever.saved_bytes, lever.change)))


def _needed(solution: Solution, graph: Graph, lines: LineBuffer) -> Callable[[Group], int]:
    """The buffer in which a group moves everything once under the plan's scheme."""
    if solution.provenance.scheme not in ("brr", "mixed"):
        return lambda group: lines.demand(graph, group).nbytes
    bands = Brr(lines)
    return cache(lambda group: bands.touch_once_buffer_bytes(graph, group, solution.machine))


def _one_more(solution: Solution, partition: Partition, index: int, lines: LineBuffer) -> list[Lever]:
    """The group with the first op of a following group, where what is left of that group still runs."""
    graph, group = partition.graph, partition.groups[index]
    need = _needed(solution, graph, lines)
    model = Brr(lines) if solution.provenance.scheme in ("brr", "mixed") else lines
    found = []
    for other, mate in enumerate(partition.groups):
        for op in bits(mate):
            union, rest = group | 1 << op, mate & ~(1 << op)
            if other == index or not rest or not graph.preds[op] & group or graph.preds[op] & mate:
                continue
            if not graph.is_convex(union) or not graph.is_connected(rest):
                continue
            left = model.plan(graph, rest, solution.machine)
            if isinstance(left, Infeasible) and not rest & (rest - 1):
                left = Layerwise().plan(graph, rest, solution.machine)
            if isinstance(left, Infeasible):
                continue
            before = solution.planned[index].cost.dram_bytes + solution.planned[other].cost.dram_bytes
            saved = before - graph.touch_once_bytes(union) - left.cost.dram_bytes
            if saved > 0 and need(union) > solution.machine.buffer_bytes:
                found.append(Lever(f"take {graph.ops[op].name} from group {other}", need(union), saved))
    return found


def _text(e: Explanation, width: int, colour: bool) -> list[str]:
    schedule, cost = e.planned
    lines = [
        *wrap(f"group {e.index}: {len(e.ops)} ops under {schedule.scheme}: {', '.join(e.ops)}", width),
        f"buffer {cost.buffer_bytes:,} B of {e.capacity_bytes:,} B; DRAM {cost.dram_bytes:,} B",
        "",
    ]
    if e.held:
        lines += ["What fills the buffer", _held_table(e, width, colour), ""]
    elif e.places:
        lines += [
            *wrap(e.bands, width),
            "",
            "What lies on chip in the fullest step",
            _places_table(e, width, colour),
            "",
        ]
    elif schedule.tile is not None:
        t = schedule.tile
        alone = (
            f"Runs alone in tiles of {t.out_channels} output by {t.in_channels} input channels, {t.rows} rows, "
            f"{t.cols} columns, loops {t.order} from the outside in; inputs pass {schedule.passes} times, "
            f"weights {schedule.weight_passes} times."
        )
        lines += [*wrap(alone, width), ""]
    columns = (Column("tensor", "left", True), Column("", "left"), Column("times"), Column("bytes"), Column("", "left"))
    crossing = (*e.moved, *e.weights_moved)
    moved = [[m.tensor, m.direction, str(m.times), f"{m.nbytes:,}", m.partner] for m in crossing]
    lines += ["What crosses to DRAM", render_table(columns, moved, width, colour), ""]
    return lines + [wrapped(line, width, 4) for line in _lever_lines(e)]


def _held_table(e: Explanation, width: int, colour: bool) -> str:
    columns = (
        Column("what", "left", True),
        Column("rows"),
        Column("row B"),
        Column("bytes"),
        Column("why", "left", True),
    )
    rows = [[h.tensor, str(h.rows), f"{h.row_bytes:,}", f"{h.nbytes:,}", h.why] for h in e.held]
    rows += [[f"weights of {name}", "", "", f"{size:,}", ""] for name, size in e.weights]
    rows += [[f"accumulators of {name}", "", "", f"{size:,}", "summed over all rows"] for name, size in e.accumulators]
    return render_table(columns, rows, width, colour)


def _places_table(e: Explanation, width: int, colour: bool) -> str:
    columns = (Column("what", "left", True), Column("rows"), Column("bytes"), Column("from byte"))
    rows = [[p.what, str(p.rows or ""), f"{p.nbytes:,}", f"{p.offset:,}"] for p in e.places[:_SHOWN]]
    rest = e.places[_SHOWN:]
    if rest:
        rows.append([f"{len(rest)} more", "", f"{sum(p.nbytes for p in rest):,}", ""])
    return render_table(columns, rows, width, colour)


def _lever_lines(e: Explanation) -> list[str]:
    if not e.levers:
        return ["No larger buffer would let it grow by a neighbour and save bytes."]
    return ["What would let it grow, everything moved once"] + [
        f"  {format_bytes(lever.buffer_bytes)} of buffer ({lever.buffer_bytes - e.capacity_bytes:,} B more): "
        f"{lever.change}, saves {lever.saved_bytes:,} B"
        for lever in e.levers[:5]
    ]
