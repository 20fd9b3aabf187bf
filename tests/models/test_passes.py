"""Streaming twice: which ops each pass runs, what waits between passes, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from row_nets import groups_of

from fusecut.cost import Infeasible, Planned
from fusecut.ir import Graph, Group, bits, mask_of
from fusecut.machine import Machine
from fusecut.models._bounds import RowBounds
from fusecut.models._measure import POLICIES, run_to_the_end
from fusecut.models._passes import certain_readers, passes_of
from fusecut.models._program import Pass, lower
from fusecut.models.lbdf import LineBuffer
from fusecut.ops import axis_map
from fusecut.testing import Net, random_graph

TWICE = LineBuffer(squeeze_excite="two_pass")
KINDS = ("conv", "depthwise", "se", "se", "add", "gap", "pool")


def excited() -> Graph:
    """depthwise, pool, squeeze, excite, scale, project."""
    net = Net()
    net.conv(net.squeeze_excite(net.depthwise(net.input(8, 14, 14)), 2), 4, 1)
    return net.graph()


def excited_twice() -> Graph:
    """Two squeeze-excites in series."""
    net = Net()
    net.squeeze_excite(net.squeeze_excite(net.input(8, 14, 14), 2), 2)
    return net.graph()


def late_vector() -> Graph:
    """A vector of the first squeeze-excite that only the last scaling reads."""
    net = Net()
    x = net.input(8, 14, 14)
    first = net.global_pool(x)
    late = net.conv(first, 8, 1)
    scaled = net.op("elementwise", [x, first], (8, 14, 14))
    again = net.op("elementwise", [scaled, net.global_pool(scaled)], (8, 14, 14))
    net.op("elementwise", [again, late], (8, 14, 14))
    return net.graph()


def runs(graph: Graph, group: Group | None = None) -> list[list[int]]:
    return [list(bits(p.run)) for p in passes_of(graph, graph.everything if group is None else group)]


# By hand -----------------------------------------------------------------------------------------


def test_squeeze_excite_streams_once_for_the_vector_and_once_for_the_map() -> None:
    assert runs(excited()) == [[0, 1, 2, 3], [0, 4, 5]]


def test_the_first_pass_hands_over_the_excitation_vector_alone() -> None:
    assert [p.leaving for p in passes_of(excited(), excited().everything)] == [mask_of([3]), mask_of([5])]


def test_squeeze_excites_in_series_take_a_pass_each_and_a_last_one() -> None:
    assert runs(excited_twice()) == [[0, 1, 2], [3, 4, 5, 6], [3, 7]]


def test_squeeze_excites_side_by_side_share_a_pass() -> None:
    net = Net()
    x = net.input(8, 14, 14)
    net.add(net.squeeze_excite(x, 2), net.squeeze_excite(net.conv(x, 8), 2))
    assert len(runs(net.graph())) == 2


def test_a_vector_waits_through_a_pass_that_does_not_read_it() -> None:
    graph = late_vector()
    assert [p.resident_bytes for p in passes_of(graph, graph.everything)] == [0, 8, 0]


def test_a_group_without_a_reduction_is_streamed_once() -> None:
    net = Net()
    net.conv(net.input(8, 14, 14), 8)
    assert runs(net.graph()) == []


def test_a_reduction_that_ends_the_network_is_streamed_once() -> None:
    net = Net()
    net.conv(net.global_pool(net.conv(net.input(8, 14, 14), 8)), 10, 1)
    assert runs(net.graph()) == []


def test_a_reduction_that_rejoins_outside_the_group_is_streamed_once() -> None:
    assert runs(excited(), mask_of([0, 1, 2, 3])) == []


def test_a_reduction_of_an_input_that_rejoins_it_needs_two_passes() -> None:
    assert runs(excited(), mask_of([1, 2, 3, 4])) == [[1, 2, 3], [4]]


def test_only_maps_that_reach_an_output_past_no_rejoining_pool_run_in_every_last_pass() -> None:
    assert list(bits(certain_readers(excited()))) == [0, 4, 5]


def vector_from_outside() -> tuple[Graph, Group]:
    """A vector of another group, made into one that scales a map before and after its squeeze-excite."""
    net = Net()
    v = net.conv(net.global_pool(net.input(8, 14, 14)), 8, 1)
    made = net.conv(v, 8, 1)
    x = net.op("elementwise", [net.input(8, 14, 14), made], (8, 14, 14))
    y = net.squeeze_excite(x, 2)
    net.op("elementwise", [y, made], (8, 14, 14))
    graph = net.graph()
    return graph, mask_of(range(2, len(graph)))


def test_a_vector_made_of_one_from_outside_is_made_and_loaded_once() -> None:
    graph, group = vector_from_outside()
    first, last = passes_of(graph, group)
    assert first.run >> 2 & 1 and not last.run >> 2 & 1
    assert 2 in {graph.producer[t] for t in last.carried}
    planned = TWICE.plan(graph, group, Machine(LineBuffer().demand(graph, group).nbytes - 1))
    assert isinstance(planned, Planned)
    weights = sum(graph.ops[i].weight_bytes for i in bits(group))
    maps = sum(graph.tensors[t].nbytes for t in graph.inputs[1:])
    assert planned.cost.read_bytes == weights + 2 * maps + 8


# Costs -------------------------------------------------------------------------------------------


def cost_in_two_passes(graph: Graph) -> Planned:
    limit = LineBuffer().demand(graph, graph.everything).nbytes - 1
    planned = TWICE.plan(graph, graph.everything, Machine(limit))
    assert isinstance(planned, Planned)
    return planned


def test_every_pass_that_streams_an_input_reads_it() -> None:
    graph = excited_twice()
    size = graph.tensors[0].nbytes
    weights = sum(op.weight_bytes for op in graph.ops)
    assert cost_in_two_passes(graph).cost.read_bytes == 3 * size + weights


def test_weights_stay_and_outputs_are_written_once() -> None:
    graph = excited_twice()
    cost = cost_in_two_passes(graph).cost
    assert (cost.weight_bytes, cost.write_bytes) == (sum(op.weight_bytes for op in graph.ops), graph.tensors[0].nbytes)


def test_ops_of_several_passes_are_computed_again() -> None:
    net = Net()
    net.squeeze_excite(net.conv(net.input(8, 14, 14), 8), 2)
    graph = net.graph()
    assert cost_in_two_passes(graph).cost.recomputed_macs == graph.ops[0].macs


def test_the_buffer_is_that_of_the_largest_pass() -> None:
    plan = cost_in_two_passes(excited())
    stages: dict[int, int] = {}
    for h in plan.schedule.holds:
        stages[h.stage] = stages.get(h.stage, 0) + h.nbytes
    weights, sums = plan.cost.weight_bytes, 8 * 4
    assert plan.cost.buffer_bytes == weights + sums + max(stages.values())


def test_streaming_once_never_takes_several_passes() -> None:
    graph = excited()
    limit = LineBuffer().demand(graph, graph.everything).nbytes - 1
    assert isinstance(LineBuffer().plan(graph, graph.everything, Machine(limit)), Infeasible)


# What holds for every group ----------------------------------------------------------------------


def passed_groups(count: int) -> list[tuple[Graph, Group]]:
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, int(rng.integers(3, 12)), inputs=int(rng.integers(1, 3)), kinds=KINDS)
        found += [(graph, group) for group in groups_of(graph, 20) if passes_of(graph, group)]
    return found


GROUPS = passed_groups(60)


def reduces(graph: Graph, index: int) -> bool:
    op = graph.ops[index]
    return any(axis_map(graph, op, k, 0).reduces for k in range(len(op.inputs)))


def test_many_random_groups_stream_more_than_once() -> None:
    assert len(GROUPS) > 200


def test_every_op_runs_in_some_pass_and_no_other_op_does() -> None:
    for graph, group in GROUPS:
        union = 0
        for p in passes_of(graph, group):
            union |= p.run
        assert union == group


def test_a_pass_has_every_operand_or_got_it_as_a_vector_of_an_earlier_pass() -> None:
    for graph, group in GROUPS:
        earlier = 0
        for p in passes_of(graph, group):
            for i in bits(p.run):
                missing = graph.preds[i] & group & ~p.run
                assert not missing & ~earlier
                assert all(graph.tensors[graph.ops[m].outputs[0]].rows == 1 for m in bits(missing))
            earlier |= p.leaving or 0


def test_what_leaves_the_group_leaves_in_exactly_one_pass() -> None:
    for graph, group in GROUPS:
        wanted = [i for i in bits(group) if any(graph.leaves(t, group) for t in graph.ops[i].outputs)]
        made = [i for p in passes_of(graph, group) for i in bits(p.leaving or 0)]
        assert all(made.count(i) == 1 for i in wanted)


def test_no_pass_rejoins_a_reduction_of_its_own() -> None:
    """Within one pass no op depends on a reduction of the pass and on a map of the pass besides."""
    for graph, group in GROUPS:
        for p in passes_of(graph, group):
            assert passes_of(graph, p.run) == () or not graph.is_connected(p.run)


def pass_bytes(graph: Graph, part: Pass, policy: str) -> int:
    """What one pass holds under a policy run to the end, vectors that wait included."""
    program = lower(graph, RowBounds(graph).maps, part)
    peaks = run_to_the_end(program, policy).peaks
    return part.resident_bytes + sum(ring.nbytes(max(1, p)) for p, ring in zip(peaks, program.rings, strict=True))


def test_the_buffer_of_several_passes_is_that_of_the_schedules_of_the_largest() -> None:
    twice = 0
    for graph, group in GROUPS:
        once = LineBuffer().demand(graph, group)
        passes = passes_of(graph, group)
        largest = min(max(pass_bytes(graph, part, policy) for part in passes) for policy in POLICIES)
        expected = once.weight_bytes + once.accumulator_bytes + largest
        if expected < once.nbytes:
            twice += 1
            planned = TWICE.plan(graph, group, Machine(expected))
            assert isinstance(planned, Planned)
            assert (planned.cost.buffer_bytes, planned.schedule.passes > 1) == (expected, True)
            assert isinstance(TWICE.plan(graph, group, Machine(expected - 1)), Infeasible)
    assert twice > 50


@pytest.mark.parametrize("seed", range(40))
def test_two_passes_never_cost_a_group_that_fits_at_once_anything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 6, kinds=KINDS)
    for group in groups_of(graph, 10):
        machine = Machine(LineBuffer().demand(graph, group).nbytes)
        assert TWICE.plan(graph, group, machine) == LineBuffer().plan(graph, group, machine)
