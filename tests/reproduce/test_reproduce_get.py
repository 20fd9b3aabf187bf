"""The reproduction of arXiv 2501.00636: published figures, rows that survive, tables that add up."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev

import pytest

from fusecut.cli import main
from fusecut.errors import FusecutError
from fusecut.report.plots import Panel
from fusecut.reproduce.get import curves, grid, tables
from fusecut.reproduce.get.cases import FULL, QUICK, TABLES, USUAL, Effort
from fusecut.reproduce.get.published import DRAM_MB, GROUPS, NETWORKS
from fusecut.reproduce.get.runs import METHODS, Case, Row, gathered, read_rows, run
from fusecut.reproduce.get.stats import holm, interval, wilcoxon

pytest.importorskip("scipy")

CASE = Case("squeezenet1_0", "lbdf", "128KiB", "local", 20)
METHODS_HERE = ("random", "random_edges", "cost_guided")


def limits(case: Case, method: str) -> int:
    return 99


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(run([CASE], METHODS_HERE, 3, [], limits))


def reduction(searcher: str, splitter: str, network: str, buffer: str = "256KiB") -> float:
    plain, guided = (DRAM_MB["lbdf", buffer, network, searcher, name] for name in ("random", splitter))
    return round(100 * (1 - guided / plain), 1)


# --- what was published


def test_every_cell_of_the_papers_tables_is_there_once() -> None:
    assert len(DRAM_MB) == 3 * 3 * 4 + 2 * 5 * 2 * 4
    assert {network for _, _, network, _, _ in DRAM_MB} == set(NETWORKS)


def test_published_reductions_are_those_that_the_paper_claims() -> None:
    nsga = [reduction("nsga2", name, "efficientnet_b3") for name in ("gnne", "pg", "rg")]
    assert (min(nsga), max(nsga)) == (20.1, 20.8)
    assert reduction("local", "pg", "efficientnet_b3") == 18.7
    assert reduction("random", "rg", "efficientnet_b3") == 5.8


def test_the_published_data_set_has_the_published_size() -> None:
    assert sum(GROUPS.values()) == 10_866


# --- statistics


def test_an_interval_is_students() -> None:
    values = [3.0, 5.0, 4.0, 8.0]
    found = interval(values)
    assert found.half is not None
    assert found.mean == mean(values) and found.half == pytest.approx(3.182446 * stdev(values) / 2)
    assert interval([3.0]) == (3.0, None)


def test_wilcoxon_counts_signed_ranks() -> None:
    """Six differences of one sign: of 2^6 sign patterns two are as extreme."""
    assert wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == pytest.approx(2 / 64)
    assert wilcoxon([1.0, -2.0, 3.0, -4.0]) > 0.5
    assert wilcoxon([0.0, 0.0, 0.0]) == 1.0


def test_holm_multiplies_the_least_by_all_and_never_falls() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]


# --- rows


def test_no_run_beats_the_optimum_and_the_optimum_is_proved(rows: list[Row]) -> None:
    best = rows[0]
    assert best.searcher == "exact" and best.proved
    assert len(rows) == 1 + 3 * len(METHODS_HERE)
    assert all(row.fusible_bytes >= best.fusible_bytes and row.dram_bytes >= best.dram_bytes for row in rows)


def test_the_same_seed_gives_the_same_rows(rows: list[Row]) -> None:
    again = list(run([CASE], METHODS_HERE, 3, [], limits))
    assert [replace(row, cpu_seconds=0) for row in again] == [replace(row, cpu_seconds=0) for row in rows]


def test_plain_runs_do_not_count_explanations_and_explained_ones_do(rows: list[Row]) -> None:
    assert all((row.explanations > 0) == (row.method == "random_edges") for row in rows)


def test_with_directed_bonds_even_the_placebo_rectifies_every_group(rows: list[Row]) -> None:
    assert all(row.rectified_groups == row.infeasible_groups > 0 for row in rows if row.method == "random_edges")


def test_an_interrupted_run_keeps_its_rows_and_goes_on(rows: list[Row], tmp_path: Path) -> None:
    file, notes = tmp_path / "rows.jsonl", list[str]()

    def interrupted() -> list[Row]:
        def some() -> object:
            yield from rows[:4]
            raise KeyboardInterrupt

        return gathered(some(), [], file, notes.append)  # type: ignore[arg-type]

    assert interrupted() == rows[:4] and "interrupted" in notes[-1]
    known = read_rows(file)
    assert known == rows[:4]
    rest = gathered(run([CASE], METHODS_HERE, 3, known, limits), known, file, notes.append)
    assert [row.key for row in rest] == [row.key for row in rows] == [row.key for row in read_rows(file)]


def line(row: Row) -> str:
    """As it stands in the file."""
    return json.dumps(asdict(row), separators=(",", ":")) + "\n"


def test_a_line_that_was_cut_off_is_left_out_and_mended(rows: list[Row], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(line(rows[0]) + line(rows[1])[:40])
    assert read_rows(file) == rows[:1]
    gathered(iter(rows[1:2]), rows[:1], file, lambda text: None)
    assert read_rows(file) == rows[:2]


@pytest.mark.parametrize("text", ["[1, 2]\n", '{"network": 3}\n', "nonsense\n", "[" * 9000 + "\n"])
def test_a_file_that_holds_no_rows_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    with pytest.raises(FusecutError, match=r"does not hold rows of fusecut reproduce .*: name another file") as caught:
        read_rows(file)
    assert "\n" not in str(caught.value)


def test_a_row_with_a_field_of_the_wrong_type_is_refused(rows: list[Row], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(line(rows[0]).replace('"seed":0', '"seed":"0"'))
    with pytest.raises(FusecutError, match="'seed' is not what it should be"):
        read_rows(file)


def test_seeds_come_before_cases_so_that_a_stopped_run_has_all_cells() -> None:
    cases = [CASE, CASE._replace(plans=10)]
    keys = [(row.seed, row.plans) for row in run(cases, ["random"], 2, [], limits) if row.method]
    assert keys == [(0, 20), (0, 10), (1, 20), (1, 10)]


# --- tables


def test_a_cell_has_the_mean_of_its_seeds_and_the_gap_to_the_optimum(rows: list[Row]) -> None:
    best, *found = rows
    cell = next(c for c in tables.cells(rows, [CASE], METHODS_HERE) if c.method == "random_edges")
    mine, plain = ([r.fusible_bytes for r in found if r.method == name] for name in ("random_edges", "random"))
    assert cell.seeds == 3 and cell.fusible_mb.mean == pytest.approx(mean(mine) / 1e6)
    assert cell.gap.mean == pytest.approx(mean(1 - best.fusible_bytes / nbytes for nbytes in mine))
    assert cell.reduction == pytest.approx(mean(1 - a / b for a, b in zip(mine, plain, strict=True)))
    assert cell.published_mb is None


def test_the_papers_figure_stands_beside_ours(rows: list[Row]) -> None:
    cell = tables.cells(rows, [CASE], METHODS_HERE)[0]
    assert (cell.method, cell.published_mb) == ("random", 3.839)


@pytest.mark.parametrize(("reduction", "text"), [(0.1234, "-12.3 %"), (-0.1, "+10.0 %"), (1e-9, "0.0 %"), (None, "")])
def test_a_reduction_is_shown_as_the_change_it_is(reduction: float | None, text: str) -> None:
    assert tables.signed(reduction) == text


def test_a_method_that_always_wins_is_significant_and_the_plain_one_has_no_p(rows: list[Row]) -> None:
    many = [replace(r, seed=r.seed + 3 * k) for k in range(4) for r in rows if r.method in ("", "random")]
    won = [replace(r, method="cost_guided", fusible_bytes=r.fusible_bytes - 1 - r.seed) for r in many if r.method]
    together = [*many, *won]
    found = tables.cells(together, [CASE], METHODS_HERE)
    verdicts = {v.method: v for v in tables.verdicts(together, found, METHODS_HERE)}
    assert verdicts["cost_guided"].p_plain < 0.001 and verdicts["cost_guided"].no_worse == 1
    assert verdicts["random"].p_plain == 1.0


def test_a_quarter_of_figure_5_is_the_best_of_a_quarter_of_the_plans(rows: list[Row]) -> None:
    row = rows[1]
    assert curves.best_after(row, 0, 0) is None
    assert curves.best_after(row, row.plans, row.dram_bytes - row.fusible_bytes) == row.fusible_bytes
    panel = curves.panels(rows, [CASE], METHODS_HERE)[0]
    assert isinstance(panel, Panel) and [drawn.label for drawn in panel.lines] == [*METHODS_HERE, "optimum"]
    assert all(a >= b for drawn in panel.lines for a, b in zip(drawn.y, drawn.y[1:], strict=False))


def test_the_grid_shows_the_gap_of_each_cell_and_of_its_first_quarter(rows: list[Row]) -> None:
    whole, quarter = grid.sheets(rows, [CASE], METHODS_HERE)
    cell = next(c for c in tables.cells(rows, [CASE], METHODS_HERE) if c.method == "random_edges")
    lines = [{line[0]: line[1] for line in sheet[2]} for sheet in (whole, quarter)]
    assert lines[0]["random_edges"] == cell.gap.times(100).text(2)
    assert [column.heading for column in whole[1]][:3] == ["splitter", "SqueezeNet", "cells"]
    assert all(float(lines[0][m].split()[0]) <= float(lines[1][m].split()[0]) for m in METHODS_HERE)
    fewer = [row for row in rows if row.method != "random" or row.seed == 0]
    assert grid.sheets(fewer, [CASE], METHODS_HERE)[0][2][0][1].endswith("(1)")


def test_efforts_run_the_papers_plans_or_a_share_of_them() -> None:
    table = TABLES["table2"]
    assert {case.plans for case in table.cases(FULL)} == {5_000} and FULL.seeds == 10
    assert {case.plans for case in table.cases(QUICK)} == {100} and len(table.cases(QUICK)) == 3
    assert {case.plans for case in table.cases(USUAL) if case.searcher == "random"} == {200}
    with pytest.raises(FusecutError, match="--seeds and --plans must be at least 1"):
        Effort(seeds=0)


def test_controls_stand_in_every_table() -> None:
    for table in TABLES.values():
        assert {"random", "random_edges", "not_occlusion", "attribution", "cost_guided"} <= set(table.methods)
        assert set(table.methods) <= set(METHODS)


# --- the command line


def command(*arguments: str) -> int:
    return main(["reproduce", *arguments, "--quick", "-q"])


def test_a_table_is_printed_written_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("table4", "--searchers", "local", "--methods", "random", "random_edges")
    files = ("--rows", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "table.md"))
    assert command(*arguments, *files) == 0
    printed = capsys.readouterr().out
    assert "MobileNetV2   optimum" in printed and "9.803" in printed
    page = (tmp_path / "table.md").read_text()
    assert "| MobileNetV2 | local | random_edges | 2 | 40 |" in page
    before = (tmp_path / "rows.jsonl").read_text()
    assert command(*arguments, *files) == 0
    assert (tmp_path / "rows.jsonl").read_text() == before
    capsys.readouterr()
    assert command(*arguments, "--show", "--rows", str(tmp_path / "rows.jsonl")) == 0
    assert capsys.readouterr().out == printed


def test_json_is_one_object_list_with_the_gap(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("table5", "--searchers", "local", "--methods", "random_edges_literal", "--format", "json") == 0
    cell = json.loads(capsys.readouterr().out)[0]
    assert cell["method"] == "random_edges_literal" and 0 <= cell["rectify_rate"] <= 1 and cell["gap"]


def test_table_1_and_figure_3_come_from_the_groups_a_random_search_meets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert command("figure3", "--figure", str(tmp_path / "f.svg")) == 0
    printed = capsys.readouterr().out
    assert "groups under lbdf" in printed and "groups under brr" in printed and "715" in printed
    assert "<svg" in (tmp_path / "f.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table4", "--methods", "rnadom"), "unknown method 'rnadom': did you mean 'random'?"),
        (("table4", "--networks", "alexnet"), "unknown network of the paper 'alexnet'"),
        (("table4", "--show"), "--show needs a file of earlier runs: --rows FILE"),
        (("table4", "--seeds", "0"), "--seeds and --plans must be at least 1"),
        (("table4", "--methods", "random", "--figure", "x.svg", "--searchers", "local"), "table4 has no figure"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 2
    assert message in capsys.readouterr().err


def test_methods_that_learned_say_which_extra_they_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert command("table4", "--methods", "occlusion") == 2
    assert "pip install 'fusecut[gnn]'" in capsys.readouterr().err
