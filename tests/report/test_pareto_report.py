"""What is made of a front: tables, files, the picture, the command."""

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
from fusecut.pareto import ParetoFront, pareto
from fusecut.report.pareto import COLUMNS, html, sentences, svg, text, to_csv, to_json
from fusecut.testing import Net


@cache
def traded() -> ParetoFront:
    """A front where weights overflow the buffer, so that bands trade bytes for MACs."""
    net = Net("chain")
    x = net.input(32, 16, 16)
    for _ in range(3):
        x = net.conv(x, 32)
    return pareto(net.graph(), 11_200, 11_264)


def test_the_csv_has_a_line_for_each_plan() -> None:
    rows = list(csv.DictReader(StringIO(to_csv(traded()))))
    assert tuple(rows[0]) == COLUMNS
    found = [(int(r["buffer_bytes"]), int(r["dram_bytes"]), int(r["recomputed_macs"])) for r in rows]
    assert found == [point.figures for point in traded().points] and any(macs for _, _, macs in found)


def test_the_json_names_the_plan_of_each_point() -> None:
    data = json.loads(to_json(traded(), {"model": "chain"}))
    assert data["model"] == "chain" and data["ended"] == "" and data["complete_from_bytes"] == 11_200
    for point, kept in zip(data["points"], traded().points, strict=True):
        assert data["plans"][point["plan"]] == kept.partition.names()
        assert sum(point["recomputed_macs_of_groups"]) == point["recomputed_macs"]


def test_the_text_says_what_the_front_covers() -> None:
    assert "complete: every other plan is beaten by one of them, or equals one" in sentences(traded())[0]
    assert all(len(line) <= 80 for line in text(traded(), 80, False).splitlines())


def test_a_front_that_was_stopped_says_where_and_that_it_is_a_part() -> None:
    part = pareto(traded().graph, 11_264, 11_264, effort=6)
    assert sentences(part)[-1] == "out of effort in a buffer of 11 KiB"


def test_the_picture_has_a_dot_for_each_plan_and_loads_nothing() -> None:
    drawn = svg(traded(), "a <b>")
    root = ElementTree.fromstring(drawn)  # noqa: S314
    dots = [e for e in root.iter() if e.tag.endswith("circle")]
    assert len(dots) == len(traded().points)
    assert "a &lt;b&gt;" in drawn and "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in html(traded(), "t") and "every plan" in html(traded(), "t")


def test_plans_of_one_buffer_are_drawn_over_what_they_repeat() -> None:
    one = pareto(traded().graph, 11_264, 11_264)
    drawn = svg(one, "one buffer")
    places = [float(e.attrib["cx"]) for e in ElementTree.fromstring(drawn).iter() if e.tag.endswith("circle")]  # noqa: S314
    assert "millions of MACs repeated, buffer of 11 KiB" in drawn
    assert len(places) == len(one.points) > 1 and len(set(places)) == len(places)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".svg", ".html"])
def test_the_command_writes_every_kind_of_file(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"front{suffix}"
    asked = ["pareto", "zoo:squeezenet1_1", "--buffer", "256KiB", "--scheme", "lbdf", "-o", str(file), "-q"]
    assert main(asked) == 0
    assert file.stat().st_size > 100 and f"written to {file}" in capsys.readouterr().out


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["pareto", "zoo:squeezenet1_1", "--buffer", "256KiB", "--scheme", "lbdf", "--format", "json", "-q"]) == 0
    )
    data = json.loads(capsys.readouterr().out)
    best = fc.solve(fc.zoo("squeezenet1_1"), "256KiB", scheme="lbdf").cost.dram_bytes
    assert [(p["dram_bytes"], p["recomputed_macs"]) for p in data["points"]] == [(best, 0)]


def test_a_buffer_in_which_nothing_runs_is_refused_with_the_op(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pareto", "zoo:squeezenet1_1", "--buffer", "16", "-q"]) == 2
    assert "no plan in 16 B: op " in capsys.readouterr().err
