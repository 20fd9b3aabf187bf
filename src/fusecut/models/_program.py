"""A group lowered to row events: streams, their operands, and the rings that hold their rows.

A *stream* makes rows one after the other: a group input (rows loaded from DRAM), an op, or the
accumulation step of a streaming reduction. A *ring* holds the rows of one tensor until its last
reader is done with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from fusecut.ir import Graph, Group, Op, bits
from fusecut.ops import POINTWISE_KINDS, accumulator_elements, event_rows
from fusecut.rowmap import RowMap

Rows: TypeAlias = tuple[int, ...]
Maps: TypeAlias = tuple[tuple[RowMap, ...], ...]


class Operand(NamedTuple):
    """Rows lo[q]..hi[q] of a source stream, of the tensor named (-1: an accumulation step)."""

    source: int
    lo: Rows
    hi: Rows
    tensor: int
    period: int = 1
    start: int = 0


@dataclass
class Ring:
    """Rows of ``tensor`` on chip: occupancy is made rows of ``maker`` minus the lowest row still needed."""

    tensor: int
    row_bytes: int
    maker: int
    rows: int
    readers: list[tuple[int, Rows]]


@dataclass
class Program:
    """Streams in topological order.

    ``last`` is the last row of each stream that anything demands (-1: none), ``op`` its op (-1 for
    an input), ``is_step`` marks accumulation steps. ``sinks`` are streams all of whose rows are
    wanted outside. ``steady``: no row depends on a whole map, so the schedule becomes periodic.
    """

    rows: list[int] = field(default_factory=list)
    operands: list[tuple[Operand, ...]] = field(default_factory=list)
    op: list[int] = field(default_factory=list)
    is_step: list[bool] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    sinks: list[int] = field(default_factory=list)
    rings: list[Ring] = field(default_factory=list)
    steady: bool = True

    def readers(self) -> list[list[int]]:
        """Streams that read each stream, ascending, each once."""
        table: list[list[int]] = [[] for _ in self.rows]
        for stream, operands in enumerate(self.operands):
            for source in {o.source for o in operands}:
                table[source].append(stream)
        return table


@dataclass(frozen=True)
class Lowering:
    """The switches that change which streams and rings a group has (docs/lbdf.md)."""

    inline_elementwise: bool = False
    virtual_concat: bool = False
    skip_separate_buffer: bool = False


PLAIN = Lowering()


class _Builder:
    def __init__(self, graph: Graph, maps: Maps, switches: Lowering) -> None:
        self.graph, self.maps, self.switches = graph, maps, switches
        self.program = Program()
        self.source: dict[int, tuple[tuple[int, int], ...]] = {}  # tensor -> (stream, tensor) that stand for it
        self.tensors: list[tuple[int, ...]] = []  # stream -> tensors it makes
        self.leaving: set[int] = set()

    def stream(self, rows: int, operands: tuple[Operand, ...], op: int, tensors: tuple[int, ...]) -> int:
        p, index = self.program, len(self.program.rows)
        p.rows.append(rows)
        p.operands.append(operands)
        p.op.append(op)
        p.is_step.append(op >= 0 and not tensors)
        p.last.append(-1)
        self.tensors.append(tensors)
        for t in tensors:
            self.source[t] = ((index, t),)
        return index

    def add_op(self, index: int, leaves: bool) -> None:
        op = self.graph.ops[index]
        if self.switches.virtual_concat and op.kind == "concat" and op.attrs.get("axis") != 0:
            parts = tuple(dict.fromkeys(part for t in op.inputs for part in self.source[t]))
            self.source[op.outputs[0]] = parts
            self.leaving.update(s for s, _ in parts if leaves)
            return
        operands = tuple(o for k, t in enumerate(op.inputs) for o in self._operands(index, t, self.maps[index][k]))
        stream = self.stream(event_rows(self.graph, op), operands, index, op.outputs)
        if leaves:
            self.leaving.add(stream)

    def _operands(self, op: int, tensor: int, rowmap: RowMap) -> list[Operand]:
        if (rowmap.reduces or rowmap.whole) and rowmap.hi[-1] > 0:
            self.program.steady = False
        operands = []
        for source, part in self.source[tensor]:
            if rowmap.reduces:
                each = tuple(range(self.program.rows[source]))
                source = self.stream(len(each), (Operand(source, each, each, part),), op, ())
                part = -1
            operands.append(Operand(source, rowmap.lo, rowmap.hi, part, rowmap.period, rowmap.start))
        return operands

    def finish(self) -> Program:
        p = self.program
        p.sinks = sorted(self.leaving)
        for sink in p.sinks:
            p.last[sink] = p.rows[sink] - 1
        for stream in range(len(p.rows) - 1, -1, -1):
            if p.last[stream] >= 0:
                for o in p.operands[stream]:
                    p.last[o.source] = max(p.last[o.source], o.hi[p.last[stream]])
        self._rings()
        return p

    def _rings(self) -> None:
        p = self.program
        readers: dict[tuple[int, int], list[tuple[int, Rows]]] = {}
        for stream, operands in enumerate(p.operands):
            for o in operands:
                readers.setdefault((o.source, o.tensor), []).append((stream, o.lo))
        makers = self._inlined() if self.switches.inline_elementwise else {}
        for stream, rows in enumerate(p.rows):
            maker = makers.get(stream, stream)
            if maker is None:
                continue
            for t in self.tensors[stream]:
                mine = readers.get((stream, t), [])
                if maker != stream:
                    mine = [*mine, (stream, tuple(range(rows)))]  # operand rows wait in the ring for the op itself
                apart = self.switches.skip_separate_buffer and len(mine) > 1
                for part in [[r] for r in mine] if apart else [mine]:
                    p.rings.append(Ring(t, self.graph.tensors[t].row_bytes, maker, rows, part))

    def _inlined(self) -> dict[int, int | None]:
        """Pointwise streams that write over an operand row that dies in the same event.

        The ring of the result then also holds the operand row that will become its newest row:
        the operand's own ring disappears (None) and the result's is counted from the operand's
        maker. One operand only, read by nobody else, of the same row size, row q for row q.
        """
        p, readers, makers = self.program, self.program.readers(), dict[int, int | None]()
        for stream, operands in enumerate(p.operands):
            if p.op[stream] < 0 or self.graph.ops[p.op[stream]].kind not in POINTWISE_KINDS:
                continue
            for o in operands:
                if o.lo == o.hi == tuple(range(len(o.lo))) and self._can_take(stream, o, readers[o.source]):
                    taken = makers.get(o.source, o.source)
                    makers[stream], makers[o.source] = taken, None
                    break
        return makers

    def _can_take(self, stream: int, operand: Operand, readers: list[int]) -> bool:
        mine, p = self.tensors[stream], self.program
        sizes = [self.graph.tensors[t].row_bytes for t in (*mine, *self.tensors[operand.source])]
        alone = len(readers) == 1 and sum(o.source == operand.source for o in p.operands[stream]) == 1
        return alone and len(sizes) == 2 and sizes[0] == sizes[1] and p.rows[stream] == p.rows[operand.source]


def lower(graph: Graph, maps: Maps, run: Group, leaving: Group | None = None, switches: Lowering = PLAIN) -> Program:
    """Lower the ops of ``run``; tensors made elsewhere are streamed in.

    ``leaving`` are the ops all of whose rows are wanted outside ``run``; by default those whose
    tensors leave it for DRAM. O(ops + edges), plus one pass over the rows of each reduction.
    """
    builder = _Builder(graph, maps, switches)
    for t in graph.reads(run):
        builder.stream(graph.tensors[t].rows, (), -1, (t,))
    for i in bits(run):
        outputs = graph.ops[i].outputs
        leaves = any(graph.leaves(t, run) for t in outputs) if leaving is None else bool(leaving >> i & 1)
        builder.add_op(i, leaves)
    return builder.finish()


def accumulator_bytes(graph: Graph, op: Op) -> int:
    """Bytes of the accumulators of a streaming reduction, at the width of biases."""
    return -(-accumulator_elements(graph, op) * op.bias_bits // 8)
