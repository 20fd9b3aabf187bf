"""Rows by due time: fewer on chip than pulled rows where sinks of several resolutions share their inputs."""

from __future__ import annotations

from itertools import pairwise
from math import lcm

import numpy as np
import pytest
from row_nets import everyday_net, groups_of, odd_net, split_net

from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models._bounds import RowBounds
from fusecut.models._due import Timetable
from fusecut.models._measure import run_to_the_end
from fusecut.models._program import Lowering, Pass, Program, lower
from fusecut.models.lbdf import LineBuffer
from fusecut.testing import Net


def exchange() -> Graph:
    """As in HRNet: two resolutions, each with a block of its own, and sums across them."""
    net = Net()
    fine, coarse = net.input(2, 32, 16), net.input(4, 16, 8)
    fine = net.add(fine, net.conv(net.conv(fine, 2), 2))
    coarse = net.add(coarse, net.conv(net.conv(coarse, 4), 4))
    up, down = net.upsample(net.conv(coarse, 2, kernel=1)), net.conv(fine, 4, stride=2)
    fine, coarse = net.add(fine, up), net.add(coarse, down)
    return net.graph(net.conv(fine, 2), net.conv(coarse, 4))


def cropped() -> Graph:
    """A chain of maps of the prime heights from 97 down to 31; one of them leaves on the way."""
    net = Net()
    heights = [p for p in range(97, 30, -1) if all(p % k for k in range(2, p))]
    made = [net.input(1, heights[0], 2)]
    for h in heights[1:]:
        crop = h - net.tensors[made[-1]].rows
        made.append(net.op("pad", [made[-1]], (1, h, 2), pads=(0, 0, crop, 0), mode="constant"))
    return net.graph(made[6], made[-1])


def program_of(graph: Graph) -> Program:
    return lower(graph, RowBounds(graph).maps, Pass(graph.everything))


@pytest.mark.parametrize(("policy", "lines_bytes"), [("ddc", 1008), ("dd", 1104), ("due", 912)])
def test_sums_across_resolutions_hold_fewest_rows_by_due_time(policy: str, lines_bytes: int) -> None:
    assert run_to_the_end(program_of(exchange()), policy).nbytes == lines_bytes


def test_rows_by_due_time_are_as_few_as_any_schedule_holds_across_resolutions() -> None:
    graph, model = exchange(), LineBuffer()
    demand = model.demand(graph, graph.everything)
    assert (demand.policy, demand.nbytes) == ("due", model.buffer_floor(graph, Machine(1)).of(graph.everything))


@pytest.mark.parametrize("graph", [exchange(), cropped()], ids=["exchange", "cropped"])
def test_rows_of_a_stream_are_at_least_their_share_of_the_map_apart(graph: Graph) -> None:
    program = program_of(graph)
    ticks = lcm(*program.rows)
    for rows, times in zip(program.rows, Timetable(program).times, strict=True):
        assert all(int(b) - int(a) >= ticks // rows for a, b in pairwise(times))


def test_times_beyond_machine_integers_are_exact() -> None:
    """Fifteen prime heights have no common multiple below 2**64."""
    program = program_of(cropped())
    assert lcm(*program.rows) > 2**64
    assert Timetable(program).peaks() == run_to_the_end(program, "due").peaks


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("pixels", [False, True])
def test_the_peaks_of_a_timetable_are_those_of_its_events(inline: bool, pixels: bool) -> None:
    """Under every switch that changes what a ring holds."""
    for seed in range(20):
        for draw in (everyday_net, odd_net, split_net):
            graph = draw(np.random.default_rng(seed))
            maps = RowBounds(graph, pixels).maps
            for switches in (Lowering(inline), Lowering(inline, True), Lowering(inline, True, True)):
                for group in groups_of(graph, 3):
                    program = lower(graph, maps, Pass(group), switches, pixels)
                    assert Timetable(program).peaks() == run_to_the_end(program, "due").peaks, (
                        f"{draw} {seed} {group:b}"
                    )
