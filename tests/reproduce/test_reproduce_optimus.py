"""The Optimus networks against published facts about them, and the table of claims."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fusecut import machines
from fusecut.cli import main
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.ir import Graph
from fusecut.reproduce import REPRODUCTIONS
from fusecut.reproduce.optimus import (
    BASELINES,
    alike_table,
    claims_table,
    executable_table,
    networks_table,
    published,
    rows,
    text,
)
from fusecut.reproduce.optimus_nets import NETWORKS, network
from fusecut.solve import solve
from fusecut.testing import Net

MIB = 2**20


def moved_by(graph: Graph, kind: str) -> float:
    """MiB that the ops of a kind read and write when they run alone."""
    ops = [op for op in graph.ops if op.kind == kind and not op.weight_elements]
    return sum(graph.tensors[t].nbytes for op in ops for t in (*op.inputs, *op.outputs)) / MIB


@pytest.mark.parametrize(
    ("name", "kind", "mib"),
    [
        ("squeezenet", "pool", "5.84"),
        ("squeezenet", "concat", "10.51"),
        ("vggnet", "pool", "14.6"),
        ("resnet18", "pool", "1.96"),
        ("resnet18", "elementwise", "4.31"),
        ("resnet50", "elementwise", "31.6"),
    ],
)
def test_free_layers_hide_as_much_traffic_as_documented(name: str, kind: str, mib: str) -> None:
    assert f"{moved_by(network(name), kind):.{len(mib.split('.')[1])}f}" == mib


def test_depthwise_convolutions_of_mobilenet_hide_as_much_traffic_as_documented() -> None:
    graph = network("mobilenet")
    tensors = [t for op in graph.ops if op.name.endswith("_dw") for t in (*op.inputs, *op.outputs)]
    assert f"{sum(graph.tensors[t].nbytes for t in tensors) / MIB:.1f}" == "9.5"


@pytest.mark.parametrize(
    ("name", "millions"),
    [("mobilenet", 569), ("resnet50", 3858), ("resnet152", 11282), ("vggnet", 15347)],
)
def test_macs_are_those_that_the_networks_papers_and_tools_give(name: str, millions: int) -> None:
    assert round(sum(op.macs for op in network(name).ops) / 1e6) == millions


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_plan_under_every_variant(name: str) -> None:
    graph = network(name)
    for rules in ("optimus", *BASELINES):
        assert sum(len(group.ops) for group in published(graph, name=rules).groups) == len(graph)


def test_networks_of_our_own_may_be_searched_too() -> None:
    net = Net("mine")
    net.conv(net.conv(net.input(16, 32, 32), 16), 16)
    plan = published(net.graph())
    assert (len(plan.groups), plan.objective_bytes) == (1, 2 * (2 * 16 * 32 * 32 + 2 * 16 * 16 * 9))


def test_a_buffer_too_small_for_a_layer_is_refused_by_its_name() -> None:
    with pytest.raises(
        FusecutError, match=r"'alexnet': the published .* no schedule for layer 'conv1_a' in 1 KiB: use"
    ):
        published(network("alexnet"), 1024, name="unfused")


def test_rows_hold_every_baseline_and_the_schemes_asked_for() -> None:
    (row,) = rows(["alexnet"], batch=1, schemes=["lbdf"])
    assert [a.baseline for a in row.against] == list(BASELINES)
    assert [own.scheme for own in row.ours] == ["lbdf"]


def test_saved_bytes_and_energy_follow_from_the_two_plans() -> None:
    (row,) = rows(["squeezenet"])
    honest = row.against[-1]
    assert honest.saved == pytest.approx(1 - 19.74278 / 68.626, abs=1e-5)
    assert honest.energy_gain == pytest.approx(1.41979 / 0.761153, abs=1e-5)


def test_claims_stand_beside_the_range_of_the_rows() -> None:
    table = claims_table(list(rows(["squeezenet", "resnet18"])))
    dnnvm = next(line for line in table.splitlines() if "DNNVM, %" in line)
    assert "16.8 to 72.2" in dnnvm and "14.4 to 69.4" in dnnvm and dnnvm.endswith("13.1 to 66.4")


def test_a_claim_about_named_networks_leaves_the_others_out() -> None:
    table = claims_table(list(rows(["squeezenet", "resnet18"])))
    honest = next(line for line in table.splitlines() if "best of five" in line)
    assert honest.endswith("1.22 to 1.22")


def test_the_table_is_readable_at_eighty_columns() -> None:
    assert max(map(len, networks_table(list(rows(["squeezenet"])), 80).splitlines())) <= 80


def test_plans_that_can_be_executed_stand_beside_what_is_reported_of_the_others() -> None:
    (row,) = rows(["alexnet"], batch=1, schemes=["lbdf"])
    (own,) = row.ours
    line = executable_table([row]).splitlines()[-1].split()
    assert line[:3] == ["alexnet", "lbdf", f"{own.dram_bytes:,}"]
    assert line[3] == f"{100 * (1 - own.dram_bytes / row.dram_bytes):.1f}"
    assert line[-2] == f"{100 * (1 - own.dram_bytes / row.against[-1].dram_bytes):.1f}"
    assert executable_table([row]) in text([row])
    assert "can be executed" not in text(list(rows(["alexnet"], batch=1)))


def test_plans_and_no_fusion_are_counted_alike() -> None:
    (row,) = rows(["alexnet"], batch=1, schemes=["lbdf"])
    (own,) = row.ours
    graph, machine = network("alexnet", 1), machines.load("array32_128k")
    plan, alone = (solve(graph, machine=machine, scheme=scheme) for scheme in ("lbdf", "layerwise"))
    assert (own.dram_bytes, own.alone_dram_bytes) == (plan.cost.dram_bytes, alone.cost.dram_bytes)
    # What the two differ in is DRAM bytes, at 100 pJ, each of which passes the buffer once, at 3 pJ.
    assert own.alone_energy_pj - own.energy_pj == pytest.approx(103 * (own.alone_dram_bytes - own.dram_bytes))
    saved, gain = f"{100 * (1 - own.dram_bytes / own.alone_dram_bytes):.1f}", own.alone_energy_pj / own.energy_pj
    line = alike_table([row]).splitlines()[-1].split()
    assert line[:4] == ["alexnet", "lbdf", f"{own.alone_dram_bytes:,}", saved] and line[-1] == f"{gain:.2f}x"
    assert alike_table([row]) in text([row])


def test_unknown_networks_and_schemes_are_refused_before_anything_runs() -> None:
    with pytest.raises(UnknownNameError, match="unknown Optimus network 'resnet'"):
        rows(["googlenet", "resnet"])
    with pytest.raises(UnknownNameError, match="unknown scheme 'bbr'"):
        rows(["googlenet"], schemes=["bbr"])


def test_no_images_are_refused() -> None:
    with pytest.raises(FusecutError, match="a batch of 0 images is none: give at least 1"):
        rows(batch=0)


def test_the_command_prints_tables_or_one_json_array(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "optimus", "--networks", "squeezenet", "--batch", "1"]
    assert main(arguments) == 0
    assert "42.5 %" in capsys.readouterr().out
    assert main([*arguments, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["objective_bytes"] == 2 * 2924931


def test_the_command_knows_every_reproduction(capsys: pytest.CaptureFixture[str]) -> None:
    for name in REPRODUCTIONS:
        with pytest.raises(SystemExit, match="0"):
            main(["reproduce", name, "--help"])
        assert f"fusecut reproduce {name}" in capsys.readouterr().out


def test_results_do_not_depend_on_the_process() -> None:
    code = "from fusecut.reproduce.optimus import *; print([g.ops for g in published(network('resnet18')).groups])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
