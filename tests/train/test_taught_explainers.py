"""Teaching PGExplainer and RG-Explainer: sets that grow as they should, rewards by hand, files that work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

import torch
from learned_nets import met, untrained

from fusecut.explain import edges
from fusecut.explain.features import batch_of
from fusecut.explain.gnn import ValidityModel
from fusecut.explain.pgexplainer import PGExplainer
from fusecut.explain.rg_network import Place, Policy, from_seeds, grow, place_of
from fusecut.explain.rgexplainer import RGExplainer
from fusecut.train.dataset import collected
from fusecut.train.explainers import Case, PGSettings, cases, train_pg
from fusecut.train.rg import PENALTY, RGSettings, lesson_of, rewards, train_rg

MODEL = untrained()
SHORT = RGSettings(ordered_epochs=1, any_order_epochs=1, reward_epochs=2, completions=2)


def case_of(seed: int, ops: int = 9) -> Case:
    problem, groups = met(seed, ops)
    batch = batch_of(problem.graph, groups[-1:])
    return Case(MODEL.inputs(problem.graph, problem.capacity_bytes, batch)[0], batch)


def policy(seed: int = 0) -> Policy:
    """Random weights, heads included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Policy()
        for parameter in (*made.add.parameters(), *made.go.parameters()):
            torch.nn.init.normal_(parameter)
    return made


def place(seed: int) -> Place:
    case = case_of(seed)
    return place_of(MODEL, case.x, case.batch)


def test_pagerank_is_that_of_three_steps_by_hand() -> None:
    found = place(0)
    n = len(found)
    loops = found.near.numpy() + np.eye(n)
    degree = loops.sum(1)
    step = loops / np.sqrt(degree[:, None] * degree)
    p = np.eye(n)[:, 0]
    for _ in range(3):
        p = 0.85 * np.eye(n)[:, 0] + 0.15 * step @ p
    assert found.rank[:, 0].numpy() == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_sets_grow_by_neighbours_from_their_seeds_one_at_a_time(seed: int) -> None:
    here = place(seed)
    seeds = torch.arange(len(here))
    grown = grow(policy(seed), here, from_seeds(here, seeds), seeds, torch.Generator().manual_seed(0), limit=6)
    for row, order in enumerate(grown.order.tolist()):
        members = sorted((step, v) for v, step in enumerate(order) if step >= 0)
        assert [step for step, _ in members] == list(range(len(members))) and len(members) <= 6
        assert members[0][1] == row
        for k in range(1, len(members)):
            assert any(here.near[members[k][1], u] for _, u in members[:k])


def test_probabilities_of_what_can_be_done_add_up_to_one() -> None:
    here = place(1)
    chosen = from_seeds(here, torch.arange(len(here))) >= 0
    logs = policy().actions(here, chosen, torch.arange(len(here)))
    assert logs.exp().sum(1).tolist() == pytest.approx([1.0] * len(here), abs=1e-5)
    assert (logs[:, :-1].exp()[~here.boundary(chosen)] == 0).all()


def test_a_set_without_neighbours_stops() -> None:
    here = place(1)
    logs = policy().actions(here, torch.ones(1, len(here), dtype=torch.bool), torch.tensor([0]))
    assert int(logs.argmax()) == len(here) and float(logs[0, -1].detach()) == 0.0


def test_heads_start_at_zero_so_that_every_neighbour_and_stopping_are_even() -> None:
    here = place(0)
    logs = Policy().actions(here, from_seeds(here, torch.tensor([0])) >= 0, torch.tensor([0]))
    near = int(here.near[0].sum())
    possible = logs[0][logs[0] > -100].detach().exp().tolist()
    assert possible == pytest.approx([0.5 / near] * near + [0.5])


@pytest.mark.parametrize("seed", range(3))
def test_the_reward_is_that_of_the_formula_on_the_subgraph_taken_by_hand(seed: int) -> None:
    case = case_of(seed)
    lesson = lesson_of(MODEL, case)
    edges = [(a, b) for a, b in case.batch.edges.T.tolist()]
    a, b = edges[0]
    chosen = torch.zeros(1, len(case.x), dtype=torch.bool)
    chosen[0, [a, b]] = True
    low, high = sorted((a, b))
    inside = torch.tensor([[0], [1]]) if a == low else torch.tensor([[1], [0]])
    part = case.x[[low, high]]
    with torch.no_grad():
        surprise = -MODEL.network(part, inside).log_softmax(1)[0, 1]
        pooled = MODEL.network.embed(part, inside).sum(0)
        whole = MODEL.network.embed(case.x, torch.from_numpy(case.batch.edges)).sum(0)
    expected = -(surprise + PENALTY * (1 + 1 + (pooled - whole).norm() / whole.norm()))
    assert float(rewards(MODEL, lesson, chosen, torch.tensor([a]))) == pytest.approx(float(expected), abs=1e-5)


def test_hops_are_steps_between_nodes() -> None:
    lesson = lesson_of(MODEL, case_of(2))
    near, hops = lesson.place.near, lesson.hops
    assert (hops.diagonal() == 0).all() and (hops == hops.T).all()
    assert ((hops == 1) == (near > 0)).all()
    for v in range(len(hops)):
        for w in range(len(hops)):
            if v != w:
                assert hops[v, w] == 1 + min(int(hops[v, u]) for u in near[w].nonzero().view(-1).tolist())


def test_rg_learns_the_same_bytes_from_the_same_seed_and_explains(tmp_path: Path) -> None:
    taught = [case_of(seed) for seed in range(2)]
    content = train_rg(MODEL, taught, SHORT, None)
    assert content == train_rg(MODEL, taught, SHORT, None)
    path = tmp_path / "rg.safetensors"
    path.write_bytes(content)
    problem, groups = met(3)
    scores = RGExplainer(MODEL, path).scores(problem, groups[-1], np.random.default_rng(0))
    assert list(scores) == edges(problem.graph, groups[-1])


def test_pg_learns_the_same_bytes_from_the_same_seed_and_explains(tmp_path: Path) -> None:
    taught = [case_of(seed) for seed in range(4)]
    settings = PGSettings(epochs=2, batch=2)
    content = train_pg(MODEL, taught, settings, None)
    assert content == train_pg(MODEL, taught, settings, None)
    path = tmp_path / "pg.safetensors"
    path.write_bytes(content)
    problem, groups = met(3)
    scores = PGExplainer(MODEL, path).scores(problem, groups[-1], np.random.default_rng(0))
    assert len(set(scores.values())) > 1


def test_teaching_leaves_the_librarys_options_as_they_were() -> None:
    from torch_geometric.explain import PGExplainer as Library

    before = dict(Library.coeffs)
    train_pg(MODEL, [case_of(0)], PGSettings(epochs=1, edge_size=7.0), None)
    assert before == Library.coeffs


@pytest.mark.parametrize("name", ["pg", "rg"])
def test_interrupted_teaching_keeps_what_was_learned_so_far(name: str) -> None:
    def report(line: str) -> None:
        if not line.startswith("interrupted"):
            raise KeyboardInterrupt

    taught = [case_of(0)]
    one_epoch = RGSettings(ordered_epochs=0, any_order_epochs=0, reward_epochs=3)
    content = (
        train_pg(MODEL, taught, PGSettings(epochs=3), report)
        if name == "pg"
        else train_rg(MODEL, taught, one_epoch, report)
    )
    assert len(content) > 1000


def pessimist() -> ValidityModel:
    """A network that thinks that nothing fits."""
    model = untrained()
    with torch.no_grad():
        model.network.out.weight.zero_()
        model.network.out.bias.copy_(torch.tensor([0.0, 1.0]))
    return model


def test_cases_are_infeasible_groups_that_the_network_knows() -> None:
    samples = collected("lbdf", ("mobilenet_v1",), 40, seed=0)
    model = pessimist()
    infeasible = sum(int(samples.infeasible[k].sum()) for k, g in enumerate(samples.masks) if 4 <= g.bit_count() <= 40)
    assert len(cases(model, samples, 10_000, 0)) == infeasible
    assert len(cases(model, samples, 5, 0)) == 5
