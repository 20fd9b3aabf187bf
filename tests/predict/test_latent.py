"""Latent sampling on synthetic features."""

from __future__ import annotations

import numpy as np
import pytest

from fusecut.errors import FusecutError
from fusecut.predict.latent import LatentSampler


def subnet(seed: int) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {2: rng.normal(3.0, 0.5, size=(4, 8, 8)), 3: rng.normal(-1.0, 2.0, size=(8, 4, 4))}


WINDOW = LatentSampler(tuple(subnet(i) for i in range(50)))


def test_statistics_are_taken_over_subnets_for_each_feature() -> None:
    mean, spread = WINDOW.statistics()[3]
    np.testing.assert_allclose(mean, np.mean([subnet(i)[3] for i in range(50)], axis=0))
    np.testing.assert_allclose(spread, np.std([subnet(i)[3] for i in range(50)], axis=0))


def test_draws_have_the_mean_and_deviation_of_the_subnets() -> None:
    rng = np.random.default_rng(0)
    draws = np.stack([WINDOW.draw(rng)[2] for _ in range(400)])
    mean, spread = WINDOW.statistics()[2]
    assert abs((draws.mean(axis=0) - mean).mean()) < 0.01
    assert abs((draws.std(axis=0) / spread).mean() - 1) < 0.02


def test_equal_subnets_leave_nothing_to_draw() -> None:
    drawn = LatentSampler((subnet(0), subnet(0))).draw(np.random.default_rng(0))
    np.testing.assert_array_equal(drawn[2], subnet(0)[2])


def test_a_swap_replaces_exactly_one_subnet() -> None:
    swapped = WINDOW.swapped(subnet(99), np.random.default_rng(0))
    kept = sum(a is b for a, b in zip(swapped.subnets, WINDOW.subnets, strict=True))
    assert (kept, len(swapped.subnets)) == (49, 50)


def test_the_same_generator_state_draws_the_same() -> None:
    one, two = (WINDOW.draw(np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one[3], two[3])


def test_subnets_of_other_shapes_are_refused() -> None:
    with pytest.raises(FusecutError, match="same depths and shapes"):
        LatentSampler((subnet(0), {2: subnet(0)[2]}))


def test_no_subnets_are_refused() -> None:
    with pytest.raises(FusecutError, match="at least one"):
        LatentSampler(())
