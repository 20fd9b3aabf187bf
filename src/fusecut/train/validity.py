"""Training the validity network, and telling how good it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fusecut.explain.features import Floats, Ints, feature_names
from fusecut.explain.gnn import Trained, ValidityModel, ValidityNet
from fusecut.threads import one_thread
from fusecut.train.dataset import Samples
from fusecut.train.pool import Pool, graphs_of, pool_of, vocabulary_of

Report = Callable[[str], None]

STRANGERS: Final = 0.02
"""Share of ops that are shown as of a kind never met, so that such ops mean something, too."""

BINS: Final = 10


@dataclass(frozen=True)
class Settings:
    """How to train. ``hidden_features`` are set to 0, ``edges`` off hides the edges: for ablations.

    ``patience``: stop after so many epochs without a lower loss on the groups kept for validation.
    """

    epochs: int = 16
    batch: int = 256
    learning_rate: float = 3e-3
    patience: int = 5
    seed: int = 0
    hidden_features: tuple[str, ...] = ()
    edges: bool = True


class Parts(NamedTuple):
    """Rows of a data set: 80 % of the groups teach, 10 % stop the training, 10 % test."""

    train: Ints
    validate: Ints
    test: Ints


@dataclass(frozen=True)
class Quality:
    """Accuracy; F1 of "infeasible"; expected calibration error over 10 bins, and the bins as
    (samples, mean probability, share infeasible)."""

    samples: int
    accuracy: float
    f1: float
    ece: float
    bins: tuple[tuple[int, float, float], ...]


class Judged(NamedTuple):
    """Logits of "infeasible" and the truth, (groups, buffers)."""

    logits: Floats
    infeasible: NDArray[np.bool_]


def parts_of(count: int, seed: int) -> Parts:
    """A random split by group."""
    order = np.random.default_rng(seed).permutation(count)
    a, b = int(0.8 * count), int(0.9 * count)
    return Parts(np.sort(order[:a]), np.sort(order[a:b]), np.sort(order[b:]))


class Trainer:
    """One data set, ready for training any number of networks on parts of it."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        graphs = graphs_of(samples)
        self.pool: Pool = pool_of(samples, graphs, vocabulary_of(graphs))
        self.buffers = np.array(samples.buffers, np.int64)
        self.all_columns: Ints = np.arange(len(samples.buffers))

    def train(
        self,
        train: Ints,
        validate: Ints,
        settings: Settings,
        on_progress: Report | None = None,
        buffers: Ints | None = None,
    ) -> ValidityModel:
        """The network of the epoch with the least validation loss; interrupted, the best so far.

        Adam with a one-cycle learning rate, gradients cut at norm 1. ``buffers`` are the columns that
        teach. Seeded: the same data and settings give the same network with one thread.

        Raises:
            KeyboardInterrupt: interrupted before the first epoch was over.
        """
        columns = self.all_columns if buffers is None else buffers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = ValidityNet(len(feature_names(self.pool.vocabulary)))
        best: tuple[float, ValidityNet] | None = None
        run = _Run(self, network, settings, train, columns)
        waited = 0
        try:
            for epoch in range(settings.epochs):
                with one_thread():
                    run.epoch()
                    loss = self._loss(network, validate, columns, settings)
                waited = 0 if best is None or loss < best[0] else waited + 1
                if not waited:
                    best = loss, copy.deepcopy(network)
                if on_progress is not None:
                    on_progress(f"epoch {epoch + 1} of {settings.epochs}: validation loss {loss:.4f}")
                if waited >= settings.patience:
                    break
        except KeyboardInterrupt:
            if best is None:
                raise
            if on_progress is not None:
                on_progress("interrupted: keeping the best epoch so far")
        return self._model(best[1] if best is not None else network, columns, settings)

    def _model(self, network: ValidityNet, columns: Ints, settings: Settings) -> ValidityModel:
        s = self.samples
        trained = Trained(
            s.scheme, self.pool.vocabulary, tuple(self.buffers[columns].tolist()), s.networks, settings.seed
        )
        return ValidityModel(network.eval(), trained)

    def _loss(self, network: ValidityNet, rows: Ints, columns: Ints, settings: Settings) -> float:
        judged = self.judged(network, rows, columns, settings)
        logits, truth = judged.logits.astype(np.float64), judged.infeasible
        return float(np.logaddexp(0.0, np.where(truth, -logits, logits)).mean())

    def judged(self, network: ValidityNet, rows: Ints, columns: Ints, settings: Settings) -> Judged:
        """What the network says of groups in buffers, beside the truth."""
        pairs = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
        logits = []
        for start in range(0, len(pairs), 1024):
            part = pairs[start : start + 1024]
            with torch.inference_mode():
                out = network(*self.tensors(part[:, 0], part[:, 1], settings))
            logits.append((out[:, 1] - out[:, 0]).numpy())
        shape = len(rows), len(columns)
        return Judged(np.concatenate(logits).reshape(shape), self.samples.infeasible[np.ix_(rows, columns)])

    def tensors(
        self, groups: Ints, columns: Ints, settings: Settings, strangers: NDArray[np.float64] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features, edges and owner of samples; nodes where ``strangers`` draws low hide their kind."""
        x, batch = self.pool.batch(groups, self.buffers[columns])
        names = feature_names(self.pool.vocabulary)
        for name in settings.hidden_features:
            x[:, names.index(name)] = 0.0
        if strangers is not None:
            hidden = np.resize(strangers, len(x)) < STRANGERS
            x[hidden, : len(self.pool.vocabulary)] = 0.0
            x[hidden, len(self.pool.vocabulary)] = 1.0
        edges = batch.edges if settings.edges else batch.edges[:, :0]
        return torch.from_numpy(x), torch.from_numpy(edges), torch.from_numpy(batch.graph_of)


class _Run:
    """One training in progress."""

    def __init__(self, trainer: Trainer, network: ValidityNet, settings: Settings, rows: Ints, columns: Ints) -> None:
        self.trainer, self.network, self.settings = trainer, network, settings
        self.pairs = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
        self.rng = np.random.default_rng(settings.seed)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser,
            max_lr=settings.learning_rate,
            total_steps=settings.epochs * -(-len(self.pairs) // settings.batch),
        )
        self.truth = torch.from_numpy(trainer.samples.infeasible.astype(np.int64))

    def epoch(self) -> None:
        order = self.rng.permutation(len(self.pairs))
        for start in range(0, len(order), self.settings.batch):
            part = self.pairs[order[start : start + self.settings.batch]]
            tensors = self.trainer.tensors(part[:, 0], part[:, 1], self.settings, self.rng.random(997))
            self.optimiser.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(self.network(*tensors), self.truth[part[:, 0], part[:, 1]])
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.schedule.step()


def quality(judged: Judged) -> Quality:
    """How good logits are; ties at 0 count as feasible."""
    logits, truth = judged.logits.ravel().astype(np.float64), judged.infeasible.ravel()
    said, probability = logits > 0, 1.0 / (1.0 + np.exp(-logits))
    hits = int((said & truth).sum())
    wrong = int((said != truth).sum())
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    bins = []
    for k in range(BINS):
        inside = place == k
        if inside.any():
            bins.append((int(inside.sum()), float(probability[inside].mean()), float(truth[inside].mean())))
    ece = sum(n * abs(p - share) for n, p, share in bins) / len(truth)
    f1 = 2 * hits / (2 * hits + wrong) if hits or wrong else 1.0
    return Quality(len(truth), 1.0 - wrong / len(truth), f1, ece, tuple(bins))
