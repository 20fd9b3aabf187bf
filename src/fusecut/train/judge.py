"""How good the validity network and the explainers are: the tables of docs/validity.md and docs/explainers.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from time import process_time
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.explain import Explainer, Scores
from fusecut.explain.attribution import Attribution
from fusecut.explain.features import SHARES, Ints
from fusecut.explain.gnnexplainer import GNNExplainer
from fusecut.explain.occlusion import Occlusion
from fusecut.explain.pgexplainer import PGExplainer
from fusecut.explain.random import RandomEdges
from fusecut.explain.rgexplainer import RGExplainer
from fusecut.ir import Group
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.problem import Problem
from fusecut.train.dataset import Samples
from fusecut.train.networks import FAMILIES
from fusecut.train.pool import graphs_of
from fusecut.train.validity import Parts, Quality, Settings, Trainer, parts_of, quality

Report = Callable[[str], None]

TO_BLAME: Final = 0.3
"""Share of the edges of a group that count as to blame: those of the highest exact attribution."""


class Row(NamedTuple):
    """One line of the table: what was trained on, what it was tried on, and how good it was there."""

    trained_on: str
    tried_on: str
    quality: Quality


class Question(NamedTuple):
    """A group that does not fit the buffer of a problem."""

    problem: Problem
    group: Group


@dataclass(frozen=True)
class Agreement:
    """How an explainer orders edges, beside the exact attribution and beside occlusion.

    ``auc``: mean over groups of the chance that an edge to blame is ranked above one that is not, ties
    half; 0.5 is guessing. ``rank``: mean rank correlation with occlusion. ``flat``: groups whose edges all
    got one score. ``seconds``: processor time for a group.
    """

    groups: int
    auc: float
    rank: float
    flat: int
    seconds: float


def fewer(samples: Samples, per_network: int, seed: int) -> Samples:
    """At most so many groups of each network, drawn at random."""
    rng, kept = np.random.default_rng(seed), list[Ints]()
    for k in range(len(samples.networks)):
        rows = np.flatnonzero(samples.network_of == k)
        kept.append(np.sort(rng.permutation(rows)[:per_network]))
    return samples.take(np.concatenate(kept))


def wide(samples: Samples, rows: Ints) -> Ints:
    """The rows whose groups have two ops or more: about single ops there is nothing to ask."""
    return np.array([r for r in rows.tolist() if samples.masks[r].bit_count() > 1], np.int64)


def validity_rows(samples: Samples, settings: Settings, report: Report | None = None) -> Iterator[Row]:
    """Train again and again on parts of a data set: for every family left out, buffers left out, ablations."""
    trainer, parts = Trainer(samples), parts_of(len(samples), settings.seed)
    yield from _ablations(trainer, parts, settings, report)
    yield from _unseen_buffers(trainer, parts, settings, report)
    for family, members in FAMILIES.items():
        left = _without(samples, members, settings.seed)
        if left is not None:
            yield _row(trainer, left, settings, f"all but {family}", family, report)


def _without(samples: Samples, members: Sequence[str], seed: int) -> Parts | None:
    """Some networks are tried, 90 % of the groups of the others teach; None where one side is empty."""
    out = [samples.networks.index(name) for name in members if name in samples.networks]
    held = np.isin(samples.network_of, out)
    if held.all() or not held.any():
        return None
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~held))
    cut = int(0.9 * len(order))
    return Parts(np.sort(order[:cut]), np.sort(order[cut:]), np.flatnonzero(held))


def _ablations(trainer: Trainer, parts: Parts, settings: Settings, report: Report | None) -> Iterator[Row]:
    paper = Settings(**{**vars(settings), "hidden_features": SHARES})
    edgeless = Settings(**{**vars(settings), "edges": False})
    for label, chosen in (("80 %", settings), ("80 %, without shares", paper), ("80 %, without edges", edgeless)):
        yield _row(trainer, parts, chosen, label, "10 %", report)


def _unseen_buffers(trainer: Trainer, parts: Parts, settings: Settings, report: Report | None) -> Iterator[Row]:
    """Every second buffer teaches; of the others the largest lies outside the range of those that do."""
    seen, unseen = trainer.all_columns[::2], trainer.all_columns[1::2]
    model = trainer.train(parts.train, parts.validate, settings, report, seen)
    for columns, label in ((unseen[:-1], "buffers between"), (unseen[-1:], "a larger buffer")):
        judged = trainer.judged(model.network, wide(trainer.samples, parts.test), columns, settings)
        yield Row("80 %, every second buffer", label, quality(judged))


def _row(trainer: Trainer, parts: Parts, settings: Settings, label: str, tried_on: str, report: Report | None) -> Row:
    model = trainer.train(parts.train, parts.validate, settings, report)
    test = wide(trainer.samples, parts.test)
    return Row(label, tried_on, quality(trainer.judged(model.network, test, trainer.all_columns, settings)))


def questions(samples: Samples, most: int, seed: int, fewest_edges: int = 6) -> list[Question]:
    """Infeasible groups in their buffers, drawn evenly over networks, in the order of the data set."""
    rng, found = np.random.default_rng(seed), list[Question]()
    for k, graph in enumerate(graphs_of(samples)):
        rows = np.flatnonzero(samples.network_of == k).tolist()
        pairs = [
            (samples.buffers[b], samples.masks[r])
            for r in rows
            if fewest_edges < samples.masks[r].bit_count() <= 40
            for b in np.flatnonzero(samples.infeasible[r]).tolist()
        ]
        picked = sorted(pairs[i] for i in rng.permutation(len(pairs))[: -(-most // len(samples.networks))].tolist())
        for size, chosen in groupby(picked, key=lambda pair: pair[0]):
            problem = Problem(graph, Machine(size), scheme_model(samples.scheme))
            found += [Question(problem, group) for _, group in chosen]
    return found


def agreements(asked: Sequence[Question], seed: int) -> Iterator[tuple[str, Agreement]]:
    """How each explainer, its bundled weights loaded, agrees with the exact attribution and with occlusion."""
    exact = _scored(Attribution(), asked, seed)
    occluded = _scored(Occlusion(), asked, seed)
    for explainer in (RandomEdges(), Occlusion(), GNNExplainer(), PGExplainer(), RGExplainer()):
        _scored(explainer, asked[:1], seed)  # loads what is loaded once
        start = process_time()
        found = _scored(explainer, asked, seed)
        seconds = (process_time() - start) / max(1, len(asked))
        yield explainer.name, agreement(found, exact, occluded, seconds)


def _scored(explainer: Explainer, asked: Sequence[Question], seed: int) -> list[Scores]:
    rng = np.random.default_rng(seed)
    return [explainer.scores(problem, group, rng) for problem, group in asked]


def agreement(
    found: Sequence[Scores], exact: Sequence[Scores], occluded: Sequence[Scores], seconds: float = 0.0
) -> Agreement:
    """Of the scores of one explainer with the exact attribution, and with occlusion, group by group."""
    aucs, ranks, flat = list[float](), list[float](), 0
    for mine, truth, other in zip(found, exact, occluded, strict=True):
        a, b, c = (np.array(list(s.values())) for s in (mine, truth, other))
        flat += len(set(a.tolist())) == 1
        aucs.append(_auc(a, b))
        ranks.append(_rank_correlation(a, c))
    return Agreement(len(found), float(np.mean(aucs)), float(np.mean(ranks)), flat, seconds)


def _auc(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Of the edges with the highest truth against the others; ties in truth by place."""
    count = max(1, round(TO_BLAME * len(truth)))
    blamed = np.argsort(-truth, kind="stable")[:count]
    mine, rest = scores[blamed], np.delete(scores, blamed)
    return float(((mine[:, None] > rest) + 0.5 * (mine[:, None] == rest)).mean())


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's; 0 where either is constant."""
    ranks = [_ranks(x) - (len(x) - 1) / 2 for x in (a, b)]
    spread = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float((ranks[0] * ranks[1]).sum() / spread) if spread else 0.0


def _ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    below = (x[:, None] > x).sum(1)
    same = (x[:, None] == x).sum(1)
    ranks: NDArray[np.float64] = below + (same - 1) / 2
    return ranks
