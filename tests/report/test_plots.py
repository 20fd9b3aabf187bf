"""Figures: what they show, checked as data; and files that are the same in any process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fusecut.bench import Row
from fusecut.cli import main
from fusecut.errors import FusecutError
from fusecut.report.plots import Line, Panel, draw, gap_curves
from fusecut.report.plots.canvas import _ticks

Trace = tuple[tuple[int, int, int], ...]


def row(network: str = "n", searcher: str = "local", seed: int = 0, trace: Trace = ((1, 5, 200), (9, 20, 100))) -> Row:
    plans, evaluations, dram = trace[-1]
    return Row(network, "1KiB", "lbdf", searcher, "random", seed, dram, 80, True, plans, evaluations, 0.5, trace)


def at(line: Line, x: float) -> float:
    """The value of the last point up to x."""
    return [y for place, y in zip(line.x, line.y, strict=True) if place <= x][-1]


# Data --------------------------------------------------------------------------------------------


def test_a_line_is_the_gap_of_the_best_plan_so_far() -> None:
    plans, evaluations = gap_curves([row()])
    (line,) = plans.lines
    assert (at(line, 1), at(line, 8.4), at(line, 9)) == (60.0, 60.0, 20.0)
    (line,) = evaluations.lines
    assert (line.x[0], at(line, 5), at(line, 19), at(line, 20)) == (5.0, 60.0, 60.0, 20.0)


def test_a_line_is_the_median_of_the_seeds_between_their_quartiles() -> None:
    rows = [row(seed=k, trace=((1, 1, 200), (9, 9, dram))) for k, dram in enumerate((80, 100, 160))]
    (line,) = gap_curves(rows)[0].lines
    assert (line.low[-1], line.y[-1], line.high[-1]) == (10.0, 20.0, 35.0)


def test_a_line_begins_where_every_seed_has_a_plan() -> None:
    rows = [row(seed=0, trace=((1, 1, 200), (50, 50, 100))), row(seed=1, trace=((30, 30, 200), (50, 50, 100)))]
    (line,) = gap_curves(rows)[0].lines
    assert line.x[0] >= 30


def test_a_run_that_has_ended_keeps_its_gap_and_has_a_dot_there() -> None:
    short, long = row(searcher="greedy", trace=((2, 9, 100),)), row(trace=((1, 5, 200), (90, 300, 100)))
    greedy, local = gap_curves([short, long])[0].lines
    assert (greedy.end, local.end) == (2, 90)
    assert greedy.x[-1] == local.x[-1] == 90 and set(greedy.y) == {20.0}


def test_splitters_are_lines_of_their_own_where_there_are_several() -> None:
    rows = [row(), Row("n", "1KiB", "lbdf", "local", "cost_guided", 0, 90, 80, True, 3, 4, 0.5, ((1, 1, 90),))]
    assert [line.label for line in gap_curves(rows)[0].lines] == ["local + random", "local + cost_guided"]


def test_of_many_networks_the_median_and_the_hardest_are_shown() -> None:
    rows = [row(f"zoo:{k}", trace=((1, 1, 200), (9, 9, 80 + 10 * k))) for k in range(5)]
    panels = gap_curves(rows)
    titles = ["median of 5 cases", "4, 1KiB, lbdf", "3, 1KiB, lbdf"]
    assert [panel.title for panel in panels] == [title for title in titles for _ in range(2)]
    assert panels[0].lines[0].y[-1] == 20.0


def test_ticks_are_round_and_at_least_three() -> None:
    assert _ticks(1, 5000) == [1, 10, 100, 1000]
    assert _ticks(250, 2700) == [500, 1000, 2000]
    assert _ticks(110, 140) == []


# Files -------------------------------------------------------------------------------------------

PANELS = (Panel("a & b", "x", "y", (Line("local", (1.0, 10.0), (50.0, 0.0), (40.0, 0.0), (60.0, 0.5), 5.0),)),)

_FRESH = """
import sys
from pathlib import Path
from fusecut.report.plots import Line, Panel, draw
draw((Panel("a & b", "x", "y", (Line("local", (1.0, 10.0), (50.0, 0.0), (40.0, 0.0), (60.0, 0.5), 5.0),)),), Path(sys.argv[1]))
"""  # noqa: E501


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_the_same_panels_give_the_same_file_in_any_process(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    here, there = tmp_path / f"here.{suffix}", tmp_path / f"there.{suffix}"
    draw(PANELS, here)
    env = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", _FRESH, str(there)], check=True, env=env)
    assert here.read_bytes() == there.read_bytes()


def test_an_svg_is_well_formed_and_its_text_is_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "a.svg"
    draw(PANELS, path)
    text = " ".join(ElementTree.parse(path).getroot().itertext())  # noqa: S314 (our own file)
    assert "a & b" in text and "local" in text


@pytest.mark.parametrize("name", ["a.gif", "a"])
def test_other_files_are_refused_by_name(name: str) -> None:
    with pytest.raises(FusecutError, match=r"is no figure; write \.svg, \.pdf or \.png"):
        draw(PANELS, Path(name))


def test_nothing_to_show_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(FusecutError, match="there is nothing to show"):
        draw((), tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusecut.report.plots.canvas.find_spec", lambda name: None)
    with pytest.raises(FusecutError, match=r"a figure needs matplotlib: pip install 'fusecut\[plot\]'"):
        draw(PANELS, Path("a.svg"))


# Command -----------------------------------------------------------------------------------------


def test_the_command_draws_rows_that_were_written_before(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows, again, figure = (tmp_path / name for name in ("rows.csv", "rows.json", "gaps.svg"))
    command = ["bench", "searchers", "-q", "--networks", "zoo:squeezenet1_1", "--searchers", "local", "greedy"]
    assert main([*command, "--seeds", "2", "--max-plans", "20", "-o", str(rows), "--figure", str(figure)]) == 0
    first = figure.read_bytes()
    assert main(["bench", "searchers", "--rows", str(rows), "-o", str(again), "--figure", str(figure)]) == 0
    assert main(["bench", "searchers", "--rows", str(again), "--figure", str(figure)]) == 0
    assert figure.read_bytes() == first and b"squeezenet1_1" in first
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("figure", "says"), [("a.gif", "write .svg, .pdf or .png"), ("no/such/folder/a.svg", "cannot write")]
)
def test_a_figure_that_cannot_be_written_is_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str], figure: str, says: str
) -> None:
    assert main(["bench", "searchers", "--networks", "zoo:nowhere", "--figure", figure]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1


def test_solving_loads_no_matplotlib() -> None:
    code = "import sys, fusecut.cli, fusecut.commands, fusecut.report.plots; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
