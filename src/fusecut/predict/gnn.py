"""The graph network of AIO-P, its K-Adapters, and how they are trained (arXiv 2211.17228).

Encoder: nodes embedded as op (14) + shape (8) + kernel (8) + bias (2), six GraphConv layers of 32 with
tanh, mean readout. Head: four linear layers with one ReLU, then one output. A K-Adapter stands beside
a frozen base: its layer i + 1 sees [base layer i + 1, adapter layer i], and its own head of five linear
layers sees both readouts; with several adapters their answers are averaged.

``known`` are global inputs that join the readout (analytic features, buffer): none in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.nn import GraphConv, global_mean_pool

from fusecut.predict.compute_graph import OP_LABELS, ComputeGraph, Node
from fusecut.threads import one_thread

Freedom = Literal["heads", "base", "adapters", "all"]

WIDTH: Final = 32
LAYERS: Final = 6
KERNELS: Final = 16
_PARTS: Final = (14, 8, 8, 2)
_SHAPE_SCALE: Final = np.array([256.0, 256.0, 256.0, 256.0, 512.0, 512.0])
_LABELS: Final = {name: i + 1 for i, name in enumerate(OP_LABELS)}


@dataclass(frozen=True)
class Encoded:
    """A compute graph as arrays: op label (0 unknown), [H_in, H_out, W_in, W_out, C_in, C_out] scaled, kernel, bias."""

    ops: NDArray[np.int64]
    shapes: NDArray[np.float32]
    kernels: NDArray[np.int64]
    biases: NDArray[np.int64]
    edges: NDArray[np.int64]


def encode(graph: ComputeGraph) -> Encoded:
    """The arrays of a compute graph. O(nodes + edges)."""
    nodes = graph.nodes
    return Encoded(
        np.array([_LABELS.get(n.op, 0) for n in nodes], dtype=np.int64),
        np.array([_shape(n) for n in nodes], dtype=np.float32),
        np.array([min(max(n.kernel), KERNELS - 1) for n in nodes], dtype=np.int64),
        np.array([int(n.bias) for n in nodes], dtype=np.int64),
        np.array(graph.edges, dtype=np.int64).reshape(-1, 2).T,
    )


def _shape(node: Node) -> NDArray[np.float64]:
    (c, h, w), (d, g, v) = node.made_from, node.makes
    scaled: NDArray[np.float64] = np.array([h, g, w, v, c, d]) / _SHAPE_SCALE
    return scaled


@dataclass(frozen=True)
class Batch:
    """Graphs joined into one; ``owner`` says whose each node is."""

    ops: Tensor
    shapes: Tensor
    kernels: Tensor
    biases: Tensor
    edges: Tensor
    owner: Tensor
    known: Tensor

    @classmethod
    def of(cls, graphs: Sequence[Encoded], known: NDArray[np.float64]) -> Batch:
        """Graphs and their global inputs [graphs, k] (k may be 0)."""
        starts = np.cumsum([0, *(len(g.ops) for g in graphs)])
        edges = np.concatenate([g.edges + start for g, start in zip(graphs, starts, strict=False)], axis=1)
        owner = np.repeat(np.arange(len(graphs)), [len(g.ops) for g in graphs])
        joined = [np.concatenate([getattr(g, p) for g in graphs]) for p in ("ops", "shapes", "kernels", "biases")]
        ops, shapes, kernels, biases = (torch.from_numpy(a) for a in joined)
        inputs = torch.from_numpy(known.astype(np.float32))
        return cls(ops, shapes, kernels, biases, torch.from_numpy(edges), torch.from_numpy(owner), inputs)


class Encoder(nn.Module):
    """Node states after the embedding and after every layer."""

    def __init__(self) -> None:
        super().__init__()
        op, shape, kernel, bias = _PARTS
        self.op = nn.Embedding(len(OP_LABELS) + 1, op)
        self.shape = nn.Linear(6, shape)
        self.kernel = nn.Embedding(KERNELS, kernel)
        self.bias = nn.Embedding(2, bias)
        self.layers = nn.ModuleList(GraphConv(WIDTH, WIDTH) for _ in range(LAYERS))

    def forward(self, batch: Batch) -> list[Tensor]:
        parts = [self.op(batch.ops), self.shape(batch.shapes), self.kernel(batch.kernels), self.bias(batch.biases)]
        states = [torch.cat(parts, dim=1)]
        for layer in self.layers:
            states.append(torch.tanh(layer(states[-1], batch.edges)))
        return states


def _head(inputs: int, layers: int) -> nn.Sequential:
    """Linear layers with one ReLU after the first, then one output."""
    middle = [nn.Linear(WIDTH, WIDTH) for _ in range(layers - 1)]
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), *middle, nn.Linear(WIDTH, 1))


class Adapter(nn.Module):
    """A K-Adapter: GraphConv layers beside those of a base, and a head on both readouts."""

    def __init__(self, known: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GraphConv(2 * WIDTH, WIDTH) for _ in range(LAYERS))
        self.head = _head(2 * WIDTH + known, 5)

    def forward(self, base: Sequence[Tensor], batch: Batch) -> Tensor:
        state = base[0]
        for layer, seen in zip(self.layers, base[1:], strict=True):
            state = torch.tanh(layer(torch.cat([seen, state], dim=1), batch.edges))
        both = global_mean_pool(torch.cat([base[-1], state], dim=1), batch.owner)
        return self._answer(torch.cat([both, batch.known], dim=1))

    def _answer(self, inputs: Tensor) -> Tensor:
        answer: Tensor = self.head(inputs)[:, 0]
        return answer


class Predictor(nn.Module):
    """Base and adapters. Without adapters the base's head answers, else the mean of the adapters'.

    ``rescale`` is a*y + b on the answer, a = 1 and b = 0 until it is trained.
    """

    def __init__(self, known: int = 0) -> None:
        super().__init__()
        self.known = known
        self.encoder = Encoder()
        self.head = _head(WIDTH + known, 4)
        self.adapters = nn.ModuleList()
        self.rescale = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, batch: Batch) -> Tensor:
        states = self.encoder(batch)
        if len(self.adapters):
            answer = torch.stack([adapter(states, batch) for adapter in self.adapters]).mean(dim=0)
        else:
            readout = global_mean_pool(states[-1], batch.owner)
            answer = self.head(torch.cat([readout, batch.known], dim=1))[:, 0]
        return answer * self.rescale[0] + self.rescale[1]

    def add_adapter(self, seed: int) -> None:
        """One adapter more, freshly drawn."""
        self.adapters.append(_drawn(lambda: Adapter(self.known), seed))

    def trainable(self, freedom: Freedom) -> list[nn.Parameter]:
        """What fine-tuning may move: heads only, also the base, also the adapters' bodies, or all of it."""
        heads = [a.head for a in self.adapters] if len(self.adapters) else [self.head]
        modules: list[nn.Module] = list(heads)
        if freedom in ("base", "all"):
            modules.append(self.encoder)
        if freedom in ("adapters", "all"):
            modules.extend(a.layers for a in self.adapters)
        return [p for m in modules for p in m.parameters()]


def new_predictor(seed: int, known: int = 0) -> Predictor:
    """A base without adapters, its weights drawn from a seed without touching torch's own state."""
    made: Predictor = _drawn(lambda: Predictor(known), seed)
    return made


def _drawn(make: Callable[[], Any], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@dataclass(frozen=True)
class Schedule:
    """How to train: the paper's pretraining by default, and :data:`FINE_TUNING` for its fine-tuning."""

    epochs: int = 40
    batch: int = 32
    rate: float = 1e-4
    clip: float = 5.0
    offset_penalty: float = 0.0


FINE_TUNING: Final = Schedule(epochs=100, batch=1)


@one_thread()
def train(
    model: Predictor,
    graphs: Sequence[Encoded],
    known: NDArray[np.float64],
    learnt: NDArray[np.float64],
    schedule: Schedule,
    rng: np.random.Generator,
    parameters: Iterable[nn.Parameter] | None = None,
) -> list[float]:
    """Move ``parameters`` (all by default) so that the mean squared error falls; the loss of every epoch.

    ``learnt`` are transformed labels. Adam; gradients clipped by norm. ``offset_penalty`` is the weight
    of ``|b|`` of the rescaling, which moves only where it is among the parameters.
    """
    moved = list(model.parameters() if parameters is None else parameters)
    optimiser = torch.optim.Adam(moved, lr=schedule.rate)
    targets = torch.from_numpy(learnt.astype(np.float32))
    losses = []
    for _ in range(schedule.epochs):
        order = rng.permutation(len(graphs))
        total = 0.0
        for start in range(0, len(order), schedule.batch):
            chosen = order[start : start + schedule.batch]
            answer = model(Batch.of([graphs[i] for i in chosen], known[chosen]))
            error = ((answer - targets[torch.from_numpy(chosen)]) ** 2).mean()
            loss = error + schedule.offset_penalty * model.rescale[1].abs()
            model.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(moved, schedule.clip)
            optimiser.step()
            total += float(error.detach()) * len(chosen)
        losses.append(total / len(graphs))
    return losses


@one_thread()
def answers(model: Predictor, graphs: Sequence[Encoded], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the network says, in the scale it was trained in."""
    found = []
    with torch.no_grad():
        for start in range(0, len(graphs), 64):
            part = slice(start, start + 64)
            found.append(model(Batch.of(graphs[part], known[part])).numpy())
    return np.concatenate(found).astype(np.float64)
