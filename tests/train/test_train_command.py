"""``fusecut train``: from a data set to an explanation, and what it says to bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fusecut
from fusecut.cli import main

pytest.importorskip("torch")
pytest.importorskip("torch_geometric")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "groups.npz"
    command = ["train", "dataset", "--scheme", "lbdf", "--networks", "mobilenet_v1", "alexnet", "--groups", "30"]
    assert main([*command, "-q", "-o", str(path)]) == 0
    return str(path)


def test_validity_then_explainer_then_both_are_read_back(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fusecut.explain.gnn import ValidityModel

    network, taught = str(tmp_path / "validity.safetensors"), str(tmp_path / "pg.safetensors")
    learn = ["--scheme", "lbdf", "--data", data, "-q"]
    assert main(["train", "validity", *learn, "--epochs", "3", "-o", network]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert ValidityModel.load(network, "lbdf").trained.networks == ("alexnet", "mobilenet_v1")
    command = ["train", "explainer", "--name", "pg", *learn, "--validity", network, "--groups", "3", "-o", taught]
    assert main(command) == 0
    assert "taught on" in capsys.readouterr().out


def test_judge_prints_a_table(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "judge", "--scheme", "lbdf", "--data", data, "--epochs", "1", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| trained on | tried on | samples | accuracy | F1 | calibration error |"
    assert lines[-1].startswith("| all but mobilenet |")


REFUSED = {
    "unknown scheme of a validity network 'mixed'": ["validity", "--scheme", "mixed"],
    "was labelled under 'lbdf', not 'brr': make one for this scheme": ["validity", "--scheme", "brr"],
    "has groups of alexnet, mobilenet_v1 only": ["validity", "--scheme", "lbdf", "--networks", "vgg16"],
    "unknown network or family 'resnet19'": ["validity", "--scheme", "lbdf", "--networks", "resnet19"],
    "unknown taught explainer 'gp'. Known: pg, rg": ["explainer", "--name", "gp", "--scheme", "lbdf"],
    "cannot read weights none.safetensors": [
        "explainer", "--name", "pg", "--scheme", "lbdf", "--validity", "none.safetensors"
    ],
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_bad_input_is_told_in_one_line(
    message: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["train", *REFUSED[message], "--data", data, "-q", "-o", str(output)]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not output.exists()


BUNDLED = Path(fusecut.__file__).parent / "explain" / "weights"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((BUNDLED / "validity_brr.safetensors").read_bytes(), "was trained for scheme 'brr': expected one for 'lbdf'"),
        ((BUNDLED / "pg_lbdf.safetensors").read_bytes(), "holds 'pg' weights: expected 'validity'"),
        ((BUNDLED / "validity_lbdf.safetensors").read_bytes()[:3000], "is damaged or no safetensors file"),
        (b"\x07 not weights at all", "is damaged or no safetensors file"),
        (b"", "is damaged or no safetensors file"),
    ],
    ids=["other scheme", "other kind", "cut off", "junk", "empty"],
)
def test_a_wrong_validity_network_is_told_in_one_line(
    content: bytes, message: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, output = tmp_path / "network.safetensors", tmp_path / "out"
    network.write_bytes(content)
    learn = ["--scheme", "lbdf", "--data", data, "--validity", str(network), "-q", "-o", str(output)]
    assert main(["train", "explainer", "--name", "pg", *learn]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not output.exists()


def test_a_place_that_cannot_be_written_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = str(tmp_path / "none" / "groups.npz")
    assert main(["train", "dataset", "--scheme", "lbdf", "-q", "-o", nowhere]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_seed_teaches_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    first, again = (_taught_afresh(tmp_path / hash_seed, hash_seed) for hash_seed in ("1", "2"))
    assert first == again


def _taught_afresh(folder: Path, hash_seed: str) -> dict[str, bytes]:
    """Data set, validity network and explainers, each made by a process of its own."""
    folder.mkdir()
    data, network = str(folder / "groups.npz"), str(folder / "validity.safetensors")
    learn = ["--data", data, "--validity", network, "--groups", "3"]
    for command in (
        ["dataset", "--networks", "mobilenet_v1", "alexnet", "--groups", "30", "-o", data],
        ["validity", "--data", data, "--epochs", "2", "-o", network],
        *(["explainer", "--name", name, *learn, "-o", str(folder / f"{name}.safetensors")] for name in ("pg", "rg")),
    ):
        whole = [sys.executable, "-m", "fusecut", "train", *command, "--scheme", "lbdf", "--seed", "3", "-q"]
        subprocess.run(whole, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}
