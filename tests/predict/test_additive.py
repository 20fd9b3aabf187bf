"""Non-negative sums: what they recover, and that they keep their sense on another space."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from fusecut.predict.additive import additive, fit_additive
from fusecut.predict.basis import describe_archs
from fusecut.predict.features import NAMES
from fusecut.predict.metrics import metrics
from fusecut.predict.spaces import SPACES

RNG = np.random.default_rng(0)
RAW = {n: describe_archs(s, [s.sample(RNG) for _ in range(40)]).raw for n, s in SPACES.items()}


def device(raw: np.ndarray) -> np.ndarray:
    """A fixed time for each op, and a time for each MAC and byte."""
    ops, macs, moved = (raw[:, NAMES.index(n)] for n in ("ops", "macs", "unfused"))
    return 1.0 + 0.05 * ops + 2e-8 * macs + 1e-6 * moved


def test_no_coefficient_is_negative() -> None:
    assert (fit_additive(RAW["fbnet"], device(RAW["fbnet"])) >= 0).all()


@pytest.mark.parametrize(
    ("there", "here"), [("fbnet", "nasbench201"), ("nasbench201", "ofa_mbv3"), ("ofa_mbv3", "fbnet")]
)
def test_a_device_of_totals_is_ranked_on_a_space_it_was_not_measured_on(there: str, here: str) -> None:
    coefficients = fit_additive(RAW[there], device(RAW[there]))
    assert metrics(device(RAW[here]), additive(coefficients, RAW[here])).srcc > 0.9


def test_the_space_it_was_measured_on_is_predicted_closely() -> None:
    raw = RAW["ofa_mbv3"]
    assert metrics(device(raw), additive(fit_additive(raw, device(raw)), raw)).mape < 0.02
