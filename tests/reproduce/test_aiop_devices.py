"""The graph network on measured devices: what is hidden stays hidden, and rows go on where they stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch_geometric")
pytest.importorskip("sklearn")

from fusecut.predict import gnn_stack
from fusecut.predict.basis import Basis, describe_archs
from fusecut.predict.gnn import Schedule
from fusecut.predict.spaces import space
from fusecut.reproduce import aiop, aiop_device_rows
from fusecut.reproduce import aiop_devices as devices
from fusecut.threads import one_thread
from fusecut.train.predictor import Latencies

NAMES = ("1080ti_1", "eyeriss", "gold_6226", "titanx_1")
ONCE = Schedule(epochs=1, batch=12, rate=2e-3)


@pytest.fixture(autouse=True)
def on_one_thread() -> Iterator[None]:
    """Graphs this small take many times longer on two."""
    with one_thread():
        yield


def made(name: str) -> aiop.Measured:
    rng = np.random.default_rng(0)
    archs = tuple(space(name).sample(rng) for _ in range(24))
    networks = describe_archs(space(name), archs)
    values = np.array([5 + networks.extra @ rng.random(networks.extra.shape[1]) for _ in NAMES])
    basis = Basis.of(name, networks).knowing(networks, dict(zip(NAMES, values, strict=True)))
    return aiop.Measured(Latencies(name, archs, NAMES, values), networks, basis)


FBNET, CELLS = made("fbnet"), made("nasbench201")
SIGHTS = devices.sights([FBNET, CELLS], "cpu")
SIGHT = SIGHTS["fbnet"]
DEVICE, GROUP = (list(aiop.device_targets([FBNET], e)) for e in ("device", "group"))


@cache
def taught(label: devices.Label) -> devices.Pretrained:
    return devices.pretrained(FBNET, SIGHT, label, 2, ONCE)


def test_two_devices_of_different_kinds_teach_the_bases_of_a_seed() -> None:
    for one, other in devices.drawn_bases(NAMES, 8):
        assert aiop.kind_of(NAMES[one]) != aiop.kind_of(NAMES[other])


def test_devices_of_one_kind_give_two_bases_too() -> None:
    assert all(one != other for one, other in devices.drawn_bases(("2080ti_1", "2080ti_32"), 4))


def test_the_adapter_of_the_unseen_device_has_no_say() -> None:
    start = devices.start_of(taught("plain"), FBNET, SIGHT, DEVICE)
    assert start.mask.tolist() == [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]


def test_with_its_kind_no_adapter_of_the_kind_has_a_say() -> None:
    start = devices.start_of(taught("plain"), FBNET, SIGHT, GROUP)
    assert start.mask[0].tolist() == [0, 1, 1, 0] == start.mask[3].tolist()


def test_the_base_did_not_learn_the_unseen_device() -> None:
    trained = taught("plain")
    start = devices.start_of(trained, FBNET, SIGHT, DEVICE)
    every = gnn_stack.readouts(trained.base, trained.own, SIGHT.graphs)
    for seed, (one, other) in enumerate(trained.drawn.tolist()):
        assert start.base[seed, one].equal(every.base[2 * seed + 1])
        assert start.base[seed, other].equal(every.base[2 * seed])


@pytest.mark.parametrize("label", ["plain", "linear"])
def test_labels_of_networks_that_are_no_samples_change_nothing(label: devices.Label) -> None:
    trained = taught(label)
    told = devices.predictions(trained, FBNET, SIGHT, DEVICE, 10, map)
    _, asked = aiop.split(DEVICE[0], 10, 0)
    spoilt = [replace_values(t, asked) for t in DEVICE]
    np.testing.assert_array_equal(devices.predictions(trained, FBNET, SIGHT, spoilt, 10, map)[0], told[0])


def replace_values(target: aiop.Target, rows: NDArray[np.int64]) -> aiop.Target:
    values = target.values.copy()
    values[rows] *= 7
    return target._replace(values=values)


def test_residuals_start_from_blocks_and_at_samples_from_the_others() -> None:
    told = devices.blocks_told((DEVICE[0], 10, 0))
    seen, asked = aiop.split(DEVICE[0], 10, 0)
    blocks = aiop.METHODS["blocks"](DEVICE[0], seen, asked, 0)
    np.testing.assert_allclose(told[asked], blocks, rtol=1e-9)
    assert not np.allclose(told[seen], DEVICE[0].values[seen])


def test_rows_cover_the_methods_and_are_not_computed_again() -> None:
    targets = [*DEVICE[:2], *list(aiop.space_targets([FBNET, CELLS]))[:1]]
    plan = aiop_device_rows.Plan(aiop_device_rows.METHODS, 1, samples=(0, 10), pretraining=ONCE)
    found = list(aiop_device_rows.rows([FBNET, CELLS], targets, plan))
    assert {(r.experiment, r.method) for r in found} == {
        *(("device", m) for m in aiop_device_rows.METHODS),
        *(("space", m) for m in aiop_device_rows.METHODS if m != "gnn-scratch"),
    }
    assert len({r.key for r in found}) == len(found)
    changed = [replace(r, mae=7.0) for r in found]
    assert list(aiop_device_rows.rows([FBNET, CELLS], targets, plan, changed)) == changed
