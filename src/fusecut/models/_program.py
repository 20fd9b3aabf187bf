"""A group lowered to row events: streams, their operands, and the rings that hold their rows.

A *stream* makes rows one after the other: a group input (rows loaded from DRAM), an op, or the
accumulation step of a streaming reduction. A *ring* holds the rows of one tensor until its last
reader is done with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from fusecut.ir import Graph, Group, Op, bits
from fusecut.ops import POINTWISE_KINDS, ROWS, accumulator_elements
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
    """Rows of ``tensor`` on chip: occupancy is made rows of ``maker`` minus the lowest row still needed.

    ``streams`` are those whose rows pass through it: the one that makes the tensor and, before it, those
    it writes over, from ``maker`` on. ``kept``: rows stay although nobody in this run needs them.
    """

    tensor: int
    slot_bits: int
    maker: int
    rows: int
    readers: list[tuple[int, Rows]]
    streams: tuple[int, ...] = ()
    kept: bool = False

    def nbytes(self, rows: int) -> int:
        """Whole bytes of so many rows."""
        return -(-rows * self.slot_bits // 8)


@dataclass
class Program:
    """Streams in topological order. At pixel granularity a "row" is a pixel.

    ``last`` is the last row of each stream that anything demands (-1: none), ``op`` its op (-1 for
    an input), ``tensors`` what it makes, ``is_step`` marks accumulation steps. ``sinks`` are streams
    all of whose rows are wanted outside, ``resident`` inputs that are on chip from the start.
    ``steady``: no row depends on a whole map and none is kept, so the schedule becomes periodic.
    """

    rows: list[int] = field(default_factory=list)
    operands: list[tuple[Operand, ...]] = field(default_factory=list)
    op: list[int] = field(default_factory=list)
    is_step: list[bool] = field(default_factory=list)
    tensors: list[tuple[int, ...]] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    sinks: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
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


@dataclass(frozen=True)
class Pass:
    """Ops that run in one pass over a group's inputs, and what becomes of what they make.

    ``leaving`` are the ops all of whose rows are wanted outside (None: those whose tensors leave for
    DRAM). Of several passes over a group, ``carried`` are tensors an earlier one left on chip, ``kept``
    those that must still be there afterwards, and ``resident_bytes`` what waits through this pass.
    """

    run: Group
    leaving: Group | None = None
    resident_bytes: int = 0
    carried: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()


class _Builder:
    def __init__(self, graph: Graph, maps: Maps, part: Pass, switches: Lowering, pixels: bool) -> None:
        self.graph, self.maps, self.part, self.switches, self.pixels = graph, maps, part, switches, pixels
        self.program = Program()
        self.source: dict[int, tuple[tuple[int, int], ...]] = {}  # tensor -> (stream, tensor) that stand for it
        self.leaving: set[int] = set()

    def add_input(self, tensor: int) -> None:
        stream = self.stream(self._rows(tensor), (), -1, (tensor,))
        if tensor in self.part.carried:
            self.program.resident.append(stream)

    def _rows(self, tensor: int) -> int:
        facts = self.graph.tensors[tensor]
        return facts.rows * facts.cols if self.pixels else facts.rows

    def _slot_bits(self, tensor: int) -> int:
        facts = self.graph.tensors[tensor]
        return facts.channels * facts.bits if self.pixels else facts.row_bytes * 8

    def stream(self, rows: int, operands: tuple[Operand, ...], op: int, tensors: tuple[int, ...]) -> int:
        p, index = self.program, len(self.program.rows)
        p.rows.append(rows)
        p.operands.append(operands)
        p.op.append(op)
        p.is_step.append(op >= 0 and not tensors)
        p.last.append(-1)
        self.program.tensors.append(tensors)
        for t in tensors:
            self.source[t] = ((index, t),)
        return index

    def add_op(self, index: int, leaves: bool) -> None:
        op = self.graph.ops[index]
        copied = op.outputs[0] in self.part.kept or not is_virtual(op, self.maps[index])
        if self.switches.virtual_concat and not copied:
            parts = tuple(dict.fromkeys(part for t in op.inputs for part in self.source[t]))
            self.source[op.outputs[0]] = parts
            self.leaving.update(s for s, _ in parts if leaves)
            return
        operands = tuple(o for k, t in enumerate(op.inputs) for o in self._operands(index, t, self.maps[index][k]))
        stream = self.stream(self._rows(op.outputs[0]), operands, index, op.outputs)
        if leaves:
            self.leaving.add(stream)

    def _operands(self, op: int, tensor: int, rowmap: RowMap) -> list[Operand]:
        """One for each tensor that stands for the operand; a reduction folds a row of all of them in one step."""
        if (rowmap.reduces or rowmap.whole) and rowmap.hi[-1] > 0:
            self.program.steady = False
        parts = self.source[tensor]
        if not rowmap.reduces:
            return [Operand(s, rowmap.lo, rowmap.hi, part, rowmap.period, rowmap.start) for s, part in parts]
        each = tuple(range(self.program.rows[parts[0][0]]))
        steps = self.stream(len(each), tuple(Operand(s, each, each, part) for s, part in parts), op, ())
        return [Operand(steps, rowmap.lo, rowmap.hi, -1, rowmap.period, rowmap.start)]

    def finish(self) -> Program:
        p = self.program
        p.sinks = sorted(self.leaving)
        p.steady = p.steady and not self.part.kept
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
        chains = self._inlined() if self.switches.inline_elementwise else {}
        for stream in range(len(p.rows)):
            chain = chains.get(stream, (stream,))
            for t in p.tensors[stream] if chain else ():
                self._rings_of(stream, t, readers.get((stream, t), []), chain)

    def _rings_of(self, stream: int, tensor: int, readers: list[tuple[int, Rows]], chain: tuple[int, ...]) -> None:
        """One ring, or one for each reader; operand rows that will be written over wait in the first."""
        p, rows, bits = self.program, self.program.rows[stream], self._slot_bits(tensor)
        kept = tensor in self.part.kept
        apart = self.switches.skip_separate_buffer and len(readers) > 1
        first, *others = [[r] for r in readers] if apart else [readers]
        own = [(s, tuple(range(rows))) for s in chain[1:]]
        p.rings.append(Ring(tensor, bits, chain[0], rows, [*first, *own], chain, kept))
        p.rings += [Ring(tensor, bits, stream, rows, mine, (stream,)) for mine in others]

    def _inlined(self) -> dict[int, tuple[int, ...]]:
        """Pointwise streams that write over an operand row that dies in the same event, and what they write over.

        The ring of the result then also holds the operand row that will become its newest row: the
        operand's own ring disappears (an empty chain). One operand only, read by nobody else, of
        the same row size, row q for row q, and not wanted after the run.
        """
        p, readers, chains = self.program, self.program.readers(), dict[int, tuple[int, ...]]()
        for stream, operands in enumerate(p.operands):
            if p.op[stream] < 0 or p.is_step[stream] or self.graph.ops[p.op[stream]].kind not in POINTWISE_KINDS:
                continue
            for o in operands:
                if o.lo == o.hi == tuple(range(len(o.lo))) and self._can_take(stream, o, readers[o.source]):
                    chains[stream] = (*chains.get(o.source, (o.source,)), stream)
                    chains[o.source] = ()
                    break
        return chains

    def _can_take(self, stream: int, operand: Operand, readers: list[int]) -> bool:
        mine, theirs, p = self.program.tensors[stream], self.program.tensors[operand.source], self.program
        if len(mine) != 1 or len(theirs) != 1 or theirs[0] in self.part.kept:
            return False
        alone = len(readers) == 1 and sum(o.source == operand.source for o in p.operands[stream]) == 1
        same = self._slot_bits(mine[0]) == self._slot_bits(theirs[0])
        return alone and same and p.rows[stream] == p.rows[operand.source]


def is_virtual(op: Op, maps: tuple[RowMap, ...]) -> bool:
    """Whether an op is a concatenation that need not be copied: row q is row q of every part, and nothing joined it."""
    plain = op.kind == "concat" and not op.attrs.get("barrier") and "fused" not in op.attrs and not op.weight_bytes
    return plain and op.attrs.get("axis") != ROWS and all(m.lo == m.hi == tuple(range(len(m.lo))) for m in maps)


def lower(graph: Graph, maps: Maps, part: Pass, switches: Lowering = PLAIN, pixels: bool = False) -> Program:
    """Lower the ops of a part; tensors made elsewhere are streamed in.

    ``maps`` are row maps, or pixel maps with ``pixels``. O(ops + edges), plus one pass over the rows of
    each reduction.
    """
    builder = _Builder(graph, maps, part, switches, pixels)
    for t in graph.reads(part.run):
        builder.add_input(t)
    for i in bits(part.run):
        outputs = graph.ops[i].outputs
        leaves = any(graph.leaves(t, part.run) for t in outputs) if part.leaving is None else part.leaving >> i & 1
        builder.add_op(i, bool(leaves))
    return builder.finish()


def accumulator_bytes(graph: Graph, op: Op) -> int:
    """Bytes of the accumulators of a streaming reduction, at the width of biases."""
    return -(-accumulator_elements(graph, op) * op.bias_bits // 8)
