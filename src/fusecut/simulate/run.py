"""Runs a plan group by group and sets what was measured beside what the model said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal, TypeAlias

from fusecut.cost import Planned
from fusecut.errors import SimulationError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.simulate.alone import run_alone
from fusecut.simulate.compute import Compute
from fusecut.simulate.lines import LineRun
from fusecut.simulate.memory import Array, Buffer, Dram
from fusecut.simulate.report import Figures, GroupRun, Sample, Simulation

Mode: TypeAlias = Literal["full", "fast"]


def execute(
    graph: Graph,
    machine: Machine,
    planned: Sequence[Planned],
    compute: Compute | None = None,
    inputs: Mapping[str, Array] | None = None,
    trace: bool = False,
) -> tuple[Simulation, Dram]:
    """Run groups in the order given. ``compute`` None counts bytes and checks the presence of rows only.

    ``inputs`` are the network inputs by name, shaped like the file's. Returns the measurements and
    what is in DRAM in the end.

    Raises:
        SimulationError: a schedule that cannot be executed; names group, op and row.
    """
    started = perf_counter()
    dram = Dram(graph, compute.dtype if compute is not None else "float32")
    for t in graph.inputs:
        dram.put(t, None if compute is None else compute.rows_of(t, (inputs or {})[graph.tensors[t].name]))
    tracer = _Tracer() if trace else None
    runs = []
    for number, plan in enumerate(planned):
        runs.append(_group(graph, machine, plan, number, dram, compute, tracer))
    samples = tuple(tracer.samples) if tracer is not None else ()
    return Simulation(tuple(runs), compute is not None, perf_counter() - started, samples), dram


@dataclass
class _Tracer:
    samples: list[Sample] = field(default_factory=list)
    group: int = 0
    event: int = 0

    def __call__(self, label: str, nbytes: int) -> None:
        self.event += 1
        self.samples.append(Sample(self.event, self.group, label, nbytes))


def _group(
    graph: Graph,
    machine: Machine,
    plan: Planned,
    number: int,
    dram: Dram,
    compute: Compute | None,
    tracer: _Tracer | None,
) -> GroupRun:
    schedule = plan.schedule
    buffer = Buffer(machine.buffer_bytes, f"group {number}")
    if tracer is not None:
        tracer.group = number
    macs = sum(graph.ops[i].macs for i in schedule.order)
    recomputed = pooled = skipped = events = 0
    if schedule.scheme == "lbdf":
        shapes = None if compute is None else compute.shapes
        kernels = None if compute is None else compute.kernels(schedule.group)
        lines = LineRun(graph, schedule, number, dram, buffer, shapes, kernels, observer=tracer)
        lines.run()
        work = lines.work
        skipped, recomputed, events, pooled = int(work.skipped_macs), int(work.recomputed_macs), work.events, lines.pooled_bytes
        macs = int(work.macs + work.skipped_macs)
    elif schedule.scheme == "layerwise":
        run_alone(graph, schedule, number, dram, buffer)
        _whole_op(graph, schedule.order[0], number, dram, compute)
        pooled = buffer.peak_bytes
    else:
        raise SimulationError(f"group {number}: nobody taught the simulator the scheme {schedule.scheme!r}")
    if compute is not None:
        compute.forget()
    weights = sum(t.read_bytes for (g, label), t in dram.traffic.items() if g == number and label.startswith("weights of "))
    executed = Figures(
        dram.group_read(number), dram.group_written(number), weights, buffer.peak_bytes, macs, recomputed
    )
    names = tuple(graph.ops[i].name for i in schedule.order)
    return GroupRun(
        number, schedule.scheme, names, Figures.of_cost(plan.cost), executed, pooled, skipped, events
    )


def _whole_op(graph: Graph, index: int, number: int, dram: Dram, compute: Compute | None) -> None:
    """Results of an op that ran alone, row by row into DRAM, computed from what DRAM holds of its operands."""
    op = graph.ops[index]
    made = graph.tensors[op.outputs[0]]
    for image in range(made.batch):
        values = None if compute is None else compute.whole(index, image, dram)
        for k, t in enumerate(op.outputs):
            for row in range(made.rows):
                row_values = None if values is None else values[k][row]
                dram.write_row(
                    number, t, image * made.rows + row, row_values, lambda: f"group {number}, op {op.name!r}"
                )
