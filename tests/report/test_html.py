"""The report: its figures add up to the plan's, and its page lets nothing in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import fusecut as fc
from fusecut.cli import main
from fusecut.errors import PlanError
from fusecut.ir import Graph, Op, Tensor
from fusecut.models import default_lines
from fusecut.report.html import page, report, write_report
from fusecut.report.html_data import ACCUMULATORS, WEIGHTS, ReportData, report_data
from fusecut.solution import Solution

LINES = default_lines("mixed")
NETWORKS = {"mobilenet_v2": "lbdf", "mobilenet_v3_small": "lbdf", "resnet18": "mixed", "squeezenet1_1": "mixed"}


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def solution(request: pytest.FixtureRequest) -> Solution:
    return fc.solve(fc.zoo(request.param), "128KiB", scheme=NETWORKS[request.param])


@pytest.fixture(scope="module")
def data(solution: Solution) -> ReportData:
    return report_data(solution, LINES)


def test_parts_of_every_group_add_up_to_its_buffer(data: ReportData) -> None:
    for group in data.groups:
        assert sum(part.nbytes for part in group.parts) == group.buffer_bytes


def test_what_crosses_adds_up_to_the_traffic(data: ReportData) -> None:
    for group in data.groups:
        moved = {way: sum(c.nbytes for c in group.crossings if c.direction == way) for way in ("read", "write")}
        assert (moved["read"], moved["write"]) == (group.read_bytes, group.write_bytes)
    assert sum(group.dram_bytes for group in data.groups) == data.dram_bytes


def test_the_timeline_never_holds_more_than_is_reserved(data: ReportData) -> None:
    for group in data.groups:
        assert group.timeline and max(sum(held) for held in group.timeline) <= group.buffer_bytes


def test_the_fullest_moment_of_a_group_is_what_one_shared_pool_would_need(solution: Solution, data: ReportData) -> None:
    for group, planned in zip(data.groups, solution.planned, strict=True):
        assert max(sum(held) for held in group.timeline) == planned.cost.pooled_buffer_bytes


def test_weights_are_resident_when_rows_stream(data: ReportData) -> None:
    for group in data.groups:
        held = sum(part.nbytes for part in group.parts if part.kind == WEIGHTS)
        if group.scheme == "lbdf":
            assert held == group.weight_bytes == max(weights for _, weights, _ in group.timeline)


def test_exactly_the_tensors_that_cross_between_groups_are_spilled(solution: Solution, data: ReportData) -> None:
    assert solution.partition is not None
    graph, groups = solution.partition.graph, solution.partition.groups
    for t, tensor in enumerate(data.tensors):
        read_in = [g for g in groups if t in graph.reads(g)]
        assert tensor.spilled == (bool(read_in) and graph.producer[t] >= 0)


def test_rivals_come_with_the_plan_between_no_fusion_and_the_floor(solution: Solution) -> None:
    rivals = report_data(solution, LINES, greedy_bytes=solution.cost.dram_bytes + 1).rivals
    assert [r.name for r in rivals] == ["without fusion", "greedy fusion", "this plan", "floor"]
    assert sorted((r.dram_bytes for r in rivals), reverse=True) == [r.dram_bytes for r in rivals]


def test_squeeze_excite_sums_are_shown_as_accumulators() -> None:
    solution = fc.solve(fc.zoo("mobilenet_v3_small"), "256KiB", scheme="lbdf")
    assert any(part.kind == ACCUMULATORS for group in report_data(solution, LINES).groups for part in group.parts)


def test_a_plan_without_proof_states_the_gap_and_the_bound() -> None:
    solution = fc.solve(fc.zoo("googlenet"), "128KiB", scheme="lbdf", search=fc.search.Greedy())
    data = report_data(solution, LINES)
    assert "proved bound" in {r.name for r in data.rivals} and not data.optimal
    assert f"{solution.bound:,} B" in data.certificate[1] and f"{100 * solution.gap:.2f} %" in data.certificate[1]


def test_a_cost_model_of_somebody_elses_is_reported_without_explanations() -> None:
    def tool(group: Mapping[str, Any]) -> dict[str, Any]:
        moved = sum(group["tensors"][t]["bytes"] for t in group["reads"] + group["writes"])
        moved += sum(op["weight_bytes"] for op in group["ops"])
        return {"feasible": len(group["ops"]) <= 2, "buffer_bytes": 1024, "dram_bytes": moved}

    solution = fc.solve(fc.zoo("squeezenet1_1"), "64KiB", model=fc.models.BlackBox(tool), search=fc.search.Greedy())
    text = report(solution)
    assert f"{solution.cost.dram_bytes:,} B" in text


def test_no_plan_no_report(tmp_path: Path) -> None:
    solution = replace(hostile_solution(), partition=None, planned=())
    with pytest.raises(PlanError, match="there is no plan to report"):
        write_report(solution, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


class Reader(HTMLParser):
    """Collects what a browser would run, load and show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = tag
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag == "script":
            self.scripts.append((dict(attrs).get("type") or "", ""))

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = kind, text + data
        elif self._open in ("th", "td"):
            self.cells.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_page_loads_nothing_from_anywhere(data: ReportData) -> None:
    text = page(data)
    reader = read(text)
    assert not reader.links and not reader.handlers
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(reader.tags)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_the_policy_admits_exactly_the_scripts_and_the_style_of_the_page(data: ReportData) -> None:
    text = page(data)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and "default-src 'none'" in policy[1] and "unsafe" not in policy[1]
    style = text[text.index("<style>") + 7 : text.index("</style>")]
    inline = [style, *(script for kind, script in read(text).scripts if not kind)]
    hashes = {f"sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}" for s in inline}
    assert set(re.findall(r"sha256-[A-Za-z0-9+/=]+", policy[1])) == hashes


HOSTILE = "</script><img src=x onerror=alert(1)>&\"'\u2028<!--"


def hostile_solution() -> Solution:
    tensors = tuple(Tensor(f"{HOSTILE}{i}", (1, 4, 8, 8)) for i in range(4))
    ops = tuple(Op(f"{i}{HOSTILE}", "activation", (i,), (i + 1,)) for i in range(3))
    solution = fc.solve(Graph(HOSTILE, tensors, ops, (0,), (3,)), "64KiB", scheme="layerwise")
    return replace(solution, provenance=replace(solution.provenance, model=HOSTILE), notes=(HOSTILE,))


def test_hostile_names_stay_text() -> None:
    text = report(hostile_solution())
    reader = read(text)
    assert "img" not in reader.tags and reader.tags.count("script") == 5
    assert any(HOSTILE in cell for cell in reader.cells)
    embedded = next(script for kind, script in reader.scripts if kind == "application/json")
    assert json.loads(embedded)["ops"][0]["name"] == f"0{HOSTILE}"


def test_figures_certificate_and_groups_need_no_script(solution: Solution, data: ReportData) -> None:
    text = re.sub(r"<script.*?</script>", "", page(data), flags=re.S)
    cells = read(text).cells
    assert f"{solution.cost.dram_bytes:,} B" in text and "Proved optimal" in text
    assert {f"{p.cost.dram_bytes:,}" for p in solution.planned} <= set(cells)


def test_the_report_is_the_same_in_any_process() -> None:
    code = (
        "import hashlib, fusecut as fc; from fusecut.report.html import report\n"
        "text = report(fc.solve(fc.zoo('squeezenet1_1'), '64KiB', scheme='lbdf'))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in "12"
    ]
    assert runs[0].stdout == runs[1].stdout


def test_the_licences_of_the_libraries_are_in_the_page(data: ReportData) -> None:
    text = page(data)
    assert "Mike Bostock" in text and "Chris Pettitt" in text and "WITHOUT WARRANTY OF ANY KIND" in text


def test_the_libraries_are_the_files_whose_licences_are_stated() -> None:
    vendor = files("fusecut.report") / "assets" / "vendor"
    stated = set(re.findall("SHA-256 ([0-9a-f]{64})", (vendor / "LICENSES.txt").read_text(encoding="utf-8")))
    scripts = [file for file in vendor.iterdir() if file.name.endswith(".js")]
    assert {hashlib.sha256(file.read_bytes()).hexdigest() for file in scripts} == stated


def test_the_command_writes_the_report_of_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, first, second = (tmp_path / name for name in ("plan.json", "a.html", "b.html"))
    arguments = ["solve", "zoo:squeezenet1_1", "--buffer", "64KiB", "--scheme", "lbdf", "-q"]
    arguments += ["-o", str(plan), "--report", str(first)]
    assert main(arguments) == 0
    assert main(["report", str(plan), "-o", str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()
    assert capsys.readouterr().out.endswith(f"written to {second}\n")


def test_a_report_that_cannot_be_written_is_refused_before_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "zoo:nasnetalarge", "--buffer", "64KiB", "--report", "/nowhere/r.html"]) == 2
    assert capsys.readouterr().err == "fusecut: cannot write /nowhere/r.html: there is no folder /nowhere\n"
