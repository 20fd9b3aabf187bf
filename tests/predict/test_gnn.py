"""The graph network: what its parts see, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch_geometric")

import torch

from fusecut.predict.compute_graph import ComputeGraph, Node
from fusecut.predict.gnn import (
    FINE_TUNING,
    Batch,
    Encoded,
    Freedom,
    Predictor,
    Schedule,
    answers,
    encode,
    new_predictor,
    train,
)
from fusecut.predict.spaces import fbnet

NOTHING = np.zeros((12, 0))


def graphs(count: int = 12) -> list[Encoded]:
    rng = np.random.default_rng(0)
    return [encode(ComputeGraph.of(fbnet.graph(fbnet.sample(rng)))) for _ in range(count)]


GRAPHS = graphs()
TARGETS = np.array([float(len(g.ops)) for g in GRAPHS])
TARGETS = (TARGETS - TARGETS.mean()) / TARGETS.std()


def trained(model: Predictor, schedule: Schedule, **options: object) -> list[float]:
    return train(model, GRAPHS, NOTHING, TARGETS, schedule, np.random.default_rng(0), **options)  # type: ignore[arg-type]


def test_an_op_out_of_vocabulary_is_label_0() -> None:
    graph = ComputeGraph("x", (Node("conv", (3, 8, 8), (4, 8, 8)), Node("magic", (4, 8, 8), (4, 8, 8))), ((0, 1),))
    assert encode(graph).ops.tolist()[1] == 0 != encode(graph).ops.tolist()[0]


def test_shapes_are_scaled_as_published() -> None:
    graph = ComputeGraph("x", (Node("conv", (512, 256, 128), (256, 64, 32)),), ())
    assert encode(graph).shapes.tolist() == [[1.0, 0.25, 0.5, 0.125, 1.0, 0.5]]


def test_a_graph_alone_is_answered_as_in_a_batch() -> None:
    model = new_predictor(0)
    one = [answers(model, [g], NOTHING[:1])[0] for g in GRAPHS]
    np.testing.assert_allclose(answers(model, GRAPHS, NOTHING), one, atol=1e-5)


def test_training_lowers_the_loss() -> None:
    losses = trained(new_predictor(0), Schedule(epochs=40, batch=12, rate=3e-3))
    assert losses[-1] < 0.5 * losses[0]


def test_the_same_seed_trains_to_the_same_weights() -> None:
    found = []
    for _ in range(2):
        model = new_predictor(3)
        trained(model, Schedule(epochs=1))
        found.append(answers(model, GRAPHS, NOTHING))
    np.testing.assert_array_equal(found[0], found[1])


def test_drawing_weights_leaves_the_state_of_torch_alone() -> None:
    before = torch.get_rng_state()
    new_predictor(7)
    assert torch.equal(before, torch.get_rng_state())


def test_training_an_adapter_leaves_the_base_as_it_was() -> None:
    model = new_predictor(0)
    model.add_adapter(1)
    before = [p.detach().clone() for p in model.encoder.parameters()]
    trained(model, Schedule(epochs=2), parameters=model.trainable("adapters"))
    assert all(torch.equal(a, b) for a, b in zip(before, model.encoder.parameters(), strict=True))


def test_heads_alone_leave_the_bodies_of_adapters_as_they_were() -> None:
    model = new_predictor(0)
    model.add_adapter(1)
    before = [p.detach().clone() for p in model.adapters[0].layers.parameters()]
    trained(model, Schedule(epochs=2), parameters=model.trainable("heads"))
    assert all(torch.equal(a, b) for a, b in zip(before, model.adapters[0].layers.parameters(), strict=True))


def test_all_freedom_is_base_adapters_and_heads() -> None:
    model = new_predictor(0)
    model.add_adapter(1)
    freedoms: tuple[Freedom, ...] = ("heads", "base", "adapters", "all")
    sizes = {f: len(model.trainable(f)) for f in freedoms}
    assert sizes["all"] == sizes["base"] + sizes["adapters"] - sizes["heads"]


def test_several_adapters_answer_with_their_mean() -> None:
    model = new_predictor(0)
    single = []
    for seed in (1, 2):
        alone = new_predictor(0)
        alone.add_adapter(seed)
        single.append(answers(alone, GRAPHS, NOTHING))
        model.add_adapter(seed)
    np.testing.assert_allclose(answers(model, GRAPHS, NOTHING), np.mean(single, axis=0), atol=1e-5)


def test_global_inputs_reach_the_answer() -> None:
    model = new_predictor(0, known=2)
    inputs = np.zeros((2, 2))
    inputs[1] = 1.0
    one, other = answers(model, [GRAPHS[0], GRAPHS[0]], inputs)
    assert one != other


def test_fine_tuning_is_the_published_schedule() -> None:
    assert (FINE_TUNING.epochs, FINE_TUNING.batch, FINE_TUNING.clip) == (100, 1, 5.0)


def test_a_batch_keeps_graphs_apart() -> None:
    batch = Batch.of(GRAPHS[:2], NOTHING[:2])
    assert torch.equal(batch.owner[batch.edges[0]], batch.owner[batch.edges[1]])
