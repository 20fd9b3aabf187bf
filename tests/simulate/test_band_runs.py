"""Groups in bands, executed: random groups against the model, values against whole tensors, and plans made wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from band_nets import CAPACITIES, computed_net, grown_groups, strange_net, wide_net
from numpy.random import Generator
from sim_helpers import whole_tensors

from fusecut.cost import Cost, CostModel, Planned
from fusecut.errors import SimulationError
from fusecut.ir import Graph, bits
from fusecut.machine import Machine
from fusecut.models import Brr, LineBuffer, scheme_model
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.schedule import Bands, Place
from fusecut.simulate import Figures, execute
from fusecut.simulate.compute import Compute
from fusecut.simulate.synthetic import network_of
from fusecut.testing import Net


def fire_net(rng: Generator) -> Graph:
    """Squeeze, two expansions side by side, their concatenation, squeeze: slices run through the concatenation."""
    net = Net("fire", batch=int(rng.integers(1, 3)))
    x = net.conv(net.input(int(rng.integers(4, 9)), int(rng.integers(8, 14)), 6), 4, 1)
    wide = int(rng.integers(12, 33))
    parts = net.conv(x, wide, 1, biases=True), net.conv(x, wide, 3)
    return net.graph(net.conv(net.concat(*parts), int(rng.integers(2, 7)), 1))


NETS: dict[str, Callable[[Generator], Graph]] = {
    "wide": wide_net,
    "strange": strange_net,
    "computed": computed_net,
    "fire": fire_net,
}
MODELS: dict[str, CostModel] = {
    "brr": Brr(),
    "three_channels": Brr(channels=3),
    "two_pass": Brr(LineBuffer(squeeze_excite="two_pass")),
}
SEEDS = {"wide": 12, "strange": 12, "computed": 12, "fire": 4}


def planned_groups(kind: str, model: CostModel, seeds: range) -> Iterator[tuple[Graph, Machine, Planned]]:
    """Random groups that run in bands, in parts of the buffer that line buffers need."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        graph = NETS[kind](rng)
        for group in grown_groups(graph, rng, 3):
            needed = LineBuffer().demand(graph, group).nbytes
            for tenths in (2, 4, 7, 9):
                machine = Machine(max(1, needed * tenths // 10))
                planned = model.plan(graph, group, machine)
                if isinstance(planned, Planned) and planned.schedule.bands is not None:
                    yield graph, machine, planned


def bands_of(planned: Planned) -> Bands:
    assert planned.schedule.bands is not None
    return planned.schedule.bands


# The model against the execution -------------------------------------------------------------------


@cache
def executed(kind: str, label: str) -> Counter[str]:
    """How many groups that agree have what; raises where one disagrees."""
    found: Counter[str] = Counter()
    for graph, machine, planned in planned_groups(kind, MODELS[label], range(SEEDS[kind] if label == "brr" else 4)):
        agree(graph, machine, planned, MODELS[label])
        found.update(("groups", *_features(graph, planned)))
    return found


@pytest.mark.parametrize("label", MODELS)
@pytest.mark.parametrize("kind", NETS)
def test_every_group_in_bands_moves_and_holds_what_the_model_said(kind: str, label: str) -> None:
    assert executed(kind, label)["groups"] > (20 if label == "brr" else 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETS)
def test_thousands_of_groups_in_bands_agree(kind: str) -> None:
    for label, model in MODELS.items():
        tried = 0
        for graph, machine, planned in planned_groups(kind, model, range(1000, 1250)):
            agree(graph, machine, planned, model)
            tried += 1
        assert tried > 300, label


def agree(graph: Graph, machine: Machine, planned: Planned, model: CostModel) -> None:
    """With one channel at a time, and with slices as wide as there is room for."""
    finished = model.finish(graph, planned, machine)
    for plan in (planned, finished) if finished != planned else (planned,):
        simulation, _ = execute(graph, machine, [plan], given=graph.reads(plan.schedule.group))
        assert simulation.agrees, f"{planned.schedule.group:b} in {machine.buffer_bytes} B: {simulation}"


def _features(graph: Graph, planned: Planned) -> Iterator[str]:
    bands, group = bands_of(planned), planned.schedule.group
    ops = [graph.ops[i] for i in bits(group)]
    batch = graph.tensors[ops[0].outputs[0]].batch
    yield from {op.kind for op in ops}
    for op in ops:
        channels, groups = graph.tensors[op.inputs[0]].channels, op.attrs.get("groups", 1)
        if op.kind == "conv" and groups != 1:
            yield "depthwise" if groups == channels == graph.tensors[op.outputs[0]].channels else "grouped"
        if op.kind == "conv" and op.attrs["dilations"] != (1, 1):
            yield "dilated"
        if op.bias_elements and op.inputs[0] in bands.part:
            yield "biases begin sums"
        if op.kind == "concat" and not set(op.inputs) <= set(bands.part) and group & ~(1 << graph.ops.index(op)):
            yield "side input of concat"
        if op.kind == "concat" and set(op.inputs) <= set(bands.part):
            yield "concat in slices"
    if batch > 1:
        yield "several images in a band" if bands.images > 1 else "one image of several in a band"
    if planned.schedule.weight_passes > batch:
        yield "bands of part of an image"
    yield from {place.what for place in bands.places}
    if planned.cost.recomputed_macs:
        yield "rows made again"
    if planned.cost.read_bytes - planned.cost.weight_bytes > sum(graph.tensors[t].nbytes for t in graph.reads(group)):
        yield "rows read again"
    if bands.resident:
        yield "some weights resident" if planned.cost.weight_bytes > sum(o.weight_bytes for o in ops) else "all weights"
    if any(graph.leaves(t, group) and graph.consumer_mask[t] & group for op in ops for t in op.outputs):
        yield "read inside and outside"


@pytest.mark.parametrize(
    "feature",
    [
        *("conv", "conv_transpose", "linear", "pool", "elementwise", "concat", "reduce", "resize", "split", "opaque"),
        *("depthwise", "grouped", "dilated", "biases begin sums", "side input of concat", "concat in slices"),
        *("several images in a band", "one image of several in a band", "bands of part of an image"),
        *("halo", "tile", "sums", "slice", "weights", "accumulators", "rows made again", "rows read again"),
        *("some weights resident", "read inside and outside"),
    ],
)
def test_the_groups_executed_cover(feature: str) -> None:
    assert sum(executed(kind, "brr")[feature] for kind in NETS) >= 2


# Values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(0, 8, 4))
def test_rows_in_bands_are_the_rows_of_whole_tensors(seed: int) -> None:
    tried = 0
    for s in range(seed, seed + 4):
        for graph, machine, planned in planned_groups("computed", scheme_model("mixed"), range(s, s + 1)):
            group = planned.schedule.group
            problem = Problem(graph, machine, scheme_model("mixed"))
            plan = Partition(graph, [group, *(1 << i for i in bits(graph.everything & ~group))])
            if isinstance(problem.cost(plan), Cost):
                check_values(problem, problem.finished(plan), s)
                tried += 1
    assert tried > 5


def check_values(problem: Problem, plan: tuple[Planned, ...], seed: int) -> None:
    """Every tensor that reaches DRAM, against each image computed as a whole."""
    graph, rng = problem.graph, np.random.default_rng(seed)
    compute = Compute(graph, network_of(graph, seed), "float64")
    inputs = {graph.tensors[t].name: rng.standard_normal(graph.tensors[t].dims) for t in graph.inputs}
    batch = graph.tensors[graph.inputs[0]].batch
    images = [whole_tensors(compute, {k: v[n : n + 1] for k, v in inputs.items()}) for n in range(batch)]
    simulation, dram = execute(graph, problem.machine, plan, compute, inputs)
    assert simulation.agrees, str(simulation)
    for t, rows in dram.data.items():
        whole = np.concatenate([image[t] for image in images])
        np.testing.assert_allclose(compute.array_of(t, rows), whole, rtol=1e-9, atol=1e-9)


def test_a_tensor_from_outside_may_come_last_in_a_concatenation_in_slices() -> None:
    """Slices of what is made inside come first, though nothing has to be made for those from outside."""
    net = Net("late")
    outside = net.conv(net.input(4, 12, 6), 24)
    inside = net.conv(net.input(8, 12, 6), 48, 1)
    wide = net.depthwise(net.concat(inside, outside))
    graph = net.graph(net.conv(wide, 6, 1))
    planned = Brr().plan(graph, 0b11110, Machine(3000))
    assert isinstance(planned, Planned)
    assert {inside, outside, wide} <= set(bands_of(planned).part)
    first = Brr().plan(graph, 0b00001, Machine(3000))
    assert isinstance(first, Planned)
    simulation, _ = execute(graph, Machine(3000), [first, planned])
    assert simulation.agrees, str(simulation)


# Plans made wrong ----------------------------------------------------------------------------------


def bottleneck(batch: int = 1) -> Graph:
    """An inverted residual of 8, 96 and 8 channels around 12 rows: two bands, the expansion's weights resident."""
    net = Net("bottleneck", batch=batch)
    x = net.input(8, 12, 6)
    y = net.depthwise(net.conv(x, 96, 1, biases=True))
    return net.graph(net.add(net.conv(y, 8, 1, biases=True), x))


def plan_of(graph: Graph, capacity: int = 3000) -> Planned:
    planned = Brr().plan(graph, graph.everything, Machine(capacity))
    assert isinstance(planned, Planned) and planned.schedule.bands is not None
    return planned


def run(graph: Graph, planned: Planned, capacity: int = 3000) -> None:
    simulation, _ = execute(graph, Machine(capacity), [planned])
    assert simulation.agrees, str(simulation)


def changed(planned: Planned, **changes: object) -> Planned:
    bands = replace(bands_of(planned), **changes)  # type: ignore[arg-type]
    return Planned(replace(planned.schedule, bands=bands), planned.cost)


def replaced(planned: Planned, at: int, place: Place | None) -> Planned:
    """One place changed, or taken away."""
    places = list(bands_of(planned).places)
    places[at : at + 1] = [] if place is None else [place]
    return changed(planned, places=tuple(places))


def where(planned: Planned, what: str) -> int:
    return next(at for at, place in enumerate(bands_of(planned).places) if place.what == what)


def test_the_plan_that_is_made_wrong_below_runs_and_has_every_kind_of_place() -> None:
    planned = plan_of(bottleneck())
    run(bottleneck(), planned)
    assert {place.what for place in bands_of(planned).places} == {"halo", "tile", "sums", "slice", "weights"}


@pytest.mark.parametrize("what", ["halo", "tile", "sums", "slice", "weights"])
def test_no_place_can_be_left_out(what: str) -> None:
    planned = plan_of(bottleneck())
    with pytest.raises(SimulationError):
        run(bottleneck(), replaced(planned, where(planned, what), None))


def test_no_place_can_spare_a_byte() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    for at, place in enumerate(bands_of(planned).places):
        with pytest.raises(SimulationError):
            run(graph, replaced(planned, at, replace(place, nbytes=place.nbytes - 1)))


def test_no_tile_or_halo_can_spare_a_row() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    for at, place in enumerate(bands_of(planned).places):
        if place.rows and place.what in ("halo", "tile"):
            row_bytes = place.nbytes // place.rows
            fewer = replace(place, rows=place.rows - 1, nbytes=place.nbytes - row_bytes)
            with pytest.raises(SimulationError):
                run(graph, replaced(planned, at, fewer))


def test_two_things_cannot_lie_at_one_address() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    places = bands_of(planned).places
    moved = 0
    for at, place in enumerate(places):
        for other in places:
            apart = place.last < other.first or other.last < place.first
            if other is not place and not apart:
                moved += 1
                with pytest.raises(SimulationError, match=r"overlaps|past the buffer"):
                    run(graph, replaced(planned, at, replace(place, offset=other.offset)))
    assert moved > 5


def test_what_ends_past_the_buffer_is_refused() -> None:
    planned = plan_of(bottleneck())
    with pytest.raises(SimulationError, match="past the buffer"):
        run(bottleneck(), planned, planned.cost.buffer_bytes - 1)


def test_what_is_given_back_too_early_is_missed() -> None:
    """A tile that is handed on to a later stage, released after the stage that makes it."""
    graph, planned = bottleneck(), plan_of(bottleneck())
    tried = 0
    for at, place in enumerate(bands_of(planned).places):
        if place.what == "tile" and place.last > place.first:
            tried += 1
            with pytest.raises(SimulationError, match=r"not on chip|wait for the next band|have room for"):
                run(graph, replaced(planned, at, replace(place, last=place.first)))
    assert tried


def test_one_row_more_in_a_band_does_not_fit() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    with pytest.raises(SimulationError):
        run(graph, changed(planned, rows=bands_of(planned).rows + 1))


def test_one_channel_more_at_a_time_does_not_fit() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    assert bands_of(planned).part
    with pytest.raises(SimulationError):
        run(graph, changed(planned, channels=bands_of(planned).channels + 1))


def test_two_images_do_not_fit_where_one_does() -> None:
    graph = bottleneck(batch=2)
    planned = plan_of(graph)
    run(graph, planned)
    with pytest.raises(SimulationError):
        run(graph, changed(planned, images=2))


def test_a_part_tensor_that_is_said_to_be_full_has_no_room() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    with pytest.raises(SimulationError):
        run(graph, changed(planned, part=()))


def test_a_full_tensor_cannot_pass_in_slices_across_stages() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    every = {t for op in graph.ops for t in (*op.inputs, *op.outputs)}
    for t in sorted(every - set(bands_of(planned).part)):
        with pytest.raises(SimulationError):
            run(graph, changed(planned, part=tuple(sorted({*bands_of(planned).part, t}))))


def test_stages_out_of_order_read_what_is_not_there() -> None:
    graph = bottleneck()
    planned = plan_of(graph)
    stages = bands_of(planned).stages
    with pytest.raises(SimulationError):
        run(graph, changed(planned, stages=stages[::-1]))
    with pytest.raises(SimulationError, match="the stages are not the ops of the group, each once"):
        run(graph, changed(planned, stages=stages[:-1]))


def test_weights_that_are_said_to_be_resident_need_room() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    every = tuple(i for i, op in enumerate(graph.ops) if op.weight_bytes)
    with pytest.raises(SimulationError, match="no room for the resident weights of"):
        run(graph, changed(planned, resident=every))


def test_weights_that_pass_again_and_were_not_counted_are_a_difference() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    once = sum(op.weight_bytes for op in graph.ops)
    assert planned.cost.weight_bytes > once
    cost = replace(planned.cost, weight_bytes=once)
    simulation, _ = execute(graph, Machine(3000), [Planned(planned.schedule, cost)])
    assert simulation.groups[0].differences() == [("weight_bytes", once, planned.cost.weight_bytes)]


@pytest.mark.parametrize("figure", [f.name for f in fields(Figures)])
@pytest.mark.parametrize("error", [-1, 1])
def test_one_byte_or_mac_off_is_a_difference(figure: str, error: int) -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    wrong = replace(planned.cost, **{figure: getattr(planned.cost, figure) + error})
    simulation, _ = execute(graph, Machine(3000), [Planned(planned.schedule, wrong)])
    assert [name for name, _, _ in simulation.groups[0].differences()] == [figure]


def test_rows_made_again_that_are_said_to_be_kept_have_no_room() -> None:
    """The published model has its halos for nothing; here they take room, MACs or bytes."""
    graph, planned = bottleneck(), plan_of(bottleneck())
    assert bands_of(planned).again and planned.cost.recomputed_macs
    with pytest.raises(SimulationError, match=r"have room for|wait for the next band"):
        run(graph, changed(planned, again=()))


def test_the_same_plan_without_bands_is_refused() -> None:
    graph, planned = bottleneck(), plan_of(bottleneck())
    bare = Planned(replace(planned.schedule, bands=None), planned.cost)
    with pytest.raises(SimulationError):
        run(graph, bare)


# The promise of the model --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETS)
def test_bands_are_never_worse_than_line_buffers_with_resident_weights(kind: str) -> None:
    tried = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        graph = NETS[kind](rng)
        for group in grown_groups(graph, rng, 3):
            for capacity in CAPACITIES:
                lines = LineBuffer().plan(graph, group, Machine(capacity))
                if isinstance(lines, Planned):
                    tried += 1
                    banded = Brr().plan(graph, group, Machine(capacity))
                    assert isinstance(banded, Planned)
                    assert banded.cost.dram_bytes <= lines.cost.dram_bytes
    assert tried > 30
