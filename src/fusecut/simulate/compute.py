"""Arithmetic of ops, row by row: the nodes behind an op, run on slabs of exactly the rows it was handed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final, TypeAlias

import numpy as np

from fusecut.errors import SimulationError
from fusecut.frontend.weights import Layout, Network, Step, computed
from fusecut.ir import Graph, Group, Op, bits
from fusecut.ops import COLS, ROWS, axis_map, pair
from fusecut.schedule import Schedule
from fusecut.simulate.alone import nest_of
from fusecut.simulate.calls import Call, Rule, to_rows, to_slab
from fusecut.simulate.memory import Array, Dram
from fusecut.simulate.moves import MOVES
from fusecut.simulate.pointwise import POINTWISE
from fusecut.simulate.sums import FOLDS, NEUTRAL, SUMS, State
from fusecut.simulate.synthetic import INVENTED
from fusecut.simulate.tile_data import TiledRun, Windows
from fusecut.simulate.windows import WINDOWS

Slabs: TypeAlias = dict[str, list[tuple[Array | None, int]]]
"""(slab, row it starts at) of each tensor by name; one for each time an op reads it."""

ARITHMETIC: Final[dict[str, Rule]] = {**POINTWISE, **MOVES, **SUMS, **WINDOWS, **INVENTED}
"""Every ONNX op type that can be computed."""


@dataclass
class Compute:
    """Kernels of a graph's ops, from the network behind it."""

    graph: Graph
    network: Network
    dtype: str = "float32"
    _constants: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layouts = [self.network.layouts[t.name] for t in self.graph.tensors]
        self.shapes = {t: layout.row_shape for t, layout in enumerate(self.layouts)}

    @property
    def stored(self) -> str:
        """Type of what lies in DRAM and in rings."""
        return self.dtype

    def slab_in(self, name: str, slab: Array) -> Array:
        """What arithmetic sees of a stored tensor."""
        return slab

    def rows_out(self, name: str, rows: Array) -> Array:
        """What is stored of a tensor."""
        return rows

    def settled(self, step: Step, name: str, value: Array) -> Array:
        """What a node hands on."""
        return value.astype(self.dtype, copy=False)

    def neutral(self, value: float) -> float:
        """A value that changes nothing when it is folded, as it can be stored."""
        return value

    def result(self, call: Call) -> Sequence[Array]:
        """What a node makes."""
        return rule_of(call.step)(call)

    def kernels(self, group: Group) -> Mapping[int, OpKernel]:
        """Kernels of the ops of a group, by op index.

        Raises:
            SimulationError: a node that nobody taught the simulator; names it.
        """
        return {i: OpKernel(self, self.graph.ops[i]) for i in bits(group)}

    def forget(self) -> None:
        """Drop constants that were loaded or drawn."""
        self._constants.clear()

    def constant(self, name: str) -> Array | None:
        """The value of a constant, floats in the width of the computation; None for an activation."""
        network = self.network
        if name in self._constants:
            return self._constants[name]
        if name in network.constants:
            value = network.constants[name]
        elif name in network.constant_steps:
            value = self._evaluated(network.constant_steps[name], name)
        else:
            return None
        self._constants[name] = value.astype(self.dtype) if np.issubdtype(value.dtype, np.floating) else value
        return self._constants[name]

    def _evaluated(self, step: Step, name: str) -> Array:
        args = [self.constant(i) if i else None for i in step.inputs]
        ins = [None if a is None else Layout(a.shape) for a in args]
        outs = [self.network.layouts[o] for o in step.outputs if o]
        made = rule_of(step)(Call(step, args, [0] * len(args), ins, outs, None, self.dtype))
        return np.asarray(made[[o for o in step.outputs if o].index(name)])

    def rows_of(self, tensor: int, array: Array) -> Array:
        """An array of the file's shape as rows, row axis first, image after image."""
        layout, facts = self.layouts[tensor], self.graph.tensors[tensor]
        values = np.asarray(array, self.dtype)
        images = np.split(values, facts.batch, axis=layout.batch_axis or 0) if values.ndim else [values]
        return np.concatenate([to_rows(image.reshape(layout.dims), layout) for image in images])

    def array_of(self, tensor: int, rows: Array) -> Array:
        """The inverse of :meth:`rows_of`."""
        layout, facts = self.layouts[tensor], self.graph.tensors[tensor]
        images = [to_slab(part, layout) for part in np.split(rows, facts.batch)]
        return images[0] if len(images) == 1 else np.concatenate(images, axis=layout.batch_axis or 0)

    def alone(self, index: int, schedule: Schedule, dram: Dram) -> list[list[Array]]:
        """All rows of every result of an op that runs alone, for each image, from its operands in DRAM.

        Convolutions and linear layers are computed tile by tile, everything else from whole operands.
        """
        op = self.graph.ops[index]
        if len({self.graph.tensors[t].batch for t in (*op.inputs, *op.outputs)}) > 1:
            raise _mixes_images(op)
        kernel = OpKernel(self, op)
        images = [self._slabs(op, n, dram) for n in range(self.graph.tensors[op.outputs[0]].batch)]
        products = self._tiled(op, kernel, schedule, [kernel.factor(slabs) for slabs in images])
        if products is None:
            return [kernel.all_rows(slabs) for slabs in images]
        return [kernel.rows_after(product) for product in products]

    def _slabs(self, op: Op, image: int, dram: Dram) -> list[Array]:
        slabs = []
        for t in op.inputs:
            rows = self.graph.tensors[t].rows
            slab = to_slab(dram.data[t][image * rows : (image + 1) * rows], self.layouts[t])
            slabs.append(self.slab_in(self.graph.tensors[t].name, slab))
        return slabs

    def _tiled(self, op: Op, kernel: OpKernel, schedule: Schedule, images: list[Array]) -> list[Array] | None:
        """The product of the op's first node for each image, tile by tile; None for ops without such tiles."""
        nest = nest_of(self.graph, op, schedule)
        if nest is None or schedule.tile is None or len(kernel.steps[0].inputs) < 2:
            return None
        if op.attrs.get("barrier") or "spatial_kernel" in op.attrs:
            return None
        step = kernel.steps[0]
        w = self.constant(step.inputs[1])
        bias = self.constant(step.inputs[2]) if len(step.inputs) > 2 and step.inputs[2] else None
        if w is None or (bias is not None and bias.size != nest.groups * nest.outs):
            return None
        made = self.network.layouts[next(o for o in step.outputs if o)].dims
        if step.op_type == "Conv" and w.ndim == 4 and self.layouts[op.inputs[0]].row_axis == 2:
            run = TiledRun(nest, schedule.tile, np.concatenate(images).swapaxes(0, 1), w, bias, _windows(op))
            return [part.reshape(made) for part in run.run().swapaxes(0, 1)]
        if step.op_type in ("Gemm", "MatMul") and not {"transA", "alpha", "beta"} & set(step.attrs):
            w = w if step.attrs.get("transB", 0) else w.swapaxes(-1, -2)
            x = np.concatenate([image.reshape(-1, nest.ins) for image in images]).T
            run = TiledRun(nest, schedule.tile, x[:, None, :, None], w.reshape(nest.outs, nest.ins, 1, 1), bias)
            return [part.reshape(made) for part in np.split(run.run()[:, 0, :, 0].T, len(images))]
        return None


def _windows(op: Op) -> Windows:
    def along(key: str, default: int) -> tuple[int, int]:
        return pair(op, key, ROWS, default), pair(op, key, COLS, default)

    return Windows(along("strides", 1), along("dilations", 1), along("pads", 0))


WITHOUT_DATA: Final = "without data (--fast, or mode='fast')"


def _mixes_images(op: Op) -> SimulationError:
    return SimulationError(f"op {op.name!r} mixes images of a batch: simulate it for one image, or {WITHOUT_DATA}")


def rule_of(step: Step) -> Rule:
    """Arithmetic of a node; of one that is not understood but of ONNX the reference's, on whole operands.

    Raises:
        SimulationError: a node type without either.
    """
    unread = step.kind == "opaque" and step.op_type in WINDOWS  # its windows are not known here
    if step.op_type in ARITHMETIC and not unread:
        return ARITHMETIC[step.op_type]
    if step.kind in ("", "opaque") and "." not in step.op_type:
        return lambda call: computed(call.step, call.args)
    raise SimulationError(f"{step.op_type} has no row-wise arithmetic here: simulate {WITHOUT_DATA}")


class OpKernel:
    """The nodes of one op in file order: at most one with windows or sums, the others element by element.

    Copies (identities of the file) are made where they are read. A streaming reduction folds rows into
    its state; everything else is computed from the windows of one event and remembers nothing, except
    that an op that needs whole operands for every row is computed once for all of them.
    """

    def __init__(self, compute: Compute, op: Op) -> None:
        self.compute, self.op = compute, op
        graph = compute.graph
        self.names = [graph.tensors[t].name for t in op.inputs]
        self.made = [graph.tensors[t].name for t in op.outputs]
        maps = [axis_map(graph, op, k, ROWS) for k in range(len(op.inputs))]
        self.folds = {k for k, m in enumerate(maps) if m.reduces}
        self.at_once = (
            bool(op.attrs.get("barrier"))
            or op.kind == "opaque"
            or (op.attrs.get("row_operand", -1) == -1 and any(m.whole for m in maps))
            or all(graph.tensors[t].rows == 1 for t in (*op.inputs, *op.outputs))
        )
        self.copies: dict[str, Step] = {}
        self.steps: list[Step] = []
        for name, step in compute.network.steps.items():
            if name in set(op.members):
                self._take(step)
        self.state: State = None
        self.cache: list[Array] | None = None

    def _take(self, step: Step) -> None:
        rule_of(step)
        if step.kind == "identity" or (step.kind == "reshape" and self.op.attrs.get("flatten")):
            self.copies[step.outputs[0]] = step
        else:
            self.steps.append(step)

    def start(self) -> None:
        self.state, self.cache = None, None

    @property
    def neutral(self) -> float:
        """A value that changes nothing when it is folded."""
        return self.compute.neutral(NEUTRAL.get(self.steps[0].op_type, 0.0))

    def origin(self, name: str) -> str:
        """The tensor or constant that a name in this op is a copy of."""
        network = self.compute.network
        while (step := self.copies.get(name) or network.copies.get(name)) is not None:
            name = network.copied(step)
        return name

    def part(self, operand: int, row: Array) -> Array:
        """Where an operand of a concatenation lies in a row of the result; a view of it."""
        made = self._layout(self.made[0])
        axis = int(self.steps[0].attrs.get("axis", 1)) % len(made.dims)
        sizes = [self._layout(name).dims[axis] for name in self.names]
        first = sum(sizes[:operand])
        place = axis - (made.row_axis is not None and made.row_axis < axis)
        return row[(*[slice(None)] * place, slice(first, first + sizes[operand]))]

    def fold(self, operand: int, row: int, window: Array | None) -> None:
        """One row into the state of the reduction, which is the op's first node."""
        if window is None:
            raise SimulationError(f"op {self.op.name!r}, row {row}: the row to fold has no values")
        step = self.steps[0]
        slab = to_slab(window, self._layout(self.names[operand]))
        call = self._folding(step)
        slab = self._streamed(step.inputs[operand], self.compute.slab_in(self.names[operand], slab))
        self.state = FOLDS[step.kind][0](self.state, call, slab.astype(self.compute.dtype, copy=False), row)

    def _folding(self, step: Step) -> Call:
        """A call whose first operand is the map that streams by, before any flattening."""
        first = self.names[0] if self.op.attrs.get("flatten") else step.inputs[0]
        ins: list[Layout | None] = [self._layout(first), *[None] * (len(step.inputs) - 1)]
        args = [None, *(self.compute.constant(n) if n else None for n in step.inputs[1:])]
        outs = [self._layout(o) for o in step.outputs if o]
        return Call(step, args, [0] * len(args), ins, outs, 0, self.compute.dtype)

    def row(self, row: int, windows: Sequence[Array | None], lows: Sequence[int]) -> Sequence[Array]:
        kept = [k for k in range(len(self.names)) if k not in self.folds]
        env: Slabs = {}
        for k, window, low in zip(kept, windows, lows, strict=True):
            name, slab = self.names[k], None
            if window is not None and len(window):
                slab = self.compute.slab_in(name, to_slab(window, self._layout(name)))
            env.setdefault(name, []).append((slab, low))
        if self.at_once and not self.folds:
            if self.cache is None:
                self.cache = self.results(self._run(env, None))
            return [rows[row] for rows in self.cache]
        return [rows[0] for rows in self.results(self._run(env, row))]

    def factor(self, slabs: Sequence[Array]) -> Array:
        """The first operand of the op's first node, from whole operands: past copies and quantisation."""
        first = self.steps[0].inputs[0] if self.steps else ""
        env: Slabs = {n: [(s, 0)] for n, s in zip(self.names, slabs, strict=True)}
        known = first and self.compute.constant(first) is None
        found = self._lookup(first, env)[0] if known else slabs[0]
        return slabs[0] if found is None else found

    def rows_after(self, product: Array) -> list[Array]:
        """All rows of every result, from the whole result of the first node."""
        name = next(o for o in self.steps[0].outputs if o)
        env: Slabs = {name: [(self.compute.settled(self.steps[0], name, product), 0)]}
        return self.results(self._run(env, None, self.steps[1:]))

    def all_rows(self, slabs: Sequence[Array]) -> list[Array]:
        """All rows of every result, from whole operands."""
        return self.results(self.whole(slabs))

    def whole(self, slabs: Sequence[Array]) -> Slabs:
        """Everything the op computes, from whole operands."""
        return self._run({n: [(s, 0)] for n, s in zip(self.names, slabs, strict=True)}, None)

    def results(self, env: Slabs) -> list[Array]:
        """The rows of every result among what was computed, as they are stored."""
        found = []
        for name in self.made:
            slab = self._lookup(name, env)[0]
            if slab is None:
                raise SimulationError(f"op {self.op.name!r} made no row of {name!r}")
            layout = self._layout(name)
            if slab.size % (prod(layout.dims) // layout.rows) or slab.size > prod(layout.dims):
                raise _mixes_images(self.op)
            found.append(self.compute.rows_out(name, to_rows(slab, layout)))
        return found

    def _run(self, env: Slabs, row: int | None, steps: Sequence[Step] | None = None) -> Slabs:
        low = 0 if row is None else row
        for number, step in enumerate(self.steps if steps is None else steps):
            if self.folds and number == 0 and row is not None:
                made: Sequence[Array] = [FOLDS[step.kind][1](self.state, self._folding(step))]
            else:
                made = self._computed(self._call(step, env, row))
            names = [o for o in step.outputs if o]
            if len(made) < len(names):
                raise SimulationError(
                    f"op {self.op.name!r}: {step.op_type} has no arithmetic for {names[len(made)]!r} here: simulate "
                    f"{WITHOUT_DATA}"
                )
            for name, value in zip(names, made, strict=True):
                env[name] = [(self.compute.settled(step, name, value), low)]
        return env

    def _computed(self, call: Call) -> Sequence[Array]:
        try:
            return self.compute.result(call)
        except (ValueError, IndexError, TypeError) as error:
            where = f"op {self.op.name!r}" + ("" if call.row is None else f", row {call.row}")
            raise SimulationError(
                f"{where}: {call.step.op_type} cannot be computed from the rows it was handed ({error})"
            ) from None

    def _call(self, step: Step, env: Slabs, row: int | None) -> Call:
        args, lows, ins = list[Array | None](), list[int](), list[Layout | None]()
        for name in step.inputs:
            constant = self.compute.constant(name) if name else None
            turn = min(step.inputs[: len(args)].count(name), len(env.get(name, [0])) - 1)
            slab, low = (constant, 0) if constant is not None or not name else self._lookup(name, env, turn)
            args.append(slab)
            lows.append(low)
            ins.append(None if constant is not None or not name else self._layout(name))
        outs = [self._layout(o) for o in step.outputs if o]
        return Call(step, args, lows, ins, outs, row, self.compute.dtype)

    def _lookup(self, name: str, env: Slabs, turn: int = 0) -> tuple[Array | None, int]:
        """A tensor by name: at hand, or a copy of one that is, or what one at hand is a copy of."""
        if name in env:
            return env[name][turn]
        network = self.compute.network
        step = self.copies.get(name) or network.copies.get(name)
        if step is not None:
            source, low = self._lookup(network.copied(step), env)
            if source is None:
                return None, low
            return self._copy(step, name, source), low
        for other in env:
            if network.root(other) == name:
                slab, low = env[other][0]
                return None if slab is None else self._refolded(slab, name), low
        raise SimulationError(f"op {self.op.name!r} reads {name!r}, which none of its operands is")

    def _copy(self, step: Step, name: str, source: Array) -> Array:
        return self._refolded(self._quantised(step, source), name)

    def _quantised(self, step: Step, source: Array) -> Array:
        """What a copy changes of the values: nothing, unless it rounds them or scales them back."""
        if step.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return source
        args = [source, *(self.compute.constant(n) if n else None for n in step.inputs[1:])]
        ins = [self._layout(step.inputs[0]), *[None] * (len(args) - 1)]
        call = Call(step, args, [0] * len(args), ins, [self._layout(step.outputs[0])], None, self.compute.dtype)
        return np.asarray(rule_of(step)(call)[0], self.compute.dtype)

    def _streamed(self, name: str, slab: Array) -> Array:
        """A row that is folded, as the copies before the op leave it; flattening comes after folding."""
        if name in self.names or (step := self.copies.get(name) or self.compute.network.copies.get(name)) is None:
            return slab
        source = self._quantised(step, self._streamed(self.compute.network.copied(step), slab))
        return source if self.op.attrs.get("flatten") else self._refolded(source, name)

    def _refolded(self, slab: Array, name: str) -> Array:
        """The same rows in another tensor's dimensions."""
        layout = self._layout(name)
        if layout.row_axis is None:
            return slab.reshape(layout.dims)
        rows = slab.size * layout.rows // max(1, int(np.prod(layout.dims)))
        return slab.reshape([rows if a == layout.row_axis else d for a, d in enumerate(layout.dims)])

    def _layout(self, name: str) -> Layout:
        return self.compute.network.layouts[name]
