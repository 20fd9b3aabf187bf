"""Ops with several results make a row of each in one event: their groups run in the buffer they ask for."""

from __future__ import annotations

import numpy as np
import pytest
from row_nets import groups_of, split_net

import fusecut as fc
from fusecut.cost import Planned
from fusecut.machine import Machine
from fusecut.models import LineBuffer
from fusecut.models._measure import POLICIES, Assumptions, Facts, run_to_the_end
from fusecut.models._program import PLAIN, Pass, lower
from fusecut.simulate import execute
from fusecut.testing import Net


@pytest.mark.parametrize(("model", "seeds"), [(LineBuffer(), 30), (LineBuffer("pixel"), 8)], ids=["row", "pixel"])
def test_every_group_runs_in_exactly_the_buffer_it_asks_for(model: LineBuffer, seeds: int) -> None:
    run = 0
    for seed in range(seeds):
        graph = split_net(np.random.default_rng(seed))
        for group in groups_of(graph, 12):
            machine = Machine(model.demand(graph, group).nbytes)
            planned = model.plan(graph, group, machine)
            assert isinstance(planned, Planned)
            simulation, _ = execute(graph, machine, [model.finish(graph, planned, machine)], given=graph.reads(group))
            assert simulation.agrees, f"seed {seed}, group {group:b}: {simulation}"
            run += 1
    assert run > 8 * seeds


def test_the_closed_form_is_what_the_best_schedule_holds() -> None:
    closed = 0
    for seed in range(60):
        graph = split_net(np.random.default_rng(seed))
        facts = Facts(graph, Assumptions(pixel=False, prefetch_rows=0, two_pass=False, lowering=PLAIN))
        for group in groups_of(graph, 12):
            demand = facts.measure(group, (), None)
            assert demand is not None
            closed += demand.policy == "any" and any(len(graph.ops[i].outputs) > 1 for i in range(len(graph)))
            program = lower(graph, facts.bounds.maps, Pass(group))
            runs = (run_to_the_end(program, policy).peaks for policy in POLICIES)
            sums = [sum(r.nbytes(max(1, p)) for r, p in zip(program.rings, peaks, strict=True)) for peaks in runs]
            assert demand.lines_bytes == min(sums), f"seed {seed}, group {group:b}"
    assert closed > 100


def test_the_half_that_waits_is_held_as_long_as_the_other_half_is_on_its_way() -> None:
    """ShuffleNet's unit: one half of a map goes through a 3x3 convolution, the other one waits two rows for it."""
    net = Net()
    first, second = net.split(net.conv(net.input(4, 8, 8), 8), 4, 4)
    net.concat(first, net.conv(second, 4, kernel=3))
    graph = net.graph()
    rows = {hold.tensor: hold.rows for hold in LineBuffer().demand(graph, graph.everything).holds}
    assert (rows[first], rows[second]) == (2, 3)


@pytest.mark.parametrize("buffer", ["48KiB", "256KiB"])
def test_shufflenet_runs_as_planned(buffer: str) -> None:
    solution = fc.solve(fc.zoo("shufflenet_v2_x1_0"), buffer, scheme="lbdf", search=fc.search.Greedy())
    assert fc.simulate(solution, mode="fast").agrees
