"""One op at a time, each with the best tiles it can have: the price of no fusion at all.

The baseline every fused plan is measured against, and the fallback for ops that no fused scheme
can hold. It is exact, so that fusion is never flattered by a weak baseline. docs/layerwise.md
derives the model; the search over tiles of convolution-like ops is in ``_tiling``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Final, TypeAlias

from fusecut.cost import BufferFloor, Cost, FitFloor, Infeasible, Planned
from fusecut.ir import Graph, Group, Op, Tensor
from fusecut.machine import Machine
from fusecut.models._tiling import Axis, Choice, Cut, Layer, Shortage, best, cut, cuts, extent, tile_passes, up
from fusecut.ops import COLS, ROWS, axis_map, product_sizes
from fusecut.rowmap import RowMap, barrier
from fusecut.schedule import Schedule, Tile

Pricer: TypeAlias = Callable[[Graph, Op, int], Choice | Shortage]
"""(graph, op, buffer bytes) -> how the op runs alone, or what its smallest tile needs."""

_TOO_BIG: Final = 2**63


@dataclass(frozen=True)
class Layerwise:
    """Every op a group of its own: exact minimum of DRAM bytes over integer tiles and loop orders.

    ``plan`` refuses groups of two ops or more, and an op whose smallest tile exceeds the buffer.
    Convolutions, transposed convolutions, linear layers and products of two activations are tiled
    over output channels, input channels and space in every loop order. All other kinds touch each
    tensor once whenever one row of one channel (one window of rows, one span to normalise) fits.
    ``opaque`` ops run outside the accelerator: they touch each tensor once and hold nothing.

    Complexity: O(1) tiles for an op that can touch everything once, else see ``_tiling.best``.
    """

    name: ClassVar[str] = "layerwise"

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        """The cheapest run of the group's single op; ties go to the smallest buffer."""
        if group.bit_count() != 1:
            return _not_one_op(group)
        index = group.bit_length() - 1
        op = graph.ops[index]
        found = PRICERS.get(op.kind, _pointwise)(graph, op, machine.buffer_bytes)
        if isinstance(found, Shortage):
            return _too_small(op, found, machine.buffer_bytes)
        schedule = Schedule(
            scheme=self.name,
            group=group,
            order=(index,),
            passes=found.passes,
            weight_passes=found.weight_passes,
            tile=found.tile,
        )
        need = found.buffer_bytes
        cost = Cost(found.read_bytes, found.write_bytes, found.weight_bytes, need, need, op.macs)
        return Planned(schedule, cost)

    @property
    def touches_once(self) -> bool:
        """No tiling moves less than every tensor and weight once."""
        return True

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        """A tiling has no figures left to add."""
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        """Nothing for one op, more than any buffer for two: no group of two ops is feasible."""
        return _OneOp()


class _OneOp(FitFloor):
    """The buffer floor of a scheme that takes one op at a time."""

    start: int = 0

    def extend(self, group: Group, mark: int, op: int) -> int:
        return _TOO_BIG if group & ~(1 << op) else 0


def _not_one_op(group: Group) -> Infeasible:
    count = group.bit_count()
    return Infeasible(
        resource="group size",
        demand=count,
        limit=1,
        where=f"layerwise runs one op at a time, this group has {count} ops: give each a group of its own",
        levers=("give each op a group of its own",),
    )


def _too_small(op: Op, shortage: Shortage, capacity: int) -> Infeasible:
    return Infeasible(
        resource="buffer",
        demand=shortage.demand,
        limit=capacity,
        where=f"{op.kind} {op.name!r} cannot run even alone: {shortage.where}",
        levers=(f"a buffer of {shortage.demand:,} B holds its smallest tile",),
    )


def _packed(elements: int, width: int) -> int:
    """Bytes of elements of ``width`` bits without gaps."""
    return -(-elements * width // 8)


def _nbytes(graph: Graph, tensors: Iterable[int]) -> int:
    return sum(graph.tensors[t].nbytes for t in tensors)


def _tensors(graph: Graph, indices: Iterable[int]) -> list[Tensor]:
    """The distinct tensors among these, in order."""
    return [graph.tensors[t] for t in dict.fromkeys(indices)]


def _touch_once(graph: Graph, op: Op, need: int, tile: Tile | None) -> Choice:
    reads = _nbytes(graph, dict.fromkeys(op.inputs)) + op.weight_bytes
    return Choice(tile, reads, _nbytes(graph, op.outputs), op.weight_bytes, need)


# Convolution-like ops ---------------------------------------------------------------------------


def _layer(
    graph: Graph, op: Op, channels: tuple[int, int, int], axes: tuple[int, Axis, Axis], kernel: int = 1
) -> Layer:
    """An op with constant weights; ``channels`` is (groups, in and out of each), ``axes`` (images, rows, cols)."""
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    groups, c, k = channels
    images, rows, cols = axes
    others = max(0, op.weight_elements - kernel * groups * c * k)  # slopes of a folded PRelu
    return Layer(
        groups=groups,
        out_channels=k,
        in_channels=c,
        images=images,
        rows=rows,
        cols=cols,
        kernel=kernel,
        channel_bits=-(-op.bias_elements // (groups * k)) * op.bias_bits + -(-others // (groups * k)) * op.weight_bits,
        in_bits=source.bits,
        weight_bits=op.weight_bits,
        out_bits=made.bits,
        sum_bits=op.bias_bits,
        in_bytes=source.nbytes,
        weight_bytes=_packed(op.weight_elements, op.weight_bits),
        bias_bytes=op.bias_bytes,
        out_bytes=made.nbytes,
        weight_elements=op.weight_elements - others,
        constant_bits=op.bias_elements * op.bias_bits + others * op.weight_bits,
    )


def _convolution(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """conv and conv_transpose; with dynamic weights, uneven groups or rows of channels, everything must be resident."""
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    groups, inputs = op.attrs.get("groups", 1), op.attrs.get("in_channels", source.channels)
    if op.attrs.get("barrier") or not isinstance(groups, int) or not isinstance(inputs, int) or len(op.inputs) > 1:
        return _resident(graph, op, capacity)
    channels = groups, inputs // groups, made.channels // groups
    kernel, cols = prod(_kernel(op)), source.elements // (source.batch * source.rows * inputs)
    uneven = inputs % groups or made.channels % groups or source.elements % (source.batch * source.rows * inputs)
    if uneven or prod(channels) * kernel > op.weight_elements:
        return _resident(graph, op, capacity)
    wide = axis_map(graph, op, 0, COLS) if cols == source.cols else barrier(cols, made.cols)
    axes = source.batch, axis_map(graph, op, 0, ROWS), wide
    return best(_layer(graph, op, channels, axes, kernel), capacity)


def _kernel(op: Op) -> tuple[int, ...]:
    shape = op.attrs.get("spatial_kernel", op.attrs.get("kernel", ()))
    return shape if isinstance(shape, tuple) else ()


def _linear(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """A matrix product with constant weights: space is positions, runs of which make a tile."""
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    features = op.attrs.get("in_features")
    if not isinstance(features, int):
        features = source.elements // source.batch if op.attrs.get("flatten") else source.channels
    positions = max(1, source.elements // features)
    results = made.elements // positions
    if len(op.inputs) > 1 or positions * results != made.elements or features * results > op.weight_elements:
        return _resident(graph, op, capacity)
    return best(_layer(graph, op, (1, features, results), (1, positions, 1)), capacity)


def _matmul(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """A product of two activations; everything resident where that is cheaper or all that is known."""
    layer = _product(graph, op)
    whole = _resident(graph, op, capacity)
    if layer is None:
        return whole
    options = (_held(op, layer, capacity), _streamed(op, layer, capacity), whole)
    found = [option for option in options if isinstance(option, Choice)]
    if found:
        return min(found, key=lambda option: (option.dram_bytes, option.buffer_bytes))
    return min((o for o in options[:2] if isinstance(o, Shortage)), key=lambda shortage: shortage.demand)


def _held(op: Op, layer: Layer, capacity: int) -> Choice | Shortage:
    """A product in tiles; constants folded into it, such as a mask, stay on chip."""
    constants = _packed(op.weight_elements, op.weight_bits)
    found = best(layer, capacity - constants)
    if isinstance(found, Shortage):
        return found._replace(demand=found.demand + constants)
    again = _biases_again(op, layer, found)
    return found._replace(
        read_bytes=found.read_bytes + constants,
        weight_bytes=op.weight_bytes + again,
        buffer_bytes=found.buffer_bytes + constants,
        weight_passes=1 if constants else found.weight_passes,
    )


def _streamed(op: Op, layer: Layer, capacity: int) -> Choice | Shortage:
    """A product in tiles; constants folded into it come with the biases.

    Which group reads which of them is not known: a tile holds for each of its output channels as many as there are
    for one, and every group loads all.
    """
    all_groups = layer.groups * op.weight_elements * op.weight_bits
    each = -(-op.weight_elements // layer.out_channels) * op.weight_bits
    widened = layer._replace(
        channel_bits=layer.channel_bits + each,
        bias_bytes=layer.bias_bytes + up(all_groups),
        constant_bits=layer.constant_bits + all_groups,
    )
    found = best(widened, capacity)
    if isinstance(found, Shortage) or found.tile is None:
        return found
    passes = layer.groups * tile_passes(layer, found.tile).biases
    weights = widened.bias_bytes + _biases_again(op, widened, found)
    return found._replace(weight_bytes=weights, weight_passes=passes if op.weight_elements else found.weight_passes)


def _biases_again(op: Op, layer: Layer, found: Choice) -> int:
    """Bytes of biases, and of what comes with them, that are loaded more than once."""
    return 0 if found.tile is None else up((tile_passes(layer, found.tile).biases - 1) * layer.constant_bits)


def _product(graph: Graph, op: Op) -> Layer | None:
    """(batch, m, f) x (batch, f, n) as a layer whose weights are an activation; None if sizes do not say so.

    The batch (heads) are independent groups, unless one operand has no batch: it is then the
    weights of all positions at once. A batch broadcast in part is read anew for every product.
    """
    if len(op.inputs) != 2:
        return None
    left, right = (graph.tensors[t] for t in op.inputs)
    made = graph.tensors[op.outputs[0]]
    m, n = product_sizes(op, left, right)
    f = op.macs // made.elements if op.macs else left.dims[-1]
    batch = made.elements // (m * n)
    if batch * m * n != made.elements or not f or not _repeats(batch, left, m * f) or not _repeats(batch, right, f * n):
        return None
    if right.elements == f * n:
        return _activations(op, (left, right, made), (1, f, n), batch * m)
    if left.elements == m * f:
        return _activations(op, (right, left, made), (1, f, m), batch * n)
    return _activations(op, (left, right, made), (batch, f, n), m)


def _repeats(batch: int, operand: Tensor, matrix: int) -> bool:
    """Whether an operand is so many matrices, at most one for each member of the batch."""
    return operand.elements % matrix == 0 and batch % (operand.elements // matrix) == 0


def _activations(op: Op, operands: tuple[Tensor, Tensor, Tensor], channels: tuple[int, int, int], rows: int) -> Layer:
    source, weights, made = operands
    groups, c, k = channels
    loaded, needed = groups * c * rows, groups * c * k
    return Layer(
        groups=groups,
        out_channels=k,
        in_channels=c,
        images=1,
        rows=rows,
        cols=1,
        kernel=1,
        channel_bits=-(-op.bias_elements // (groups * k)) * op.bias_bits,
        in_bits=source.bits,
        weight_bits=weights.bits,
        out_bits=made.bits,
        sum_bits=op.bias_bits,
        in_bytes=source.nbytes + _packed(loaded - source.elements, source.bits),
        weight_bytes=weights.nbytes + _packed(needed - weights.elements, weights.bits),
        bias_bytes=op.bias_bytes,
        out_bytes=made.nbytes,
        weight_elements=needed,
        constant_bits=op.bias_elements * op.bias_bits,
    )


def _resident(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """All operands, weights and results on chip at once: for what no formula here describes."""
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    need = _nbytes(graph, dict.fromkeys(op.inputs)) + _nbytes(graph, op.outputs) + op.weight_bytes
    if need > capacity:
        return Shortage(need, "its operands have unusual shapes, so all of them are held at once")
    rows = made.batch * made.rows
    return _touch_once(graph, op, need, Tile(made.channels, source.channels, 1, rows, made.cols, "gkcs"))


# All other ops ----------------------------------------------------------------------------------


def _row_or_element(graph: Graph, op: Op, capacity: int, need: Callable[[int], int], what: str) -> Choice | Shortage:
    """A row of one channel at a time, or an element at a time where a row does not fit."""
    for cols in (graph.tensors[op.outputs[0]].cols, 1):
        if need(cols) <= capacity:
            return _touch_once(graph, op, need(cols), Tile(1, 1, 1, 1, cols, "ks"))
    return Shortage(need(1), what)


def _move(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """Every result element is a copy of an operand element, or a constant."""
    widest = max(t.bits for t in _tensors(graph, op.inputs)), max(t.bits for t in _tensors(graph, op.outputs))
    return _row_or_element(
        graph, op, capacity, lambda cols: sum(_packed(cols, b) for b in widest), "one element, read and written"
    )


def _pointwise(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """Element by element, operands broadcast along any axes, and the constants of one channel.

    Loops can be ordered so that an operand broadcast along axes B is held one element at a time,
    if the sets B of all such operands are nested. An operand that does not fit in the chain,
    the largest first, is held whole.
    """
    made = graph.tensors[op.outputs[0]]
    streamed: list[tuple[Tensor, bool]] = [(t, True) for t in _tensors(graph, op.outputs)]
    chain: list[frozenset[int]] = []
    held = 0
    for source in sorted(_tensors(graph, op.inputs), key=lambda t: -t.elements):
        axes = _broadcast_axes(source, made)
        if axes is not None and all(axes <= other or other <= axes for other in chain):
            chain.append(axes)
            streamed.append((source, 3 not in axes))
        else:
            held += source.nbytes
    broadcasts = held > 0 or any(chain)

    def need(cols: int) -> int:
        constants = op.weight_bytes if broadcasts else _constants(op, made, cols)
        return held + constants + sum(_packed(cols if moves else 1, t.bits) for t, moves in streamed)

    return _row_or_element(graph, op, capacity, need, "one element of each operand and its broadcast operands")


def _broadcast_axes(source: Tensor, made: Tensor) -> frozenset[int] | None:
    """Axes along which an operand is repeated; None when the shapes do not say."""
    if any(a not in (1, b) for a, b in zip(source.shape, made.shape, strict=True)):
        return frozenset() if source.elements == made.elements else None
    return frozenset(axis for axis in range(4) if source.shape[axis] < made.shape[axis])


def _constants(op: Op, made: Tensor, cols: int) -> int:
    """Bytes of the constants one row of one channel needs: a few per channel, or one per element."""

    def count(elements: int) -> int:
        return -(-elements // made.channels) if elements <= 2 * made.channels else cols

    return _packed(count(op.weight_elements), op.weight_bits) + _packed(count(op.bias_elements), op.bias_bits)


def _windowed(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """pool, resize, reflecting pad: one channel at a time, one row at a time, halo rows kept.

    Column strips, whose halo is read again, only where a full row does not fit.
    """
    if op.kind == "pad" and op.attrs.get("mode", "constant") == "constant":
        return _move(graph, op, capacity)
    if len(set(op.inputs)) > 1:
        return _resident(graph, op, capacity)
    rows, cols = axis_map(graph, op, 0, ROWS), axis_map(graph, op, 0, COLS)
    wide = extent(cols)
    if rows.reduces and wide == 1:
        return _reduce(graph, op, capacity)
    whole = _touch_once(graph, op, _window_bytes(graph, op, rows, cut(cols, wide)), Tile(1, 1, 1, 1, wide, "ks"))
    return whole if whole.buffer_bytes <= capacity else _strips(graph, op, rows, cols, capacity)


def _window_bytes(graph: Graph, op: Op, rows: RowMap, strip: Cut) -> int:
    """Operand rows of one output row within a strip, and the output or its accumulators."""
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    held = 1 if rows.reduces else cut(rows, 1).held
    width = op.bias_bits if rows.reduces else made.bits
    return _packed(held * strip.held, source.bits) + _packed(strip.size, width) + op.weight_bytes


def _strips(graph: Graph, op: Op, rows: RowMap, cols: RowMap, capacity: int) -> Choice | Shortage:
    """The strips that load the fewest columns, then the smallest buffer."""
    sized = [(strip.loaded, _window_bytes(graph, op, rows, strip), strip) for strip in cuts(cols)]
    fitting = [option for option in sized if option[1] <= capacity]
    if not fitting:
        return Shortage(min(need for _, need, _ in sized), "one window of one channel")
    loaded, need, strip = min(fitting)
    source = graph.tensors[op.inputs[0]]
    once = _touch_once(graph, op, need, Tile(1, 1, 1, 1, strip.size, "ks"))
    needed_rows, needed_cols = cut(rows, len(rows.lo)).loaded, cut(cols, len(cols.lo)).loaded
    again = source.batch * source.channels * needed_rows * (loaded - needed_cols)
    return once._replace(read_bytes=once.read_bytes + _packed(again, source.bits))


def _reduce(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """Operand elements are folded one by one into the accumulators of one row of one channel."""
    source = max(_tensors(graph, op.inputs), key=lambda t: t.bits)
    return _row_or_element(
        graph,
        op,
        capacity,
        lambda cols: _packed(cols, source.bits) + _packed(cols, op.bias_bits),
        "one element, one accumulator",
    )


def _spanned(graph: Graph, op: Op, capacity: int) -> Choice | Shortage:
    """softmax and normalise: one span of operands on chip, or a first pass for two statistics."""
    if len(set(op.inputs)) > 1:
        return _resident(graph, op, capacity)
    source = graph.tensors[op.inputs[0]]
    options = [_span(graph, op, held, constants) for held in (True, False) for constants in (True, False)]
    fitting = [option for option in options if option.buffer_bytes <= capacity]
    if not fitting:
        smallest = min(option.buffer_bytes for option in options)
        return Shortage(smallest, f"one element of {source.name!r}, two statistics and a result")
    return min(fitting, key=lambda option: (option.dram_bytes, option.buffer_bytes))


def _span_elements(op: Op, source: Tensor) -> int:
    """Elements normalised together, or a few more where the kind alone does not say which.

    Channels of a position; for softmax all columns with them, as either may be its axis; for an
    axis that crosses rows (``barrier``) one image.
    """
    if op.attrs.get("barrier"):
        return source.elements // source.batch
    return source.channels * (source.cols if op.kind == "softmax" else 1)


def _span(graph: Graph, op: Op, held: bool, constants: bool) -> Choice:
    """One way to normalise: span held or read twice, constants held or read for every span."""
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    span = _span_elements(op, source)
    few = _packed(min(op.weight_elements, 1), op.weight_bits) + _packed(min(op.bias_elements, 1), op.bias_bits)
    need = _packed(span if held else 1, source.bits) + _packed(2, op.bias_bits) + _packed(1, made.bits)
    need += op.weight_bytes if constants else few
    once = _touch_once(graph, op, need, Tile(1, span if held else 1, 1, 1, 1, "sk"))
    weight_passes = 1 if constants else source.elements // span
    extra = (weight_passes - 1) * op.weight_bytes
    return once._replace(
        read_bytes=once.read_bytes + extra + (0 if held else source.nbytes),
        weight_bytes=once.weight_bytes + extra,
        passes=1 if held else 2,
        weight_passes=weight_passes,
    )


def _opaque(graph: Graph, op: Op, _capacity: int) -> Choice | Shortage:
    """Run outside the accelerator: its tensors cross once, and it holds nothing here."""
    return _touch_once(graph, op, 0, None)


PRICERS: Final[dict[str, Pricer]] = {
    "conv": _convolution,
    "conv_transpose": _convolution,
    "linear": _linear,
    "matmul": _matmul,
    "pool": _windowed,
    "resize": _windowed,
    "pad": _windowed,
    "reduce": _reduce,
    "softmax": _spanned,
    "normalise": _spanned,
    "concat": _move,
    "split": _move,
    "slice": _move,
    "reshape": _move,
    "transpose": _move,
    "depth_to_space": _move,
    "space_to_depth": _move,
    "opaque": _opaque,
}
"""Kinds that are not element by element."""
