"""What an execution measured, beside what the model said. Pure data; drawing goes through ``fusecut.text``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from fusecut.cost import Cost
from fusecut.text import Column, render_table, wrapped


@dataclass(frozen=True)
class Figures:
    """What must be equal, for one group. Bytes; ``read_bytes`` includes ``weight_bytes``.

    A model that says nothing of a shared pool says 0 for ``pooled_buffer_bytes``; then it is not compared.
    """

    read_bytes: int
    write_bytes: int
    weight_bytes: int
    buffer_bytes: int
    macs: int
    recomputed_macs: int
    pooled_buffer_bytes: int = 0

    @classmethod
    def of_cost(cls, cost: Cost) -> Figures:
        """What the model said."""
        return cls(*(getattr(cost, f.name) for f in fields(cls)))


HEADINGS: Final = {
    "read_bytes": "read B",
    "write_bytes": "written B",
    "weight_bytes": "weights B",
    "buffer_bytes": "buffer B",
    "macs": "MACs",
    "recomputed_macs": "recomputed MACs",
    "pooled_buffer_bytes": "pooled buffer B",
}


@dataclass(frozen=True)
class GroupRun:
    """One group, executed.

    ``skipped_macs`` are MACs of rows that nobody wanted and that were not made; a cost counts whole ops, so
    they are part of ``executed.macs``.
    """

    index: int
    scheme: str
    ops: tuple[str, ...]
    model: Figures
    executed: Figures
    skipped_macs: int = 0
    events: int = 0

    @property
    def agrees(self) -> bool:
        return not self.differences()

    def differences(self) -> list[tuple[str, int, int]]:
        """(figure, model, execution) where they differ."""
        pairs = [(f.name, getattr(self.model, f.name), getattr(self.executed, f.name)) for f in fields(Figures)]
        unsaid = ("pooled_buffer_bytes", 0)
        return [pair for pair in pairs if pair[1] != pair[2] and pair[:2] != unsaid]


@dataclass(frozen=True)
class Sample:
    """What one label holds on chip from an event on; labels are tensors, weights and accumulators."""

    event: int
    group: int
    label: str
    nbytes: int


@dataclass(frozen=True)
class Simulation:
    """A plan, executed: both columns for every group.

    ``data`` says whether values were computed. ``trace`` is empty unless it was asked for.
    """

    groups: tuple[GroupRun, ...]
    data: bool
    seconds: float
    trace: tuple[Sample, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether execution and model are equal in every figure of every group."""
        return all(g.agrees for g in self.groups)

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic of the execution."""
        return sum(g.executed.read_bytes + g.executed.write_bytes for g in self.groups)

    @property
    def buffer_bytes(self) -> int:
        """The most any group held."""
        return max(g.executed.buffer_bytes for g in self.groups)

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 80, colour: bool = False) -> str:
        """One line for each group, then each difference, then the verdict."""
        columns = (
            Column("#"),
            Column("ops", "left", flexible=True),
            Column("scheme", "left"),
            Column("DRAM B"),
            Column("executed"),
            Column("buffer B"),
            Column("held B"),
            Column("", "left"),
        )
        lines = [render_table(columns, [_cells(g) for g in self.groups], width, colour), ""]
        for group in self.groups:
            for name, said, found in group.differences():
                line = f"group {group.index}: {HEADINGS[name]}: model {said:,}, execution {found:,}"
                lines.append(wrapped(line, width, 2))
        return "\n".join([*lines, wrapped(self.verdict(), width, 2)])

    def verdict(self) -> str:
        """One line."""
        how = "computed on real arrays" if self.data else "counted"
        if self.agrees:
            return f"model and execution agree on all {len(self.groups)} groups, {how}: {self.dram_bytes:,} B moved"
        wrong = sum(not g.agrees for g in self.groups)
        return f"model and execution differ in {wrong} of {len(self.groups)} groups, {how}"


def _cells(group: GroupRun) -> list[str]:
    span = group.ops[0] if len(group.ops) == 1 else f"{group.ops[0]} .. {group.ops[-1]}"
    moved = [f.read_bytes + f.write_bytes for f in (group.model, group.executed)]
    figures = [*moved, group.model.buffer_bytes, group.executed.buffer_bytes]
    return [str(group.index), span, group.scheme, *(f"{n:,}" for n in figures), "=" if group.agrees else "differs"]
