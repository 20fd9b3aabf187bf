"""Tables as plain text: the one place that knows how to lay one out. Drawing only, no numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Literal

Align = Literal["left", "right"]


@dataclass(frozen=True)
class Column:
    """A heading and how its cells line up. A ``flexible`` column gives way on a narrow screen."""

    heading: str
    align: Align = "right"
    flexible: bool = False


def render_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int = 80, colour: bool = False) -> str:
    """A table of at most ``width`` columns; no trailing spaces, no final newline.

    Cells are taken literally. Only flexible columns are shortened.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for column in columns:
        table.add_column(
            column.heading,
            justify=column.align,
            overflow="ellipsis",
            no_wrap=True,
            min_width=None if column.flexible else max([len(column.heading), *(len(r[i]) for r in rows)])
            if (i := columns.index(column)) >= 0
            else None,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out = StringIO()
    console = Console(
        file=out, width=width, force_terminal=colour, color_system="standard" if colour else None, legacy_windows=False
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))
