"""The rows of the graph network on measured devices (:mod:`fusecut.reproduce.aiop_devices`), resumable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.predict.gnn import Schedule
from fusecut.predict.metrics import Metrics
from fusecut.reproduce.aiop import SAMPLES, Key, Measured, Row, Target, row_of, split
from fusecut.reproduce.aiop_devices import (
    PRETRAINING,
    Label,
    Over,
    Pretrained,
    Sight,
    from_scratch,
    graphed,
    predictions,
    pretrained,
    scored,
    sights,
    with_graph_blocks,
)

METHODS: Final = ("gnn", "gnn-flops", "gnn-residual", "gnn-blocks", "gnn-scratch")
SCRATCH_SEEDS: Final = 3
_LABELS: Final[tuple[Label, ...]] = ("plain", "linear", "sum", "flops")


@dataclass(frozen=True)
class Plan:
    """Which rows are wanted, and how they are computed: ``device`` is torch's, ``over`` a map for work on the CPU."""

    methods: Sequence[str]
    seeds: int
    device: str = "cpu"
    over: Over = map
    samples: Sequence[int] = SAMPLES
    pretraining: Schedule = PRETRAINING


@dataclass(frozen=True)
class _Part:
    """Targets of one experiment that share networks: where they are learnt, and where asked."""

    source: Measured
    sight: Sight
    targets: Sequence[Target]


def rows(spaces: Sequence[Measured], targets: Iterable[Target], plan: Plan, known: Iterable[Row] = ()) -> Iterator[Row]:
    """Rows of targets on measured devices, label by label and space by space; known rows as they are."""
    have = {row.key: row for row in known}
    seen = sights(spaces, plan.device)
    groups: dict[tuple[str, str], list[Target]] = {}
    for target in targets:
        groups.setdefault((target.experiment, target.space), []).append(target)
    for label in _LABELS:
        for source in spaces:
            parts = [
                _Part(source, seen[space.rpartition(" ")[2]], some)
                for (_, space), some in groups.items()
                if space.partition(" ")[0] == source.latencies.space
            ]
            yield from _taught(source, seen, label, parts, plan, have)


def _taught(
    source: Measured,
    seen: Mapping[str, Sight],
    label: Label,
    parts: Sequence[_Part],
    plan: Plan,
    have: dict[Key, Row],
) -> Iterator[Row]:
    """Rows of networks that learnt one label of one space; they are trained when the first row is missing."""
    trained: Pretrained | None = None
    for part in parts:
        for method, count in ((m, n) for m in plan.methods for n in plan.samples):
            if not _wanted(method, part, count, label):
                continue
            keys = [(t.experiment, t.space, t.task, method, count) for t in part.targets]
            if any(key not in have for key in keys):
                if trained is None and method != "gnn-scratch":
                    sight = seen[source.latencies.space]
                    trained = pretrained(source, sight, label, plan.seeds, plan.pretraining)
                have |= {row.key: row for row in _computed(part, method, count, trained, plan)}
            yield from (have[key] for key in keys)


def _wanted(method: str, part: _Part, count: int, label: Label) -> bool:
    """Whether a method takes part in an experiment with this number of samples and this label."""
    experiment = part.targets[0].experiment
    if method == "gnn-residual":
        learns: Label = "sum" if experiment == "space" else "linear"
    else:
        learns = "flops" if method == "gnn-flops" else "plain"
    if method == "gnn-scratch" and experiment != "device":
        return False
    needs_samples = method in ("gnn-blocks", "gnn-scratch")
    return label == learns and 2 * count <= len(part.sight.divisor) and (count > 0 or not needs_samples)


def _computed(part: _Part, method: str, count: int, trained: Pretrained | None, plan: Plan) -> list[Row]:
    """Rows of all targets of a part."""
    if method == "gnn-scratch" or trained is None:
        seeds = min(SCRATCH_SEEDS, plan.seeds)
        return _scores(
            part, method, count, [from_scratch(part.targets, part.sight, count, s) for s in range(seeds)], plan
        )
    if method == "gnn-blocks":
        jobs = list(graphed(trained, part.source, part.sight, part.targets, count))
        return _rows_of(part, method, count, list(plan.over(with_graph_blocks, jobs)))
    told = predictions(trained, part.source, part.sight, part.targets, count, plan.over)
    return _scores(part, method, count, list(told), plan)


def _scores(part: _Part, method: str, count: int, told: Sequence[NDArray[np.float64]], plan: Plan) -> list[Row]:
    """Rows of predictions [target, network], one for each seed."""
    jobs = []
    for seed, values in enumerate(told):
        _, asked = split(part.targets[0], count, seed)
        jobs += [(t.values[asked], v[asked]) for t, v in zip(part.targets, values, strict=True)]
    return _rows_of(part, method, count, list(plan.over(scored, jobs)))


def _rows_of(part: _Part, method: str, count: int, found: Sequence[Metrics]) -> list[Row]:
    """Rows of metrics in the order seed, target."""
    width = len(part.targets)
    return [row_of(target, method, count, found[i::width]) for i, target in enumerate(part.targets)]
