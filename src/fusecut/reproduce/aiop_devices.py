"""AIO-P's graph network on measured devices: pretrained on one, an adapter for each other, heads fine-tuned.

For every seed two devices of a space are drawn, of different kinds where there are; an encoder is pretrained on
each, and beside the frozen encoder a K-Adapter is trained for every device. A device that is asked for is predicted
from the encoder that did not learn it (or, in ``group``, its kind), and the adapters of all devices that are
known, their answers averaged; their heads are fine-tuned on the samples. Across spaces it is the adapter of the
same device.

* ``gnn`` learns standardised latencies, ``gnn-flops`` the FLOPs transform of them;
* ``gnn-residual`` learns logarithms less what a linear fit says, analytic features joining the readout. With
  samples it corrects ``blocks``: heads learn the errors of leave-one-out predictions. Across spaces it corrects
  ``sum``;
* ``gnn-blocks`` trains no head: readouts and answers of the adapters of ``gnn`` are two more blocks of ``blocks``;
* ``gnn-scratch`` is the same encoder and head, trained on the samples alone.

All networks of a space and label are trained as one stack (:mod:`fusecut.predict.gnn_stack`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusecut.predict import features, gnn_stack
from fusecut.predict.additive import additive, fit_additive
from fusecut.predict.basis import Scaling
from fusecut.predict.compute_graph import ComputeGraph
from fusecut.predict.gaussian import Block, fit, left_out
from fusecut.predict.gnn import Adapter, Schedule, encode, new_predictor
from fusecut.predict.gnn_stack import Padded
from fusecut.predict.metrics import Metrics, metrics
from fusecut.predict.model import Model
from fusecut.predict.spaces import space
from fusecut.predict.transforms import flops_divisor
from fusecut.reproduce.aiop import Measured, Target, kind_of, split

Floats = NDArray[np.float64]
Label = Literal["plain", "flops", "linear", "sum"]
"""What networks learn: latencies, their FLOPs transform, or the residual over a linear fit or a non-negative sum."""

Over = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""``map``, or that of a pool of processes."""

PRETRAINING: Final = Schedule(epochs=30, batch=32, rate=2e-3)
FINE_TUNING: Final = Schedule(epochs=40, batch=8, rate=1e-3)
SCRATCH: Final = Schedule(epochs=100, batch=64, rate=2e-3)
_MACS: Final = features.NAMES.index("macs")
_TINY: Final = 1e-30


@dataclass(frozen=True)
class Sight:
    """The networks of a space as the graph network sees them; ``known`` [n, i] are analytic features."""

    name: str
    graphs: Padded
    known: Tensor
    divisor: Floats


@dataclass(frozen=True)
class Scaled:
    """Labels [device, n] as they are learnt, and the mean and deviation of each device that were taken off."""

    label: Label
    learnt: Floats
    means: Floats
    spreads: Floats


@dataclass(frozen=True)
class Pretrained:
    """Two bases for each seed, an adapter for each device, and the devices that the bases learnt, [seed, 2]."""

    scaled: Scaled
    drawn: NDArray[np.int64]
    base: dict[str, Tensor]
    own: dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """What fine-tuning starts from: readouts for seeds s and targets t, heads [s, t, k], and which of k are known."""

    base: Tensor
    own: Tensor
    heads: dict[str, Tensor]
    mask: Tensor
    known: Tensor


def sights(spaces: Sequence[Measured], device: str) -> dict[str, Sight]:
    """The networks of all spaces, their analytic features scaled together."""
    every = features.logarithmic(np.concatenate([m.networks.raw for m in spaces]))
    scaling = Scaling.of(every)
    wide = np.sqrt(max(1, int((scaling.scale > 0).sum())))
    found = {}
    for latencies, networks, _ in spaces:
        make = space(latencies.space).graph
        graphs = Padded.of([encode(ComputeGraph.of(make(arch))) for arch in latencies.archs], device)
        known = (scaling(features.logarithmic(networks.raw)) * wide).astype(np.float32)
        divisor = flops_divisor(networks.raw[:, _MACS])
        found[latencies.space] = Sight(latencies.space, graphs, torch.from_numpy(known).to(device), divisor)
    return found


def scaled(source: Measured, label: Label, divisor: Floats) -> Scaled:
    """What the networks of a space are taught of its devices."""
    values = source.latencies.values
    if label == "plain":
        raw = values
    elif label == "flops":
        raw = values / divisor
    else:
        told = [_linear(source, v) if label == "linear" else _summed(source, v) for v in values]
        raw = np.log(values) - np.log(np.maximum(told, _TINY))
    means, spreads = raw.mean(axis=1), np.maximum(raw.std(axis=1), 1e-9)
    return Scaled(label, (raw - means[:, None]) / spreads[:, None], means, spreads)


def _linear(source: Measured, values: Floats) -> Floats:
    """What a linear fit of all latencies of a device says; at least half of the least of them."""
    model = Model(source.basis.without_tasks(), {}).learning("known", source.networks, values)
    return np.asarray(np.maximum(model.predict("known", source.networks).values, values.min() / 2))


def _summed(source: Measured, values: Floats) -> Floats:
    return additive(fit_additive(source.networks.raw, values), source.networks.raw)


def drawn_bases(devices: Sequence[str], seeds: int) -> NDArray[np.int64]:
    """Two devices for each seed, of different kinds where there are, [seed, 2]."""
    found = []
    for seed in range(seeds):
        order = np.random.default_rng([seed, len(devices)]).permutation(len(devices)).tolist()
        other = [i for i in order[1:] if kind_of(devices[i]) != kind_of(devices[order[0]])]
        found.append((order[0], (other or order[1:])[0]))
    return np.array(found)


def pretrained(
    source: Measured, sight: Sight, label: Label, seeds: int, schedule: Schedule = PRETRAINING
) -> Pretrained:
    """Bases, then adapters, of all seeds at once."""
    found = scaled(source, label, sight.divisor)
    drawn = drawn_bases(source.latencies.devices, seeds)
    device, known = str(sight.graphs.ops.device), _inputs(sight, label)
    learnt = torch.from_numpy(found.learnt.astype(np.float32)).to(device)
    predictors = [new_predictor(2 * seed + i, known.shape[1]) for seed in range(seeds) for i in range(2)]
    base = gnn_stack.bases(predictors, device)
    rng = np.random.default_rng(seeds)
    rows = torch.from_numpy(drawn.reshape(-1)).to(device)
    gnn_stack.pretrain_bases(base, sight.graphs, known, learnt[rows], schedule, rng)
    for i, predictor in enumerate(predictors):
        predictor.add_adapter(1000 + i)
    fresh = [adapter for p in predictors for adapter in p.adapters if isinstance(adapter, Adapter)]
    own = gnn_stack.adapters(fresh, len(learnt), device)
    every = learnt.expand(len(predictors), -1, -1)
    gnn_stack.pretrain_adapters(base, own, sight.graphs, known, every, schedule, rng)
    return Pretrained(found, drawn, gnn_stack.frozen(base), gnn_stack.frozen(own))


def _inputs(sight: Sight, label: Label) -> Tensor:
    """Global inputs: analytic features beside residuals, none beside the paper's labels."""
    return sight.known if label in ("linear", "sum") else sight.known[:, :0]


def start_of(trained: Pretrained, source: Measured, sight: Sight, targets: Sequence[Target]) -> Start:
    """Bases that did not learn the target, and the adapters of what is known of it."""
    devices = source.latencies.devices
    seen = gnn_stack.readouts(trained.base, trained.own, sight.graphs)
    bases, adapters, mask = [], [], []
    for target in targets:
        left = _known(devices, target)
        bases.append([2 * s + (pair[0] not in left) for s, pair in enumerate(trained.drawn.tolist())])
        adapters.append(_beside(devices, target))
        mask.append([float(i in left) for i in adapters[-1]])
    at = torch.tensor(bases).T[:, :, None]
    beside = torch.tensor(adapters)[None]
    heads = {name: w[at, beside].clone() for name, w in trained.own.items() if name.startswith("head.")}
    known = _inputs(sight, trained.scaled.label)
    masked = torch.tensor(mask, device=known.device)
    return Start(seen.base[at[..., 0]], seen.own[at, beside], heads, masked, known)


def _beside(devices: Sequence[str], target: Target) -> list[int]:
    """Places of the devices whose adapters are there for a target: the same across spaces, else all."""
    return [devices.index(target.task)] if target.experiment == "space" else list(range(len(devices)))


def _known(devices: Sequence[str], target: Target) -> set[int]:
    """Places of the devices that may be used for a target."""
    if target.experiment == "space":
        return set(range(len(devices)))
    kind = kind_of(target.task)
    hidden = {d for d in devices if d == target.task or (target.experiment == "group" and kind_of(d) == kind)}
    return {i for i, d in enumerate(devices) if d not in hidden}


def tuned(start: Start, rows: NDArray[np.int64], learnt: Floats, schedule: Schedule = FINE_TUNING) -> Floats:
    """Answers [s, t, n] of heads fine-tuned on ``rows`` [s, c] with labels [s, t, c]; as they are for no row."""
    heads = {name: w.clone().requires_grad_() for name, w in start.heads.items()}
    if rows.shape[1]:
        device = start.known.device
        base, own = _at(start.base, rows), _at(start.own, rows)
        known = torch.stack([start.known[r] for r in torch.from_numpy(rows).to(device)])
        wanted = torch.from_numpy(learnt.astype(np.float32)).to(device)

        def errors(some: Tensor) -> Tensor:
            said = _together(heads, start.mask, base[..., some, :], own[..., some, :], known[:, some])
            return ((said - wanted[..., some]) ** 2).mean(dim=-1).sum()

        gnn_stack.learn(heads, 2, errors, rows.shape[1], schedule, np.random.default_rng(rows.shape[1]))
    parts = []
    with torch.no_grad():
        for i in range(0, start.base.shape[-2], gnn_stack.CHUNK):
            some = slice(i, i + gnn_stack.CHUNK)
            told = _together(
                heads, start.mask, start.base[..., some, :], start.own[..., some, :], start.known[None, some]
            )
            parts.append(told.cpu().numpy())
    return np.concatenate(parts, axis=-1).astype(np.float64)


def _at(readouts: Tensor, rows: NDArray[np.int64]) -> Tensor:
    """The rows of each seed."""
    chosen = torch.from_numpy(rows).to(readouts.device)
    return torch.stack([part[..., r, :] for part, r in zip(readouts, chosen, strict=True)])


def _together(heads: dict[str, Tensor], mask: Tensor, base: Tensor, own: Tensor, known: Tensor) -> Tensor:
    """The mean of the adapters that are known, [s, t, b]."""
    said = gnn_stack.adapter_answers(heads, base, own, known)
    found: Tensor = torch.einsum("stkb,tk->stb", said, mask / mask.sum(dim=1, keepdim=True))
    return found


def _samples(targets: Sequence[Target], count: int, seeds: int) -> NDArray[np.int64]:
    """Rows that are samples, [seed, count]: the same for all targets of a space."""
    return np.array([split(targets[0], count, seed)[0] for seed in range(seeds)]).reshape(seeds, count)


def predictions(
    trained: Pretrained, source: Measured, sight: Sight, targets: Sequence[Target], count: int, over: Over
) -> Floats:
    """Latencies [s, t, n] after fine-tuning on ``count`` samples, for the labels of ``trained``."""
    start, seeds = start_of(trained, source, sight, targets), len(trained.drawn)
    rows = _samples(targets, count, seeds)
    residual = trained.scaled.label in ("linear", "sum")
    analytic = (
        _analytic(targets, count, seeds, over) if residual else np.zeros((seeds, len(targets), len(sight.divisor)))
    )
    values = np.array([t.values for t in targets])
    raw = (
        np.log(values) - analytic if residual else values / (sight.divisor if trained.scaled.label == "flops" else 1.0)
    )
    raw = np.broadcast_to(raw, analytic.shape)
    known = start.mask.cpu().numpy() / start.mask.sum(dim=1, keepdim=True).cpu().numpy()
    places = [_beside(source.latencies.devices, target) for target in targets]
    means, spreads = (
        np.array([(k * v[p]).sum() for k, p in zip(known, places, strict=True)])
        for v in (trained.scaled.means, trained.scaled.spreads)
    )
    mean, spread = np.broadcast_to(means, (seeds, len(targets))), np.broadcast_to(spreads, (seeds, len(targets)))
    chosen = np.stack([raw[s][:, r] for s, r in enumerate(rows)])
    if count:
        mean = chosen.mean(axis=-1)
        spread = spread if residual else np.maximum(chosen.std(axis=-1), 1e-9)
    told = tuned(start, rows, (chosen - mean[..., None]) / spread[..., None])
    found = told * spread[..., None] + mean[..., None]
    if residual:
        return np.asarray(np.exp(np.clip(found + analytic, -700, 700)))
    return np.asarray(found * sight.divisor if trained.scaled.label == "flops" else found)


def _analytic(targets: Sequence[Target], count: int, seeds: int, over: Over) -> Floats:
    """Logarithms of what is corrected, [s, t, n]: ``blocks``, or across spaces ``sum``."""
    if targets[0].experiment == "space":
        told = np.array([[t.added for t in targets]] * seeds)
    elif not count:
        told = np.array([[t.zero_shot for t in targets]] * seeds)
    else:
        jobs = [(t, count, seed) for seed in range(seeds) for t in targets]
        told = np.array(list(over(blocks_told, jobs))).reshape(seeds, len(targets), -1)
    return np.asarray(np.log(np.maximum(told, _TINY)))


def blocks_told(job: tuple[Target, int, int]) -> Floats:
    """What ``blocks`` says of all networks, of samples from the others; at least half of the least sample."""
    target, count, seed = job
    seen, _ = split(target, count, seed)
    fitted, phi = (
        fit(target.basis.blocks, (every := target.basis.phi(target.networks))[seen], target.values[seen]),
        every,
    )
    told, _ = fitted.predict(phi)
    told[seen] = left_out(fitted, phi[seen], target.values[seen])
    return np.asarray(np.maximum(told, target.values[seen].min() / 2))


@dataclass(frozen=True)
class Graphed:
    """A target with what the graph network makes of its networks: blocks of columns, for one seed."""

    target: Target
    readouts: NDArray[np.float32]
    answers: NDArray[np.float32]
    count: int
    seed: int


def graphed(
    trained: Pretrained, source: Measured, sight: Sight, targets: Sequence[Target], count: int
) -> Iterator[Graphed]:
    """Jobs of :func:`with_graph_blocks`, for every seed and target."""
    start = start_of(trained, source, sight, targets)
    with torch.no_grad():
        for s in range(len(trained.drawn)):
            one = {name: w[s : s + 1] for name, w in start.heads.items()}
            told = gnn_stack.adapter_answers(one, start.base[s : s + 1], start.own[s : s + 1], start.known[None])[0]
            for t, target in enumerate(targets):
                own = start.own[s, t][start.mask[t] > 0].permute(1, 0, 2).flatten(1)
                read = torch.cat([start.base[s, t], own], dim=1).cpu().numpy()
                yield Graphed(target, read, told[t][start.mask[t] > 0].T.cpu().numpy(), count, s)


def with_graph_blocks(job: Graphed) -> Metrics:
    """``blocks`` with two blocks more: the readouts, and the answers of adapters before fine-tuning."""
    target = job.target
    seen, asked = split(target, job.count, job.seed)
    columns = [target.basis.phi(target.networks)]
    columns += [Scaling.of(wide)(wide) for wide in (job.answers.astype(np.float64), job.readouts.astype(np.float64))]
    blocks = (
        *target.basis.blocks,
        Block("answers", job.answers.shape[1]),
        Block("readouts", job.readouts.shape[1], 0.1),
    )
    phi = np.concatenate(columns, axis=1)
    told, _ = fit(blocks, phi[seen], target.values[seen]).predict(phi[asked])
    return metrics(target.values[asked], told)


def from_scratch(
    targets: Sequence[Target], sight: Sight, count: int, seed: int, schedule: Schedule = SCRATCH
) -> Floats:
    """Latencies [target, n] by networks that learn from samples alone."""
    values = np.array([t.values for t in targets])
    seen, _ = split(targets[0], count, seed)
    mean, spread = values[:, seen].mean(axis=1), np.maximum(values[:, seen].std(axis=1), 1e-9)
    device, none = str(sight.graphs.ops.device), sight.known[:, :0]
    base = gnn_stack.bases([new_predictor(seed)] * len(values), device)
    learnt = torch.from_numpy(((values[:, seen] - mean[:, None]) / spread[:, None]).astype(np.float32)).to(device)
    some = torch.from_numpy(seen).to(device)
    gnn_stack.pretrain_bases(
        base, sight.graphs[some], none[some], learnt, schedule, np.random.default_rng([seed, count])
    )
    parts = []
    with torch.no_grad():
        for i in range(0, len(sight.graphs), gnn_stack.CHUNK):
            part = sight.graphs[slice(i, i + gnn_stack.CHUNK)]
            readout = gnn_stack.read_out(gnn_stack.encoded(base, part)[-1], part)
            parts.append(gnn_stack.base_answers(base, readout, none[i : i + gnn_stack.CHUNK]).cpu().numpy())
    return np.asarray(np.concatenate(parts, axis=1) * spread[:, None] + mean[:, None], dtype=np.float64)


def scored(job: tuple[Floats, Floats]) -> Metrics:
    """Errors of predictions of networks that are no samples, beside the truth."""
    return metrics(*job)
