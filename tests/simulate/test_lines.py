"""The row executor: what it counts equals the model, and its data equals whole tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from row_nets import odd_net
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
from fusecut.testing import Net


def model_with(names: Iterable[str]) -> LineBuffer:
    """The line buffer with these switches on."""
    return LineBuffer(**{ON[name][0]: ON[name][1] for name in names})


ON: dict[str, tuple[str, Any]] = {
    "pixel": ("granularity", "pixel"),
    "prefetch": ("prefetch_rows", 1),
    "inline": ("inline_elementwise", True),
    "virtual": ("virtual_concat", True),
    "separate": ("skip_separate_buffer", True),
    "two_pass": ("squeeze_excite", "two_pass"),
}
ALONE = ["none", *ON]
ROW_SWITCHES = [name for name in ON if name != "pixel"]
COMBINED = ["+".join(names) or "none" for k in range(6) for names in combinations(ROW_SWITCHES, k)]


def model_of(label: str) -> LineBuffer:
    return model_with(label.split("+") if label != "none" else ())


def graphs(seed: int) -> Iterator[tuple[Graph, np.random.Generator]]:
    for draw in (small_graph, odd_net):
        rng = np.random.default_rng(seed)
        yield draw(rng), rng


def disagreements(model: LineBuffer, seeds: Iterable[int], tries: int, capacities: list[int]) -> tuple[int, list[str]]:
    """(plans executed, those whose execution is not what the model said) of random groups, pools included."""
    plans, wrong = 0, list[str]()
    for seed in seeds:
        for graph, rng in graphs(seed):
            for planned, machine in planned_groups(graph, model, capacities, rng, tries):
                finished = model.finish(graph, planned, machine)
                assert finished.cost.pooled_buffer_bytes > 0
                simulation, _ = execute(graph, machine, [finished], given=graph.reads(finished.schedule.group))
                plans += 1
                if not simulation.agrees:
                    wrong.append(f"seed {seed}, group {planned.schedule.group:b}: {simulation.groups[0].differences()}")
    return plans, wrong


@pytest.mark.parametrize("label", ["none", "two_pass"])
@pytest.mark.parametrize("seed", range(0, 60, 30))
def test_every_feasible_group_runs_in_its_rings_and_moves_and_pools_what_the_model_said(label: str, seed: int) -> None:
    plans, wrong = disagreements(model_of(label), range(seed, seed + 30), 2, [60, 150, 400, 100_000])
    assert plans > 100
    assert not wrong, f"{len(wrong)}: {wrong[:3]}"


@pytest.mark.parametrize("label", COMBINED)
def test_every_combination_of_switches_runs_as_the_model_said(label: str) -> None:
    plans, wrong = disagreements(model_of(label), range(4), 2, [150, 100_000])
    assert plans > 10
    assert not wrong, f"{len(wrong)}: {wrong[:3]}"


@pytest.mark.parametrize("label", COMBINED)
def test_every_combination_runs_in_rings_of_pixels(label: str) -> None:
    switches = "pixel" if label == "none" else f"pixel+{label}"
    plans, wrong = disagreements(model_of(switches), range(2), 2, [100_000])
    assert plans > 2
    assert not wrong, f"{len(wrong)}: {wrong[:3]}"


@pytest.mark.parametrize("label", ALONE)
@pytest.mark.parametrize("seed", range(0, 20, 20))
def test_whatever_is_ready_may_be_made_first(label: str, seed: int) -> None:
    """Without a policy the data decides: the same rings suffice and the same bytes are moved."""
    model = model_of(label)
    for s in range(seed, seed + (2 if label == "pixel" else 20)):
        for graph, rng in graphs(s):
            for planned, machine in planned_groups(graph, model, [150, 100_000], rng, 2):
                free = Planned(replace(planned.schedule, policy=""), planned.cost)
                simulation, _ = execute(graph, machine, [free], given=graph.reads(planned.schedule.group))
                assert simulation.agrees, str(simulation)


@pytest.mark.parametrize("label", ["none", "two_pass"])
@pytest.mark.parametrize("seed", range(0, 40, 20))
def test_the_policy_of_the_page_orders_events_as_the_model_does(label: str, seed: int) -> None:
    model = model_of(label)
    for s in range(seed, seed + 20):
        for graph, rng in graphs(s):
            for planned, machine in planned_groups(graph, model, [150, 100_000], rng, 4):
                finished = model.finish(graph, planned, machine)
                dram, buffer = Dram(graph), Buffer(machine.buffer_bytes, "group 0")
                for t in graph.reads(planned.schedule.group):
                    dram.put(t, None)
                order = partial(model_order, graph, planned.schedule)
                run = LineRun(graph, planned.schedule, 0, dram, buffer, order=order)
                run.run()
                assert run.pooled_bytes == finished.cost.pooled_buffer_bytes


@pytest.mark.parametrize("label", [*ALONE, "inline+virtual+separate", "pixel+inline+virtual+separate+two_pass"])
@pytest.mark.parametrize("seed", range(0, 14, 7))
def test_rows_through_rings_are_the_rows_of_whole_tensors(label: str, seed: int) -> None:
    for s in range(seed, seed + (2 if "pixel" in label else 7)):
        rng = np.random.default_rng(s)
        graph = small_graph(rng)
        compute = Compute(graph, network_of(graph, s), "float64")
        inputs = {graph.tensors[t].name: rng.standard_normal(graph.tensors[t].dims) for t in graph.inputs}
        expected = whole_tensors(compute, inputs)
        for capacity in (150, 400, 100_000):
            problem = Problem(graph, Machine(capacity), WithFallback(model_of(label), Layerwise()))
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
@pytest.mark.parametrize("label", COMBINED)
def test_thousands_of_random_groups_agree(label: str) -> None:
    for switches, seeds in ((label, range(10, 110)), (f"pixel+{label}".removesuffix("+none"), range(10, 16))):
        _, wrong = disagreements(model_of(switches), seeds, 6, [60, 150, 400, 100_000])
        assert not wrong, f"{len(wrong)}: {wrong[:3]}"


def test_a_reader_that_sees_a_part_twice_takes_one_copy_of_it() -> None:
    """Copies for each reader: a concatenation that is not copied may hold the same part twice."""
    net = Net()
    x = net.input(2, 10, 4)
    part = net.conv(x, 3, kernel=1)
    once = net.conv(net.concat(x, part), 1, kernel=1)
    graph = net.graph(net.conv(net.concat(net.concat(once, part), part), 2, kernel=5))
    model, machine = model_of("virtual+separate"), Machine(100_000)
    planned = model.plan(graph, graph.everything, machine)
    assert isinstance(planned, Planned)
    finished = model.finish(graph, planned, machine)
    simulation, _ = execute(graph, machine, [finished], given=graph.reads(graph.everything))
    assert simulation.agrees, str(simulation)
