"""Many graph networks at once: the predictor of :mod:`fusecut.predict.gnn`, stacked, on any torch device.

Tables of transfer need thousands of small networks that differ in seed, task and label, and see the same
graphs. Here their weights have leading dimensions and a step moves all of them: ``s`` bases, ``k`` adapters
beside each. Graphs are padded to one size, with dense adjacency, so that a layer is two matrix products; nothing
is added up in an order that depends on the machine's threads. Each network learns what it would learn alone:
losses are added, gradients are clipped network by network, and Adam works on every weight by itself.

Letters of the products: s base, k adapter, t task, b graph, n or m node, f or g feature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusecut.errors import FusecutError
from fusecut.predict.gnn import LAYERS, Adapter, Encoded, Predictor, Schedule

Floats = NDArray[np.float64]
Weights = Mapping[str, Tensor]

CHUNK: Final = 50
"""Graphs that are answered at once."""


@dataclass(frozen=True)
class Padded:
    """Graphs [b] as arrays over nodes [n] of the largest; ``adjacent`` [b, to, from], ``share`` 1 / nodes or 0."""

    ops: Tensor
    shapes: Tensor
    kernels: Tensor
    biases: Tensor
    adjacent: Tensor
    share: Tensor

    @classmethod
    def of(cls, graphs: Sequence[Encoded], device: str = "cpu") -> Padded:
        """Pad graphs. O(graphs * n^2) floats."""
        count, most = len(graphs), max(len(g.ops) for g in graphs)
        whole = np.zeros((3, count, most), dtype=np.int64)
        shapes = np.zeros((count, most, 6), dtype=np.float32)
        adjacent = np.zeros((count, most, most), dtype=np.float32)
        share = np.zeros((count, most), dtype=np.float32)
        for i, g in enumerate(graphs):
            nodes = len(g.ops)
            whole[:, i, :nodes] = g.ops, g.kernels, g.biases
            shapes[i, :nodes], share[i, :nodes] = g.shapes, 1 / nodes
            adjacent[i, g.edges[1], g.edges[0]] = 1
        ops, kernels, biases, shaped, edges, shares = (
            torch.from_numpy(a).to(device) for a in (*whole, shapes, adjacent, share)
        )
        return cls(ops, shaped, kernels, biases, edges, shares)

    def __len__(self) -> int:
        return len(self.ops)

    def __getitem__(self, rows: Tensor | slice) -> Padded:
        parts = (self.ops, self.shapes, self.kernels, self.biases, self.adjacent, self.share)
        return Padded(*(p[rows] for p in parts))


def usable(device: str) -> str:
    """A torch device that computes.

    Raises:
        FusecutError: there is none of that name here.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise FusecutError(f"torch cannot use device {device!r} here ({reason}); cpu always works") from None
    return device


def stacked(modules: Sequence[nn.Module], device: str = "cpu") -> dict[str, Tensor]:
    """The weights of modules of one shape, by name, [modules, ...]; trainable."""
    states = [module.state_dict() for module in modules]
    return {name: torch.stack([s[name] for s in states]).to(device).requires_grad_() for name in states[0]}


def bases(predictors: Sequence[Predictor], device: str = "cpu") -> dict[str, Tensor]:
    """Encoders and heads of predictors, stacked over s."""
    kept = ("encoder.", "head.")
    return {name: w for name, w in stacked(predictors, device).items() if name.startswith(kept)}


def adapters(drawn: Sequence[Adapter], beside: int, device: str = "cpu") -> dict[str, Tensor]:
    """Adapters for each of s bases, one drawn for each, repeated ``beside`` times as k."""
    found = stacked(drawn, device)
    return {
        name: w.detach().unsqueeze(1).repeat(1, beside, *[1] * (w.dim() - 1)).requires_grad_()
        for name, w in found.items()
    }


def frozen(weights: Weights) -> dict[str, Tensor]:
    """The same values, no longer trained."""
    return {name: w.detach() for name, w in weights.items()}


def encoded(weights: Weights, graphs: Padded) -> list[Tensor]:
    """Node states of s encoders after the embedding and every layer, [s, b, n, f]."""
    parts = [
        weights["encoder.op.weight"][:, graphs.ops],
        torch.einsum("bnf,sgf->sbng", graphs.shapes, weights["encoder.shape.weight"])
        + weights["encoder.shape.bias"][:, None, None],
        weights["encoder.kernel.weight"][:, graphs.kernels],
        weights["encoder.bias.weight"][:, graphs.biases],
    ]
    states = [torch.cat(parts, dim=-1)]
    for i in range(LAYERS):
        near, own, bias = _layer(weights, f"encoder.layers.{i}")
        said = torch.einsum("sbnf,sgf->sbng", states[-1], near)
        heard = torch.einsum("bnm,sbmg->sbng", graphs.adjacent, said)
        kept = torch.einsum("sbnf,sgf->sbng", states[-1], own)
        states.append(torch.tanh(heard + kept + bias[:, None, None]))
    return states


def adapted(weights: Weights, base: Sequence[Tensor], graphs: Padded) -> Tensor:
    """Readouts of k adapters beside each of s bases, [s, k, b, f]."""
    beside = weights["layers.0.lin_rel.bias"].shape[1]
    state = base[0].unsqueeze(1).expand(-1, beside, -1, -1, -1)
    for i, seen in enumerate(base[1:]):
        near, own, bias = _layer(weights, f"layers.{i}")
        width = seen.shape[-1]
        both = torch.cat([near, own], dim=2)
        made = torch.einsum("sbnf,skgf->skbng", seen, both[..., :width])
        made = made + torch.einsum("skbnf,skgf->skbng", state, both[..., width:])
        said, kept = made.chunk(2, dim=-1)
        heard = torch.einsum("bnm,skbmg->skbng", graphs.adjacent, said)
        state = torch.tanh(heard + kept + bias[:, :, None, None])
    return read_out(state, graphs)


def read_out(states: Tensor, graphs: Padded) -> Tensor:
    """Means over the nodes of each graph, [..., b, f]."""
    found: Tensor = torch.einsum("...bnf,bn->...bf", states, graphs.share)
    return found


def _layer(weights: Weights, name: str) -> tuple[Tensor, Tensor, Tensor]:
    return weights[f"{name}.lin_rel.weight"], weights[f"{name}.lin_root.weight"], weights[f"{name}.lin_rel.bias"]


def base_answers(weights: Weights, readouts: Tensor, known: Tensor) -> Tensor:
    """What s heads of bases say, [s, b], of readouts [s, b, f] and global inputs [b, i]."""
    weight = weights["head.0.weight"]
    width = readouts.shape[-1]
    x = torch.einsum("sbf,sgf->sbg", readouts, weight[..., :width])
    x = x + torch.einsum("bi,sgi->sbg", known, weight[..., width:]) + weights["head.0.bias"][:, None]
    return _after_first(weights, "head", x)


def adapter_answers(weights: Weights, base: Tensor, own: Tensor, known: Tensor) -> Tensor:
    """What heads of adapters say, [s, t, k, b]: t heads for each of k adapters of s bases.

    Weights have leading dimensions [s, t, k]; ``base`` [s, t or 1, b, f] and ``own`` [s, t or 1, k, b, f] are
    readouts, ``known`` [s or 1, b, i] global inputs.
    """
    weight, width = weights["head.0.weight"], base.shape[-1]
    x = torch.einsum("stbf,stkgf->stkbg", base.expand(-1, weight.shape[1], -1, -1), weight[..., :width])
    mine = weight[..., width : 2 * width]
    x = x + torch.einsum("stkbf,stkgf->stkbg", own.expand(-1, weight.shape[1], -1, -1, -1), mine)
    if known.shape[-1]:
        x = x + torch.einsum("sbi,stkgi->stkbg", known.expand(len(base), -1, -1), weight[..., 2 * width :])
    return _after_first(weights, "head", x + weights["head.0.bias"].unsqueeze(-2))


def _after_first(weights: Weights, head: str, x: Tensor) -> Tensor:
    """The ReLU and the other layers of a head; they are numbered from 2, and the last has one output."""
    x = torch.relu(x)
    last = max(int(name.split(".")[1]) for name in weights if name.startswith(f"{head}."))
    for i in range(2, last + 1):
        x = x @ weights[f"{head}.{i}.weight"].transpose(-1, -2) + weights[f"{head}.{i}.bias"].unsqueeze(-2)
    return x[..., 0]


def learn(
    weights: Mapping[str, Tensor],
    leading: int,
    errors: Callable[[Tensor], Tensor],
    count: int,
    schedule: Schedule,
    rng: np.random.Generator,
) -> None:
    """Move ``weights`` so that every network's error falls, as :func:`fusecut.predict.gnn.train` does for one.

    Args:
        leading: how many leading dimensions tell networks apart.
        errors: the sum over networks of their mean squared errors on some of ``count`` rows.
    """
    moved = [w for w in weights.values() if w.requires_grad]
    optimiser = torch.optim.Adam(moved, lr=schedule.rate)
    for _ in range(schedule.epochs):
        order = torch.from_numpy(rng.permutation(count)).to(moved[0].device)
        for start in range(0, count, schedule.batch):
            total = errors(order[start : start + schedule.batch])
            optimiser.zero_grad()
            total.backward()
            clip(moved, leading, schedule.clip)
            optimiser.step()


def clip(weights: Sequence[Tensor], leading: int, most: float) -> None:
    """Scale gradients so that the norm of each network's is at most so much."""
    grads = [w.grad for w in weights if w.grad is not None]
    squares = torch.stack([(g**2).flatten(leading).sum(dim=-1) for g in grads]).sum(dim=0)
    factor = torch.clamp(most / (squares.sqrt() + 1e-6), max=1.0)
    for g in grads:
        g.mul_(factor.reshape(*factor.shape, *[1] * (g.dim() - leading)))


@dataclass(frozen=True)
class Readouts:
    """What frozen bodies make of graphs: ``base`` [s, b, f], ``own`` [s, k, b, f]."""

    base: Tensor
    own: Tensor


def readouts(base: Weights, own: Weights, graphs: Padded, chunk: int = CHUNK) -> Readouts:
    """Readouts of all bodies on all graphs, some graphs at a time."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(graphs), chunk):
            some = graphs[slice(start, start + chunk)]
            states = encoded(base, some)
            parts.append((read_out(states[-1], some), adapted(own, states, some)))
    return Readouts(torch.cat([p[0] for p in parts], dim=1), torch.cat([p[1] for p in parts], dim=2))


def pretrain_bases(
    base: Weights, graphs: Padded, known: Tensor, learnt: Tensor, schedule: Schedule, rng: np.random.Generator
) -> None:
    """Teach s bases their labels ``learnt`` [s, b]."""

    def errors(rows: Tensor) -> Tensor:
        some = graphs[rows]
        said = base_answers(base, read_out(encoded(base, some)[-1], some), known[rows])
        return ((said - learnt[:, rows]) ** 2).mean(dim=-1).sum()

    learn(base, 1, errors, len(graphs), schedule, rng)


def pretrain_adapters(
    base: Weights,
    own: Weights,
    graphs: Padded,
    known: Tensor,
    learnt: Tensor,
    schedule: Schedule,
    rng: np.random.Generator,
) -> None:
    """Teach k adapters beside each of s frozen bases their labels ``learnt`` [s, k, b]."""
    still = frozen(base)

    def errors(rows: Tensor) -> Tensor:
        some = graphs[rows]
        with torch.no_grad():
            states = encoded(still, some)
        mine = adapted(own, states, some)
        heads = {name: w.unsqueeze(1) for name, w in own.items() if name.startswith("head.")}
        said = adapter_answers(heads, read_out(states[-1], some)[:, None], mine[:, None], known[None, rows])[:, 0]
        return ((said - learnt[:, :, rows]) ** 2).mean(dim=-1).sum()

    learn(own, 2, errors, len(graphs), schedule, rng)
