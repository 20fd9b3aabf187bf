"""What arithmetic sees: the operands of one node, cut to the rows one output row needs.

A *slab* is a piece of a tensor in the file's own dimensions, with the row axis cut to some rows.
A call with ``row`` None is for whole tensors: then every slab is the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fusecut.errors import SimulationError
from fusecut.frontend.weights import Layout, Step
from fusecut.simulate.memory import Array


@dataclass(frozen=True)
class Call:
    """One node. ``args`` are slabs and constants (None: left out, or no rows needed).

    ``lows`` are the rows at which the slabs start; ``ins`` the layouts (None for constants), ``out``
    that of the first result.
    """

    step: Step
    args: Sequence[Array | None]
    lows: Sequence[int]
    ins: Sequence[Layout | None]
    outs: Sequence[Layout]
    row: int | None
    dtype: str

    @property
    def out(self) -> Layout:
        return self.outs[0]

    @property
    def x(self) -> Array:
        """The first operand."""
        return self.need(0)

    def need(self, index: int) -> Array:
        """An operand that must be there."""
        value = self.args[index] if index < len(self.args) else None
        if value is None:
            raise SimulationError(f"{self.step.op_type} misses operand {index}")
        return value

    def arg(self, index: int) -> Array | None:
        return self.args[index] if index < len(self.args) else None

    def attr(self, key: str, default: Any) -> Any:
        return self.step.attrs.get(key, default)

    def ints(self, key: str, operand: int) -> tuple[int, ...] | None:
        """Integers that are an attribute in old opsets and an operand in new ones."""
        if key in self.step.attrs:
            value = self.step.attrs[key]
            return (value,) if isinstance(value, int) else tuple(int(v) for v in value)
        given = self.arg(operand)
        return None if given is None else tuple(int(v) for v in np.asarray(given).reshape(-1))

    def axis(self, default: int) -> int:
        """The ``axis`` attribute, counted from the front."""
        rank = len(self.source.dims)
        return int(self.attr("axis", default)) % rank

    @property
    def source(self) -> Layout:
        """Layout of the first operand that is not a constant."""
        return next(layout for layout in self.ins if layout is not None)

    def out_dims(self, index: int = 0) -> tuple[int, ...]:
        """Dimensions of a result: one row of it, or all."""
        layout = self.outs[index]
        if self.row is None or layout.row_axis is None:
            return layout.dims
        return tuple(1 if a == layout.row_axis else d for a, d in enumerate(layout.dims))

    def aligned(self) -> list[Array]:
        """Operands for broadcasting: constants and tensors of one row, at hand in whole, are cut to this row."""
        pairs = zip(self.args, self.ins, strict=True)
        return [v if layout is not None and layout.rows > 1 else self.cut(v) for v, layout in pairs if v is not None]

    def cut(self, whole: Array) -> Array:
        """The part of a broadcast operand that belongs to this row."""
        if self.row is None or self.out.row_axis is None:
            return whole
        axis = self.out.row_axis - len(self.out.dims) + whole.ndim
        if axis < 0 or whole.shape[axis] == 1:
            return whole
        return whole.take([self.row], axis=axis)


Rule: TypeAlias = Callable[[Call], Sequence[Array]]
"""Results of a node, each with one row (or whole)."""


def to_slab(rows: Array, layout: Layout) -> Array:
    """Rows (row axis first) in the dimensions of the tensor."""
    return rows[0] if layout.row_axis is None else np.moveaxis(rows, 0, layout.row_axis)


def to_rows(slab: Array, layout: Layout) -> Array:
    """The inverse of :func:`to_slab`."""
    return slab[None] if layout.row_axis is None else np.moveaxis(slab, layout.row_axis, 0)


def column(layout: Layout, x: int) -> tuple[Any, ...]:
    """Index of a column (one pixel) in a row; with several column axes they are counted like digits."""
    places = [a - (layout.row_axis is not None and layout.row_axis < a) for a in layout.col_axes]
    index: list[Any] = [slice(None)] * len(layout.row_shape)
    for place, at in zip(places, np.unravel_index(x, [layout.dims[a] for a in layout.col_axes]), strict=True):
        index[place] = int(at)
    return (*index, ...)
