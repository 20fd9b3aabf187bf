"""Tables keep their columns and give way only where allowed."""

from __future__ import annotations

from fusecut.text import Column, render_table

COLUMNS = (Column("#"), Column("ops", "left", flexible=True), Column("bytes"))


def test_a_table_never_exceeds_its_width() -> None:
    text = render_table(COLUMNS, [["0", "a" * 200, "1,234,567"]], width=60)
    assert max(map(len, text.splitlines())) <= 60


def test_only_flexible_cells_are_shortened_and_keep_both_ends() -> None:
    text = render_table(COLUMNS, [["0", "first" + "x" * 200 + "last", "1,234,567"]], width=60)
    assert "1,234,567" in text and "first" in text and "last" in text and "…" in text


def test_a_table_without_rows_still_has_its_heading() -> None:
    assert "bytes" in render_table(COLUMNS, [])


def test_markup_in_cells_is_printed_as_it_is() -> None:
    assert "[red]x[/red]" in render_table(COLUMNS, [["0", "[red]x[/red]", "1"]])


def test_colour_is_used_only_when_asked_for() -> None:
    assert "\x1b[" not in render_table(COLUMNS, [["0", "a", "1"]])
    assert "\x1b[" in render_table(COLUMNS, [["0", "a", "1"]], colour=True)
