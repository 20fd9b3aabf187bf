"""The published Optimus model against what the public implementation prints, to the last digit."""

from __future__ import annotations

from functools import cache

import pytest
from optimus_targets import OTHER_GROUPS, PLANS, SQUEEZENET_GROUPS, SQUEEZENET_LAYERS, VGG_ALONE

from fusecut.errors import GraphError, MachineError, UnknownNameError
from fusecut.ir import bits
from fusecut.models._optimus_groups import Streamed
from fusecut.models._optimus_layers import Layer, network_of
from fusecut.models._optimus_loops import SCHEDULERS, LoopSchedule, cheapest
from fusecut.models._optimus_tiles import _slots, factored
from fusecut.models.optimus import PublishedGroup, PublishedModel, PublishedPlan, variant
from fusecut.reproduce.optimus import published
from fusecut.reproduce.optimus_nets import network
from fusecut.testing import Net

CAPACITY = 65536
KIB = 1024
MIB = 2**20

PLAN_ROWS = [line.split() for line in PLANS.splitlines()]
LAYER_ROWS = [line.split() for line in SQUEEZENET_LAYERS.splitlines()]


@cache
def plan_of(name: str, batch: int, kib: int, rules: str) -> PublishedPlan:
    return published(network(name, batch), kib * KIB, name=rules)


def plan_id(row: list[str]) -> str:
    return f"{row[0]}-{row[1]}-{row[2]}K"


def plan(row: list[str], rules: str) -> PublishedPlan:
    return plan_of(row[0], int(row[1]), int(row[2]), rules)


def mib(elements: int) -> float:
    return elements * 2 / MIB


@pytest.mark.parametrize("row", PLAN_ROWS, ids=plan_id)
def test_without_fusion_objective_traffic_and_energy_are_the_published_ones(row: list[str]) -> None:
    found = plan(row, "best_unfused")
    printed = [str(found.objective_elements), f"{mib(found.dram.total):.3f}", f"{found.energy_pj / 1e10:.5f}"]
    assert printed == row[3:6]


@pytest.mark.parametrize("row", PLAN_ROWS, ids=plan_id)
def test_the_fused_objective_is_the_published_one(row: list[str]) -> None:
    assert plan(row, "optimus").objective_elements == int(row[6])


@pytest.mark.parametrize("row", PLAN_ROWS, ids=plan_id)
def test_the_fused_traffic_is_the_published_one(row: list[str]) -> None:
    found = plan(row, "optimus").dram
    assert [f"{mib(found.total):.5f}", *(f"{mib(part):.4f}" for part in found)] == row[7:11]


@pytest.mark.parametrize("row", PLAN_ROWS, ids=plan_id)
def test_the_fused_energy_is_the_published_one(row: list[str]) -> None:
    assert f"{plan(row, 'optimus').energy_pj / 1e10:.6f}" == row[11]


@pytest.mark.parametrize("row", PLAN_ROWS, ids=plan_id)
def test_groups_and_states_of_the_search_are_as_many_as_published(row: list[str]) -> None:
    found = plan(row, "optimus")
    assert [str(len(found.groups)), str(found.states)] == row[12:14]


# --- worked examples


def squeezenet_layer(name: str) -> Layer:
    return next(layer for layer in network_of(network("squeezenet")).layers if layer.name == name)


@pytest.mark.parametrize("row", LAYER_ROWS, ids=lambda row: str(row[0]))
def test_sizes_of_a_layer_are_the_published_ones(row: list[str]) -> None:
    layer = squeezenet_layer(row[0])
    assert [layer.input_elements, layer.output_elements, layer.weight_elements] == [int(x) for x in row[1:4]]


@pytest.mark.parametrize("row", LAYER_ROWS, ids=lambda row: str(row[0]))
def test_the_five_schedules_of_a_layer_charge_what_was_published(row: list[str]) -> None:
    found = [schedule(squeezenet_layer(row[0]), CAPACITY) for schedule in SCHEDULERS]
    assert [s.elements if s is not None else None for s in found] == [int(x) for x in row[4:9]]


@pytest.mark.parametrize("row", LAYER_ROWS, ids=lambda row: str(row[0]))
def test_the_winning_schedule_and_its_tile_are_the_published_ones(row: list[str]) -> None:
    best = cheapest(squeezenet_layer(row[0]), CAPACITY)
    assert best is not None
    assert (best.name, ",".join(str(x) for x in best.tile[:4])) == (row[9], row[10])


@pytest.mark.parametrize("row", LAYER_ROWS, ids=lambda row: str(row[0]))
def test_the_reported_traffic_of_a_layer_is_the_published_one(row: list[str]) -> None:
    graph = network("squeezenet")
    group = PublishedModel.of(graph).group((graph.op_index[row[0]],))
    assert group is not None
    assert list(group.dram) == [int(x) for x in row[11:14]]


def figures(group: PublishedGroup) -> list[str]:
    """A group as the tables print it, up to the reported traffic."""
    s = group.schedule
    streamed = ["-"] * 8
    if isinstance(s, Streamed):
        numbers = (s.weights, s.inputs, s.outputs, s.residency.first, s.residency.step, s.rows, s.tiles)
        streamed = ["yes" if s.fits else "no", *map(str, numbers)]
    return [",".join(group.ops), *streamed, str(group.objective_elements), *map(str, group.dram)]


def test_every_group_of_squeezenet_is_the_published_one() -> None:
    found = [figures(g) + [str(x) for x in g.buffer] for g in plan_of("squeezenet", 1, 128, "optimus").groups]
    assert found == [line.split()[:-1] for line in SQUEEZENET_GROUPS.splitlines()]


def test_the_energy_of_every_group_of_squeezenet_is_the_published_one() -> None:
    energies = [g.energy_pj for g in plan_of("squeezenet", 1, 128, "optimus").groups]
    assert energies == pytest.approx([float(line.split()[-1]) for line in SQUEEZENET_GROUPS.splitlines()], rel=1e-9)


@pytest.mark.parametrize("name", ["alexnet", "vggnet"])
def test_groups_of_alexnet_and_vgg_are_the_published_ones(name: str) -> None:
    rows = map(figures, plan_of(name, 1, 128, "optimus").groups)
    printed = [[",".join(sorted(row[0].split(","))), *row[1:7], *row[8:]] for row in rows]
    wanted = [line.split()[1:] for line in OTHER_GROUPS.splitlines() if line.startswith(name)]
    assert [row for row in wanted if row not in printed] == []


def test_vgg_layers_that_run_alone_are_output_stationary_as_published() -> None:
    alone = {
        g.ops[0]: g.objective_elements
        for g in plan_of("vggnet", 1, 128, "optimus").groups
        if isinstance(g.schedule, LoopSchedule) and g.schedule.name == "OS"
    }
    assert alone == VGG_ALONE


def test_resnet50_moves_what_the_public_implementation_gives() -> None:
    assert f"{mib(plan_of('resnet50', 1, 128, 'optimus').dram.total):.1f}" == "83.2"


# --- its parts, judged by something else


def test_a_tiny_layer_is_one_tile_under_every_schedule_that_keeps_maps() -> None:
    layer = Layer("tiny", 4, 4, 8, 8)
    for schedule in (SCHEDULERS[0], SCHEDULERS[1]):
        found = schedule(layer, CAPACITY)
        assert found is not None and found.elements == 256 + 256 + 16


def test_areas_factor_as_largely_as_brute_force_finds() -> None:
    for batch, rows, cols in ((1, 13, 13), (4, 7, 9), (3, 5, 40)):
        shapes = [
            b * h * w for b in range(1, batch + 1) for h in range(1, rows + 1) for w in range(min(cols, 32), cols + 1)
        ]
        for area in range(1, batch * rows * cols + 1):
            h, w, b = factored(area, batch, rows, cols)
            assert h * w * b == max((x for x in shapes if x <= area), default=0)


def test_slots_hold_every_number_once() -> None:
    numbers = [7919 * i % 1009 for i in range(60)]
    assert sorted(_slots(numbers)) == sorted(numbers)


def test_slots_collide_grow_and_order_as_the_published_sets_do() -> None:
    assert _slots([28, 36, 24, 42, 21, 48]) == [36, 42, 48, 21, 24, 28]
    assert _slots([36, 42, 48]) == [48, 42, 36]


@pytest.mark.parametrize("name", ["optimus", "efficient_s", "dnnvm", "best_unfused"])
def test_a_plan_runs_every_layer_once_and_in_order(name: str) -> None:
    graph = network("googlenet")
    done = 0
    for group in published(graph, name=name).groups:
        members = sum(1 << graph.op_index[op] for op in group.ops)
        assert not members & done
        assert all(not graph.preds[i] & ~(done | members) for i in bits(members))
        done |= members
    assert done == graph.everything


def test_no_variant_beats_the_published_search_in_its_own_objective() -> None:
    for name in ("squeezenet", "resnet18"):
        best = plan_of(name, 1, 128, "optimus").objective_elements
        for rules in ("efficient_s", "dnnvm", "unfused", "best_unfused"):
            assert plan_of(name, 1, 128, rules).objective_elements >= best


def test_baselines_keep_all_weights_of_a_group_in_the_buffer() -> None:
    for rules in ("efficient_s", "dnnvm"):
        for group in plan_of("squeezenet", 1, 128, rules).groups:
            if isinstance(group.schedule, Streamed):
                assert group.schedule.weights + group.schedule.residency.first <= CAPACITY


def test_dnnvm_fuses_chains_only() -> None:
    graph = network("squeezenet")
    for group in plan_of("squeezenet", 1, 128, "dnnvm").groups:
        branching = [op for op in group.ops if graph.preds[graph.op_index[op]].bit_count() > 1]
        assert not branching or len(group.ops) == 1


def test_the_batch_may_be_given_in_place_of_the_graphs() -> None:
    found, wanted = published(network("squeezenet"), batch=4), plan_of("squeezenet", 4, 128, "optimus")
    assert (found.dram, found.energy_pj, found.states) == (wanted.dram, wanted.energy_pj, wanted.states)


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown Optimus variant 'dnvm': did you mean 'dnnvm'\? Known: best_"):
        variant("dnvm")


def test_a_grouped_convolution_is_refused_by_name() -> None:
    net = Net("grouped")
    net.conv(net.input(8, 8, 8), 8, groups=2, name="two_groups")
    with pytest.raises(GraphError, match=r"op 'two_groups' \(conv\) of 'grouped' does not exist in the published"):
        PublishedModel.of(net.graph())


def test_two_inputs_are_refused() -> None:
    net = Net("pair")
    net.add(net.input(8, 8, 8), net.input(8, 8, 8))
    with pytest.raises(GraphError, match=r"'pair' has 2 inputs: the published Optimus model has one image"):
        PublishedModel.of(net.graph())


def test_no_images_are_refused() -> None:
    with pytest.raises(GraphError, match=r"a batch of 0 images is none: give at least 1"):
        PublishedModel.of(network("squeezenet"), batch=0)


def test_a_buffer_without_an_element_is_refused() -> None:
    with pytest.raises(MachineError, match=r"a buffer of 1 bytes holds no 16-bit element: give at least 2 bytes"):
        PublishedModel.of(network("squeezenet"), 1)
