"""Runs a plan group by group and sets what was measured beside what the model said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, NamedTuple

import numpy as np

from fusecut.cost import Planned
from fusecut.errors import SimulationError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.schedule import Schedule
from fusecut.simulate.alone import run_alone
from fusecut.simulate.bands import BandRun
from fusecut.simulate.compute import Compute
from fusecut.simulate.lines import LineRun
from fusecut.simulate.memory import Array, Buffer, Dram
from fusecut.simulate.report import Figures, GroupRun, Sample, Simulation


class Progress(NamedTuple):
    """Where an execution is: at this group, of so many, which has so many ops."""

    group: int
    groups: int
    ops: int


def execute(
    graph: Graph,
    machine: Machine,
    planned: Sequence[Planned],
    compute: Compute | None = None,
    inputs: Mapping[str, Array] | None = None,
    trace: bool = False,
    given: Iterable[int] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[Simulation, Dram]:
    """Run groups in the order given; returns the measurements, and DRAM as it is in the end.

    ``compute`` None counts bytes and checks the presence of rows only. ``inputs`` are arrays of the
    network inputs by name, shaped like the file's. ``given`` are further tensors that are in DRAM
    from the start, so that a part of a plan can be run on its own (without ``compute``).
    ``on_progress`` is called before each group.

    Raises:
        SimulationError: a schedule that cannot be executed; names group, op and row.
    """
    started = perf_counter()
    run = _Execution(graph, machine, Dram(graph, "float32" if compute is None else compute.stored), compute, trace)
    for t in graph.inputs:
        run.dram.put(t, None if compute is None else compute.rows_of(t, (inputs or {})[graph.tensors[t].name]))
    for t in given:
        run.dram.put(t, None)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # numbers may be anything; bytes are the point
        groups = []
        for number, plan in enumerate(planned):
            if on_progress is not None:
                on_progress(Progress(number, len(planned), len(plan.schedule.order)))
            groups.append(run.group(number, plan))
    return Simulation(tuple(groups), compute is not None, perf_counter() - started, tuple(run.samples)), run.dram


@dataclass
class _Measured:
    """What a scheme's executor measured, besides traffic and buffer."""

    macs: int
    recomputed_macs: int = 0
    skipped_macs: int = 0
    pooled_bytes: int = 0
    events: int = 0


@dataclass
class _Execution:
    """A plan in execution."""

    graph: Graph
    machine: Machine
    dram: Dram
    compute: Compute | None
    trace: bool
    samples: list[Sample] = field(default_factory=list)

    def group(self, number: int, plan: Planned) -> GroupRun:
        schedule = plan.schedule
        if schedule.scheme not in SCHEMES:
            raise SimulationError(
                f"group {number}: schedules of scheme {schedule.scheme!r} cannot be executed, "
                f"only those of {', '.join(sorted(SCHEMES))}"
            )
        buffer = Buffer(self.machine.buffer_bytes, f"group {number}")
        measured = SCHEMES[schedule.scheme](self, schedule, number, buffer)
        if self.compute is not None:
            self.compute.forget()
        crossed = self.dram.of_group(number)
        executed = Figures(
            crossed.read_bytes,
            crossed.write_bytes,
            crossed.weight_bytes,
            buffer.peak_bytes,
            measured.macs,
            measured.recomputed_macs,
            measured.pooled_bytes,
        )
        return GroupRun(
            index=number,
            scheme=schedule.scheme,
            ops=tuple(self.graph.ops[i].name for i in schedule.order),
            model=Figures.of_cost(plan.cost),
            executed=executed,
            skipped_macs=measured.skipped_macs,
            events=measured.events,
        )

    def lines(self, schedule: Schedule, number: int, buffer: Buffer) -> _Measured:
        """Row by row, or pixel by pixel, through rings."""
        compute = self.compute
        layouts = None if compute is None else compute.layouts
        kernels = None if compute is None else compute.kernels(schedule.group)
        observer = self._observer(number) if self.trace else None
        run = LineRun(self.graph, schedule, number, self.dram, buffer, layouts, kernels, observer=observer)
        run.run()
        work = run.work
        return _Measured(
            macs=int(work.macs + work.skipped_macs),
            recomputed_macs=int(work.recomputed_macs),
            skipped_macs=int(work.skipped_macs),
            pooled_bytes=run.pooled_bytes,
            events=work.events,
        )

    def alone(self, schedule: Schedule, number: int, buffer: Buffer) -> _Measured:
        """One op as tiled loops."""
        run_alone(self.graph, schedule, number, self.dram, buffer)
        index = schedule.order[0]
        op = self.graph.ops[index]
        images = None if self.compute is None else self.compute.alone(index, schedule, self.dram)
        for image in range(self.graph.tensors[op.outputs[0]].batch):
            for k, t in enumerate(op.outputs):
                rows = self.graph.tensors[t].rows
                for row in range(rows):
                    made = None if images is None else images[image][k][row]
                    self.dram.write_row(number, t, image * rows + row, made, lambda: f"group {number}, op {op.name!r}")
        if self.trace:
            observe = self._observer(number)
            for label, nbytes in buffer.held.items():
                observe(label, nbytes)
        return _Measured(op.macs, pooled_bytes=buffer.peak_bytes)

    def brr(self, schedule: Schedule, number: int, buffer: Buffer) -> _Measured:
        """Band by band with streamed weights, or row by row where all weights are resident."""
        if schedule.bands is None:
            return self.lines(schedule, number, buffer)
        compute = self.compute
        shapes = None if compute is None else compute.shapes
        kernels = None if compute is None else compute.kernels(schedule.group)
        observer = self._observer(number) if self.trace else None
        run = BandRun(self.graph, schedule, number, self.dram, buffer, shapes, kernels, observer)
        run.run()
        pooled_bytes, buffer.peak_bytes = buffer.peak_bytes, run.chip.top
        macs = sum(self.graph.ops[i].macs for i in schedule.order) + run.work.recomputed_macs
        return _Measured(macs, run.work.recomputed_macs, pooled_bytes=pooled_bytes, events=run.work.events)

    def _observer(self, number: int) -> Callable[[str, int], None]:
        def observe(label: str, nbytes: int) -> None:
            self.samples.append(Sample(len(self.samples), number, label, nbytes))

        return observe


SCHEMES: Final[dict[str, Callable[[_Execution, Schedule, int, Buffer], _Measured]]] = {
    "brr": _Execution.brr,
    "layerwise": _Execution.alone,
    "lbdf": _Execution.lines,
}
"""Scheme of a schedule -> how it is executed."""
