"""Lowering of ops that move elements: reshape, transpose, slice, gather, split, concat, expand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from fusecut.frontend import layout
from fusecut.frontend.constants import slice_windows
from fusecut.frontend.values import Array, Dims, Value
from fusecut.frontend.view import Attributes, Draft, Rule, View, barrier_if, names, opaque


def reshape(view: View) -> list[Draft]:
    """Reshape, Flatten, Squeeze, Unsqueeze: an identity where every row stays what it is."""
    return _refolded(view, view.operands[0], view.result.dims)


def _refolded(view: View, x: Value | None, dims: Dims) -> list[Draft]:
    if x is None or x.constant:
        return opaque(view)
    placed = layout.reshaped(x, dims)
    if not placed.barrier and layout.same_rows(x, dims, placed.roles):
        return view.moved("identity", placed.roles)
    (draft,) = view.moved("reshape", placed.roles, **barrier_if(placed.barrier))
    return [replace(draft, lost=(x.dims, x.roles)) if placed.barrier else draft]


def transpose(view: View) -> list[Draft]:
    """Rows go where their axis goes; moving only axes of extent 1 is an identity."""
    x = view.first
    perm = tuple(int(a) for a in view.attr("perm", range(x.rank)[::-1]))
    roles = layout.permuted(x, perm)
    wide = [a for a in perm if x.dims[a] > 1]
    if wide == sorted(wide):
        return view.moved("identity", roles)
    return view.moved("transpose", roles, perm=perm, dims=x.dims)


def _sliced(x: Value, axis: int, start: int, step: int, out: Value, name: str = "") -> Draft:
    """One slice along one axis, as (rows, cols) starts and steps. Other axes stay within a row."""
    starts, steps, roles = [0, 0], [1, 1], x.roles
    place = "HW".find(x.roles[axis])
    if place == 1 and len(layout.wide_columns(x)) > 1:
        start, step = 0, 0  # one of several column axes: every column may need every column
    if place >= 0:
        starts[place], steps[place] = start, step
    lost = x.roles[axis] == "N" or (place == 0 and step < 1)
    attrs = {"starts": tuple(starts), "steps": tuple(steps)}
    return Draft("slice", [x.name], [out.name], roles, attrs | barrier_if(lost), name=name)


def slice_(view: View) -> list[Draft]:
    """Slice. Several sliced axes at once are fine as long as at most rows and columns are among them."""
    x = view.first
    if view.operands[0] is None or view.operands[0].constant:
        return opaque(view)
    if x.dims == view.result.dims and _forward(view):
        return view.moved("identity", x.roles)
    try:
        windows = slice_windows(view.node, [None if v is None else v.data for v in view.operands], x.rank)
    except (ValueError, KeyError, IndexError):
        return view.moved("slice", x.roles, barrier=True)
    drafts = [_sliced(x, a, *_clamped(s, t, x.dims[a]), view.result) for a, s, _, t in windows]
    return [_merged(drafts)]


def _forward(view: View) -> bool:
    steps = view.ints("steps", 4)
    return steps is None or all(s > 0 for s in steps)


def _clamped(start: int, step: int, size: int) -> tuple[int, int]:
    start = start + size if start < 0 else start
    return max(0, min(start, size - 1)), step


def _merged(drafts: Sequence[Draft]) -> Draft:
    """One slice that does what slices along different axes do."""
    merged = drafts[0]
    for draft in drafts[1:]:
        for key, neutral in (("starts", 0), ("steps", 1)):
            pairs = zip(_pair(merged, key), _pair(draft, key), strict=True)
            merged.attrs[key] = tuple(b if a == neutral else a for a, b in pairs)
        if draft.attrs.get("barrier"):
            merged.attrs["barrier"] = True
    return merged


def _pair(draft: Draft, key: str) -> tuple[int, ...]:
    value = draft.attrs[key]
    return value if isinstance(value, tuple) else ()


def split(view: View) -> list[Draft]:
    """Split: one op over channels; over rows or columns one slice per output."""
    x = view.first
    axis = view.axis(0, x.rank)
    if len(view.node.outputs) == 1:
        return view.moved("identity", x.roles)
    if x.roles[axis] in "CN":
        lost = x.roles[axis] == "N" and x.dims[axis] > 1
        return view.moved("split", x.roles, starts=(0, 0), steps=(1, 1), **barrier_if(lost))
    offsets = dict(zip(view.node.outputs, _offsets(view, x.dims[axis]), strict=True))
    return [_sliced(x, axis, offsets[out.name], 1, out, name=f"{view.node.name}:{out.name}") for out in view.results]


def _offsets(view: View, size: int) -> list[int]:
    """Where each output starts: from the sizes as written, else equal parts, the last one smaller."""
    count = len(view.node.outputs)
    sizes = view.ints("split", 1) or (-(-size // count),) * count
    return [sum(sizes[:i]) for i in range(count)]


def gather(view: View) -> list[Draft]:
    """Gather with constant indices: a slice, where they step evenly; a table look-up is opaque."""
    x, indices = view.operands[0], view.operands[1]
    if x is not None and x.constant and indices is not None and not indices.constant:
        return _looked_up(view, x, indices)
    if x is None or indices is None or x.constant or not indices.constant:
        return opaque(view)
    axis = view.axis(0, x.rank)
    data = None if indices.data is None else np.asarray(indices.data).astype(np.int64) % x.dims[axis]
    if data is not None and data.size == x.dims[axis] and np.array_equal(data.reshape(-1), np.arange(data.size)):
        return _refolded(view, x, view.result.dims)
    role = x.roles[axis]
    roles = x.roles[:axis] + ("C" if role == "H" and indices.rank != 1 else role) * indices.rank + x.roles[axis + 1 :]
    start, step = _progression(data)
    draft = _sliced(x, axis, start, step, view.result)
    draft.attrs.pop("barrier", None)
    uneven = role == "H" and (indices.rank > 1 or step < 1)
    lost = (x.rows > 1 and uneven) or (role == "N" and x.batch > 1)
    return [Draft("slice", [x.name], [view.result.name], roles, draft.attrs | barrier_if(lost))]


def _looked_up(view: View, table: Value, indices: Value) -> list[Draft]:
    """An embedding: of the table no more rows are read than there are indices."""
    (draft,) = opaque(view)
    rows = min(table.dims[view.axis(0, table.rank)], indices.elements)
    weights = table.elements // table.dims[view.axis(0, table.rank)] * rows
    return [replace(draft, weights=weights, attrs={"looked_up": True})]


def _progression(indices: Array | None) -> tuple[int, int]:
    """(start, step) of evenly rising indices; step 0 for anything else."""
    if indices is None or not indices.size:
        return 0, 0
    flat = indices.reshape(-1)
    steps = np.unique(np.diff(flat))
    if flat.size == 1:
        return int(flat[0]), 1
    return int(flat[0]), int(steps[0]) if steps.size == 1 and steps[0] > 0 else 0


def concat(view: View) -> list[Draft]:
    """Concat over rows (0), columns (1) or anything else (-1); ``offsets`` are along rows or columns."""
    acts = view.activations
    axis = view.axis(1, acts[0].rank)
    if len(view.constants) + len(acts) == 1:
        return view.moved("identity", acts[0].roles)
    rows = {v.row_axis for v in acts if v.rows > 1}
    roles = _concat_roles(acts, axis, rows)
    place = "HW".find(roles[axis])
    if place == 1 and sum(r == "W" for r in roles) > 1:
        place = -1
    offsets, start = [], 0
    for value in view.operands:
        if value is not None and not value.constant:
            offsets.append(start)
        start += 0 if value is None else value.dims[axis]
    lost = len(rows) > 1 or (roles[axis] == "N" and view.result.dims[axis] > 1)
    lost = lost or (place == 0 and any(v.rows != v.dims[axis] for v in acts))
    weights = sum(c.elements for c in view.constants)
    attrs: Attributes = {"axis": place, "offsets": tuple(offsets)}
    return [Draft("concat", names(acts), names(view.results), roles, attrs | barrier_if(lost), weights=weights)]


def _concat_roles(acts: Sequence[Value], axis: int, rows: set[int | None]) -> str:
    """Roles of the largest operand; rows where an operand has them, else over the axis if that is natural."""
    roles = list(max(acts, key=lambda v: v.elements).roles)
    row = next(iter(rows)) if rows else None
    if row is None and (layout.natural(len(roles))[axis] == "H" or any(v.row_axis == axis for v in acts)):
        row = axis
    if row is not None:
        roles = ["W" if r == "H" else r for r in roles]
        roles[row] = "H"
    columns = {layout.wide_columns(v) for v in acts} - {()}
    return "".join(roles) if len(columns) < 2 else layout.without_columns("".join(roles))


def expand(view: View) -> list[Draft]:
    """Expand and Tile: one-row operands are broadcast; repeating several rows is a barrier."""
    x = view.operands[0]
    if x is None or x.constant:
        return opaque(view)
    dims = view.result.dims
    if x.dims == dims:
        return view.moved("identity", x.roles)
    placed = layout.broadcast([x], dims)
    repeated = x.rows > 1 and layout.canonical(dims, placed.roles)[2] != x.rows
    batch = layout.canonical(dims, placed.roles)[0] != x.batch
    return view.moved("expand", placed.roles, **barrier_if(repeated or batch))


DATA_RULES: Final[dict[str, Rule]] = {
    "Concat": concat,
    "Expand": expand,
    "Flatten": reshape,
    "Gather": gather,
    "Reshape": reshape,
    "Slice": slice_,
    "Split": split,
    "Squeeze": reshape,
    "Tile": expand,
    "Transpose": transpose,
    "Unsqueeze": reshape,
}
"""ONNX op type -> lowering rule."""
