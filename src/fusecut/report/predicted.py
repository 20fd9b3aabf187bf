"""Predictions as a table."""

from __future__ import annotations

from collections.abc import Sequence

from fusecut.predict.metrics import Metrics
from fusecut.predictions import Prediction
from fusecut.text import Column, render_table

_COLUMNS = (Column("network", "left", True), Column("predicted"), Column("90 % interval"))


def table(rows: Sequence[Prediction], width: int = 100, colour: bool = False) -> str:
    """One row a network, in the order given."""
    unit = f" ({rows[0].unit})" if rows and rows[0].unit else ""
    title = f"{rows[0].task}{unit}" if rows else "nothing predicted"
    cells = [[r.network, number(r.value), f"{number(r.low)} to {number(r.high)}"] for r in rows]
    return f"{title}\n\n{render_table(_COLUMNS, cells, width, colour)}"


def scores(found: Metrics) -> str:
    """Errors against the truth, in one line.

    >>> scores(Metrics(0.02, 0.03, 0.95, 0.8, 0.7, 1.0)).partition(";")[0]
    'mean error 2.0 % of the range, 3.0 % of the value'
    """
    return (
        f"mean error {100 * found.mae:.1f} % of the range, {100 * found.mape:.1f} % of the value; "
        f"rank correlation {found.srcc:.3f}, Kendall {found.kendall:.3f}; "
        f"{10 * found.top:.0f} of the true best 10 found"
    )


def number(value: float) -> str:
    """Four digits, or whole with separators where that is more.

    >>> number(0.00123456), number(12.3456), number(1234567.8)
    ('0.001235', '12.35', '1,234,568')
    """
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
