"""The training command on a synthetic device, and on measured ones where their data is to be had."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors")

from fusecut.cli import main
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.predict.bundle import bundled
from fusecut.predict.metrics import metrics
from fusecut.predict.model import Model
from fusecut.predict.spaces import fbnet
from fusecut.predictions import predict
from fusecut.train.predictor import cross_validated, describe, read_latencies, train
from fusecut.zoo import path as zoo_file

DATA = Path(os.environ.get("FUSECUT_LATENCIES", "../shared/data/hardware_latency.npz"))
measured = pytest.mark.skipif(not DATA.is_file(), reason="measured latencies are not part of the project")


def device(arch: str) -> float:
    """Milliseconds of a made-up device: so much for an op and a MAC, and a table over layers."""
    graph = fbnet.graph(arch)
    table = float(fbnet.choices(arch) @ np.random.default_rng(9).random(108))
    return 3.0 + 0.1 * len(graph) + 1e-7 * sum(op.macs for op in graph.ops) + 0.2 * table


def archs(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [fbnet.sample(rng) for _ in range(count)]


def write(path: Path, rows: list[tuple[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("arch", "value"), *rows])
    return path


def test_a_new_device_is_learnt_from_sixty_labels_by_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = write(tmp_path / "labels.csv", [(a, device(a)) for a in archs(60)])
    asked = write(tmp_path / "asked.csv", [(a, device(a)) for a in archs(60, 1)])
    model, out = tmp_path / "m.safetensors", tmp_path / "out.csv"
    assert main(f"train predictor --space fbnet --labels {labels} --task mine --unit ms -o {model}".split()) == 0
    assert main(f"predict --archs {asked} --task mine --model {model} -o {out}".split()) == 0
    with out.open(encoding="utf-8") as file:
        predicted = np.array([float(row["value"]) for row in csv.DictReader(file)])
    assert metrics(np.array([device(a) for a in archs(60, 1)]), predicted).srcc > 0.9
    assert "rank correlation 0.9" in capsys.readouterr().err


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e12])
def test_labels_of_any_unit_are_learnt(tmp_path: Path, factor: float) -> None:
    labels = write(tmp_path / "x.csv", [(a, factor * device(a)) for a in archs(30)])
    assert train("fbnet", labels, "mine").held_out is not None
    asked = describe("fbnet", archs(10, 1))
    found = train("fbnet", labels, "mine").model.predict("mine", asked).values / factor
    np.testing.assert_allclose(found, [device(a) for a in archs(10, 1)], rtol=0.3)


def test_labels_over_decades_are_learnt(tmp_path: Path) -> None:
    labels = write(tmp_path / "x.csv", [(a, 10 ** (device(a) / 2)) for a in archs(40)])
    trained = train("fbnet", labels, "mine")
    assert trained.model.tasks["mine"].fitted.log and trained.held_out is not None and trained.held_out.srcc > 0.6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_labels_train_and_say_that_they_are_few(tmp_path: Path, count: int) -> None:
    trained = train("fbnet", write(tmp_path / "x.csv", [(a, device(a)) for a in archs(count)]), "mine")
    assert trained.held_out is None and "too few" in trained.notes[-1]
    assert np.isfinite(trained.model.predict("mine", describe("fbnet", archs(5, 1)))).all()


def test_missing_unknown_and_repeated_rows_are_told(tmp_path: Path) -> None:
    good = [(a, device(a)) for a in archs(12)]
    bad = [(archs(1, 5)[0], ""), ("what", 1.0), good[0], (good[1][0], "nan")]
    trained = train("fbnet", write(tmp_path / "x.csv", [*good, *bad]), "mine")
    assert trained.samples == 12
    assert [n.split()[0] for n in trained.notes] == ["2", "1", "1"]


def test_labels_of_zero_and_less_are_learnt(tmp_path: Path) -> None:
    labels = write(tmp_path / "x.csv", [(a, device(a) - 19) for a in archs(30)])
    trained = train("fbnet", labels, "mine")
    assert trained.held_out is not None and trained.held_out.srcc > 0.5


def test_the_same_labels_train_to_the_same_bytes(tmp_path: Path) -> None:
    labels = write(tmp_path / "x.csv", [(a, device(a)) for a in archs(20)])
    one, two = (train("fbnet", labels, "mine").model.save() for _ in range(2))
    assert one == two


def test_any_network_is_a_space_too(tmp_path: Path) -> None:
    names = [f"mobilenet_v2:{i}" for i in range(12)]
    labels = write(tmp_path / "x.csv", [(n, 1.0 + i) for i, n in enumerate(names)])
    assert train("onnx", labels, "mine").samples == 12


def test_a_model_of_one_space_ranks_networks_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write(tmp_path / "x.csv", [(a, device(a)) for a in archs(30)])
    model = tmp_path / "m.safetensors"
    assert main(f"train predictor --space fbnet --labels {labels} --task mine -o {model}".split()) == 0
    assert main(f"predict mobilenet_v2:1 --task mine --model {model}".split()) == 0
    assert "mobilenet_v2:1" in capsys.readouterr().out


def test_an_unknown_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="fbnet"):
        train("fbnets", write(tmp_path / "x.csv", []), "mine")


def test_a_place_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = write(tmp_path / "x.csv", [(a, device(a)) for a in archs(3)])
    assert main(f"train predictor --space fbnet --labels {labels} --task m -o {tmp_path}/no/m".split()) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\x93NUMPY", b"arch,value", b"PK\x03\x04 and nothing more"])
def test_latencies_that_are_no_npz_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(FusecutError, match=r"not an \.npz file"):
        read_latencies(tmp_path / "x.npz")


def test_a_file_without_latencies_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    with pytest.raises(FusecutError, match="holds no latencies"):
        read_latencies(tmp_path / "x.npz")


@measured
@pytest.mark.parametrize(("space", "name"), [("fbnet", "raspi4"), ("fbnet", "eyeriss"), ("nasbench201", "raspi4")])
def test_fifty_labels_of_an_unseen_device_meet_the_aim(space: str, name: str) -> None:
    """Rank correlation over 0.9 and an error under 5 % of the range, the device itself not among those known."""
    (latencies,) = [t for t in read_latencies(DATA) if t.space == space]
    if name not in latencies.devices:
        pytest.skip(f"no latencies of {name}")
    chosen = np.random.default_rng(0).permutation(len(latencies.archs))[:350]
    values = latencies.values[latencies.devices.index(name)][chosen]
    networks = describe(space, [latencies.archs[i] for i in chosen])
    model = Model(bundled(space).basis.without(name), {}).learning("new", networks[:50], values[:50])
    found = metrics(values[50:], model.predict("new", networks[50:]).values)
    assert found.srcc > 0.9 and found.mae < 0.05


def test_cross_validation_predicts_only_what_it_did_not_see() -> None:
    """A target that no feature tells cannot be predicted, however well it could be remembered."""
    networks = describe("fbnet", archs(60))
    noise = np.random.default_rng(1).random(60)
    found = cross_validated(Model(bundled("fbnet").basis, {}), networks, noise, np.random.default_rng(0))
    assert abs(found.srcc) < 0.5


def test_rank_puts_the_cheaper_network_of_a_folder_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("resnet18", "squeezenet1_1"):
        (tmp_path / f"{name}.onnx").write_bytes(zoo_file(name).read_bytes())
    assert main(f"rank {tmp_path} --task dram@256KiB --format json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(row["network"]).stem for row in found] == ["squeezenet1_1", "resnet18"]


def test_a_folder_without_networks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"rank {tmp_path} --task dram@256KiB".split()) == 2
    assert "has no .onnx file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "words"),
    [("dram@1KiB", "beyond what was learnt"), ("eyeris", "eyeriss"), ("dram@x", "not a size"), ("dram", "dram@SIZE")],
)
def test_a_task_that_cannot_be_predicted_says_why(task: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "mobilenet_v2:1", "--task", task]) == 2
    assert words in capsys.readouterr().err


def test_mixed_is_what_solve_finds_by_default() -> None:
    one, other, lbdf = (predict(["mobilenet_v3:7"], f"{t}@64KiB")[0].value for t in ("dram", "mixed", "lbdf"))
    assert one == other < lbdf


def test_networks_of_two_spaces_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", f"fbnet:{archs(1)[0]}", "mobilenet_v2:1", "--task", "eyeriss"]) == 2
    assert "one space at a time" in capsys.readouterr().err
