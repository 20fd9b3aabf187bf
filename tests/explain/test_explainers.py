"""The learned explainers: what each promises, judged by hand or by the library they are meant to equal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

import torch
from learned_nets import met, untrained

from fusecut.errors import WeightsError
from fusecut.explain import Edge, Explainer, edges
from fusecut.explain.features import FEATURES_VERSION, Batch, batch_of
from fusecut.explain.gnn import ValidityModel
from fusecut.explain.gnnexplainer import GNNExplainer
from fusecut.explain.occlusion import Occlusion
from fusecut.explain.pgexplainer import PGExplainer, edge_network
from fusecut.explain.rg_network import Policy
from fusecut.explain.rgexplainer import RGExplainer
from fusecut.explain.weights_file import weights_bytes

MODEL = untrained()


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights for PGExplainer and RG-Explainer."""
    folder = tmp_path_factory.mktemp("taught")
    header = {"scheme": "lbdf", "validity_sha256": MODEL.fingerprint, "seed": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks = {"pg": edge_network(128), "rg": Policy()}
        torch.nn.init.normal_(networks["rg"].add.weight)
    for kind, network in networks.items():
        path = folder / f"{kind}.safetensors"
        path.write_bytes(weights_bytes(network.state_dict(), kind, FEATURES_VERSION, header))
    return folder


def explainer(name: str, taught: Path, model: ValidityModel = MODEL) -> Explainer:
    made: dict[str, Explainer] = {
        "occlusion": Occlusion(model),
        "gnne": GNNExplainer(model, epochs=4),
        "pg": PGExplainer(model, taught / "pg.safetensors"),
        "rg": RGExplainer(model, taught / "rg.safetensors"),
    }
    return made[name]


NAMES = ("occlusion", "gnne", "pg", "rg")


@pytest.mark.parametrize("name", NAMES)
def test_every_edge_gets_a_finite_score_and_nothing_else_does(name: str, taught: Path) -> None:
    for seed in range(3):
        problem, groups = met(seed)
        for group in groups[-4:]:
            scores = explainer(name, taught).scores(problem, group, np.random.default_rng(0))
            assert list(scores) == edges(problem.graph, group)
            assert np.isfinite(list(scores.values())).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_everything(name: str, taught: Path) -> None:
    problem, groups = met(0)
    torch.manual_seed(5)
    first = explainer(name, taught).scores(problem, groups[-1], np.random.default_rng(7))
    torch.manual_seed(6)
    again = explainer(name, taught).scores(problem, groups[-1], np.random.default_rng(7))
    assert dict(first) == dict(again)


@pytest.mark.parametrize("name", NAMES)
def test_explaining_leaves_torchs_own_generator_and_threads_alone(name: str, taught: Path) -> None:
    problem, groups = met(0)
    before = torch.random.get_rng_state(), torch.get_num_threads()
    explainer(name, taught).scores(problem, groups[-1], np.random.default_rng(7))
    assert torch.equal(before[0], torch.random.get_rng_state()) and before[1] == torch.get_num_threads()


@pytest.mark.parametrize("name", NAMES)
def test_explaining_leaves_the_validity_network_as_it_was(name: str, taught: Path) -> None:
    problem, groups = met(0)
    model = untrained()
    logits = model.infeasible_logits(problem.graph, 4096, groups)
    explainer(name, taught, model).scores(problem, groups[-1], np.random.default_rng(7))
    assert model.infeasible_logits(problem.graph, 4096, groups).tolist() == logits.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_occlusion_is_the_drop_of_the_logit_when_one_edge_is_taken_out_by_hand(seed: int) -> None:
    problem, groups = met(seed)
    graph, group = problem.graph, groups[-1]
    scores = Occlusion(MODEL).scores(problem, group, np.random.default_rng(0))
    whole = batch_of(graph, [group])
    expected: dict[Edge, float] = {}
    for k, edge in enumerate(edges(graph, group)):
        less = Batch(whole.ops, np.delete(whole.edges, k, axis=1), whole.graph_of, 1)
        full, rest = (MODEL.batch_logits(graph, problem.capacity_bytes, b)[0] for b in (whole, less))
        expected[edge] = float(full - rest)
    assert dict(scores) == pytest.approx(expected, abs=1e-4)


def test_occlusion_of_many_edges_goes_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, groups = met(0)
    rng = np.random.default_rng(0)
    whole = Occlusion(MODEL).scores(problem, groups[-1], rng)
    monkeypatch.setattr("fusecut.explain.variants.PAIRS_AT_ONCE", 2 * len(whole))
    assert dict(Occlusion(MODEL).scores(problem, groups[-1], rng)) == pytest.approx(dict(whole), abs=1e-4)


def test_pg_orders_edges_as_the_librarys_own_explainer_does(taught: Path) -> None:
    from torch_geometric.explain import Explainer as LibraryExplainer
    from torch_geometric.explain import PGExplainer as LibraryPG

    problem, groups = met(2)
    ours = PGExplainer(MODEL, taught / "pg.safetensors").scores(problem, groups[-1], np.random.default_rng(0))
    algorithm = LibraryPG(epochs=0)
    theirs = LibraryExplainer(
        MODEL.network,
        algorithm=algorithm,
        explanation_type="phenomenon",
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": "graph", "return_type": "raw"},
    )
    x, edge_index = MODEL.inputs(problem.graph, problem.capacity_bytes, batch_of(problem.graph, [groups[-1]]))
    algorithm.mlp(torch.zeros(1, 256))
    algorithm.mlp.load_state_dict(_read(taught / "pg.safetensors"))
    mask = theirs(x, edge_index, target=torch.tensor([1])).edge_mask
    assert torch.sigmoid(torch.tensor(list(ours.values()))).tolist() == pytest.approx(mask.tolist(), abs=1e-5)


def _read(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def test_the_best_edges_of_rg_form_one_connected_subgraph(taught: Path) -> None:
    for seed in range(4):
        problem, groups = met(seed)
        scores = RGExplainer(MODEL, taught / "rg.safetensors").scores(problem, groups[-1], np.random.default_rng(0))
        least = min(scores.values())
        inside = sum({1 << i: 0 for edge, s in scores.items() if s > least for i in edge})
        assert not inside or problem.graph.is_connected(inside)


def test_rg_does_not_choose_in_groups_of_three(taught: Path) -> None:
    problem, groups = met(0)
    small = next(group for group in groups if group.bit_count() <= 3)
    scores = RGExplainer(MODEL, taught / "rg.safetensors").scores(problem, small, np.random.default_rng(0))
    assert set(scores.values()) == {0.0}


@pytest.mark.parametrize("name", ["pg", "rg"])
def test_weights_taught_with_another_network_are_refused(name: str, taught: Path) -> None:
    problem, groups = met(0)
    other = explainer(name, taught, untrained(seed=1))
    with pytest.raises(WeightsError, match="was taught with another validity network"):
        other.scores(problem, groups[-1], np.random.default_rng(0))


@pytest.mark.parametrize("name", ["pg", "rg"])
def test_weights_of_another_explainer_are_refused(name: str, taught: Path) -> None:
    problem, groups = met(0)
    other = {"pg": "rg", "rg": "pg"}[name]
    file = taught / f"{other}.safetensors"
    confused = PGExplainer(MODEL, file) if name == "pg" else RGExplainer(MODEL, file)
    with pytest.raises(WeightsError, match=f"holds '{other}' weights: expected '{name}'"):
        confused.scores(problem, groups[-1], np.random.default_rng(0))


def test_gnnexplainer_tells_edges_apart_where_the_network_is_surer_than_a_float_can_tell() -> None:
    problem, groups = met(1)
    model = untrained()
    with torch.no_grad():
        model.network.out.bias.copy_(torch.tensor([0.0, 500.0]))
    scores = GNNExplainer(model, epochs=3).scores(problem, groups[-1], np.random.default_rng(0))
    assert len(set(scores.values())) == len(scores) > 1


@pytest.mark.parametrize("seed", range(4))
def test_the_network_gnnexplainer_looks_into_computes_the_same_under_any_mask(seed: int) -> None:
    from torch_geometric.explain.algorithm.utils import set_masks

    from fusecut.explain.masked_net import MaskedNet

    problem, groups = met(seed)
    plain, masked = untrained().network, MaskedNet(MODEL.network)
    for group in groups[-3:]:
        x, edge_index = MODEL.inputs(problem.graph, problem.capacity_bytes, batch_of(problem.graph, [group]))
        mask = torch.from_numpy(np.random.default_rng(seed).normal(size=edge_index.shape[1])).float()
        with torch.no_grad():
            torch.testing.assert_close(masked(x, edge_index), MODEL.network(x, edge_index))
            for network in (plain, masked):
                set_masks(network, torch.nn.Parameter(mask), edge_index)
            torch.testing.assert_close(masked(x, edge_index), plain(x, edge_index))
        masked = MaskedNet(MODEL.network)
        plain = untrained().network


def test_a_single_edge_is_not_explained() -> None:
    problem, _ = met(0)
    op = next(i for i in range(len(problem.graph)) if problem.graph.succs[i])
    reader = problem.graph.succs[op] & -problem.graph.succs[op]
    scores = GNNExplainer(MODEL).scores(problem, 1 << op | reader, np.random.default_rng(0))
    assert list(scores.values()) == [0.0]


def test_a_group_without_edges_has_no_scores(taught: Path) -> None:
    problem, _ = met(0)
    for name in NAMES:
        assert dict(explainer(name, taught).scores(problem, 1, np.random.default_rng(0))) == {}


def test_the_learned_explainers_are_imported_without_torch() -> None:
    modules = ", ".join(
        f"fusecut.explain.{m}" for m in ("trained", "occlusion", "gnnexplainer", "pgexplainer", "rgexplainer")
    )
    code = f"import sys, {modules}; assert not {{'torch', 'safetensors'}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
