"""Which axis of a tensor is what, and how that survives ops that move data.

Every activation has a role per axis: N batch, C channels, H rows, W columns. Its canonical shape
(N, C, H, W) is the product of the axes of each role. A row is all elements with one index along
H, so an op is row-wise when its output row q needs only input rows that a row map names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from fusecut.frontend.values import Dims, Value, extent
from fusecut.ir import AttrValue


@dataclass(frozen=True)
class Placed:
    """Roles of a result. ``barrier``: its rows cannot be told from the operand's rows."""

    roles: str
    barrier: bool = False


def natural(rank: int) -> str:
    """Roles where nothing else is known: (N, C), (N, rows, C), (N, C, H, W), (N, C, H, W, W).

    >>> natural(3), natural(4)
    ('NHC', 'NCHW')
    """
    return ("", "C", "NC", "NHC")[rank] if rank < 4 else "NCH" + "W" * (rank - 3)


def canonical(dims: Dims, roles: str) -> tuple[int, int, int, int]:
    """(N, C, H, W): the product of the axes of each role.

    >>> canonical((1, 197, 3, 64), "NHCC")
    (1, 192, 197, 1)
    """
    n, c, h, w = (extent(dims, roles, role) for role in "NCHW")
    return n, c, h, w


def channels_of(value: Value, axes: Sequence[int]) -> dict[str, AttrValue]:
    """Which channels differ in what belongs to these axes: ``channels`` = (stride, count), nothing if no such pair.

    Element ``channel // stride % count`` belongs to a channel. That is so if the axes are neighbours among those of
    channels.
    """
    wide = [a for a, (d, r) in enumerate(zip(value.dims, value.roles, strict=True)) if r == "C" and d > 1]
    places = [wide.index(a) for a in axes if a in wide]
    if not places or len(places) < len(axes) or places[-1] - places[0] >= len(places):
        return {}
    stride = math.prod(value.dims[a] for a in wide[places[-1] + 1 :])
    return {"channels": (stride, math.prod(value.dims[a] for a in axes))}


def reshaped(value: Value, dims: Dims) -> Placed:
    """Roles after a reshape, which keeps the row-major order of the elements.

    An axis of the result whose leading extents have the same product as those before H, and whose
    extent is H, a multiple of it or a divisor of it, is H again: its row q holds input row q, a
    part of row q // f, or rows q * f to q * f + f - 1. In any other case the row axis is lost: then
    the natural one is used, and every row needs every input row (a barrier, unless H is 1). A tensor of one
    row in which only axes of extent 1 come or go keeps one row.
    Columns stay columns only where they are exactly those of the operand. A tensor whose rows an earlier
    reshape lost has them again once it is reshaped back.
    """
    if value.lost is not None and value.lost[0] == dims:
        return Placed(value.lost[1], barrier=value.rows > 1)
    roles = [_inherited(value, dims, j) for j in range(len(dims))]
    _name_units(roles, dims, value)
    if "H" not in roles and value.rows == 1 and _wide(value.dims) == _wide(dims) and 1 in dims[1:]:
        roles[-1 - dims[::-1].index(1)] = "H"
    found = _columns_kept(value, dims, "".join(roles))
    if "H" in found and extent(dims, found, "N") == value.batch:
        return Placed(found)
    fallback = natural(len(dims))
    if extent(dims, fallback, "N") != value.batch:
        fallback = fallback.replace("N", "C")
    lost = value.rows > 1 or extent(dims, fallback, "N") != value.batch
    return Placed(fallback if lost else _columns_kept(value, dims, fallback), barrier=lost)


def _wide(dims: Dims) -> Dims:
    return tuple(d for d in dims if d > 1)


def wide_columns(value: Value) -> tuple[int, ...]:
    """Column axes with more than one element."""
    return tuple(a for a, (d, r) in enumerate(zip(value.dims, value.roles, strict=True)) if r == "W" and d > 1)


def without_columns(roles: str) -> str:
    """The same layout with the columns taken for channels: a column map then asks for all of them."""
    return roles.replace("W", "C")


def _columns_kept(value: Value, dims: Dims, roles: str) -> str:
    old = wide_columns(value)
    new = wide_columns(Value("", 0, dims, roles))
    places = [[(math.prod(d[:axis]), d[axis]) for axis in axes] for d, axes in ((value.dims, old), (dims, new))]
    return roles if not old or places[0] == places[1] else without_columns(roles)


def _starts(dims: Dims) -> list[int]:
    """Product of the extents before each axis."""
    return [1, *accumulate(dims, mul)][: len(dims)]


def _inherited(value: Value, dims: Dims, j: int) -> str:
    """Role of axis j of a reshaped tensor; '' for an axis of extent 1, which has no elements to ask."""
    if dims[j] == 1:
        return ""
    start, end = math.prod(dims[:j]), math.prod(dims[: j + 1])
    sources = set()
    for before, size, role in zip(_starts(value.dims), value.dims, value.roles, strict=True):
        if size > 1 and before < end and before * size > start:
            sources.add(role)
            if role == "H" and before == start and (dims[j] % size == 0 or size % dims[j] == 0):
                return "H"
    if sources == {"N"}:
        return "N"
    return "W" if sources <= {"H", "W"} else "C"


def _name_units(roles: list[str], dims: Dims, value: Value) -> None:
    """Give axes of extent 1 the natural role of their place, H only to a tensor of one row."""
    for j, role in enumerate(natural(len(dims))):
        if roles[j]:
            continue
        free = role != "H" or ("H" not in roles and value.rows == 1)
        roles[j] = role if free else "W"


def same_rows(value: Value, dims: Dims, roles: str) -> bool:
    """Whether a reshape to ``dims`` moves nothing: same canonical shape, row q is row q."""
    return canonical(value.dims, value.roles) == canonical(dims, roles)


def permuted(value: Value, perm: Sequence[int]) -> str:
    """Roles after a transpose: they go where their axes go. Several column axes must keep their order."""
    roles = "".join(value.roles[axis] for axis in perm)
    wide = wide_columns(value)
    return roles if tuple(a for a in perm if a in wide) == wide else without_columns(roles)


def broadcast(operands: Sequence[Value], dims: Dims) -> Placed:
    """Roles after NumPy broadcasting. Two operands whose rows lie on different axes are a barrier."""
    roles = ["" for _ in dims]
    columns = {tuple(len(dims) - v.rank + a for a in wide_columns(v)) for v in operands} - {()}
    votes = []
    for value in sorted(operands, key=lambda v: -v.elements):
        shift = len(dims) - value.rank
        if value.rows > 1 and value.row_axis is not None:
            votes.append(shift + value.row_axis)
        for axis, (size, role) in enumerate(zip(value.dims, value.roles, strict=True)):
            if size == dims[shift + axis] and not roles[shift + axis]:
                roles[shift + axis] = role
    row = votes[0] if votes else None
    for axis, role in enumerate(roles):
        if role == "H" and axis != row and row is not None:
            roles[axis] = "C"
    if row is not None:
        roles[row] = "H"
    _fill(roles)
    found = "".join(roles)
    return Placed(found if len(columns) < 2 else without_columns(found), barrier=len(set(votes)) > 1)


def _fill(roles: list[str]) -> None:
    """Natural roles for axes no operand fills; never a second H."""
    for axis, role in enumerate(natural(len(roles))):
        if not roles[axis]:
            roles[axis] = "W" if role == "H" and "H" in roles else role
    first = "".join(roles).find("H")
    for axis in range(first + 1, len(roles)):
        if first >= 0 and roles[axis] == "H":
            roles[axis] = "W"
