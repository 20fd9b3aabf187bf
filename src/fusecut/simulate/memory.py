"""The two memories of the machine: a buffer that cannot hold more than it has, and DRAM that counts.

Nothing here knows a cost formula. Sizes come from the schedule (slots of a ring) and from the
graph (bytes of a row); every byte that crosses is added up where it crosses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusecut.errors import SimulationError
from fusecut.ir import Graph
from fusecut.units import format_bytes

Array: TypeAlias = NDArray[Any]

Watch: TypeAlias = Callable[[str, int], None]
"""Called with (label, bytes) whenever what is on chip under that label changes."""

EMPTY: Final = -1


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
    """``slots`` rows of one tensor; row r lives in slot r mod ``slots`` until another row takes its place.

    Every slot remembers which row it holds. A row whose readers are all done with it is forgotten
    and its values become NaN, so that a read of it is an error, and would be wrong if it were not.
    With ``shape`` None only presence is tracked.
    """

    def __init__(self, name: str, slots: int, row_bytes: int, shape: tuple[int, ...] | None, dtype: str) -> None:
        self.name, self.slots, self.row_bytes = name, slots, row_bytes
        self.tags = [EMPTY] * slots
        self.made = 0
        self.low = 0
        self.data: Array | None = None if shape is None else np.full((slots, *shape), np.nan, dtype)

    @property
    def live_rows(self) -> int:
        """Rows that are present."""
        return self.made - self.low

    def push(self, row: int, values: Array | None) -> None:
        """Store the next row, over whatever its slot holds."""
        slot = row % self.slots
        self.tags[slot] = row
        self.made = row + 1
        self.low = max(self.low, self.made - self.slots)
        if self.data is not None:
            self.data[slot] = values

    def window(self, low: int, high: int, where: Callable[[], str]) -> Array | None:
        """Rows low..high, row axis first.

        Raises:
            SimulationError: one of them was never made, or is gone.
        """
        for row in range(low, high + 1):
            if self.tags[row % self.slots] != row:
                state = "is not made yet" if row >= self.made else "was evicted"
                raise SimulationError(
                    f"{where()} reads row {row} of {self.name!r}, which {state} ({self.slots} rows held)"
                )
        if self.data is None:
            return None
        return self.data[[row % self.slots for row in range(low, high + 1)]]

    def forget_below(self, low: int) -> None:
        """Evict rows below ``low``; at most all that were made."""
        for row in range(self.low, min(low, self.made)):
            slot = row % self.slots
            if self.tags[slot] == row:
                self.tags[slot] = EMPTY
                if self.data is not None:
                    self.data[slot] = np.nan
        self.low = max(self.low, min(low, self.made))


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


@dataclass
class Dram:
    """Off-chip memory: which rows of which tensors exist, their values, and every byte that crossed.

    ``traffic`` is by group and label. Rows are written once and in any order; only rows that were
    written can be read. Row ``r`` of image ``n`` has index ``n * rows + r``.
    """

    graph: Graph
    dtype: str = "float32"
    rows: dict[int, list[bool]] = field(default_factory=dict)
    data: dict[int, Array] = field(default_factory=dict)
    traffic: dict[tuple[int, str], Traffic] = field(default_factory=dict)

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

    def read_row(self, group: int, tensor: int, row: int, where: Callable[[], str]) -> Array | None:
        """One row, counted. Raises SimulationError when nobody wrote it."""
        facts = self.graph.tensors[tensor]
        present = self.rows.get(tensor)
        if present is None or not present[row]:
            raise SimulationError(f"{where()} reads row {row} of {facts.name!r} from DRAM, where nobody wrote it")
        self.count(group, facts.name, read_bytes=facts.row_bytes)
        known = self.data.get(tensor)
        return None if known is None else known[row]

    def write_row(self, group: int, tensor: int, row: int, values: Array | None, where: Callable[[], str]) -> None:
        """One row, counted. Raises SimulationError when it was written before."""
        facts = self.graph.tensors[tensor]
        present = self.rows.setdefault(tensor, [False] * (facts.batch * facts.rows))
        if present[row]:
            raise SimulationError(f"{where()} writes row {row} of {facts.name!r}, which is in DRAM already")
        present[row] = True
        self.count(group, facts.name, write_bytes=facts.row_bytes)
        if values is not None:
            if tensor not in self.data:
                self.data[tensor] = np.full((len(present), *values.shape), np.nan, self.dtype)
            self.data[tensor][row] = values

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
