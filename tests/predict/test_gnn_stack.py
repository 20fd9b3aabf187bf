"""Stacked graph networks answer and learn as each of them does alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("torch_geometric")

import torch
from torch import nn

from fusecut.errors import FusecutError
from fusecut.predict import gnn_stack as stack
from fusecut.predict.compute_graph import ComputeGraph
from fusecut.predict.gnn import Adapter, Encoded, Predictor, Schedule, answers, encode, new_predictor, train
from fusecut.predict.spaces import fbnet
from fusecut.threads import one_thread

RNG = np.random.default_rng(0)
GRAPHS: list[Encoded] = [encode(ComputeGraph.of(fbnet.graph(fbnet.sample(RNG)))) for _ in range(6)]
KNOWN = RNG.normal(size=(6, 2))
LABELS = RNG.normal(size=(2, 6))
PADDED = stack.Padded.of(GRAPHS)
INPUTS = torch.from_numpy(KNOWN.astype(np.float32))
TARGETS = torch.from_numpy(LABELS.astype(np.float32))
SHORT = Schedule(epochs=2, batch=4, rate=2e-3, clip=0.1)


@pytest.fixture(autouse=True)
def on_one_thread() -> Iterator[None]:
    """Graphs this small take many times longer on two."""
    with one_thread():
        yield


def alone(seed: int, adapter: int | None = None) -> Predictor:
    model = new_predictor(seed, 2)
    if adapter is not None:
        model.add_adapter(adapter)
    return model


def as_adapter(model: Predictor) -> Adapter:
    found = model.adapters[0]
    assert isinstance(found, Adapter)
    return found


def told(base: dict[str, torch.Tensor]) -> list[list[float]]:
    with torch.no_grad():
        states = stack.encoded(base, PADDED)
        found: list[list[float]] = stack.base_answers(base, stack.read_out(states[-1], PADDED), INPUTS).tolist()
    return found


def told_by_adapters(base: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> list[list[list[float]]]:
    found = stack.readouts(base, own, PADDED, chunk=4)
    heads = {name: w.unsqueeze(1) for name, w in own.items() if name.startswith("head.")}
    with torch.no_grad():
        said = stack.adapter_answers(heads, found.base[:, None], found.own[:, None], INPUTS[None])
    told: list[list[list[float]]] = said[:, 0].tolist()
    return told


def test_a_stack_of_bases_answers_as_each_alone() -> None:
    models = [alone(0), alone(1)]
    want = [answers(m, GRAPHS, KNOWN) for m in models]
    np.testing.assert_allclose(told(stack.bases(models)), want, atol=1e-5)


def test_a_stack_of_adapters_answers_as_each_alone() -> None:
    models = [alone(0, 5), alone(1, 6)]
    own = stack.adapters([as_adapter(m) for m in models], 2)
    want = np.array([answers(m, GRAPHS, KNOWN) for m in models])
    np.testing.assert_allclose(told_by_adapters(stack.bases(models), own), np.stack([want, want], 1), atol=1e-5)


def test_a_stack_of_bases_learns_as_each_alone() -> None:
    models = [alone(0), alone(1)]
    base = stack.bases(models)
    stack.pretrain_bases(base, PADDED, INPUTS, TARGETS, SHORT, np.random.default_rng(3))
    for model, labels in zip(models, LABELS, strict=True):
        train(model, GRAPHS, KNOWN, labels, SHORT, np.random.default_rng(3), model.trainable("base"))
    np.testing.assert_allclose(told(base), [answers(m, GRAPHS, KNOWN) for m in models], atol=2e-4)


def test_a_stack_of_adapters_learns_as_each_alone() -> None:
    models = [alone(0, 5), alone(0, 5)]
    base, own = stack.bases(models[:1]), stack.adapters([as_adapter(models[0])], 2)
    stack.pretrain_adapters(base, own, PADDED, INPUTS, TARGETS[None], SHORT, np.random.default_rng(3))
    for model, labels in zip(models, LABELS, strict=True):
        moved: list[nn.Parameter] = model.trainable("adapters")
        train(model, GRAPHS, KNOWN, labels, SHORT, np.random.default_rng(3), moved)
    want = [answers(m, GRAPHS, KNOWN) for m in models]
    np.testing.assert_allclose(told_by_adapters(base, own)[0], want, atol=2e-4)


def test_gradients_are_clipped_network_by_network() -> None:
    weights = torch.ones(2, 3, requires_grad=True)
    (weights * torch.tensor([[3.0], [0.1]])).sum().backward()
    stack.clip([weights], 1, 1.0)
    assert weights.grad is not None
    assert weights.grad.norm(dim=1).tolist() == pytest.approx([1.0, 0.1 * 3**0.5], rel=1e-4)


@pytest.mark.parametrize("name", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(FusecutError, match=f"torch cannot use device '{name}' here"):
        stack.usable(name)


def test_padding_does_not_touch_readouts() -> None:
    base = stack.bases([alone(0)])
    small = stack.Padded.of(GRAPHS[:1])
    with torch.no_grad():
        one = stack.read_out(stack.encoded(base, small)[-1], small)
        many = stack.read_out(stack.encoded(base, PADDED)[-1], PADDED)
    torch.testing.assert_close(one[:, 0], many[:, 0])
