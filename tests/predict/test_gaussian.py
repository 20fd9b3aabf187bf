"""The closed-form regression against independent formulas and against data it must recover."""

from __future__ import annotations

import numpy as np
import pytest

from fusecut.errors import FusecutError
from fusecut.predict.gaussian import Block, _solve, fit, left_out

BLOCKS = (Block("a", 3), Block("b", 4))


def problem(n: int, seed: int = 0, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(n, 7))
    weights = np.array([1.0, -2.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    return phi, phi @ weights + 10.0 + noise * rng.normal(size=n)


def test_a_linear_target_is_recovered_from_few_samples() -> None:
    phi, y = problem(60)
    fitted = fit(BLOCKS, phi[:20], y[:20])
    assert np.abs(fitted.predict(phi[20:])[0] - y[20:]).max() < 0.1


def test_a_block_that_says_nothing_gets_little_variance() -> None:
    phi, y = problem(60)
    fitted = fit(BLOCKS, phi, y, "linear")
    assert fitted.variances[3:].max() < 0.1 * fitted.variances[:3].min()


def test_many_samples_and_few_give_the_same_posterior() -> None:
    """The primal and the dual solution are one: the gaussian process formula judges both."""
    for n in (6, 40):
        phi, y = problem(n, noise=0.5)
        fitted = fit(BLOCKS, phi, y, "linear")
        z = (y - fitted.centre) / fitted.scale
        wide = np.concatenate([phi, np.ones((n, 1))], axis=1)
        prior = np.append(fitted.variances, 1.0)
        kernel = (wide * prior) @ wide.T
        inverse = np.linalg.inv(kernel + fitted.noise * np.eye(n))
        mean = fitted.centre + fitted.scale * kernel @ inverse @ z
        variance = np.diag(kernel - kernel @ inverse @ kernel) + fitted.noise
        found, half = fitted.predict(phi)
        np.testing.assert_allclose(found, mean, rtol=1e-8)
        np.testing.assert_allclose(half, 1.645 * fitted.widening * fitted.scale * np.sqrt(variance), rtol=1e-5)


def test_left_out_predictions_are_those_of_a_fit_without_the_sample() -> None:
    phi, y = problem(12, noise=0.3)
    fitted = fit(BLOCKS, phi, y, "linear")
    rest = np.arange(12) != 4
    z = (y - fitted.centre) / fitted.scale
    weights, offset, _ = _solve(phi[rest], z[rest], fitted.variances, fitted.noise)
    want = fitted.centre + fitted.scale * (phi[4] @ weights + offset)
    assert left_out(fitted, phi, y)[4] == pytest.approx(want, rel=1e-6)


def test_targets_over_decades_are_fitted_as_logarithms() -> None:
    phi, y = problem(60)
    assert fit(BLOCKS, phi, np.exp(3 * (y - 10))).log


def test_targets_of_either_sign_are_fitted_as_they_are() -> None:
    phi, y = problem(30)
    assert not fit(BLOCKS, phi, y - 10).log


def test_the_unit_of_the_targets_does_not_matter() -> None:
    phi, y = problem(40)
    plain, scaled = (fit(BLOCKS, phi[:20], f * y[:20]).predict(phi[20:])[0] for f in (1.0, 1e-9))
    np.testing.assert_allclose(scaled, 1e-9 * plain, rtol=1e-6)


def test_an_outlier_is_left_out() -> None:
    phi, y = problem(40, noise=0.1)
    y[7] += 500.0
    fitted = fit(BLOCKS, phi, y, "linear")
    assert fitted.dropped == 1
    assert abs(fitted.predict(phi[7:8])[0][0] - (y[7] - 500.0)) < 1.0


def test_nine_tenths_of_fresh_samples_lie_in_their_interval() -> None:
    phi, y = problem(1000, noise=1.0)
    values, half = fit(BLOCKS, phi[:100], y[:100]).predict(phi[100:])
    assert 0.84 < np.mean(np.abs(values - y[100:]) <= half) < 0.96


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_sample_or_two_are_enough_for_an_answer(n: int) -> None:
    phi, y = problem(20)
    values, half = fit(BLOCKS, phi[:n], y[:n]).predict(phi)
    assert np.isfinite([*values, *half]).all() and (half > 0).all()


def test_equal_targets_are_predicted_as_they_are() -> None:
    phi, _ = problem(20)
    np.testing.assert_allclose(fit(BLOCKS, phi, np.full(20, 7.0)).predict(phi)[0], 7.0, rtol=1e-3)


def test_many_samples_are_all_learnt_from() -> None:
    phi, y = problem(1000, noise=0.5)
    exact = np.array([1.0, -2.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    fitted = fit(BLOCKS, phi, y, "linear")
    assert np.abs(fitted.weights * fitted.scale - exact).max() < 0.1


def test_values_that_are_not_finite_are_refused() -> None:
    phi, y = problem(10)
    y[3] = np.nan
    with pytest.raises(FusecutError, match="finite"):
        fit(BLOCKS, phi, y)


def test_logarithms_of_negative_targets_are_refused() -> None:
    phi, y = problem(10)
    with pytest.raises(FusecutError, match="linear scale"):
        fit(BLOCKS, phi, -y, "log")
