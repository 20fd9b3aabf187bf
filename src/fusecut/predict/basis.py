"""The features a predictor is linear in, in blocks, scaled by what networks of its space are like.

The blocks of a *basis*, in this order::

    known     what the tasks that are known already would say of the network, one column a task
    shared    their mean
    extra     the space's choices (a look-up table over layers), or how the network stands to a buffer
    linear    analytic quantities as they are
    log       their logarithms

The first two are there where tasks are known. A new device is then, before anything is measured, a
mixture of the known devices, and its samples decide which (tasks as features, as in Lee et al., HELP,
NeurIPS 2021, where devices are told apart by their latencies on reference networks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.ir import Graph
from fusecut.predict import features
from fusecut.predict.gaussian import Block, fit
from fusecut.predict.spaces import Space

Floats = NDArray[np.float64]

_VARIANCES: Final = {"known": 0.3, "shared": 0.3, "extra": 0.1, "linear": 0.1, "log": 0.1}
_CONSTANT: Final = 1e-9


@dataclass(frozen=True)
class Described:
    """Networks as numbers: ``extra`` [n, e] (e may be 0) and raw quantities ``raw`` [n, q]."""

    extra: Floats
    raw: Floats

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Described:
        return Described(self.extra[rows], self.raw[rows])


def describe_archs(space: Space, archs: Sequence[str]) -> Described:
    """Networks of a space by their strings, about 2 ms each.

    Raises:
        ModelError: one of them is none of the space.
    """
    extra = [space.choices(arch) for arch in archs]
    return Described(np.array(extra), np.array([features.quantities(space.graph(arch)) for arch in archs]))


def describe_graphs(graphs: Sequence[Graph], buffers_bytes: Sequence[int] = ()) -> Described:
    """Any networks; with ``buffers_bytes``, one for each, also how they stand to them."""
    extra = [features.against_buffer(g, b) for g, b in zip(graphs, buffers_bytes, strict=bool(buffers_bytes))]
    raw = np.array([features.quantities(g) for g in graphs])
    return Described(np.array(extra).reshape(len(graphs), -1), raw)


@dataclass(frozen=True)
class Scaling:
    """``(x - mean) * scale``; 0 where a column is constant."""

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, columns: Floats) -> Scaling:
        """Columns of deviation 1, all divided by the root of their number, so that a row has length 1 on average."""
        mean, spread = columns.mean(axis=0), columns.std(axis=0)
        varies = spread > _CONSTANT * np.maximum(1.0, np.abs(mean))
        scale = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
        return cls(mean, scale / np.sqrt(max(1, int(varies.sum()))))

    def __call__(self, columns: Floats) -> Floats:
        return (columns - self.mean) * self.scale


@dataclass(frozen=True)
class Basis:
    """Scalings of the plain blocks, and the known tasks as ``weights`` [columns of the plain blocks, tasks]."""

    space: str
    extra: Scaling
    linear: Scaling
    log: Scaling
    known: tuple[str, ...]
    weights: Floats

    @classmethod
    def of(cls, space: str, networks: Described) -> Basis:
        """Scaled by these networks, with no known task."""
        extra, linear, log = (Scaling.of(c) for c in _columns(networks))
        plain = sum(len(s.mean) for s in (extra, linear, log))
        return cls(space, extra, linear, log, (), np.zeros((plain, 0)))

    def knowing(self, networks: Described, tasks: Mapping[str, Floats]) -> Basis:
        """The basis with known tasks: their values on these networks, each by a linear fit."""
        blocks, phi = self.without_tasks().blocks, self._plain(networks)
        columns = []
        for name in sorted(tasks):
            told = np.clip(_standard(tasks[name]), -4.0, 4.0)
            weights = fit(blocks, phi, told, "linear").weights
            length = float(np.sqrt(((phi @ weights) ** 2).mean()))
            columns.append(weights / max(length, _CONSTANT))
        return replace(self, known=tuple(sorted(tasks)), weights=np.array(columns).T)

    def without_tasks(self) -> Basis:
        """The same scalings, no known task."""
        return replace(self, known=(), weights=self.weights[:, :0])

    def without_linear(self) -> Basis:
        """With the block ``linear`` all zeros: for labels that are ratios, which no size should pull far off."""
        return replace(self, linear=Scaling(self.linear.mean, np.zeros_like(self.linear.scale)))

    def without(self, *names: str) -> Basis:
        """As if some tasks were not known."""
        kept = [i for i, name in enumerate(self.known) if name not in names]
        return replace(self, known=tuple(self.known[i] for i in kept), weights=self.weights[:, kept])

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks in the order of the columns."""
        sizes = {"known": len(self.known), "shared": 1} if self.known else {}
        sizes |= {"extra": len(self.extra.mean), "linear": len(self.linear.mean), "log": len(self.log.mean)}
        return tuple(Block(name, size, _VARIANCES[name]) for name, size in sizes.items() if size)

    def phi(self, networks: Described) -> Floats:
        """The columns of the blocks, [n, columns]."""
        plain = self._plain(networks)
        if not self.known:
            return plain
        told = plain @ self.weights
        shared = self.weights.mean(axis=1)
        return np.concatenate([told / np.sqrt(len(self.known)), (plain @ shared)[:, None], plain], axis=1)

    def _plain(self, networks: Described) -> Floats:
        scalings = (self.extra, self.linear, self.log)
        return np.concatenate([s(c) for s, c in zip(scalings, _columns(networks), strict=True)], axis=1)


def _columns(networks: Described) -> tuple[Floats, Floats, Floats]:
    return networks.extra, features.linear(networks.raw), features.logarithmic(networks.raw)


def _standard(values: Floats) -> Floats:
    """Less their mean, over their deviation."""
    spread = float(values.std())
    found: Floats = (values - values.mean()) / (spread if spread > 0 else 1.0)
    return found
