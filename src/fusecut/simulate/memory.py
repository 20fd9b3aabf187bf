"""The two memories of the machine: a buffer that cannot hold more than it has, and DRAM that counts.

Nothing here knows a cost formula. Sizes come from the schedule (slots of a ring) and from the
graph (bytes of a row); every byte that crosses is added up where it crosses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusecut.errors import SimulationError
from fusecut.ir import Graph, Tensor
from fusecut.units import format_bytes

Array: TypeAlias = NDArray[Any]

Watch: TypeAlias = Callable[[str, int], None]
"""Called with (label, bytes) whenever what is on chip under that label changes."""


class Buffer:
    """On-chip memory of exactly ``capacity_bytes``; everything held has a label.

    ``peak_bytes`` is the most that was ever allocated at once.

    Raises:
        SimulationError: an allocation past the capacity, or a label that is taken.
    """

    def __init__(self, capacity_bytes: int, where: str = "") -> None:
        self.capacity_bytes, self.where = capacity_bytes, where
        self.held: dict[str, int] = {}
        self.used_bytes = self.peak_bytes = 0

    def allocate(self, label: str, nbytes: int) -> None:
        """Take ``nbytes`` under a label."""
        if label in self.held:
            raise SimulationError(f"{self.where}: {label} is on chip already")
        free = self.capacity_bytes - self.used_bytes
        if nbytes > free:
            raise SimulationError(
                f"{self.where}: {label} needs {nbytes:,} B, the buffer of {format_bytes(self.capacity_bytes)} "
                f"has {free:,} B left: {nbytes - free:,} B over"
            )
        self.held[label] = nbytes
        self.used_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)

    def release(self, label: str) -> None:
        """Give back what a label holds."""
        self.used_bytes -= self.held.pop(label)


class Ring:
    """``slots`` places for rows (or pixels) of ``slot_bits`` each.

    Row r of a lane lives in slot r mod ``slots``. A slot remembers whose row it holds; ``occupied``
    counts those that hold one. With ``shape`` None only presence is tracked.
    """

    def __init__(self, name: str, slots: int, slot_bits: int, shape: tuple[int, ...] | None, dtype: str) -> None:
        self.name, self.slots, self.slot_bits = name, slots, slot_bits
        self.tags: list[tuple[Lane, int] | None] = [None] * slots
        self.occupied = 0
        self.data: Array | None = None if shape is None else np.full((slots, *shape), poison(dtype), dtype)

    @property
    def live_bytes(self) -> int:
        """Bytes of the rows that are present."""
        return bits_to_bytes(self.occupied * self.slot_bits)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole ring."""
        return bits_to_bytes(self.slots * self.slot_bits)


class Lane:
    """The rows of one tensor in a ring; several tensors share a ring where one is written over another.

    A row whose readers are all done with it is forgotten and its values become :func:`poison`, so that a
    read of it is an error, and would be wrong if it were not.
    """

    def __init__(self, name: str, ring: Ring, tensor: int = 0) -> None:
        self.name, self.ring, self.tensor = name, ring, tensor
        self.made = self.low = 0

    def has_room(self, row: int, over: Lane | None = None) -> bool:
        """Whether the slot of a row is free, or holds the row of ``over`` that it may be written over."""
        tag = self.ring.tags[row % self.ring.slots]
        return tag is None or (over is not None and tag == (over, row))

    def push(self, row: int, values: Array | None) -> None:
        """Store the next row, over whatever its slot holds."""
        ring, slot = self.ring, row % self.ring.slots
        ring.occupied += ring.tags[slot] is None
        ring.tags[slot] = self, row
        self.made = row + 1
        if ring.data is not None:
            ring.data[slot] = values

    def at(self, row: int, where: Callable[[], str]) -> Array | None:
        """One row.

        Raises:
            SimulationError: it was never made, or is gone.
        """
        slot = row % self.ring.slots
        if self.ring.tags[slot] != (self, row):
            state = "is not made yet" if row >= self.made else "was evicted"
            raise SimulationError(
                f"{where()} reads row {row} of {self.name!r}, which {state} ({self.ring.slots} rows held)"
            )
        return None if self.ring.data is None else self.ring.data[slot]

    def window(self, low: int, high: int, where: Callable[[], str]) -> Array | None:
        """Rows low..high, row axis first; errors as :meth:`at`."""
        rows = [self.at(row, where) for row in range(low, high + 1)]
        if self.ring.data is None:
            return None
        return self.ring.data[[row % self.ring.slots for row in range(low, low + len(rows))]]

    def forget_below(self, low: int) -> None:
        """Evict rows below ``low``; at most all that were made."""
        ring = self.ring
        for row in range(self.low, min(low, self.made)):
            slot = row % ring.slots
            if ring.tags[slot] == (self, row):
                ring.tags[slot] = None
                ring.occupied -= 1
                if ring.data is not None:
                    ring.data[slot] = poison(ring.data.dtype.name)
        self.low = max(self.low, min(low, self.made))


def poison(dtype: str) -> float:
    """What stands where nothing is: not a number; among integers an unlikely one."""
    return np.nan if np.issubdtype(dtype, np.floating) else 85


def bits_to_bytes(bits: int) -> int:
    """Bits in whole bytes."""
    return -(-bits // 8)


@dataclass
class Traffic:
    """Bytes under one label that crossed, in each direction; ``weight_bytes`` are part of ``read_bytes``."""

    read_bytes: int = 0
    write_bytes: int = 0
    weight_bytes: int = 0

    def add(self, other: Traffic) -> None:
        self.read_bytes += other.read_bytes
        self.write_bytes += other.write_bytes
        self.weight_bytes += other.weight_bytes


@dataclass(frozen=True)
class Part:
    """``count`` elements of a row from ``first`` on, as they lie in DRAM; ``cut`` finds them in an array."""

    first: int
    count: int
    cut: Callable[[Array], Array] | None = None


def _bytes_of(tensor: Tensor, part: Part | None) -> int:
    """Bytes that cross: parts of less than a byte are counted with the byte that they begin."""
    if part is None:
        return tensor.row_bytes
    return bits_to_bytes((part.first + part.count) * tensor.bits) - bits_to_bytes(part.first * tensor.bits)


@dataclass
class Dram:
    """Off-chip memory: which rows of which tensors exist, their values, and every byte that crossed.

    Rows of which a part is missing (``parts``: elements by where they begin) cannot be read.
    ``traffic`` is by group and label. Rows are written once and in any order; only rows that were
    written can be read. Row ``r`` of image ``n`` has index ``n * rows + r``.
    """

    graph: Graph
    dtype: str = "float32"
    rows: dict[int, list[bool]] = field(default_factory=dict)
    data: dict[int, Array] = field(default_factory=dict)
    traffic: dict[tuple[int, str], Traffic] = field(default_factory=dict)
    parts: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)

    def put(self, tensor: int, data: Array | None) -> None:
        """A network input: there from the start, all rows, row axis first, images one after the other."""
        facts = self.graph.tensors[tensor]
        self.rows[tensor] = [True] * (facts.batch * facts.rows)
        if data is not None:
            self.data[tensor] = data

    def count(self, group: int, label: str, read_bytes: int = 0, write_bytes: int = 0, weight_bytes: int = 0) -> None:
        """Bytes that cross."""
        entry = self.traffic.setdefault((group, label), Traffic())
        entry.add(Traffic(read_bytes, write_bytes, weight_bytes))

    def read_row(
        self, group: int, tensor: int, row: int, where: Callable[[], str], part: Part | None = None
    ) -> Array | None:
        """One row, or part of it, counted. Raises SimulationError when nobody wrote it."""
        facts = self.graph.tensors[tensor]
        present = self.rows.get(tensor)
        if present is None or not present[row]:
            raise SimulationError(f"{where()} reads row {row} of {facts.name!r} from DRAM, where nobody wrote it")
        self.count(group, facts.name, read_bytes=_bytes_of(facts, part))
        known = self.data.get(tensor)
        if known is None:
            return None
        return known[row] if part is None or part.cut is None else part.cut(known[row])

    def write_row(
        self,
        group: int,
        tensor: int,
        row: int,
        values: Array | None,
        where: Callable[[], str],
        part: Part | None = None,
        shape: tuple[int, ...] = (),
    ) -> None:
        """One row, or part of one of ``shape``, counted. Raises SimulationError when it was written before."""
        facts = self.graph.tensors[tensor]
        present = self.rows.setdefault(tensor, [False] * (facts.batch * facts.rows))
        if present[row] or (part is not None and not self._begin(tensor, row, part)):
            raise SimulationError(f"{where()} writes row {row} of {facts.name!r}, which is in DRAM already")
        present[row] = part is None or self._complete(tensor, row)
        self.count(group, facts.name, write_bytes=_bytes_of(facts, part))
        if values is not None:
            if tensor not in self.data:
                full = values.shape if part is None else shape
                self.data[tensor] = np.full((len(present), *full), poison(self.dtype), self.dtype)
            whole = self.data[tensor][row, ...]
            target = whole if part is None or part.cut is None else part.cut(whole)
            target[...] = values.reshape(target.shape)

    def _begin(self, tensor: int, row: int, part: Part) -> bool:
        """Note a part of a row; False when it was there."""
        there = self.parts.setdefault((tensor, row), {})
        if part.first in there:
            return False
        there[part.first] = part.count
        return True

    def _complete(self, tensor: int, row: int) -> bool:
        facts = self.graph.tensors[tensor]
        done = sum(self.parts[tensor, row].values()) == facts.channels * facts.cols
        if done:
            del self.parts[tensor, row]
        return done

    def require(self, tensor: int, where: str) -> None:
        """Raises SimulationError unless every row of the tensor is there."""
        present = self.rows.get(tensor)
        if present is None or not all(present):
            name = self.graph.tensors[tensor].name
            what = "is not in DRAM" if present is None else f"lacks row {present.index(False)} in DRAM"
            raise SimulationError(f"{where}: {name!r} {what}: no group before this one wrote it")

    def of_group(self, group: int) -> Traffic:
        """Everything that crossed while a group ran."""
        total = Traffic()
        for (owner, _), traffic in self.traffic.items():
            if owner == group:
                total.add(traffic)
        return total
