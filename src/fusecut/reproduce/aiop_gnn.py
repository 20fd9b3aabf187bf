"""AIO-P's graph network in the tables of :mod:`fusecut.reproduce.aiop`: pretrained, adapted, fine-tuned.

For a target with a known task: the base is pretrained on the known task's networks, a K-Adapter on the
same task beside the frozen base, and its head is fine-tuned on the samples. Three labels are tried
(:mod:`fusecut.predict.transforms`): the paper's standardised one (``gnn``), its FLOPs transform
(``gnn-flops``), and ours, the logarithm less what a ridge on analytic features says, these features
joining the readout (``gnn-residual``). With no sample, mean and deviation are the known task's.

Compared with the paper: fewer epochs at a higher rate (:data:`PRETRAINING`), since the spaces here have
hundreds of networks, not hundreds of thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.predict.basis import Basis, Described, describe_graphs
from fusecut.predict.compute_graph import ComputeGraph
from fusecut.predict.features import NAMES
from fusecut.predict.gnn import (
    Encoded,
    Freedom,
    Predictor,
    Schedule,
    answers,
    encode,
    new_predictor,
    train,
)
from fusecut.predict.metrics import Metrics, metrics
from fusecut.predict.model import Model
from fusecut.predict.spaces.families import member
from fusecut.predict.transforms import Kind, Transform
from fusecut.reproduce.aiop import Row, row_of, solved_targets
from fusecut.train.solved import Label
from fusecut.units import parse_bytes

Floats = NDArray[np.float64]

PRETRAINING: Final = Schedule(epochs=30, batch=32, rate=2e-3)
FINE_TUNING: Final = Schedule(epochs=40, batch=8, rate=1e-3)
_MACS: Final = NAMES.index("macs")


@dataclass(frozen=True)
class Sample:
    """Networks twice, as graphs and as numbers, with their labels and what labels are divided by."""

    graphs: tuple[Encoded, ...]
    networks: Described
    values: Floats
    over: Floats

    def __getitem__(self, rows: NDArray[np.int64]) -> Sample:
        graphs = tuple(self.graphs[i] for i in rows)
        return Sample(graphs, self.networks[rows], self.values[rows], self.over[rows])


@dataclass(frozen=True)
class Pretrained:
    """A network that learnt the known task, the ridge it learnt the residual of, and the label's transform."""

    network: Predictor
    ridge: Model
    transform: Transform

    def analytic(self, sample: Sample) -> Floats:
        """Logarithms of what the ridge says."""
        found = self.ridge.predict("known", sample.networks).values * sample.over
        return np.asarray(np.log(np.maximum(found, 1e-300)))

    def inputs(self, sample: Sample) -> Floats:
        """Global inputs of the network: none, or the analytic features."""
        return _inputs(self.ridge.basis, sample, self.network.known)

    def predict(self, sample: Sample) -> Floats:
        """Labels of networks."""
        learnt = answers(self.network, sample.graphs, self.inputs(sample))
        return self.transform.backward(learnt, sample.networks.raw[:, _MACS], self.analytic(sample))


def _inputs(basis: Basis, sample: Sample, count: int) -> Floats:
    return basis.phi(sample.networks) * np.sqrt(count) if count else np.zeros((len(sample.values), 0))


def pretrained(kind: Kind, known: Sample, scaled_by: Described, seed: int) -> Pretrained:
    """Base and adapter, trained on a known task one after the other."""
    basis = Basis.of("known", scaled_by).without_linear()
    ridge = Model(basis, {}).learning("known", known.networks, known.values / known.over)
    columns = basis.phi(known.networks[:1]).shape[1] if kind == "residual" else 0
    network = new_predictor(seed, columns)
    macs = known.networks.raw[:, _MACS]
    analytic = np.log(ridge.predict("known", known.networks).values * known.over)
    transform = Transform.fitted(kind, known.values, macs, analytic)
    learnt, inputs = transform.forward(known.values, macs, analytic), _inputs(basis, known, columns)
    rng = np.random.default_rng(seed)
    train(network, known.graphs, inputs, learnt, PRETRAINING, rng)
    network.add_adapter(seed + 1)
    train(network, known.graphs, inputs, learnt, PRETRAINING, rng, network.trainable("adapters"))
    return Pretrained(network, ridge, transform)


def fine_tuned(start: Pretrained, samples: Sample, freedom: Freedom, seed: int) -> Pretrained:
    """A copy fitted to samples; mean and deviation of the label are those of the samples.

    A residual keeps the known task's deviation: that of a few residuals says little.
    """
    from copy import deepcopy

    network = deepcopy(start.network)
    macs, analytic = samples.networks.raw[:, _MACS], start.analytic(samples)
    transform = Transform.fitted(start.transform.kind, samples.values, macs, analytic)
    if transform.kind == "residual":
        transform = replace(transform, spread=start.transform.spread)
    learnt = transform.forward(samples.values, macs, analytic)
    rng = np.random.default_rng(seed)
    train(network, samples.graphs, start.inputs(samples), learnt, FINE_TUNING, rng, network.trainable(freedom))
    return Pretrained(network, start.ridge, transform)


def evaluated(start: Pretrained, target: Sample, count: int, seed: int, freedom: Freedom = "heads") -> Metrics:
    """Errors on the networks that are no samples, after fine-tuning on ``count`` of them."""
    order = np.random.default_rng(seed).permutation(len(target.values))
    tuned = fine_tuned(start, target[order[:count]], freedom, seed) if count else start
    asked = target[order[count:]]
    return metrics(asked.values, tuned.predict(asked))


KINDS: Final[dict[str, Kind]] = {"gnn": "plain", "gnn-flops": "flops", "gnn-residual": "residual"}
"""Names of the methods in the table, and what each learns."""

COUNTS: Final = (0, 10, 20)


def family_rows(
    labels: Sequence[Label], methods: Sequence[str], seeds: int, known: Iterable[Row], source: str = "mobilenet_v2"
) -> Iterator[Row]:
    """The rows of the experiment ``family`` for the graph network; those that are known as they are."""
    have = {row.key: row for row in known}
    targets = list(solved_targets(labels, source, experiments=("family",)))
    every = _samples([r for r in labels if r.task == targets[0].task])
    for method in methods:
        starts: list[Pretrained] = []
        for target in targets:
            family = target.space.rpartition(" ")[2]
            for count in COUNTS:
                key = (target.experiment, target.space, target.task, method, count)
                if key not in have:
                    starts = starts or [
                        pretrained(KINDS[method], every[source], _together(every), seed) for seed in range(seeds)
                    ]
                    runs = [evaluated(start, every[family], count, seed) for seed, start in enumerate(starts)]
                    have[key] = row_of(target, method, count, runs)
                yield have[key]


def _samples(labels: Sequence[Label]) -> dict[str, Sample]:
    """The labels of one task by family."""
    found = {}
    for family in sorted({r.family for r in labels}):
        rows = [r for r in labels if r.family == family]
        graphs = [member(r.family, r.seed) for r in rows]
        sizes = [parse_bytes(r.task.partition("@")[2]) for r in rows]
        networks = describe_graphs(graphs, sizes)
        values = np.array([float(r.value) for r in rows])
        encoded = tuple(encode(ComputeGraph.of(g)) for g in graphs)
        found[family] = Sample(encoded, networks, values, networks.raw[:, NAMES.index("unfused")])
    return found


def _together(samples: Mapping[str, Sample]) -> Described:
    parts = [s.networks for s in samples.values()]
    return Described(np.concatenate([p.extra for p in parts]), np.concatenate([p.raw for p in parts]))
