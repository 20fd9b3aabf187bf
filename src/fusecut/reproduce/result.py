"""What a reproduction gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fusecut.report.plots import Panel


class Reproduced(NamedTuple):
    """Rows as plain data, and the same as text of a width, in colour or not; Markdown and a figure where there are."""

    rows: list[dict[str, Any]]
    text: Callable[[int, bool], str]
    markdown: Callable[[], str] | None = None
    panels: tuple[Panel, ...] = ()
