"""Values outside the network's own folder are never read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fusecut as fc
from fusecut.errors import ModelError
from fusecut.frontend.weights import network as of_network
from fusecut.simulate import simulate


def network(folder: Path, location: str, constant: bool = False, **where: int | str) -> Path:
    """A 1x1 convolution whose weights lie elsewhere, as an initializer or as a Constant node."""
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    for key, value in where.items():
        weight.external_data.add(key=key, value=str(value))
    weight.ClearField("raw_data")
    shape = {"x": [1, 3, 8, 8], "y": [1, 4, 8, 8]}
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shape.items()}
    nodes = [helper.make_node("Constant", [], ["w"], value=weight)] if constant else []
    nodes.append(helper.make_node("Conv", ["x", "w"], ["y"], name="conv"))
    graph = helper.make_graph(nodes, "net", [ends["x"]], [ends["y"]], [] if constant else [weight])
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


kinds = pytest.mark.parametrize("constant", [False, True], ids=["initializer", "Constant"])


@kinds
def test_values_beside_the_file_are_used(tmp_path: Path, constant: bool) -> None:
    (tmp_path / "w.bin").write_bytes(np.full(12, 2.0, np.float32).tobytes())
    path = network(tmp_path, "w.bin", constant)
    assert simulate(fc.solve(fc.load(path), "4KiB"), model=path).agrees
    assert (of_network(path).constants["w"] == 2).all()


@kinds
def test_a_missing_file_is_drawn_from_the_seed(tmp_path: Path, constant: bool) -> None:
    path = network(tmp_path, "zeros.bin", constant)
    assert simulate(fc.solve(fc.load(path), "4KiB"), model=path).agrees


@kinds
@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("short.bin", {}),
        ("w.bin", {"offset": 100}),
        ("w.bin", {"offset": -4}),
        ("w.bin", {"offset": 2**70}),
        ("w.bin", {"offset": "abc"}),
        ("w.bin", {"length": 10**18}),
        ("w.bin", {"length": -1}),
        ("w.bin", {"length": 8}),
        ("\0w.bin", {}),
        ("w" * 5000, {}),
        ("{folder}/w.bin", {}),
    ],
    ids=range(11),
)
def test_damaged_references_are_one_clear_error(
    tmp_path: Path, constant: bool, location: str, where: dict[str, int | str]
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    (tmp_path / "short.bin").write_bytes(bytes(7))
    path = network(tmp_path, location.format(folder=tmp_path), constant, **where)
    with pytest.raises(ModelError, match=r"'w'.*cannot be (read|looked up)") as caught:
        simulate(fc.solve(fc.load(path), "4KiB"), model=path)
    assert "\n" not in str(caught.value)


def test_sparse_values_at_no_place_are_one_clear_error(tmp_path: Path) -> None:
    path = network(tmp_path, "w.bin")
    model = onnx.load(path, load_external_data=False)
    del model.graph.initializer[:]
    values, places = numpy_helper.from_array(np.ones(1, np.float32), "w"), numpy_helper.from_array(np.array([99]), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4, 3, 1, 1]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="the values of 'w' cannot be read"):
        simulate(fc.solve(fc.load(path), "4KiB"), model=path)
