"""What a notebook shows."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from test_html import HOSTILE, hostile_solution

import fusecut as fc


class Cells(HTMLParser):
    """Rows of cells, as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._open = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self._open in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_solution_shows_its_groups_and_its_certificate() -> None:
    solution = fc.solve(fc.zoo("squeezenet1_1"), "96KiB")
    text = solution._repr_html_()
    rows = Cells(text).rows[1:]
    assert [row[-1] for row in rows] == [f"{p.cost.dram_bytes:,}" for p in solution.planned]
    assert f"{solution.bound:,}" in text and "optimal: no plan moves fewer bytes" in text


def test_a_search_without_a_plan_shows_why() -> None:
    solution = replace(hostile_solution(), partition=None, planned=())
    assert Cells(solution._repr_html_()).tags == {"pre"}


def test_a_graph_shows_what_it_is_made_of() -> None:
    graph = fc.zoo("squeezenet1_1")
    rows = Cells(graph._repr_html_()).rows
    total = [f"{n:,}" for n in (len(graph), sum(op.macs for op in graph.ops), sum(op.weight_bytes for op in graph.ops))]
    assert rows[0] == ["kind", "ops", "MACs", "weights B"] and rows[-1] == ["all", *total]
    assert {row[0] for row in rows[1:-1]} == {op.kind for op in graph.ops}


def test_hostile_names_stay_text_in_a_notebook() -> None:
    solution = hostile_solution()
    assert solution.partition is not None
    allowed = {"table", "caption", "thead", "tbody", "tr", "th", "td", "pre"}
    for text in (solution._repr_html_(), solution.partition.graph._repr_html_()):
        assert Cells(text).tags <= allowed
    assert any(HOSTILE in cell for row in Cells(solution._repr_html_()).rows for cell in row)
