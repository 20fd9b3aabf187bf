"""Values outside the network's own folder are never read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import fusecut as fc
from fusecut.errors import ModelError
from fusecut.simulate import simulate


def network(folder: Path, location: str) -> Path:
    """A 1x1 convolution whose weights lie elsewhere."""
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    weight.ClearField("raw_data")
    shape = {"x": [1, 3, 8, 8], "y": [1, 4, 8, 8]}
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shape.items()}
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    graph = helper.make_graph([node], "net", [ends["x"]], [ends["y"]], [weight])
    path = folder / "net.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "inner/../../secret.bin"])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    folder = tmp_path / "model"
    folder.mkdir()
    path = network(folder, location)
    solution = fc.solve(fc.load(path), "4KiB")
    with pytest.raises(ModelError, match="outside the file's own folder"):
        simulate(solution, model=path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "secret.bin")
    path = network(folder, "w.bin")
    solution = fc.solve(fc.load(path), "4KiB")
    with pytest.raises(ModelError, match="outside the file's own folder"):
        simulate(solution, model=path)


def test_values_beside_the_file_are_used(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.full(12, 2.0, np.float32).tobytes())
    path = network(tmp_path, "w.bin")
    assert simulate(fc.solve(fc.load(path), "4KiB"), model=path).agrees


def test_a_missing_file_is_drawn_from_the_seed(tmp_path: Path) -> None:
    path = network(tmp_path, "zeros.bin")
    assert simulate(fc.solve(fc.load(path), "4KiB"), model=path).agrees


def test_a_short_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(7))
    path = network(tmp_path, "w.bin")
    with pytest.raises(ModelError, match="cannot be read"):
        simulate(fc.solve(fc.load(path), "4KiB"), model=path)
