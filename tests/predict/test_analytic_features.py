"""Analytic features against what the solver and a hand computation say."""

from __future__ import annotations

import numpy as np
import pytest

from fusecut.builder import Net
from fusecut.errors import MachineError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import LineBuffer
from fusecut.predict import features
from fusecut.problem import Problem
from fusecut.zoo import index, load


def named(graph: Graph) -> dict[str, float]:
    return dict(zip(features.NAMES, features.quantities(graph), strict=True))


def test_unfused_bytes_are_those_of_every_op_alone_in_a_large_buffer() -> None:
    graph = load("mobilenet_v2")
    problem = Problem(graph, Machine.of("64MiB"), LineBuffer())
    cost = problem.cost([1 << i for i in range(len(graph))])
    assert named(graph)["unfused"] == getattr(cost, "dram_bytes", None)


def test_the_floor_is_the_floor_of_every_plan() -> None:
    graph = load("resnet18")
    problem = Problem(graph, Machine.of("64MiB"), LineBuffer())
    assert named(graph)["floor"] == problem.floor_bytes()


def test_weights_and_macs_are_those_of_the_index() -> None:
    (entry,) = [e for e in index() if e.name == "efficientnet_b0"]
    found = named(load("efficientnet_b0"))
    assert (found["weights"], found["macs"]) == (entry.weight_bytes, entry.macs)


def test_families_sum_to_the_totals() -> None:
    found = named(load("nasnetalarge"))
    sums = {what: sum(v for k, v in found.items() if k.startswith(f"{what}:")) for what in ("count", "macs", "bytes")}
    assert (sums["count"], sums["macs"], sums["bytes"]) == (found["ops"], found["macs"], found["unfused"])


def test_depth_counts_the_longest_path() -> None:
    net = Net()
    x = net.input(4, 8, 8)
    net.add(net.conv(net.conv(x, 4), 4), x)
    assert named(net.graph())["depth"] == 3


def test_nothing_is_larger_than_a_huge_buffer() -> None:
    found = dict(zip(features.BUFFER_NAMES, features.against_buffer(load("resnet18"), 2**40), strict=True))
    assert all(v == 0 for k, v in found.items() if ">" in k)


def test_everything_is_larger_than_a_buffer_of_one_byte() -> None:
    found = dict(zip(features.BUFFER_NAMES, features.against_buffer(load("resnet18"), 1), strict=True))
    assert all(v == 1 for k, v in found.items() if ">" in k)


def test_features_of_every_zoo_network_are_finite() -> None:
    graph = load("vit_tiny_patch16_224")
    raw = features.quantities(graph)
    assert np.isfinite([*features.logarithmic(raw), *features.linear(raw)]).all()


def test_a_buffer_of_nothing_is_refused() -> None:
    with pytest.raises(MachineError, match="holds nothing"):
        features.against_buffer(load("resnet18"), 0)
