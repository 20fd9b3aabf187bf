"""The row executor: what it counts equals the model, and its data equals whole tensors."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sim_helpers import model_order, planned_groups, random_plan, small_graph, whole_tensors

from fusecut.cost import Planned
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.problem import Problem
from fusecut.simulate import execute
from fusecut.simulate.compute import Compute
from fusecut.simulate.lines import LineRun
from fusecut.simulate.memory import Buffer, Dram
from fusecut.simulate.synthetic import network_of
from fusecut.testing import Net, random_graph

SWITCHES = {
    "full": LineBuffer(),
    "two_pass": LineBuffer(squeeze_excite="two_pass"),
    "prefetch": LineBuffer(prefetch_rows=1),
    "separate": LineBuffer(skip_separate_buffer=True),
}


def run_alone(graph: Graph, planned: Planned, machine: Machine) -> tuple[LineRun, Dram, Buffer]:
    """One group, its inputs in DRAM."""
    dram, buffer = Dram(graph), Buffer(machine.buffer_bytes, "group 0")
    for t in graph.reads(planned.schedule.group):
        dram.put(t, None)
    run = LineRun(graph, planned.schedule, 0, dram, buffer)
    run.run()
    return run, dram, buffer


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("seed", range(0, 200, 20))
def test_every_feasible_group_runs_in_its_rings_and_moves_what_the_model_said(switch: str, seed: int) -> None:
    for s in range(seed, seed + 20):
        rng = np.random.default_rng(s)
        graph = small_graph(rng)
        for planned, machine in planned_groups(graph, SWITCHES[switch], [60, 150, 400, 100_000], rng, tries=6):
            run, dram, buffer = run_alone(graph, planned, machine)
            cost = planned.cost
            assert dram.of_group(0).read_bytes == cost.read_bytes
            assert dram.of_group(0).write_bytes == cost.write_bytes
            assert buffer.peak_bytes == cost.buffer_bytes
            assert run.work.macs + run.work.skipped_macs == cost.macs
            assert run.work.recomputed_macs == cost.recomputed_macs
            assert run.pooled_bytes <= buffer.peak_bytes


@pytest.mark.parametrize("switch", ["full", "two_pass"])
@pytest.mark.parametrize("seed", range(0, 120, 20))
def test_in_the_models_own_order_the_pool_is_as_deep_as_the_model_says(switch: str, seed: int) -> None:
    model = SWITCHES[switch]
    for s in range(seed, seed + 20):
        rng = np.random.default_rng(s)
        graph = small_graph(rng)
        for planned, machine in planned_groups(graph, model, [150, 100_000], rng, tries=4):
            finished = model.finish(graph, planned, machine)
            dram, buffer = Dram(graph), Buffer(machine.buffer_bytes, "group 0")
            for t in graph.reads(planned.schedule.group):
                dram.put(t, None)
            run = LineRun(graph, planned.schedule, 0, dram, buffer, order=partial(model_order, graph, planned.schedule))
            run.run()
            assert run.pooled_bytes == finished.cost.pooled_buffer_bytes
            assert dram.of_group(0).read_bytes + dram.of_group(0).write_bytes == planned.cost.dram_bytes


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("seed", range(0, 60, 15))
def test_rows_through_rings_are_the_rows_of_whole_tensors(switch: str, seed: int) -> None:
    for s in range(seed, seed + 15):
        rng = np.random.default_rng(s)
        graph = small_graph(rng)
        compute = Compute(graph, network_of(graph, s), "float64")
        inputs = {graph.tensors[t].name: rng.standard_normal(graph.tensors[t].dims) for t in graph.inputs}
        expected = whole_tensors(compute, inputs)
        for capacity in (150, 400, 100_000):
            problem = Problem(graph, Machine(capacity), WithFallback(SWITCHES[switch], Layerwise()))
            plan = random_plan(problem, rng)
            if plan is None:
                continue
            simulation, dram = execute(problem.graph, problem.machine, plan, compute, inputs)
            assert simulation.agrees, str(simulation)
            for t, rows in dram.data.items():
                np.testing.assert_allclose(compute.array_of(t, rows), expected[t], rtol=1e-9, atol=1e-9)


def test_images_of_a_batch_run_one_after_the_other_with_the_weights_resident() -> None:
    net = Net("batch", batch=3)
    x = net.input(2, 9, 8)
    y = net.conv(x, 4, biases=True)
    graph = net.graph(net.add(net.squeeze_excite(net.conv(y, 4), 2), y))
    for model, capacity in ((LineBuffer(), 10_000), (LineBuffer(squeeze_excite="two_pass"), 800)):
        problem = Problem(graph, Machine(capacity), model)
        planned = problem.plan(problem.graph.everything)
        assert isinstance(planned, Planned)
        compute = Compute(problem.graph, network_of(problem.graph), "float64")
        image = np.random.default_rng(0).standard_normal((1, 2, 9, 8))
        inputs = {"t0": np.concatenate([image, 2 * image, image])}
        simulation, dram = execute(problem.graph, problem.machine, [planned], compute, inputs)
        assert simulation.agrees, str(simulation)
        (out,) = graph.outputs
        first, second, third = (compute.array_of(out, dram.data[out])[i] for i in range(3))
        np.testing.assert_array_equal(first, third)
        assert not np.allclose(first, second)


def test_rows_that_nobody_wants_are_not_made_and_their_arithmetic_is_reported() -> None:
    net = Net()
    x = net.input(1, 8, 8)
    graph = net.graph(net.conv(net.conv(x, 1), 1, kernel=1, stride=2))
    planned = LineBuffer().plan(graph, graph.everything, Machine(1000))
    assert isinstance(planned, Planned)
    simulation, _ = execute(graph, Machine(1000), [planned])
    assert simulation.agrees
    assert simulation.groups[0].skipped_macs == 72  # the last of eight rows, 8 columns of 9 products


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 2200, 100))
def test_thousands_of_random_networks_agree(seed: int) -> None:
    for s in range(seed, seed + 100):
        rng = np.random.default_rng(s)
        rows, inputs = int(rng.integers(4, 20)), int(rng.integers(1, 4))
        graph = random_graph(rng, int(rng.integers(3, 16)), rows=rows, inputs=inputs)
        for model in SWITCHES.values():
            for planned, machine in planned_groups(graph, model, [60, 150, 400, 100_000], rng, tries=8):
                _, dram, buffer = run_alone(graph, planned, machine)
                moved = dram.of_group(0).read_bytes, dram.of_group(0).write_bytes, buffer.peak_bytes
                assert moved == (planned.cost.read_bytes, planned.cost.write_bytes, planned.cost.buffer_bytes)
