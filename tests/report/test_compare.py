"""Plans side by side are priced by one model."""

from __future__ import annotations

import pytest

import fusecut as fc
from fusecut.models import scheme_model
from fusecut.report.compare import Compared, compare, table


@pytest.fixture(scope="module")
def rows() -> dict[str, Compared]:
    net = fc.zoo("squeezenet1_1")
    problem = fc.Problem(net, fc.Machine.of("128KiB"), scheme_model("mixed"))
    best = fc.solve(net, "128KiB")
    everything = fc.Partition(problem.graph, [problem.graph.everything])
    plans = [("alone", fc.Partition.singletons(problem.graph)), ("all in one", everything)]
    return {row.name: row for row in compare(problem, best, plans)}


def test_single_ops_cost_what_no_fusion_costs(rows: dict[str, Compared]) -> None:
    assert rows["alone"].dram_bytes == rows["without fusion"].dram_bytes


def test_no_plan_is_better_than_the_optimum(rows: dict[str, Compared]) -> None:
    best = rows["fusecut (optimal)"].dram_bytes
    assert best is not None
    assert all(row.dram_bytes is None or row.dram_bytes >= best for row in rows.values())


def test_an_infeasible_plan_says_which_group_and_why(rows: dict[str, Compared]) -> None:
    row = rows["all in one"]
    assert row.dram_bytes is None and "group 0" in row.why and "B over" in row.why


def test_the_table_explains_what_is_infeasible(rows: dict[str, Compared]) -> None:
    text = table(list(rows.values()))
    assert "infeasible" in text and "all in one: group 0" in text
