"""Training the validity network: it learns, it repeats, it can be interrupted; quality by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from fusecut.explain.features import SHARES, batch_of, feature_names
from fusecut.train.dataset import collected
from fusecut.train.validity import Judged, Parts, Settings, Trainer, parts_of, quality
from fusecut.zoo import load

SAMPLES = collected("lbdf", ("alexnet", "mobilenet_v1", "resnet18"), 50, seed=1)
TRAINER = Trainer(SAMPLES)
PARTS = parts_of(len(SAMPLES), 0)
SHORT = Settings(epochs=6, batch=64)


def test_a_short_training_beats_the_most_frequent_answer_by_far() -> None:
    model = TRAINER.train(PARTS.train, PARTS.validate, SHORT)
    rows = np.concatenate([PARTS.validate, PARTS.test])
    judged = TRAINER.judged(model.network, rows, TRAINER.all_columns, SHORT)
    share = judged.infeasible.mean()
    assert quality(judged).accuracy > max(share, 1 - share) + 0.15


def test_the_same_seed_trains_the_same_bytes() -> None:
    short = Settings(epochs=1)
    first, again = (TRAINER.train(PARTS.train, PARTS.validate, short).to_bytes() for _ in range(2))
    assert first == again


def test_a_trained_network_says_the_same_of_the_data_set_as_of_the_graph() -> None:
    model = TRAINER.train(PARTS.train[:20], PARTS.validate, Settings(epochs=1))
    graph = load("alexnet").with_bits(8, 8, 32)
    rows = np.flatnonzero(SAMPLES.network_of == 0)
    judged = TRAINER.judged(model.network, rows, TRAINER.all_columns, SHORT)
    for column, size in enumerate(SAMPLES.buffers):
        logits = model.infeasible_logits(graph, size, [SAMPLES.masks[row] for row in rows.tolist()])
        assert judged.logits[:, column] == pytest.approx(logits, abs=1e-3)


def test_interrupted_it_keeps_the_best_epoch_so_far() -> None:
    def report(line: str) -> None:
        if line.startswith("epoch 2"):
            raise KeyboardInterrupt

    kept = TRAINER.train(PARTS.train, PARTS.validate, Settings(epochs=4), report)
    assert np.isfinite(kept.infeasible_logits(load("alexnet").with_bits(8, 8, 32), 65_536, [0b11])).all()


def test_training_on_some_buffers_is_what_the_network_says_of_itself() -> None:
    model = TRAINER.train(PARTS.train, PARTS.validate, Settings(epochs=1), buffers=np.array([0, 2]))
    assert model.trained.buffers == (65_536, 262_144) and model.trained.scheme == "lbdf"


def test_an_ablation_hides_what_it_says() -> None:
    names = feature_names(TRAINER.pool.vocabulary)
    hidden = Settings(hidden_features=SHARES, edges=False)
    x, edges, _ = TRAINER.tensors(np.arange(5), np.zeros(5, np.int64), hidden)
    assert not x[:, [names.index(name) for name in SHARES]].any() and edges.shape == (2, 0)


def test_a_batch_of_the_pool_is_the_batch_of_the_graph() -> None:
    rows = np.flatnonzero(SAMPLES.network_of == 1)[[3, 1, 2]]
    _, batch = TRAINER.pool.batch(rows, np.full(3, 65_536))
    expected = batch_of(load("mobilenet_v1"), [SAMPLES.masks[row] for row in rows.tolist()])
    assert batch.edges.tolist() == expected.edges.tolist()
    assert batch.graph_of.tolist() == expected.graph_of.tolist()


def test_the_parts_are_disjoint_cover_everything_and_split_groups_not_samples() -> None:
    parts = parts_of(101, 3)
    assert isinstance(parts, Parts) and [len(p) for p in parts] == [80, 10, 11]
    assert sorted(np.concatenate(parts).tolist()) == list(range(101))


def test_quality_is_that_of_a_table_counted_by_hand() -> None:
    logits = np.array([[4.0, 4.0, -4.0, -4.0, -4.0]], np.float32)
    truth = np.array([[True, False, True, False, False]])
    found = quality(Judged(logits, truth))
    sure = 1 / (1 + np.exp(-4.0))
    assert found.accuracy == pytest.approx(3 / 5) and found.f1 == pytest.approx(0.5)
    assert found.bins[0] == pytest.approx((3, 1 - sure, 1 / 3)) and found.bins[1] == pytest.approx((2, sure, 1 / 2))
    assert found.ece == pytest.approx((3 * abs(1 - sure - 1 / 3) + 2 * abs(sure - 0.5)) / 5)
