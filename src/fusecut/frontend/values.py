"""What the frontend knows of each name in a file: nodes, and values with their layout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

Array: TypeAlias = NDArray[Any]
Dims: TypeAlias = tuple[int, ...]

MAX_CONSTANT: Final = 4096
"""Largest constant, in elements, whose values are kept; larger ones are shapes only."""


MAX_ELEMENTS: Final = 2**40
"""Largest tensor, constant or not, that is priced: above it, products of sizes may leave 64 bits."""


@dataclass(frozen=True)
class Value:
    """One tensor of the file.

    ``roles`` has one letter per axis: N batch, C channels, H rows, W columns; at most one H.
    It is empty for constants. ``data`` is there for small constants whose values are known.
    ``lost`` are dims and roles before the reshape that lost the rows, as long as nothing moved since.
    """

    name: str
    dtype: int
    dims: Dims
    roles: str = ""
    data: Array | None = None
    constant: bool = False
    lost: tuple[Dims, str] | None = None

    @property
    def elements(self) -> int:
        """Product of the dimensions; 1 for a scalar."""
        return math.prod(self.dims)

    @property
    def rank(self) -> int:
        return len(self.dims)

    @property
    def row_axis(self) -> int | None:
        """The axis that is H, if there is one."""
        axis = self.roles.find("H")
        return None if axis < 0 else axis

    @property
    def rows(self) -> int:
        axis = self.row_axis
        return 1 if axis is None else self.dims[axis]

    @property
    def batch(self) -> int:
        return extent(self.dims, self.roles, "N")


def extent(dims: Dims, roles: str, role: str) -> int:
    """Product of the axes that play one role."""
    return math.prod(d for d, r in zip(dims, roles, strict=True) if r == role)


def whole_numbers(value: Value | None) -> Dims | None:
    """The integers of a small constant, flattened; None when its values are not known."""
    if value is None or value.data is None:
        return None
    return tuple(int(v) for v in np.asarray(value.data).reshape(-1))


@dataclass(frozen=True)
class Node:
    """One node of the file, with a name that is unique in it."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(hash=False)
    proto: onnx.NodeProto = field(repr=False, hash=False, compare=False)
