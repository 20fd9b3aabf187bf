"""The validity network: batches, files, notes, and the trained ones against the cost models."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

import torch
from learned_nets import VOCABULARY, met, untrained

from fusecut.bonds import bonds
from fusecut.errors import WeightsError
from fusecut.explain.features import FEATURES_VERSION
from fusecut.explain.gnn import ValidityModel
from fusecut.explain.trained import bundled, model_for
from fusecut.explain.weights_file import LARGEST_WEIGHTS_BYTES, weights_bytes
from fusecut.machine import Machine
from fusecut.models import BlackBox, scheme_model
from fusecut.problem import Problem
from fusecut.testing import Net, random_graph
from fusecut.train.dataset import collected
from fusecut.zoo import load


def saved(tmp_path: Path, model: ValidityModel) -> Path:
    path = tmp_path / "validity.safetensors"
    path.write_bytes(model.to_bytes())
    return path


def header(model: ValidityModel) -> dict[str, object]:
    return {"scheme": "lbdf", "vocabulary": VOCABULARY, "buffer_bytes": [1024], "networks": [], "seed": 0}


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_says_what_each_group_gets_alone(seed: int) -> None:
    problem, groups = met(seed)
    model = untrained()
    together = model.infeasible_logits(problem.graph, 4096, groups)
    alone = [model.infeasible_logits(problem.graph, 4096, [group])[0] for group in groups]
    assert together == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_halves_of_bonds_get_from_the_layers_of_the_group_what_each_gets_by_itself(seed: int) -> None:
    problem, groups = met(seed)
    model = untrained()
    group = max(groups, key=int.bit_count)
    found = list(islice(bonds(problem.graph, group), 40))
    alone = model.infeasible_logits(problem.graph, 4096, [half for bond in found for half in bond])
    assert model.bond_logits(problem.graph, 4096, group, found).ravel() == pytest.approx(alone, abs=1e-4)


def test_no_groups_are_no_logits() -> None:
    assert untrained().infeasible_logits(met(0)[0].graph, 4096, []).shape == (0,)


def test_logits_follow_the_buffer() -> None:
    problem, groups = met(0)
    model = untrained()
    small, large = (model.infeasible_logits(problem.graph, size, groups) for size in (4096, 8192))
    assert (small != large).all()


def test_a_file_gives_the_same_network_back(tmp_path: Path) -> None:
    problem, groups = met(1)
    model = untrained()
    again = ValidityModel.load(saved(tmp_path, model), "lbdf")
    assert again.trained == model.trained
    assert again.to_bytes() == model.to_bytes()
    ours, theirs = (m.infeasible_logits(problem.graph, 4096, groups) for m in (model, again))
    assert ours.tolist() == theirs.tolist()


def test_a_network_for_another_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"trained for scheme 'lbdf': expected one for 'brr'"):
        ValidityModel.load(saved(tmp_path, untrained()), "brr")


def test_another_version_is_refused(tmp_path: Path) -> None:
    model = untrained()
    path = tmp_path / "old.safetensors"
    path.write_bytes(weights_bytes(model.network.state_dict(), "validity", FEATURES_VERSION + 1, header(model)))
    with pytest.raises(WeightsError, match=f"feature version {FEATURES_VERSION + 1}, this fusecut has"):
        ValidityModel.load(path)


def test_another_kind_of_weights_is_refused(tmp_path: Path) -> None:
    model = untrained()
    path = tmp_path / "pg.safetensors"
    path.write_bytes(weights_bytes(model.network.state_dict(), "pg", FEATURES_VERSION, header(model)))
    with pytest.raises(WeightsError, match="holds 'pg' weights: expected 'validity'"):
        ValidityModel.load(path)


@pytest.mark.parametrize("keep", [0, 7, 100, 2_000, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = saved(tmp_path, untrained())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"is damaged or no safetensors file .*: train it again"):
        ValidityModel.load(path)


def test_noise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    path.write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(WeightsError, match="is damaged or no safetensors file"):
        ValidityModel.load(path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="is damaged or no safetensors file"):
        ValidityModel.load(path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(LARGEST_WEIGHTS_BYTES + 1)
    with pytest.raises(WeightsError, match="weights have at most"):
        ValidityModel.load(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read weights"):
        ValidityModel.load(tmp_path / "none.safetensors")


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    model = untrained()
    tensors = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    tensors["out.bias"][0] = float("nan")
    path = tmp_path / "nan.safetensors"
    path.write_bytes(weights_bytes(tensors, "validity", FEATURES_VERSION, header(model)))
    with pytest.raises(WeightsError, match=r"'out\.bias' is not all finite"):
        ValidityModel.load(path)


def test_tensors_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = untrained()
    tensors = dict(model.network.state_dict()) | {"out.bias": torch.zeros(3)}
    path = tmp_path / "shape.safetensors"
    path.write_bytes(weights_bytes(tensors, "validity", FEATURES_VERSION, header(model)))
    with pytest.raises(WeightsError, match=r"'out\.bias' has shape \(3,\), expected \(2,\)"):
        ValidityModel.load(path)


@pytest.mark.parametrize("key", ["scheme", "vocabulary", "buffer_bytes", "seed"])
def test_a_header_without_what_it_was_trained_on_is_refused(tmp_path: Path, key: str) -> None:
    model = untrained()
    lacking = {name: value for name, value in header(model).items() if name != key}
    path = tmp_path / "header.safetensors"
    path.write_bytes(weights_bytes(model.network.state_dict(), "validity", FEATURES_VERSION, lacking))
    with pytest.raises(WeightsError, match=f"header of the weights has no '{key}'"):
        ValidityModel.load(path)


def test_nothing_is_noted_within_the_training_range() -> None:
    graph = random_graph(np.random.default_rng(0), 6)
    assert untrained().notes(graph, 131_072) == ()


@pytest.mark.parametrize("size", [1024, 2**30])
def test_a_buffer_far_outside_the_training_range_is_noted_and_still_answered(size: int) -> None:
    problem, groups = met(0)
    (note,) = untrained().notes(problem.graph, size)
    assert "trained on buffers of 64 KiB to 256 KiB" in note and "extrapolations" in note
    assert np.isfinite(untrained().infeasible_logits(problem.graph, size, groups)).all()


def test_ops_never_met_are_noted_and_still_answered() -> None:
    net = Net()
    x = net.op("softmax", [net.input(2, 8, 8)], (2, 8, 8), barrier=True)
    graph = net.graph(net.op("opaque", [x], (2, 8, 8), barrier=True))
    (note,) = untrained().notes(graph, 131_072)
    assert "never met ops of kind opaque, softmax" in note
    assert np.isfinite(untrained().infeasible_logits(graph, 131_072, [0b11])).all()


def test_other_widths_are_noted() -> None:
    graph = random_graph(np.random.default_rng(0), 6).with_bits(16, 8, 32)
    (note,) = untrained().notes(graph, 131_072)
    assert "other widths extrapolate" in note


def test_a_cost_model_without_a_network_is_told_what_to_do() -> None:
    problem = met(0)[0]
    black_box = Problem(problem.graph, problem.machine, BlackBox(lambda question: {}))
    with pytest.raises(WeightsError, match=r"no validity network speaks for cost model .* only for lbdf, brr, mixed"):
        model_for(black_box)


def test_there_is_no_network_for_a_scheme_that_is_none() -> None:
    with pytest.raises(WeightsError, match="no validity network for 'optimus' comes with fusecut"):
        bundled("optimus")


def test_mixed_asks_the_network_for_brr() -> None:
    problem = Problem(load("mobilenet_v1"), Machine(65_536), scheme_model("mixed"))
    assert model_for(problem) is bundled("brr")


@pytest.mark.parametrize(("scheme", "least"), [("lbdf", 0.96), ("brr", 0.96)])
def test_the_bundled_networks_agree_with_the_cost_model_on_groups_of_a_fresh_search(scheme: str, least: float) -> None:
    samples = collected(scheme, ("mobilenet_v2", "resnet18"), 60, seed=99)
    right = []
    for k, name in enumerate(samples.networks):
        graph, rows = load(name).with_bits(8, 8, 32), np.flatnonzero(samples.network_of == k)
        groups = [samples.masks[row] for row in rows.tolist()]
        for column, size in enumerate(samples.buffers):
            said = bundled(scheme).infeasible_logits(graph, size, groups) > 0
            right += (said == samples.infeasible[rows, column]).tolist()
    assert np.mean(right) > least
