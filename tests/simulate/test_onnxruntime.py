"""Whole networks, fused and executed row by row, equal onnxruntime on the same weights and inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_models import model_of
from ort_judge import compare

from fusecut.zoo import path

pytest.importorskip("onnxruntime")

DATA = Path(__file__).parent.parent / "data"

SMALL = {
    "convnext_tiny": 32,
    "efficientnet_b0": 64,
    "fsrcnn": 24,
    "googlenet": 64,
    "mnasnet1_0": 64,
    "mobilenet_v1": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_large": 64,
    "mobilenet_v3_small": 64,
    "resnet18": 64,
    "resnet50": 32,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "unet": 32,
}
LARGE = {
    "densenet121": 64,
    "efficientnet_b3": 64,
    "hrnet_w18": 64,
    "nasnetalarge": 96,
    "resnet101": 64,
    "resnet152": 64,
}
NATIVE = (
    "alexnet",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3plus_mobilenet_v3_large",
    "shufflenet_v2_x1_0",
    "vgg16",
    "vit_tiny_patch16_224",
)
FILES = ("legacy_mobilenet_v3_small", "legacy_shufflenet_v2_x1_0", "sparse_resnet18", "tf2onnx_MobileNet")


@pytest.mark.parametrize("name", SMALL)
def test_a_network_at_a_small_input_size(name: str) -> None:
    compare(path(name), SMALL[name], "48KiB")


@pytest.mark.parametrize("name", ["mobilenet_v2", "googlenet", "mobilenet_v3_small"])
def test_a_network_in_a_large_buffer(name: str) -> None:
    compare(path(name), 64, "1MiB")


@pytest.mark.slow
@pytest.mark.parametrize("buffer", ["64KiB", "512KiB"])
@pytest.mark.parametrize("name", LARGE)
def test_the_larger_networks(name: str, buffer: str) -> None:
    compare(path(name), LARGE[name], buffer)


@pytest.mark.slow
@pytest.mark.parametrize("name", NATIVE)
def test_networks_that_run_at_their_own_size_only(name: str) -> None:
    compare(path(name), None, "1MiB")


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_exporters(name: str) -> None:
    compare(DATA / f"{name}.onnx", None, "96KiB")


def test_weights_that_are_inputs_of_the_file() -> None:
    compare(DATA / "asinput_resnet18.onnx", 32, "96KiB")


def test_weights_that_nodes_of_the_file_make() -> None:
    """All of them are one, so every layer grows, and the last ones overflow here as there."""
    compare(DATA / "cos_resnet18.onnx", 32, "96KiB")


def test_batch_normalisation_that_nobody_folded() -> None:
    compare(DATA / "unoptimized_bn_resnet18.onnx", 32, "96KiB")


def test_half_precision_to_its_own_rounding() -> None:
    compare(DATA / "fp16_resnet18.onnx", 32, "96KiB", tolerance=5e-3)


def test_a_quantised_network_rounds_where_onnxruntime_rounds() -> None:
    """Between two roundings floating-point sums may differ in the last place, so one value in a million may flip."""
    compare(DATA / "qdq_int8_resnet18.onnx", 64, "96KiB")


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_a_filter_that_the_network_makes_itself(kind: str, tmp_path: Path) -> None:
    """As trackers correlate a template with a search region: no constant weights, so the op is opaque."""
    dims = np.array([1, 12, 2, 2] if kind == "Conv" else [12, 1, 2, 2])
    nodes = [
        helper.make_node("Slice", ["x", "zero", "end", "axes"], ["part"], name="part"),
        helper.make_node("Reshape", ["part", "dims"], ["filter"], name="filter"),
        helper.make_node(kind, ["x", "filter"], ["y"], name="correlate", pads=[1, 0, 0, 1], strides=[2, 1]),
    ]
    constants = {"zero": np.zeros(2, int), "end": np.array([2, 2]), "axes": np.array([2, 3]), "dims": dims}
    file = tmp_path / "tracker.onnx"
    file.write_bytes(model_of(nodes, {"x": [1, 12, 8, 8]}, constants, ir_version=10).SerializeToString())
    compare(file, None, "8KiB")
