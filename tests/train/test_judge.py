"""How explainers are judged: areas and rank correlations counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from fusecut.explain import Scores
from fusecut.train.dataset import collected
from fusecut.train.judge import agreement, fewer, questions, validity_rows
from fusecut.train.validity import Settings


def of(*scores: float) -> Scores:
    return {(k, k + 1): score for k, score in enumerate(scores)}


EXACT = of(9, 8, 7, 1, 2, 3, 0, 0, 0, 0)  # of ten edges the first three are to blame
SAMPLES = collected("lbdf", ("alexnet", "mobilenet_v1", "squeezenet1_0"), 30, seed=2)


def test_the_exact_order_has_the_whole_area_and_is_its_own_rank() -> None:
    found = agreement([EXACT], [EXACT], [EXACT])
    assert found.auc == 1.0 and found.flat == 0 and found.rank == pytest.approx(1.0)


def test_the_reversed_order_has_none() -> None:
    backwards = {edge: -score for edge, score in EXACT.items()}
    found = agreement([backwards], [EXACT], [EXACT])
    assert found.auc == 0.0 and found.rank == pytest.approx(-1.0)


def test_equal_scores_are_guessing() -> None:
    found = agreement([of(*[2.0] * 10)], [EXACT], [EXACT])
    assert (found.auc, found.rank, found.flat) == (0.5, 0.0, 1)


def test_an_area_counted_by_hand() -> None:
    mine = of(5, 4, 0, 6, 1, 1, 1, 1, 1, 1)  # 5 and 4 beat six of seven, 0 beats none
    assert agreement([mine], [EXACT], [EXACT]).auc == pytest.approx(12 / 21)


def test_rank_correlation_is_spearmans() -> None:
    scipy = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 5, 8), rng.integers(0, 5, 8)
        ours = agreement([of(*a)], [EXACT], [of(*b)]).rank
        assert ours == pytest.approx(scipy.spearmanr(a, b).statistic)


def test_fewer_keeps_so_many_groups_of_every_network() -> None:
    part = fewer(SAMPLES, 7, seed=0)
    assert np.bincount(part.network_of).tolist() == [7, 7, 7]
    assert set(part.masks) <= set(SAMPLES.masks)


def test_questions_are_infeasible_groups_of_more_than_six_ops() -> None:
    asked = questions(SAMPLES, 12, seed=0)
    assert asked
    for problem, group in asked:
        assert group.bit_count() > 6 and not problem.fits(group)


def test_every_family_is_left_out_once_and_every_ablation_made() -> None:
    rows = list(validity_rows(SAMPLES, Settings(epochs=1)))
    assert [row.trained_on for row in rows] == [
        "80 %",
        "80 %, without shares",
        "80 %, without edges",
        "80 %, every second buffer",
        "80 %, every second buffer",
        "all but classic",
        "all but mobilenet",
        "all but squeezenet",
    ]


def test_a_family_left_out_is_tried_on_all_its_wide_groups() -> None:
    last = list(validity_rows(SAMPLES, Settings(epochs=1)))[-1]
    wide = sum(SAMPLES.masks[row].bit_count() > 1 for row in np.flatnonzero(SAMPLES.network_of == 2).tolist())
    assert last.quality.samples == wide * len(SAMPLES.buffers)
