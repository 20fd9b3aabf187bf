"""Tables as plain text: the one place that knows how to lay one out. Drawing only, no numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from textwrap import fill
from typing import Final, Literal

Align = Literal["left", "right"]


@dataclass(frozen=True)
class Column:
    """A heading and how its cells line up.

    On a narrow screen ``optional`` columns are left out, the last one first; then ``flexible`` ones give way.
    """

    heading: str
    align: Align = "right"
    flexible: bool = False
    optional: bool = False


_LEAST_WIDTH: Final = 12
_GAP: Final = 3


def _shortened(text: str, width: int) -> str:
    """The text, or its two ends: names differ at the end as often as at the start."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def printable(line: str) -> str:
    """The line with everything that could steer a terminal written out; names in a file may be anything.

    >>> print(printable("a" + chr(27) + "[2Jb"))
    a\\x1b[2Jb
    """
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def wrapped(line: str, width: int, indent: int) -> str:
    """A line as it is, or, if it is longer than ``width``, cut at spaces and continued ``indent`` columns in.

    >>> print(wrapped("total   12 B   all of it", 20, 15))
    total   12 B   all
                   of it
    """
    if len(line) <= width:
        return line
    return fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Which columns are shown."""
    shown = list(range(len(columns)))
    for i in reversed(range(len(columns))):
        if sum(widths[k] for k in shown) + _GAP * (len(shown) - 1) <= width:
            break
        if columns[i].optional:
            shown.remove(i)
    return shown


def render_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int = 80, colour: bool = False
) -> str:
    """A table of at most ``width`` columns; no trailing spaces, no final newline.

    Cells are taken literally, but for what is not printable. Only optional columns are left out, only flexible ones
    are shortened.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max([len(column.heading), *(len(row[i]) for row in rows)]) for i, column in enumerate(columns)]
    shown = _fitting(columns, widths, width)
    spare = width - sum(widths[i] for i in shown) - _GAP * (len(shown) - 1)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for i in shown:
        column = columns[i]
        if column.flexible:
            widths[i] = max(_LEAST_WIDTH, widths[i] + min(0, spare))
        table.add_column(column.heading, justify=column.align, no_wrap=True, min_width=widths[i])
    for row in rows:
        table.add_row(*(Text(_shortened(row[i], widths[i])) for i in shown))
    out = StringIO()
    system: Literal["standard"] | None = "standard" if colour else None
    Console(file=out, width=width, force_terminal=colour, color_system=system, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))


def html_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """The same table for a notebook. Cells are text, whatever is in them.

    >>> html_table([Column("op", "left")], [["<b>"]]).count("&lt;b&gt;")
    1
    """
    from html import escape

    def line(tag: str, cells: Sequence[str]) -> str:
        styled = (
            f'<{tag} style="text-align:{column.align}">{escape(cell)}</{tag}>'
            for column, cell in zip(columns, cells, strict=True)
        )
        return f"<tr>{''.join(styled)}</tr>"

    head = line("th", [column.heading for column in columns])
    body = "".join(line("td", row) for row in rows)
    title = f'<caption style="text-align:left;caption-side:top">{escape(caption)}</caption>' if caption else ""
    return f"<table>{title}<thead>{head}</thead><tbody>{body}</tbody></table>"
