"""Figures of plans and curves: their numbers are those of the plan, and their files the same in any process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import fusecut as fc
from fusecut.errors import FusecutError, PlanError
from fusecut.report.plots import BarPanel, Line, Stack, compared_bars, dram_curves, draw, plan_bars
from fusecut.report.plots.curves import _powers

ROOT = Path(__file__).parents[2]
NET = fc.zoo("squeezenet1_1")
SCHEMES = ("layerwise", "lbdf")


@pytest.fixture(scope="module")
def solution() -> fc.Solution:
    return fc.solve(NET, buffer="128KiB", scheme="lbdf")


@pytest.fixture(scope="module")
def no_plan() -> fc.Solution:
    return fc.solve(NET, buffer="8B", scheme="lbdf")


def heights(panel: BarPanel) -> list[float]:
    """Of whole bars."""
    return [sum(bar) for bar in zip(*(stack.heights for stack in panel.stacks), strict=True)]


# Data --------------------------------------------------------------------------------------------


def test_bars_of_a_plan_add_up_to_its_bytes_exactly(solution: fc.Solution) -> None:
    traffic, buffer = plan_bars(solution)
    costs = [planned.cost for planned in solution.planned]
    assert [1024 * height for height in heights(traffic)] == [cost.dram_bytes for cost in costs]
    assert [1024 * height for height in heights(buffer)] == [cost.buffer_bytes for cost in costs]
    assert traffic.bars == buffer.bars == tuple(map(str, range(len(costs))))


def test_shares_of_a_bar_are_weights_reads_and_writes(solution: fc.Solution) -> None:
    weights, read, written = plan_bars(solution)[0].stacks
    assert 1024 * sum(weights.heights) == solution.cost.weight_bytes
    assert 1024 * sum(read.heights) == solution.cost.read_bytes - solution.cost.weight_bytes
    assert 1024 * sum(written.heights) == solution.cost.write_bytes


def test_no_bar_is_above_the_capacity(solution: fc.Solution) -> None:
    buffer = plan_bars(solution)[1]
    assert (buffer.limit, buffer.limit_label) == (128.0, "capacity, 128 KiB")
    assert max(heights(buffer)) <= 128.0


def test_plans_compared_are_as_high_as_their_bytes_over_the_floor_of_all() -> None:
    plans = {scheme: fc.solve(NET, buffer="128KiB", scheme=scheme) for scheme in SCHEMES}
    (panel,) = compared_bars(plans, "SqueezeNet")
    assert panel.title == "SqueezeNet" and panel.bars == SCHEMES
    assert heights(panel) == pytest.approx([plan.cost.dram_bytes / 1e6 for plan in plans.values()])
    assert panel.limit == plans["lbdf"].floor_bytes / 1e6


def test_plans_of_different_networks_have_no_common_floor(solution: fc.Solution) -> None:
    (panel,) = compared_bars({"a": solution, "b": replace(solution, floor_bytes=1)})
    assert panel.limit is None


def test_a_search_that_found_no_plan_has_no_bars(no_plan: fc.Solution, solution: fc.Solution) -> None:
    with pytest.raises(PlanError, match="there is no plan"):
        plan_bars(no_plan)
    with pytest.raises(FusecutError, match=r"^tiny: there is no plan to compare"):
        compared_bars({"ours": solution, "tiny": no_plan})


def test_a_curve_is_drawn_point_by_point_to_the_end_of_its_range() -> None:
    curves = [fc.curve(NET, "64KiB", "256KiB", scheme=scheme) for scheme in SCHEMES]
    (panel,) = dram_curves(curves, "t")
    *steps, floor = panel.lines
    for curve, line in zip(curves, steps, strict=True):
        assert line.label == curve.scheme and line.steps and line.low == ()
        assert [1024 * x for x in line.x] == [*(p.buffer_bytes for p in curve.points), 256 * 1024]
        assert line.y == tuple(p.dram_bytes / 1e6 for p in (*curve.points, curve.points[-1]))
    assert floor == Line("floor", (64.0, 256.0), (curves[0].floor_bytes / 1e6,) * 2, dashed=True)


def test_what_is_not_proved_has_a_band_down_to_its_bound() -> None:
    curve = fc.curve(NET, "64KiB", "256KiB", scheme="lbdf")
    points = tuple(replace(point, bound_bytes=point.dram_bytes - 1000) for point in curve.points)
    line = dram_curves([replace(curve, points=points)])[0].lines[0]
    assert line.high == line.y
    assert [round(1e6 * (y - low)) for low, y in zip(line.low, line.y, strict=True)] == [1000] * len(line.y)


def test_no_curve_is_refused() -> None:
    with pytest.raises(FusecutError, match="no curve to draw: none was given"):
        dram_curves([])
    nothing = fc.curve(NET, "4B", "8B", scheme="lbdf")
    with pytest.raises(FusecutError, match=f"no curve to draw: {re.escape(nothing.ended)}"):
        dram_curves([nothing])


def test_ticks_of_a_buffer_are_powers_of_two_and_not_too_many() -> None:
    assert [name for _, name in _powers(48, 1024)] == ["64", "128", "256", "512", "1,024"]
    assert [place for place, _ in _powers(1, 2**12)] == [1, 4, 16, 64, 256, 1024, 4096]
    assert _powers(65, 127) == ()


# Files -------------------------------------------------------------------------------------------

BARS = (BarPanel("b", "x", "KiB", ("0", "1"), (Stack("rows", (1.0, 2.0)), Stack("weights", (0.5, 0.0))), 4.0, "most"),)

_FRESH = """
import sys
from pathlib import Path
from fusecut.report.plots import BarPanel, Stack, draw
stacks = (Stack("rows", (1.0, 2.0)), Stack("weights", (0.5, 0.0)))
draw((BarPanel("b", "x", "KiB", ("0", "1"), stacks, 4.0, "most"),), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_the_same_bars_give_the_same_file_in_any_process(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    here, there = tmp_path / f"here.{suffix}", tmp_path / f"there.{suffix}"
    draw(BARS, str(here))
    env = {**os.environ, "PYTHONHASHSEED": "5", "TZ": "Asia/Tokyo", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", _FRESH, str(there)], check=True, env=env)
    assert here.read_bytes() == there.read_bytes()


def test_every_label_is_in_the_legend(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(BARS, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(f">{word}<" in text for word in ("b", "x", "KiB", "rows", "weights", "most"))


def test_the_examples_of_the_page_draw_its_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = (ROOT / "docs" / "plots.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(re.findall(r"\]\((plot-.*?)\)", page))


def test_fusecut_loads_no_figures_before_they_are_asked_for() -> None:
    code = (
        "import sys, fusecut; assert 'fusecut.report.plots' not in sys.modules\n"
        "assert fusecut.plot.draw and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_that_are_not_there_are_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'fusecut' has no attribute 'plots'"):
        _ = fc.plots  # type: ignore[attr-defined]
