"""Executes a schedule of one op alone, whatever its kind, counting bytes as docs/layerwise.md says.

Convolutions and matrix products walk their loop nest (:mod:`fusecut.simulate.tiles`). All other
kinds go through their operands once, channel by channel or position by position, and hold the few
elements that takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from fusecut.errors import SimulationError
from fusecut.ir import Graph, Op, Tensor
from fusecut.ops import COLS, ROWS, axis_map, product_sizes
from fusecut.schedule import Schedule, Tile
from fusecut.simulate.memory import Buffer, Dram
from fusecut.simulate.tiles import Nest, Span, needed, regions_of, run_nest, up, windows


@dataclass(frozen=True)
class Alone:
    """One op in execution: what it holds while it runs, and what crosses again besides one touch of everything."""

    held: dict[str, int]
    inputs_again_bytes: int = 0
    weights_again_bytes: int = 0
    sums_bytes: int = 0


def run_alone(graph: Graph, schedule: Schedule, number: int, dram: Dram, buffer: Buffer) -> None:
    """Count one op. All rows it reads must be in DRAM, all rows it makes are written.

    Raises:
        SimulationError: the tile does not describe the op, its operands are not there, or it does not fit.
    """
    if len(schedule.order) != 1:
        raise SimulationError(f"group {number}: {schedule.scheme} runs one op at a time, not {len(schedule.order)}")
    op = graph.ops[schedule.order[0]]
    where = f"group {number}, op {op.name!r}"
    for t in dict.fromkeys(op.inputs):
        dram.require(t, where)
    run = execution(graph, op, schedule)
    for part, nbytes in run.held.items():
        buffer.allocate(f"{part} of {op.name}", nbytes)
    for t in dict.fromkeys(op.inputs):
        dram.count(number, graph.tensors[t].name, read_bytes=graph.tensors[t].nbytes)
    dram.count(number, f"halos of {op.name}", read_bytes=run.inputs_again_bytes)
    weights = op.weight_bytes + run.weights_again_bytes
    dram.count(number, f"weights of {op.name}", weights, weight_bytes=weights)
    dram.count(number, f"sums of {op.name}", run.sums_bytes, run.sums_bytes)


def execution(graph: Graph, op: Op, schedule: Schedule) -> Alone:
    """How the op runs under its schedule."""
    tile = schedule.tile
    if tile is None:
        return Alone({})
    if op.kind in NESTS:
        nest = nest_of(graph, op, schedule)
        return _whole(graph, op) if nest is None else _nested(graph, op, nest, schedule, tile)
    return OTHERS.get(op.kind, _pointwise)(graph, op, schedule, tile)


def nest_of(graph: Graph, op: Op, schedule: Schedule) -> Nest | None:
    """The loops that the schedule's tile cuts; None where there are none: the op is held whole, or is not a nest."""
    nest = NESTS[op.kind](graph, op) if op.kind in NESTS and schedule.tile is not None else None
    if nest is None or schedule.tile is None or not _describes(schedule.tile, nest):
        return None
    return nest if len(set(op.inputs)) == len(op.inputs) else None


def _describes(tile: Tile, nest: Nest) -> bool:
    """Whether the tile is one of this nest; a larger one holds the op whole."""
    rows = nest.images * len(nest.windows_rows)
    return tile.out_channels <= nest.outs and tile.in_channels <= nest.ins and tile.rows <= rows


def _distinct(graph: Graph, indices: tuple[int, ...]) -> list[Tensor]:
    return [graph.tensors[t] for t in dict.fromkeys(indices)]


def _whole(graph: Graph, op: Op) -> Alone:
    """All operands, weights and results on chip at once."""
    held = {t.name: t.nbytes for t in _distinct(graph, (*op.inputs, *op.outputs))}
    return Alone({**held, "weights": op.weight_bytes})


# Loop nests -------------------------------------------------------------------------------------


def _nested(graph: Graph, op: Op, nest: Nest, schedule: Schedule, tile: Tile) -> Alone:
    count = run_nest(nest, tile)
    inputs, weights = nest.groups * count.inputs_again, nest.groups * count.weights_again
    held, sums = regions_of(nest, tile), up(nest.groups * count.sums * nest.sum_bits)
    if len(op.inputs) == 1:
        constants = _constants_again(op, nest, count.constants_again)
        return Alone(held, up(inputs * nest.in_bits), constants + up(weights * nest.weight_bits), sums)
    again = up(inputs * nest.in_bits) + up(weights * nest.weight_bits) + _broadcast_bytes(graph, op, nest)
    share = up(tile.out_channels * -(-op.weight_elements // nest.outs) * op.weight_bits)
    whole = up(op.weight_elements * op.weight_bits)
    rounds = count.constants_again // nest.outs
    stay = schedule.weight_passes == 1 and (nest.groups * (1 + rounds) > 1 or whole < share)
    held["folded constants"] = whole if stay else share
    biases = rounds * op.bias_elements * op.bias_bits
    if stay:
        return Alone(held, again, up(biases), sums)
    every = nest.groups * op.weight_elements * op.weight_bits
    return Alone(held, again, up(every) - whole + up(biases + rounds * every), sums)


def _constants_again(op: Op, nest: Nest, channels: int) -> int:
    """Biases and slopes of so many output channels of each group, loaded again."""
    others = max(0, op.weight_elements - nest.weights)
    each = op.bias_elements * op.bias_bits + others * op.weight_bits
    return up(each * channels // nest.outs)


def _broadcast_bytes(graph: Graph, op: Op, nest: Nest) -> int:
    """What a product loads for the first time beyond its operands: matrices broadcast over part of the batch."""
    source, weights = sorted_factors(graph, op, nest)
    loaded = nest.groups * nest.ins * nest.images * len(nest.windows_rows)
    return up((loaded - source.elements) * source.bits) + up((nest.weights - weights.elements) * weights.bits)


def sorted_factors(graph: Graph, op: Op, nest: Nest) -> tuple[Tensor, Tensor]:
    """(the factor with rows, the factor that plays the weights)."""
    left, right = (graph.tensors[t] for t in op.inputs)
    swapped = nest.groups == 1 and right.elements != nest.ins * nest.outs
    return (right, left) if swapped else (left, right)


def _channel_bits(op: Op, groups: int, outs: int, weights: int) -> int:
    others = max(0, op.weight_elements - weights)
    return -(-op.bias_elements // (groups * outs)) * op.bias_bits + -(-others // (groups * outs)) * op.weight_bits


def _conv(graph: Graph, op: Op) -> Nest | None:
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    groups, ins = op.attrs.get("groups", 1), op.attrs.get("in_channels", source.channels)
    if op.attrs.get("barrier") or not isinstance(groups, int) or not isinstance(ins, int) or len(op.inputs) > 1:
        return None
    width, odd = divmod(source.elements, source.batch * source.rows * ins)
    if odd or ins % groups or made.channels % groups:
        return None
    c, k = ins // groups, made.channels // groups
    shape = op.attrs.get("spatial_kernel", op.attrs.get("kernel", (1, 1)))
    taps = prod(shape) if isinstance(shape, tuple) else 1
    if groups * c * k * taps > op.weight_elements:
        return None
    rows, cols = (windows(axis_map(graph, op, 0, axis)) for axis in (ROWS, COLS))
    if width != source.cols:  # columns of the file that lie among the channels here
        cols = ((0, width),) * made.cols
    return _nest(op, (groups, k, c), (source.batch, rows, cols), taps, source, made)


def _nest(
    op: Op,
    channels: tuple[int, int, int],
    space: tuple[int, tuple[Span, ...], tuple[Span, ...]],
    taps: int,
    source: Tensor,
    made: Tensor,
) -> Nest:
    groups, k, c = channels
    return Nest(
        groups=groups,
        outs=k,
        ins=c,
        images=space[0],
        windows_rows=space[1],
        windows_cols=space[2],
        taps=taps,
        channel_bits=_channel_bits(op, groups, k, groups * k * c * taps),
        in_bits=source.bits,
        weight_bits=op.weight_bits,
        out_bits=made.bits,
        sum_bits=op.bias_bits,
    )


def _positions(count: int) -> tuple[int, tuple[Span, ...], tuple[Span, ...]]:
    """Positions are rows that need only themselves."""
    return 1, tuple((q, q + 1) for q in range(count)), ((0, 1),)


def _linear(graph: Graph, op: Op) -> Nest | None:
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    features = op.attrs.get("in_features")
    if not isinstance(features, int):
        features = source.elements // source.batch if op.attrs.get("flatten") else source.channels
    positions = max(1, source.elements // features)
    results = made.elements // positions
    if len(op.inputs) > 1 or positions * results != made.elements or features * results > op.weight_elements:
        return None
    return _nest(op, (1, results, features), _positions(positions), 1, source, made)


def _matmul(graph: Graph, op: Op) -> Nest | None:
    """(batch, m, f) x (batch, f, n): members of the batch are groups, unless one factor has no batch."""
    if len(op.inputs) != 2:
        return None
    left, right = (graph.tensors[t] for t in op.inputs)
    made = graph.tensors[op.outputs[0]]
    m, n = product_sizes(op, left, right)
    f = op.macs // made.elements if op.macs else left.dims[-1]
    batch = made.elements // (m * n)
    if (
        batch * m * n != made.elements
        or not f
        or any(t.elements % each or batch % (t.elements // each) for t, each in ((left, m * f), (right, f * n)))
    ):
        return None
    weights = right
    if right.elements == f * n:
        nest = _nest(op, (1, n, f), _positions(batch * m), 1, left, made)
    elif left.elements == m * f:
        weights = left
        nest = _nest(op, (1, m, f), _positions(batch * n), 1, right, made)
    else:
        nest = _nest(op, (batch, n, f), _positions(m), 1, left, made)
    biases = -(-op.bias_elements // (nest.groups * nest.outs)) * op.bias_bits
    return replace(nest, weight_bits=weights.bits, channel_bits=biases)


NESTS: Final[dict[str, Callable[[Graph, Op], Nest | None]]] = {
    "conv": _conv,
    "conv_transpose": _conv,
    "linear": _linear,
    "matmul": _matmul,
}
"""Kinds that run as a nest over output channels, input channels and space."""


# All other kinds --------------------------------------------------------------------------------


def _move(graph: Graph, op: Op, schedule: Schedule, tile: Tile) -> Alone:
    """A row of one channel, read and written."""
    read, write = (max(t.bits for t in _distinct(graph, ts)) for ts in (op.inputs, op.outputs))
    return Alone({"read": up(tile.cols * read), "written": up(tile.cols * write)})


def _pointwise(graph: Graph, op: Op, schedule: Schedule, tile: Tile) -> Alone:
    """A row of one channel of each operand and result; broadcast operands an element at a time where loops nest."""
    made = graph.tensors[op.outputs[0]]
    held = {t.name: up(tile.cols * t.bits) for t in _distinct(graph, op.outputs)}
    nested: list[frozenset[int]] = []
    broadcast = False
    for t in sorted(_distinct(graph, op.inputs), key=lambda t: -t.elements):
        axes = _repeated_along(t, made)
        if axes is None or not all(axes <= other or other <= axes for other in nested):
            held[t.name], broadcast = t.nbytes, True
            continue
        nested.append(axes)
        broadcast = broadcast or bool(axes)
        held[t.name] = up((1 if 3 in axes else tile.cols) * t.bits)
    held["constants"] = op.weight_bytes if broadcast else _constants(op, made, tile.cols)
    return Alone(held)


def _repeated_along(operand: Tensor, made: Tensor) -> frozenset[int] | None:
    """Axes along which an operand is broadcast; None when its shape does not say."""
    if all(a in (1, b) for a, b in zip(operand.shape, made.shape, strict=True)):
        return frozenset(axis for axis in range(4) if operand.shape[axis] < made.shape[axis])
    return frozenset() if operand.elements == made.elements else None


def _constants(op: Op, made: Tensor, cols: int) -> int:
    """Constants of a row of one channel: a few for each channel, or one for each element."""

    def count(elements: int) -> int:
        return -(-elements // made.channels) if elements <= 2 * made.channels else cols

    return up(count(op.weight_elements) * op.weight_bits) + up(count(op.bias_elements) * op.bias_bits)


def _windowed(graph: Graph, op: Op, schedule: Schedule, tile: Tile) -> Alone:
    """Rows of one output row in a strip of one channel; columns two strips share are read again."""
    if op.kind == "pad" and op.attrs.get("mode", "constant") == "constant":
        return _move(graph, op, schedule, tile)
    if len(set(op.inputs)) > 1:
        return _whole(graph, op)
    rowmap, colmap = (axis_map(graph, op, 0, axis) for axis in (ROWS, COLS))
    width = len(colmap.lo)
    if rowmap.reduces and width == 1:
        return _reduce(graph, op, schedule, tile)
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    columns = windows(colmap)
    strips = [needed(columns[a : a + tile.cols]) for a in range(0, width, tile.cols)]
    rows = 1 if rowmap.reduces else max(max(0, hi - lo) for lo, hi in windows(rowmap))
    bits = op.bias_bits if rowmap.reduces else made.bits
    held = {
        "window": up(rows * max(map(len, strips)) * source.bits),
        "row": up(min(tile.cols, width) * bits),
        "weights": op.weight_bytes,
    }
    twice = sum(map(len, strips)) - len(needed(columns))
    again = source.batch * source.channels * len(needed(windows(rowmap))) * twice
    return Alone(held, up(again * source.bits))


def _reduce(graph: Graph, op: Op, schedule: Schedule, tile: Tile) -> Alone:
    """Elements are folded one by one into the accumulators of one row of one channel."""
    bits = max(t.bits for t in _distinct(graph, op.inputs))
    return Alone({"read": up(tile.cols * bits), "accumulators": up(tile.cols * op.bias_bits)})


def _spanned(graph: Graph, op: Op, schedule: Schedule, tile: Tile) -> Alone:
    """A span normalised together, or two passes over it for its statistics; constants resident or re-read."""
    if len(set(op.inputs)) > 1:
        return _whole(graph, op)
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    spans = source.elements // _span(op, source)
    resident = schedule.weight_passes == 1 and spans > 1
    few = up(min(op.weight_elements, 1) * op.weight_bits) + up(min(op.bias_elements, 1) * op.bias_bits)
    held = {
        "span": up((_span(op, source) if schedule.passes == 1 else 1) * source.bits),
        "statistics": up(2 * op.bias_bits),
        "result": up(made.bits),
        "constants": op.weight_bytes if resident else few,
    }
    reread = (schedule.passes - 1) * source.nbytes
    return Alone(held, reread, 0 if resident else (spans - 1) * op.weight_bytes)


def _span(op: Op, source: Tensor) -> int:
    if op.attrs.get("barrier"):
        return source.elements // source.batch
    return source.channels * (source.cols if op.kind == "softmax" else 1)


OTHERS: Final[dict[str, Callable[[Graph, Op, Schedule, Tile], Alone]]] = {
    **dict.fromkeys(("pool", "resize", "pad"), _windowed),
    **dict.fromkeys(("softmax", "normalise"), _spanned),
    **dict.fromkeys(("concat", "split", "slice", "reshape", "transpose", "depth_to_space", "space_to_depth"), _move),
    "reduce": _reduce,
}
"""How the other kinds run; those not here are element by element."""
