"""What networks learn in place of labels."""

from __future__ import annotations

import numpy as np
import pytest

from fusecut.predict.transforms import KINDS, Kind, Transform, flops_divisor

LABELS, MACS = np.array([1.0, 2.0, 30.0]), np.array([1e6, 1e8, 1e9])
ANALYTIC = np.log(np.array([1.1, 2.5, 20.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_labels_come_back(kind: Kind) -> None:
    transform = Transform.fitted(kind, LABELS, MACS, ANALYTIC)
    learnt = transform.forward(LABELS, MACS, ANALYTIC)
    np.testing.assert_allclose(transform.backward(learnt, MACS, ANALYTIC), LABELS)


@pytest.mark.parametrize("kind", KINDS)
def test_learnt_labels_have_mean_0_and_deviation_1(kind: Kind) -> None:
    learnt = Transform.fitted(kind, LABELS, MACS, ANALYTIC).forward(LABELS, MACS, ANALYTIC)
    np.testing.assert_allclose([learnt.mean(), learnt.std()], [0.0, 1.0], atol=1e-12)


def test_the_flops_divisor_is_one_for_a_network_that_computes_nothing() -> None:
    assert flops_divisor(np.array([0.0])).tolist() == [1.0]


def test_the_residual_of_a_perfect_analytic_prediction_is_nothing() -> None:
    transform = Transform("residual", 0.0, 1.0)
    assert np.abs(transform.forward(LABELS, MACS, np.log(LABELS))).max() == 0.0
