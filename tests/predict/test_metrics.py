"""Errors and rank correlations on cases computed by hand."""

from __future__ import annotations

import numpy as np

from fusecut.predict.metrics import metrics

TRUTH = np.arange(1.0, 21.0)


def test_a_perfect_prediction_has_no_error() -> None:
    assert metrics(TRUTH, TRUTH) == (0.0, 0.0, 1.0, 1.0, 1.0, 1.0)


def test_the_error_is_a_share_of_the_range() -> None:
    assert round(metrics(TRUTH, TRUTH + 1.9).mae, 9) == 0.1


def test_a_reversed_order_correlates_negatively() -> None:
    found = metrics(TRUTH, -TRUTH)
    assert (round(found.srcc, 9), round(found.kendall, 9), found.top, found.best) == (-1.0, -1.0, 0.0, 0.0)


def test_one_swap_costs_kendall_one_pair() -> None:
    swapped = TRUTH.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert round(metrics(TRUTH, swapped).kendall, 9) == round(1 - 2 / 190, 9)


def test_a_constant_correlates_with_nothing() -> None:
    assert metrics(TRUTH, np.ones(20))[2:4] == (0.0, 0.0)
