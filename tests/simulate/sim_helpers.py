"""Random networks, random plans of them, and whole-tensor references."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from fusecut.cost import CostModel, Planned
from fusecut.errors import PartitionError
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models._measure import run_to_the_end
from fusecut.models._passes import passes_of
from fusecut.models._program import Pass, Program, lower
from fusecut.ops import row_maps
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.schedule import Schedule
from fusecut.simulate.calls import to_slab
from fusecut.simulate.compute import Compute, OpKernel
from fusecut.simulate.lines import Event
from fusecut.simulate.memory import Array
from fusecut.simulate.stages import LOADER
from fusecut.testing import random_graph


def small_graph(rng: Generator) -> Graph:
    return random_graph(rng, int(rng.integers(3, 12)), rows=int(rng.integers(4, 16)), inputs=int(rng.integers(1, 3)))


def random_group(graph: Graph, rng: Generator) -> Group | None:
    """A random connected group; None if what was grown is not convex."""
    group = 1 << int(rng.integers(len(graph)))
    for _ in range(int(rng.integers(0, 9))):
        near = 0
        for i in bits(group):
            near |= graph.preds[i] | graph.succs[i]
        if near & ~group:
            group |= 1 << int(rng.choice(list(bits(near & ~group))))
    return group if graph.is_convex(group) else None


def random_plan(problem: Problem, rng: Generator, merges: int = 30) -> tuple[Planned, ...] | None:
    """Groups merged at random as long as they fit; None when an op does not fit alone."""
    graph = problem.graph
    groups = [1 << i for i in range(len(graph))]
    if not all(isinstance(problem.plan(g), Planned) for g in groups):
        return None
    for _ in range(merges):
        a, b = int(rng.integers(len(groups))), int(rng.integers(len(groups)))
        if a == b or not isinstance(problem.plan(groups[a] | groups[b]), Planned):
            continue
        merged = [g for k, g in enumerate(groups) if k not in (a, b)] + [groups[a] | groups[b]]
        try:
            groups = list(Partition(graph, merged).groups)
        except PartitionError:
            continue
    plans = (problem.plan(g) for g in Partition(graph, groups).groups)
    return tuple(p for p in plans if isinstance(p, Planned))


def planned_groups(
    graph: Graph, model: CostModel, capacities: list[int], rng: Generator, tries: int
) -> Iterator[tuple[Planned, Machine]]:
    """Feasible random groups at several capacities."""
    for _ in range(tries):
        group = random_group(graph, rng)
        if group is None:
            continue
        for capacity in capacities:
            machine = Machine(capacity)
            planned = model.plan(graph, group, machine)
            if isinstance(planned, Planned):
                yield planned, machine


def whole_tensors(compute: Compute, inputs: dict[str, Array]) -> dict[int, Array]:
    """Every tensor of one image, op by op on whole tensors: no rows, no rings, no groups."""
    graph = compute.graph
    values = {t: np.asarray(inputs[graph.tensors[t].name], compute.dtype) for t in graph.inputs}
    for op in graph.ops:
        rows = OpKernel(compute, op).all_rows([values[t] for t in op.inputs])
        values |= {t: to_slab(r, compute.layouts[t]) for t, r in zip(op.outputs, rows, strict=True)}
    return values


def model_order(graph: Graph, schedule: Schedule, number: int) -> list[Event]:
    """The events of one pass in the order of the cost model's own schedule."""
    passes = passes_of(graph, schedule.group) if schedule.passes > 1 else (Pass(schedule.group),)
    program = lower(graph, row_maps(graph), passes[number])
    keys = _keys(program)
    events: list[Event] = []

    def observe(stream: int, row: int) -> None:
        events.append((keys[stream], row))

    run_to_the_end(program, schedule.policy, observe)
    return events


def _keys(program: Program) -> list[tuple[int, int, int]]:
    tensor_of = {ring.maker: ring.tensor for ring in program.rings}
    keys = []
    for stream, op in enumerate(program.op):
        operand = 0 if program.is_step[stream] else -1
        keys.append((op, tensor_of[stream] if op == LOADER else -1, operand))
    return keys
