"""Model files and bases: what is saved comes back, and nothing else is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")

from fusecut.errors import ModelError, UnknownNameError
from fusecut.predict.additive import by_buffer
from fusecut.predict.basis import Basis, Described, Scaling, describe_archs, describe_graphs
from fusecut.predict.bundle import FOLDER, bundled, bundled_names
from fusecut.predict.features import NAMES
from fusecut.predict.model import Model, load
from fusecut.predict.spaces import SPACES, fbnet
from fusecut.predict.spaces.families import member


def networks(count: int, seed: int = 0) -> Described:
    rng = np.random.default_rng(seed)
    return describe_archs(SPACES["fbnet"], [fbnet.sample(rng) for _ in range(count)])


FEW = networks(24)


def table_latency(described: Described, seed: int) -> np.ndarray:
    """A device that is a look-up table over layers."""
    return 5.0 + described.extra @ np.random.default_rng(seed).random(described.extra.shape[1])


def trained() -> Model:
    return Model(Basis.of("fbnet", FEW), {}, {"a": "b"}).learning("slow", FEW, table_latency(FEW, 1), "ms")


def test_a_model_file_is_read_back_as_it_was(tmp_path: Path) -> None:
    model = trained()
    (tmp_path / "m.safetensors").write_bytes(model.save())
    back = load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(back.predict("slow", FEW), model.predict("slow", FEW))
    assert (back.notes, back.tasks["slow"].unit) == ({"a": "b"}, "ms")


def test_the_same_training_gives_the_same_bytes() -> None:
    assert trained().save() == trained().save()


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\xff" * 100, (2**62).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="not a predictor"):
        load(tmp_path / "m.safetensors")


def test_a_model_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(trained().save()[:-40])
    with pytest.raises(ModelError, match="not a predictor"):
        load(tmp_path / "m.safetensors")


def test_a_model_with_values_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    content = bytearray(trained().save())
    content[-8:] = np.float64("nan").tobytes()
    (tmp_path / "m.safetensors").write_bytes(bytes(content))
    with pytest.raises(ModelError, match="not a predictor"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("samples", ["Infinity", "1" + "0" * 400])
def test_a_model_that_counts_beyond_measure_is_refused(tmp_path: Path, samples: str) -> None:
    key = "samples" if samples == "Infinity" else "noise"
    content = (FOLDER / "fbnet.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    outer = json.loads(content[8 : 8 + size])
    header = json.loads(outer["__metadata__"]["fusecut"])
    header["tasks"][0][key] = json.loads(samples)
    outer["__metadata__"]["fusecut"] = json.dumps(header)
    text = json.dumps(outer).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    with pytest.raises(ModelError, match="not a predictor"):
        load(tmp_path / "m.safetensors")


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="Known: slow"):
        trained().predict("fast", FEW)


def test_predictions_never_fall_below_the_floor() -> None:
    model = Model(Basis.of("fbnet", FEW), {}).learning("low", FEW, np.full(24, 0.001), bounds=("floor", ""))
    assert (model.predict("low", FEW).values >= 10_000).all()


def test_known_tasks_make_a_like_task_learnable_from_ten_samples() -> None:
    """The unseen device is a mixture of two known ones: neither alone nor the features alone would do."""
    many = networks(200, 1)
    first, second = table_latency(many, 1), table_latency(many, 2)
    unseen = 0.7 * first + 0.3 * second
    basis = Basis.of("fbnet", many).knowing(many, {"first": first, "second": second})
    with_tasks, without = (
        Model(b, {}).learning("new", many[:10], unseen[:10]).predict("new", many[10:]).values
        for b in (basis, basis.without_tasks())
    )
    errors = [float(np.abs(p - unseen[10:]).mean()) for p in (with_tasks, without)]
    assert errors[0] < 0.5 * errors[1]


def test_a_task_that_is_taken_out_of_a_basis_is_as_if_it_had_never_been_known() -> None:
    tasks = {"a": table_latency(FEW, 1), "b": table_latency(FEW, 2)}
    plain = Basis.of("fbnet", FEW)
    left, never = plain.knowing(FEW, tasks).without("a"), plain.knowing(FEW, {"b": tasks["b"]})
    np.testing.assert_array_equal(left.phi(FEW), never.phi(FEW))


def test_constant_columns_say_nothing() -> None:
    scaled = Scaling.of(np.array([[1.0, 5.0], [2.0, 5.0]]))(np.array([[7.0, 99.0]]))
    assert scaled[0, 1] == 0.0


def test_the_bundled_models_are_under_five_megabytes_together() -> None:
    assert sum(file.stat().st_size for file in FOLDER.glob("*.safetensors")) < 5_000_000


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_model_is_read(name: str) -> None:
    model = bundled(name)
    assert model.basis.space == name and model.tasks


def buffered() -> tuple[Model, Described]:
    graphs = [member("resnet", seed) for seed in range(12)]
    described = describe_graphs(graphs * 2, [2**16] * 12 + [2**18] * 12)
    values = 0.5 * described.raw[:, NAMES.index("unfused")]
    model = Model(Basis.of("families", described), {})
    return model.learning("dram", described, values, "B", "unfused", ("floor", "unfused"), buffered=True), described


def test_with_sums_the_prediction_is_the_geometric_mean_of_both() -> None:
    model, described = buffered()
    task = model.tasks["dram"]
    closed = Model(model.basis, {"dram": replace(task, sums=np.zeros((0, 0)))}).predict("dram", described)
    raw = described.raw
    summed = np.clip(by_buffer(task.sums, raw, described.extra[:, 0]), raw[:, NAMES.index("floor")], None)
    summed = np.minimum(summed, raw[:, NAMES.index("unfused")])
    found = model.predict("dram", described)
    np.testing.assert_allclose(found.values, np.sqrt(closed.values * summed))
    own = closed.half_widths * found.values / closed.values
    np.testing.assert_allclose(found.half_widths, np.hypot(own, 1.645 * (closed.values - summed) / 2))


def test_sums_are_read_back_as_they_were(tmp_path: Path) -> None:
    model, described = buffered()
    (tmp_path / "m.safetensors").write_bytes(model.save())
    back = load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(back.predict("dram", described), model.predict("dram", described))


@pytest.mark.parametrize("spoil", [lambda t: t[::-1], lambda t: t[:, :-1]])
def test_sums_out_of_order_or_of_another_width_are_refused(tmp_path: Path, spoil: Callable[[Any], Any]) -> None:
    model, _ = buffered()
    task = model.tasks["dram"]
    wrong = Model(model.basis, {"dram": replace(task, sums=spoil(task.sums))})
    (tmp_path / "m.safetensors").write_bytes(wrong.save())
    with pytest.raises(ModelError, match="not a predictor"):
        load(tmp_path / "m.safetensors")
