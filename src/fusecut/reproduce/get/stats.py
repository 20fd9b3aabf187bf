"""Means with intervals, and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev
from typing import Any, NamedTuple

from fusecut.errors import FusecutError


class Mean(NamedTuple):
    """A mean and the half width of its 95 % interval (Student's t); no width for a single value."""

    mean: float
    half: float | None

    def times(self, factor: float) -> Mean:
        return Mean(factor * self.mean, None if self.half is None else factor * self.half)

    def text(self, digits: int) -> str:
        return f"{self.mean:.{digits}f}" + ("" if self.half is None else f" ± {self.half:.{digits}f}")


def interval(values: Sequence[float]) -> Mean:
    """Mean and 95 % interval of independent values."""
    count = len(values)
    if count < 2:
        return Mean(mean(values), None)
    return Mean(mean(values), float(_stats().t.ppf(0.975, count - 1)) * stdev(values) / sqrt(count))


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test that paired differences are centred on 0; 1.0 where all are 0."""
    if not any(differences):
        return 1.0
    left = [d for d in differences if d]
    ties = len({abs(d) for d in left}) < len(left)
    method = "approx" if ties or len(left) > 50 else "exact"
    return float(_stats().wilcoxon(left, method=method).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests (Scand. J. Statist. 6, 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted, most = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = most
    return adjusted


def p_text(value: float) -> str:
    """A p-value as shown.

    >>> p_text(0.0123), p_text(0.0004)
    ('0.012', '< 0.001')
    """
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise FusecutError("the tables of arXiv 2501.00636 need scipy: pip install 'fusecut[gnn]'") from None
    return stats
