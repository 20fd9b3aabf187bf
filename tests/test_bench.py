"""The grid of searchers: rows, gaps, tables, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from numpy.random import Generator

from fusecut.bench import HEADINGS, Grid, Row, markdown, progress_table, read, run, table, text, written
from fusecut.cli import main
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.problem import Problem
from fusecut.search import Proposal, RandomSearch

SMALL = Grid(("zoo:squeezenet1_1",), searchers=("local", "greedy", "exact"), seeds=3, max_plans=60)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(run(SMALL))


def row(seed: int, dram_bytes: int, trace: tuple[tuple[int, int, int], ...] = ()) -> Row:
    return Row("n", "1KiB", "lbdf", "local", "random", seed, dram_bytes, 80, True, 5, 7, 0.5, trace)


def test_searchers_without_randomness_run_once(rows: list[Row]) -> None:
    assert [(r.searcher, r.seed) for r in rows] == [
        ("local", 0),
        ("local", 1),
        ("local", 2),
        ("greedy", 0),
        ("exact", 0),
    ]


def test_the_gap_is_to_the_proven_optimum(rows: list[Row]) -> None:
    exact = rows[-1]
    assert exact.gap == 0 and exact.optimum_proved
    assert all(r.bound_bytes == exact.dram_bytes and r.gap >= 0 for r in rows)


def test_the_budget_is_kept_and_the_trace_ends_at_the_result(rows: list[Row]) -> None:
    assert all(r.plans <= 60 and r.trace[-1][2] == r.dram_bytes for r in rows)


def test_a_row_knows_its_gap_along_the_way() -> None:
    r = row(0, 100, ((1, 3, 200), (4, 9, 100)))
    assert (r.gap_after(0, 3), r.gap_after(0, 4), r.gap_after(1, 8), r.gap_after(1, 2)) == (0.6, 0.2, 0.6, None)


def test_a_line_has_the_median_and_the_quartiles() -> None:
    (line,) = table([row(seed, dram) for seed, dram in enumerate((80, 100, 160))])
    cells = dict(zip(HEADINGS, line, strict=True))
    assert (cells["seeds"], cells["DRAM B"], cells["gap"]) == ("3", "100", "20.00 %")
    assert cells["quartiles"] == "10.00 % to 35.00 %"


def test_an_optimum_that_is_not_proved_is_marked() -> None:
    (line,) = table([Row("n", "1KiB", "lbdf", "local", "random", 0, 100, 80, False, 5, 7, 0.5)])
    assert "<= 20.00 %" in line


def test_progress_is_shown_where_every_seed_has_a_plan() -> None:
    (line,) = progress_table([row(0, 100, ((200, 3, 100),)), row(1, 100, ((50, 9, 100),))], 0)
    assert line[5:] == ["", "20.00 %", "20.00 %", "20.00 %", "20.00 %"]


@pytest.mark.parametrize("name", ["rows.json", "rows.csv"])
def test_rows_survive_a_file(rows: list[Row], tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(written(rows, path))
    assert read(path) == rows


@pytest.mark.parametrize("damage", ["", "{}x", '[{"network": 1}]', "[1]", "[]", "[" * 100_000])
@pytest.mark.parametrize("name", ["rows.json", "rows.csv"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    path.write_text(damage)
    with pytest.raises(FusecutError, match="cannot read rows from"):
        read(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", 1),
        ("dram_bytes", 0),
        ("dram_bytes", -1),
        ("plans", 1.5),
        ("seed", True),
        ("optimum_proved", "yes"),
        ("seconds", "1"),
        ("trace", [[1, 2]]),
        ("trace", [[1, 2, 0]]),
        ("trace", 3),
    ],
)
def test_a_row_with_a_field_of_the_wrong_type_is_refused(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "rows.json"
    good = json.loads(written([row(0, 100, ((1, 2, 100),))], path))
    path.write_text(json.dumps([{**good[0], field: value}]))
    with pytest.raises(FusecutError, match="cannot read rows from"):
        read(path)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_rows_that_a_spreadsheet_saved_again_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_text(written([row(0, 100, ((1, 2, 100),))], path), encoding="utf-8-sig")
    assert [r.dram_bytes for r in read(path)] == [100]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusecut.bench.LARGEST_ROWS_BYTES", 10)
    path = tmp_path / "rows.json"
    path.write_text(" " * 11)
    with pytest.raises(FusecutError, match="larger than 10 B"):
        read(path)


def test_markdown_has_a_line_for_each_setting(rows: list[Row], tmp_path: Path) -> None:
    lines = written(rows, tmp_path / "rows.md").splitlines()
    assert lines[0].startswith("| network | buffer |") and len(lines) == 2 + 3
    assert markdown(("a", "b"), [["1", "2"]]).splitlines() == ["| a | b |", "|---|---|", "| 1 | 2 |"]


def test_text_has_every_heading(rows: list[Row]) -> None:
    assert all(heading in text(rows, 150, False) for heading in HEADINGS)
    narrow = text(rows, 80, False).splitlines()
    assert max(map(len, narrow)) <= 80 and {"gap", "evaluations"} <= set(narrow[0].split())


def test_an_unknown_searcher_is_refused_before_anything_runs() -> None:
    with pytest.raises(UnknownNameError, match="unknown search 'lokal'"):
        next(iter(run(Grid(("zoo:squeezenet1_1",), searchers=("exact", "lokal")))))


def test_a_buffer_in_which_nothing_runs_is_refused() -> None:
    with pytest.raises(FusecutError, match="does not run in 8 under lbdf"):
        next(iter(run(Grid(("zoo:squeezenet1_1",), buffers=("8",)))))


def test_the_command_prints_a_table_and_writes_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    command = ["bench", "searchers", "--networks", "zoo:squeezenet1_1", "--searchers", "local", "--seeds", "2"]
    assert main([*command, "--splitters", "random", "cost_guided", "--max-plans", "20", "-o", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "quartiles" in out and out.count("local") == 2
    assert err.count("gap") == 4 and len(json.loads(path.read_text())) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--seeds", "0"), "--seeds and --max-plans must be at least 1"),
        (("--splitters", "axe"), "unknown splitter 'axe'"),
        (("--networks", "nowhere.onnx"), "nowhere.onnx: no such file"),
        (("--rows", "nowhere.json"), "cannot read rows from nowhere.json"),
        (("-o", "no/such/folder/rows.json"), "cannot write"),
    ],
)
def test_bad_input_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str) -> None:
    assert main(["bench", "searchers", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1


def test_an_interrupt_within_a_search_ends_the_grid_without_a_row_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search keeps its best plan when it is interrupted: as a row it would pass for a finished one."""
    proposed = RandomSearch.propose

    def interrupted(self: RandomSearch, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        yield from islice(proposed(self, problem, rng), 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(RandomSearch, "propose", interrupted)
    grid = Grid(("zoo:squeezenet1_1",), ("128KiB",), ("lbdf",), ("greedy", "random"), ("random",), 2, 50)
    rows = []
    with pytest.raises(KeyboardInterrupt):
        for row in run(grid):
            rows.append(row.searcher)
    assert rows == ["greedy"]
