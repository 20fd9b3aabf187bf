"""What is made of a curve: gains, knees, tables, files, pictures, the command."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

import fusecut as fc
from fusecut.cli import main
from fusecut.curve import Curve, Point, curve
from fusecut.errors import FusecutError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import LineBuffer
from fusecut.partition import Partition
from fusecut.report._svg import LETTER, LINE_HEIGHT
from fusecut.report.curve_plot import html, svg
from fusecut.report.curve_text import COLUMNS, labels, telling, text, to_csv, to_json
from fusecut.testing import Net


def pair() -> Graph:
    net = Net("pair")
    net.conv(net.conv(net.input(8, 32, 16), 8), 8)
    return net.graph()


# Gains and knees -----------------------------------------------------------------------------------


def drawn(*corners: tuple[int, int], floor: int = 0, last: int | None = None, scheme: str = "mixed") -> Curve:
    """A curve with these corners."""
    graph = pair()
    plan = Partition.singletons(graph)
    points = tuple(Point(x, y, y, plan) for x, y in corners)
    machine = Machine(corners[-1][0] if last is None else last)
    return Curve(graph, machine, scheme, points[0].buffer_bytes, floor, points, "", 0, 0.0, LineBuffer())


def test_gains_go_from_nothing_at_the_first_point_to_all_at_the_floor() -> None:
    found = drawn((1_024, 1_000), (2_048, 700), (4_096, 200), floor=200)
    assert [found.gained(point) for point in found.points] == [0.0, 0.375, 1.0]


def test_a_curve_that_is_on_the_floor_gains_nothing() -> None:
    found = drawn((1_024, 500), floor=500)
    assert found.gained(found.points[0]) == 0.0


def test_the_knee_is_where_a_steep_slope_turns_flat() -> None:
    found = drawn((1_024, 1_000), (2_048, 600), (4_096, 200), (8_192, 190), (16_384, 180), (32_768, 170))
    assert [point.buffer_bytes for point in found.knees()] == [4_096]


def test_a_straight_curve_has_no_knee() -> None:
    assert drawn((1_024, 900), (2_048, 600), (4_096, 300), (8_192, 0)).knees() == ()


def test_every_knee_divides_the_curve_and_the_most_pronounced_come_first() -> None:
    found = drawn((1_024, 1_000), (2_048, 500), (4_096, 490), (8_192, 480), (16_384, 100), (32_768, 90), last=2**20)
    assert [point.buffer_bytes for point in found.knees(1)] == [16_384]
    assert [point.buffer_bytes for point in found.knees()] == [2_048, 16_384]


# What is made of it --------------------------------------------------------------------------------


@cache
def three() -> tuple[Curve, ...]:
    return tuple(
        fc.curve(fc.zoo("squeezenet1_1"), "112KiB", "8MiB", scheme=scheme) for scheme in ("mixed", "lbdf", "layerwise")
    )


def test_csv_holds_every_point_of_every_curve() -> None:
    rows = list(csv.DictReader(StringIO(to_csv(three()))))
    assert tuple(rows[0]) == COLUMNS
    told = [(r["scheme"], int(r["buffer_bytes"]), int(r["dram_bytes"]), int(r["bound_bytes"])) for r in rows]
    assert told == [(c.scheme, p.buffer_bytes, p.dram_bytes, p.bound_bytes) for c in three() for p in c.points]


def test_json_lists_each_plan_once_and_points_lead_to_theirs() -> None:
    data = json.loads(to_json(three(), {"model": "zoo:squeezenet1_1"}))
    for told, found in zip(data["curves"], three(), strict=True):
        assert [told["plans"][p["plan"]] for p in told["points"]] == [p.partition.names() for p in found.points]
        assert len({json.dumps(plan) for plan in told["plans"]}) == len(told["plans"])


def test_the_picture_is_well_formed_and_needs_nothing_from_outside() -> None:
    for page in (svg(three(), "squeezenet"), html(three(), "squeezenet")):
        assert not re.search(r"(?:href=|src=|@import|url\(|<script)", page.replace("http://www.w3.org/2000/svg", ""))
    root = ElementTree.fromstring(svg(three(), "squeezenet").encode())  # noqa: S314 (our own text)
    assert root.tag.endswith("svg")


def steps_of(page: str) -> list[list[tuple[float, float]]]:
    paths = re.findall(r'<path [^>]*fill="none"[^>]* d="M([^"]*)"', page)
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in path.split(" L"))] for path in paths]


def test_lines_are_steps_that_only_fall() -> None:
    for path in steps_of(svg(three()[:1], "squeezenet")):
        for (x0, y0), (x1, y1) in pairwise(path):
            assert (x0 == x1 and y1 >= y0) or (y0 == y1 and x1 >= x0)


def test_curves_that_coincide_share_a_line_and_both_names() -> None:
    same = drawn((1_024, 900), (2_048, 500)), drawn((1_024, 900), (2_048, 500), scheme="lbdf")
    page = svg(same, "twice")
    assert len(steps_of(page)) == 1 and "mixed = lbdf" in page


def test_words_at_knees_keep_off_the_lines_of_other_curves_where_there_is_room() -> None:
    mine = drawn((1_024, 1_000), (2_048, 700), (4_096, 400), floor=390, last=65_536)
    above = drawn((1_024, 1_100), (2_048, 800), (4_096, 500), floor=390, last=65_536, scheme="lbdf")
    page = svg((mine, above), "two")
    lines = steps_of(page)
    for x, y, anchor, said in re.findall(
        r'<text [^>]*x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]* buys [^<]*)<', page
    ):
        assert anchor == "start"
        left, right, top, bottom = float(x), float(x) + LETTER * len(said), float(y) + 3 - LINE_HEIGHT, float(y) + 3
        for (x0, y0), (x1, y1) in (step for line in lines for step in pairwise(line)):
            assert x1 <= left or x0 >= right or max(y0, y1) <= top or min(y0, y1) >= bottom


def test_knees_are_named_in_the_picture() -> None:
    page = svg(three(), "squeezenet")
    for point in three()[0].knees():
        assert f">{-(-point.buffer_bytes // 1024):,} KiB buys " in page


def test_names_are_only_ever_text() -> None:
    hostile = replace(three()[0], scheme="</text><script>alert(1)</script>")
    for page in (svg([hostile], "<b>&"), html([hostile], "<b>&")):
        assert "<script" not in page and "<b>" not in page


def test_what_is_not_proved_is_shaded_and_said() -> None:
    plan = Partition.singletons(pair())
    sure = drawn((1_024, 900), (2_048, 500))
    unsure = replace(sure, points=(sure.points[0], Point(2_048, 500, 450, plan)))
    assert "fill-opacity" in svg([unsure], "x") and "fill-opacity" not in svg([sure], "x")
    assert "1 of them not proved, gap at most 10.00 %" in text([unsure], 100, False)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(FusecutError, match="nothing to draw: no plan in 3 B"):
        svg([curve(pair(), 1, 3)], "chain")


def test_labels_name_what_differs() -> None:
    four = replace(three()[0], machine=Machine(9, weight_bits=4))
    assert labels([three()[0], four]) == ["8-bit weights", "4-bit weights"]
    assert labels(three()) == ["mixed", "lbdf", "layerwise"] and labels(three()[:1]) == ["mixed"]


def test_the_terminal_shows_large_steps_and_says_how_many_it_hides() -> None:
    found = three()[0]
    hidden = len(found.points) - len(telling(found))
    assert hidden > 0 and f"{hidden:,} smaller steps not shown" in text([found], 100, False)
    assert "not shown" not in text([found], 100, False, every=True)
    for a, b in pairwise(telling(found)[:-1]):
        assert b in found.knees() or found.gained(b) - found.gained(a) >= 0.02


# The command ---------------------------------------------------------------------------------------

COMMAND = ("curve", "zoo:squeezenet1_1", "--from", "90KiB", "--to", "96KiB")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*COMMAND, *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_prints_both_default_schemes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0 and out.startswith("mixed\n") and "\nlayerwise\n" in out


def test_json_on_stdout_is_the_curve(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = run(capsys, "--format", "json", "--scheme", "lbdf")
    told = json.loads(out)["curves"][0]
    found = fc.curve(fc.zoo("squeezenet1_1"), "90KiB", "96KiB", scheme="lbdf")
    assert err == "" and told == json.loads(json.dumps(found.to_dict()))


@pytest.mark.parametrize("suffix", ["csv", "json", "svg", "html"])
def test_the_suffix_says_what_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curve.{suffix}"
    code, out, _ = run(capsys, "-o", str(path))
    start = {"csv": "scheme,", "json": "{", "svg": "<?xml", "html": "<!doctype html>"}[suffix]
    assert code == 0 and f"written to {path}" in out and path.read_text().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "curve.png"), "cannot tell what to write into curve.png: end its name in .csv, .json, .svg, .html"),
        (("--scheme", "mixed,brrr"), "unknown scheme 'brrr'"),
        (("--weight-bits", "4,x"), "argument --weight-bits: 'x' is not a whole number of 0 or more"),
        (("--weight-bits", "4,5"), "weight_bits is 5: it must be one of"),
        (("--from", "97KiB"), "a curve from 97 KiB to 96 KiB is empty"),
        (("--from", "1", "--to", "9"), "zoo:squeezenet1_1: no plan in 9 B: op "),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err


def told_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Iterator[dict[str, object]]:
    out = run(capsys, "--scheme", "lbdf", "--format", "json", *arguments)[1]
    yield from json.loads(out)["curves"]


def test_widths_given_in_a_list_make_a_curve_each(capsys: pytest.CaptureFixture[str]) -> None:
    machines = [told["machine"] for told in told_of(capsys, "--weight-bits", "4,8", "--activation-bits", "8,16")]
    pairs = [(m["activation_bits"], m["weight_bits"]) for m in machines]  # type: ignore[index]
    assert pairs == [(8, 4), (8, 8), (16, 4), (16, 8)]


def test_an_input_named_twice_makes_a_curve_for_each_shape(capsys: pytest.CaptureFixture[str]) -> None:
    name = fc.zoo("squeezenet1_1").tensors[fc.zoo("squeezenet1_1").inputs[0]].name
    shapes = [f"--input-shape={name}=1x3x{size}x{size}" for size in (160, 224)]
    told = [list(one["inputs"].values()) for one in told_of(capsys, *shapes)]  # type: ignore[attr-defined]
    assert told == [[[1, 3, 160, 160]], [[1, 3, 224, 224]]]


def test_the_same_bytes_come_out_of_every_process(tmp_path: Path) -> None:
    pages = set()
    for seed in ("0", "1"):
        path = tmp_path / f"{seed}.json"
        command = [sys.executable, "-m", "fusecut", *COMMAND, "-q", "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
        pages.add(path.read_bytes())
    assert len(pages) == 1
