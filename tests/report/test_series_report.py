"""DRAM bytes over bits and resolution: against independent solves, as tables, files, pictures, the command."""

from __future__ import annotations

import csv
import json
from functools import cache
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest

import fusecut as fc
from fusecut.cli import main
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.report.series import COLUMNS, cells, html, labels, sentences, svg, text, to_csv, to_json
from fusecut.series import Case, Series, series
from fusecut.solve import Progress
from fusecut.testing import Net

NAME = "zoo:squeezenet1_1"


def small() -> Graph:
    net = Net("small")
    x = net.input(8, 32, 16)
    for channels in (8, 16, 16):
        x = net.conv(x, channels)
    return net.graph()


@cache
def over_weights(scheme: str = "lbdf") -> Series:
    cases = [Case(bits, small(), Machine(6_000, weight_bits=bits)) for bits in (4, 8, 16)]
    return series("weight bits", cases, scheme=scheme)


def test_every_sample_is_what_a_solve_of_its_own_finds() -> None:
    for sample in over_weights().samples:
        alone = fc.solve(small(), machine=Machine(6_000, weight_bits=sample.value), scheme="lbdf")
        assert (sample.dram_bytes, sample.bound_bytes, sample.proved) == (alone.cost.dram_bytes, alone.bound, True)


def test_more_bits_never_move_fewer_bytes() -> None:
    moved = [sample.dram_bytes or 0 for sample in over_weights().samples]
    assert moved == sorted(moved) and moved[0] < moved[-1]


def test_a_value_at_which_nothing_runs_is_a_sample_that_says_so() -> None:
    found = series("weight bits", [Case(bits, small(), Machine(40, weight_bits=bits)) for bits in (1, 64)])
    refused = [sample for sample in found.samples if sample.refused]
    assert refused and refused[0].dram_bytes is None and not refused[0].proved
    assert any(line.startswith(f"no plan at {refused[0].value}: op 'conv") for line in sentences(found))
    assert cells(found)[-1][1] == "-"


def test_an_interrupt_keeps_the_values_that_are_done() -> None:
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.dram_bytes is not None and len(seen) > first:
            raise KeyboardInterrupt

    first = 1 << 30
    cases = [Case(bits, small(), Machine(6_000, weight_bits=bits)) for bits in (4, 8)]
    series("weight bits", cases[:1], scheme="lbdf", on_progress=stop)
    first = len(seen)
    seen.clear()
    found = series("weight bits", cases, scheme="lbdf", on_progress=stop)
    assert [sample.value for sample in found.samples] == [4] and found.ended == "interrupted at 8"


def test_the_files_hold_every_sample() -> None:
    found = [over_weights("lbdf"), over_weights("layerwise")]
    rows = list(csv.DictReader(StringIO(to_csv(found))))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 6
    assert [int(row["weight_bits"]) for row in rows] == [4, 8, 16, 4, 8, 16]
    data = json.loads(to_json(found, {"model": "small"}))
    assert [s["value"] for s in data["series"][0]["samples"]] == [4, 8, 16]
    assert data["series"][0]["over"] == "weight bits" and data["series"][0]["proved"]
    assert labels(found) == ["lbdf", "layerwise"]


def test_the_picture_has_a_line_for_each_series_and_for_the_floor() -> None:
    drawn = svg([over_weights()], "small")
    paths = [e for e in ElementTree.fromstring(drawn).iter() if e.tag.endswith("path")]  # noqa: S314
    assert len(paths) == 3 and "layerwise (no fusion)" in drawn and ">floor<" in drawn
    assert "every value" in html([over_weights()], "small")
    assert all(len(line) <= 80 for line in text([over_weights()], 80, False).splitlines())


@pytest.mark.parametrize("suffix", [".csv", ".json", ".svg", ".html"])
def test_the_command_writes_every_kind_of_file(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"bits{suffix}"
    asked = ["curve", NAME, "--over", "weight-bits", "--buffer", "256KiB", "--scheme", "lbdf", "-o", str(file), "-q"]
    assert main(asked) == 0
    assert file.stat().st_size > 100 and f"written to {file}" in capsys.readouterr().out


def test_resolution_reads_the_network_again_at_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["curve", NAME, "--over", "resolution", "--values", "96,128", "--buffer", "256KiB", "--scheme", "lbdf"]
    assert main([*asked, "--format", "json", "-q"]) == 0
    samples = json.loads(capsys.readouterr().out)["series"][0]["samples"]
    for sample in samples:
        side = sample["value"]
        graph = fc.load(NAME, input_shapes={fc.zoo("squeezenet1_1").tensors[0].name: (1, 3, side, side)})
        assert sample["dram_bytes"] == fc.solve(graph, "256KiB", scheme="lbdf").cost.dram_bytes


def test_a_network_that_insists_on_its_size_is_refused_with_the_op(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["curve", "zoo:alexnet", "--over", "resolution", "--values", "96", "--buffer", "256KiB", "-q"]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert said.startswith("fusecut: at 96 pixels: ") and "'node_view' (Reshape)" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--over", "weight-bits"], "the following arguments are required: --buffer SIZE or --machine NAME"),
        (["--over", "colour", "--buffer", "64KiB"], "unknown --over 'colour'"),
        (["--buffer", "64KiB"], "--values and --buffer belong to --over WHAT"),
        (["--over", "weight-bits", "--values", "3", "--buffer", "64KiB"], "weight_bits is 3"),
        (["--over", "resolution", "--values", "0", "--buffer", "64KiB"], "a resolution of 0 pixels"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curve", NAME, *options, "-q"]) == 2
    assert said in capsys.readouterr().err
