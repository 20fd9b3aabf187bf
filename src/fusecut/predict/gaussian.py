"""Linear regression with a Gaussian prior on blocks of features: closed form, made for few samples.

With features ``phi_c`` of block c and targets standardised by their mean and deviation::

    y = sum_c phi_c w_c + noise,   w_c ~ N(0, v_c I),   noise ~ N(0, s)

which is a Gaussian process with kernel ``sum_c v_c phi_c phi_c^T`` (Rasmussen & Williams, *Gaussian
Processes for Machine Learning*, 2006, ch. 2 and 5). The block variances ``v_c`` and the noise ``s`` maximise
the marginal likelihood times a log-normal prior around the defaults: with no sample the defaults
stand, with many the data decide. Targets are taken as they are or as logarithms, whichever makes the
samples likelier (with the Jacobian of the logarithm), so that labels of any unit and of ranges over
decades need no setting. Samples whose leave-one-out error is beyond :data:`OUTLIER` deviations are
left out once, and the fit repeated.

Cost: O(n^3) for the n <= :data:`TUNED_ON` samples that variances are chosen on; O(n d^2 + d^3) for d
features in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.errors import FusecutError

Floats = NDArray[np.float64]

TUNED_ON: Final = 300
OUTLIER: Final = 5.0
DEFAULT_VARIANCE: Final = 0.3
DEFAULT_NOISE: Final = 0.03
_SPREAD: Final = 2.0
_LEAST_FOR_LOG: Final = 4
_LEAST_TO_DROP: Final = 12
_INTERCEPT_VARIANCE: Final = 1.0


@dataclass(frozen=True)
class Block:
    """A group of features that share a variance: ``size`` columns, and the variance before any sample."""

    name: str
    size: int
    variance: float = DEFAULT_VARIANCE


@dataclass(frozen=True)
class Fitted:
    """A fitted predictor: ``weights`` per column, ``factor`` [k, columns] for the uncertainty.

    A prediction is ``centre + scale * (phi w + offset)`` and its variance
    ``scale^2 * (noise + prior(phi) - |factor phi|^2)``, both through ``exp`` where ``log``.
    ``widening`` multiplies deviations so that leave-one-out errors have the spread they claim.
    """

    blocks: tuple[Block, ...]
    weights: Floats
    factor: Floats
    variances: Floats
    noise: float
    offset: float
    centre: float
    scale: float
    log: bool
    widening: float
    samples: int
    dropped: int

    def predict(self, phi: Floats) -> tuple[Floats, Floats]:
        """Median and half-width of a 90 % interval for rows of features. O(rows * columns * k).

        Where targets are logarithms the interval is not symmetric; the half-width is the mean of both sides.
        """
        mean = phi @ self.weights + self.offset
        prior = phi**2 @ self.variances + (_INTERCEPT_VARIANCE if len(self.factor) else 0.0)
        reduced = np.concatenate([phi, np.ones((len(phi), 1))], axis=1) @ self.factor.T
        spread = np.sqrt(np.maximum(prior - (reduced**2).sum(axis=1), 0.0) + self.noise)
        middle = self.centre + self.scale * mean
        half = 1.645 * self.widening * self.scale * spread
        if not self.log:
            return middle, half
        centre = np.exp(np.clip(middle, -700, 700))
        return centre, centre * np.sinh(np.clip(half, 0, 50))

    def condensed(self) -> Fitted:
        """Sure of its weights: what is left of the uncertainty is the noise."""
        return replace(self, variances=np.zeros_like(self.variances), factor=np.zeros((0, len(self.weights) + 1)))


def fit(blocks: Sequence[Block], phi: Floats, targets: Floats, scale: str = "auto") -> Fitted:
    """Fit samples ``phi`` [n, columns] with finite ``targets`` [n].

    Args:
        scale: ``linear``, ``log`` (positive targets only) or ``auto``, whichever is likelier.

    Raises:
        FusecutError: no samples, or values that are not finite.
    """
    if not len(targets) or not (np.isfinite(phi).all() and np.isfinite(targets).all()):
        raise FusecutError("a predictor needs at least one sample, and only finite values")
    may_log = bool((targets > 0).all())
    if scale == "log" and not may_log:
        raise FusecutError("targets of 0 or less have no logarithm: fit them on a linear scale")
    if scale == "auto" and may_log and len(targets) >= _LEAST_FOR_LOG:
        return min((_robust(tuple(blocks), phi, targets, log) for log in (False, True)), key=lambda t: t[0])[1]
    return _robust(tuple(blocks), phi, targets, may_log and scale != "linear")[1]


def left_out(fitted: Fitted, phi: Floats, targets: Floats) -> Floats:
    """What the samples of a fit are predicted as, each from the others (GPML eq. 5.12); variances are kept. O(n^3)."""
    z = ((np.log(targets) if fitted.log else targets) - fitted.centre) / fitted.scale
    covariance = (phi * fitted.variances) @ phi.T + _INTERCEPT_VARIANCE + fitted.noise * np.eye(len(z))
    inverse = np.linalg.inv(covariance)
    told = fitted.centre + fitted.scale * (z - inverse @ z / np.diag(inverse))
    return np.asarray(np.exp(np.clip(told, -700, 700)) if fitted.log else told)


class _Tuned(NamedTuple):
    """Variance of each block, noise, and the negative log likelihood there."""

    variances: Floats
    noise: float
    nll: float


def _robust(blocks: tuple[Block, ...], phi: Floats, targets: Floats, log: bool) -> tuple[float, Fitted]:
    """Negative log likelihood for each sample, and the fit without outliers."""
    values = np.log(targets) if log else targets
    keep = np.ones(len(values), dtype=bool)
    nll, fitted, errors = _plain(blocks, phi, values, log)
    good = np.abs(errors) <= OUTLIER
    if len(values) >= _LEAST_TO_DROP and not good.all():
        keep = good
        nll, fitted, _ = _plain(blocks, phi[keep], values[keep], log)
    dropped = int((~keep).sum())
    jacobian = float(values.sum()) if log else 0.0
    total = nll + jacobian + dropped * (OUTLIER**2 / 2 + np.log(fitted.scale))
    return total / len(values), replace(fitted, samples=len(values), dropped=dropped)


def _plain(blocks: tuple[Block, ...], phi: Floats, values: Floats, log: bool) -> tuple[float, Fitted, Floats]:
    """Negative log likelihood, fit, and leave-one-out errors in their own deviations."""
    centre, scale = float(values.mean()), float(values.std())
    if scale <= 1e-9 * max(1e-30, abs(centre)):
        scale = max(1e-30, 1e-3 * abs(centre)) if not log else 1e-3
    z = (values - centre) / scale
    columns = np.cumsum([0, *(b.size for b in blocks)])
    shown = np.unique(np.linspace(0, len(z) - 1, min(len(z), TUNED_ON)).astype(int))
    kernels = [phi[shown, i:j] @ phi[shown, i:j].T for i, j in pairwise(columns)]
    tuned = _tune(blocks, np.array(kernels), z[shown])
    errors = _left_out(np.array(kernels), z[shown], tuned)
    variances = np.repeat(tuned.variances, [b.size for b in blocks])
    weights, offset, factor = _solve(phi, z, variances, tuned.noise)
    widening = _widening(errors) if len(errors) >= _LEAST_TO_DROP else 1.0
    fitted = Fitted(
        blocks, weights, factor, variances, tuned.noise, offset, centre, scale, log, widening, len(values), 0
    )
    every = errors if len(shown) == len(z) else (z - phi @ weights - offset) / np.sqrt(tuned.noise)
    return tuned.nll * len(z) / len(shown) + len(z) * float(np.log(scale)), fitted, every


def _covariance(kernels: Floats, variances: Floats, noise: float) -> Floats:
    n = kernels.shape[1]
    covariance: Floats = np.tensordot(variances, kernels, 1) + _INTERCEPT_VARIANCE + noise * np.eye(n)
    return covariance


def _tune(blocks: tuple[Block, ...], kernels: Floats, z: Floats) -> _Tuned:
    """Block variances and noise of the largest posterior, by L-BFGS on their logarithms."""
    from scipy.optimize import minimize

    start = np.log([*(b.variance for b in blocks), DEFAULT_NOISE])
    bounds = [(s - 12.0, s + 7.0) for s in start[:-1]] + [(np.log(1e-6), np.log(4.0))]
    found = minimize(
        _objective, start, (start, kernels, z), "L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 60}
    )
    x = np.asarray(found.x)
    penalty = float(((x - start) ** 2).sum()) / (2 * _SPREAD**2)
    return _Tuned(np.exp(x[:-1]), float(np.exp(x[-1])), float(found.fun) - penalty)


def _objective(x: Floats, start: Floats, kernels: Floats, z: Floats) -> tuple[float, Floats]:
    """Negative log posterior of log variances and log noise, and its gradient."""
    variances, noise = np.exp(x[:-1]), float(np.exp(x[-1]))
    inverse = np.linalg.inv(covariance := _covariance(kernels, variances, noise))
    alpha = inverse @ z
    _, logdet = np.linalg.slogdet(covariance)
    value = 0.5 * float(z @ alpha) + 0.5 * float(logdet) + float(((x - start) ** 2).sum()) / (2 * _SPREAD**2)
    slope = 0.5 * (inverse - np.outer(alpha, alpha))
    gradient = [*(v * float((slope * k).sum()) for v, k in zip(variances, kernels, strict=True))]
    return value, np.array([*gradient, noise * float(np.trace(slope))]) + (x - start) / _SPREAD**2


def _left_out(kernels: Floats, z: Floats, tuned: _Tuned) -> Floats:
    """Error of each sample predicted from the others, in predicted deviations (GPML eq. 5.12)."""
    inverse = np.linalg.inv(_covariance(kernels, tuned.variances, tuned.noise))
    errors: Floats = inverse @ z / np.sqrt(np.diag(inverse))
    return errors


def _widening(errors: Floats) -> float:
    """What makes 90 % of the leave-one-out errors lie within their 90 % interval; never under a half."""
    return max(0.5, float(np.quantile(np.abs(errors), 0.9)) / 1.645)


def _solve(phi: Floats, z: Floats, variances: Floats, noise: float) -> tuple[Floats, float, Floats]:
    """Weights, offset, and the factor of the variance, in the smaller of the two spaces."""
    wide = np.concatenate([phi, np.ones((len(phi), 1))], axis=1)
    spread = np.append(variances, _INTERCEPT_VARIANCE)
    if len(z) <= wide.shape[1]:
        lower = np.linalg.cholesky((wide * spread) @ wide.T + noise * np.eye(len(z)))
        factor = np.linalg.solve(lower, wide * spread)
        weights = factor.T @ np.linalg.solve(lower, z)
    else:
        posterior = np.linalg.inv(wide.T @ wide / noise + np.diag(1 / spread))
        weights = posterior @ (wide.T @ z) / noise
        values, vectors = np.linalg.eigh(np.diag(spread) - posterior)
        kept = values > 1e-9 * values.max()
        factor = (vectors[:, kept] * np.sqrt(values[kept])).T
    return weights[:-1], float(weights[-1]), factor
