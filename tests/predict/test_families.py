"""Random members of families, and the labels the solver gives them."""

from __future__ import annotations

from functools import reduce
from operator import or_
from pathlib import Path

import pytest

from fusecut.builder import Net
from fusecut.cli import main
from fusecut.errors import FusecutError, ModelError, UnknownNameError
from fusecut.ir import Graph
from fusecut.predict.bundle import FOLDER
from fusecut.predict.features import NAMES, quantities
from fusecut.predict.spaces.families import FAMILIES, member
from fusecut.train.solved import labels, read_labels


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_is_one_network(family: str) -> None:
    assert member(family, 3).ops == member(family, 3).ops


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds_are_different_networks(family: str) -> None:
    assert len({sum(op.macs for op in member(family, seed).ops) for seed in range(6)}) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_every_op_of_a_member_leads_to_an_output(family: str) -> None:
    graph = member(family, 1)
    assert len(graph.outputs) == (6 if family == "detect" else 1)
    last = [graph.producer[end] for end in graph.outputs]
    assert reduce(or_, (graph.ancestors[i] | 1 << i for i in last)) == graph.everything


def test_a_pyramid_is_a_class_and_a_box_map_for_each_of_three_levels() -> None:
    graph = member("detect", 0)
    sizes = sorted(graph.tensors[t].rows for t in graph.outputs)
    image = graph.tensors[graph.inputs[0]].rows
    assert sizes == [image // 32] * 2 + [image // 16] * 2 + [image // 8] * 2


def test_an_unknown_family_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="resnet"):
        member("vgg", 0)


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(ModelError, match="seed"):
        member("resnet", -1)


def small() -> Graph:
    net = Net()
    net.conv(net.conv(net.input(3, 32, 32), 8), 8)
    return net.graph()


def test_labels_lie_between_the_floor_and_no_fusion() -> None:
    raw = dict(zip(NAMES, quantities(small()), strict=True))
    found = labels(small(), ["dram@256KiB", "lbdf@256KiB", "layerwise@256KiB"])
    assert raw["floor"] <= found["dram@256KiB"] <= found["lbdf@256KiB"] <= found["layerwise@256KiB"] == raw["unfused"]


def test_the_labels_that_ship_never_say_that_more_schemes_cost_more() -> None:
    found = {(r.family, r.seed, r.task): r.value for r in read_labels(FOLDER / "solved.csv")}
    pairs = [(v, found[f, s, "lbdf@" + t[5:]]) for (f, s, t), v in found.items() if t.startswith("dram@")]
    assert len(pairs) > 800 and all(mixed <= lbdf for mixed, lbdf in pairs)


def test_energy_and_latency_are_solved_on_the_machine() -> None:
    assert set(labels(small(), ["energy@array32_256k", "latency@array32_256k"])) == {
        "energy@array32_256k",
        "latency@array32_256k",
    }


@pytest.mark.parametrize("text", ["", "a,b\n", "family,seed,task,value\nresnet,x,dram,1\n"])
def test_a_file_that_is_no_labels_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FusecutError, match="expected CSV"):
        read_labels(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("labels", "folder", "says"),
    [
        ("no/such/labels.csv", ".", "cannot write no/such/labels.csv: there is no folder no/such"),
        ("none.csv", ".", "none.csv has no labels: name another file, or solve some with --members N"),
        ("head.csv", ".", "head.csv has no labels"),
        ("long.csv", ".", "long.csv is no file of labels"),
        ("none.csv", "nowhere", "nowhere is no folder: make it first"),
    ],
)
def test_labels_that_cannot_teach_are_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    labels: str,
    folder: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("long.csv").write_text("a" * 200_000)
    Path("head.csv").write_text("family,seed,task,value\n")
    assert main(["train", "families", "--labels", labels, "-o", folder]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert not Path("none.csv").exists()
