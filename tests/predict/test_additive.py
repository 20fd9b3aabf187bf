"""Non-negative sums: what they recover, and that they keep their sense on another space."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from fusecut.predict.additive import additive, by_buffer, fit_additive, fit_by_buffer
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


def test_between_two_buffers_coefficients_are_interpolated_and_beyond_them_kept() -> None:
    raw = RAW["fbnet"]
    values = np.concatenate([raw[:, NAMES.index("macs")], 3 * raw[:, NAMES.index("macs")]])
    table = fit_by_buffer(np.concatenate([raw, raw]), values, np.repeat([10.0, 12.0], len(raw)))
    small, middle, large, beyond = (by_buffer(table, raw, np.full(len(raw), b)) for b in (10.0, 11.0, 12.0, 20.0))
    np.testing.assert_allclose(middle, (small + large) / 2)
    np.testing.assert_array_equal(large, beyond)
    assert (large / small).mean() == pytest.approx(3, rel=1e-2)
