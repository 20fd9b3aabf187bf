"""Tables like AIO-P's: predictors moved to devices, spaces and families they have not seen.

Experiments, each with 0, 10, 20 and 50 samples of the target:

* ``device``: one device of a space is unseen, the others are known;
* ``group``: all devices of its kind (GPUs, CPUs, phones) are unseen as well;
* ``space``: the same device is known on another space;
* ``family``: fewest DRAM bytes at 256 KiB are known for MobileNetV2-like networks, and asked for others;
* ``head``: they are known for classifiers of all families, and asked for networks with other heads;
* ``buffer``: they are known for all families at 64 KiB and 1 MiB, and asked at 256 KiB;
* ``scheme``: they are known under one scheme, lbdf or mixed, and asked under the other.

All but ``scheme`` are under lbdf.

Methods: ``flops``; ``ridge``, the closed form on analytic features with the known tasks left out of it
(with no sample: their geometric mean); ``trees``, boosted trees on graph statistics; ``blocks``, the closed form
with the known tasks as features, which is what ``fusecut train predictor`` uses; ``sum``, non-negative
coefficients on totals (:mod:`fusecut.predict.additive`); ``gnn``, ``gnn-flops`` and ``gnn-residual``, the graph
network with K-Adapters, for ``family`` (:mod:`fusecut.reproduce.aiop_gnn`) and on measured devices
(:mod:`fusecut.reproduce.aiop_devices`), there also ``gnn-blocks`` and ``gnn-scratch``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.errors import UnknownNameError
from fusecut.predict import features
from fusecut.predict.additive import additive, fit_additive
from fusecut.predict.baselines import boosted_trees, flops
from fusecut.predict.basis import Basis, Described
from fusecut.predict.bundle import FOLDER
from fusecut.predict.features import NAMES
from fusecut.predict.metrics import Metrics, metrics
from fusecut.predict.model import Model
from fusecut.predict.spaces.families import member
from fusecut.reproduce import kept
from fusecut.text import Column, render_table
from fusecut.train.predictor import Latencies, describe, read_latencies, reference, some
from fusecut.train.solved import Label, read_labels
from fusecut.units import parse_bytes

Floats = NDArray[np.float64]
Key = tuple[str, str, str, str, int]

EXPERIMENTS: Final = ("device", "group", "space", "family", "head", "buffer", "scheme")
SOLVED: Final = ("family", "head", "buffer", "scheme")
"""The experiments on labels of our own solver."""

HEADED: Final = ("detect", "pose", "segment", "unet")
"""Families whose members are no classifiers."""

MEASURED: Final = ("device", "group", "space")
"""The experiments on measured devices."""

SAMPLES: Final = (0, 10, 20, 50)
LEARNT_FROM: Final = 1000
TREE_SEEDS: Final = 3
FAMILY_NETWORKS: Final = ("gnn", "gnn-flops", "gnn-residual")
GRAPH_NETWORKS: Final = (*FAMILY_NETWORKS, "gnn-blocks", "gnn-scratch")


class Target(NamedTuple):
    """A task to be learnt: its networks and values, and a basis with the tasks that are known.

    Predictors learn ``values / over``. ``zero_shot`` and ``added`` are predictions made before any sample,
    by ridge and by non-negative sums.
    """

    experiment: str
    space: str
    task: str
    networks: Described
    values: Floats
    over: Floats
    basis: Basis
    zero_shot: Floats
    added: Floats


@dataclass(frozen=True)
class Row:
    """One target, method and number of samples: means over the seeds, and 95 % half-widths of two of them.

    Errors are shares; ``mae`` of the range.
    """

    experiment: str
    space: str
    task: str
    method: str
    samples: int
    seeds: int
    mae: float
    mae_ci: float
    srcc: float
    srcc_ci: float
    mape: float
    kendall: float
    top: float

    @property
    def key(self) -> Key:
        return self.experiment, self.space, self.task, self.method, self.samples


Method = Callable[[Target, NDArray[np.int64], NDArray[np.int64], int], Floats]
"""(target, rows that are samples, rows to predict, seed) -> predictions."""


def _by_flops(target: Target, seen: NDArray[np.int64], asked: NDArray[np.int64], seed: int) -> Floats:
    return flops(target.networks[seen], target.values[seen], target.networks[asked])


def _by_ridge(target: Target, seen: NDArray[np.int64], asked: NDArray[np.int64], seed: int) -> Floats:
    return _closed_form(target.basis.without_tasks(), target, seen, asked)


def _by_blocks(target: Target, seen: NDArray[np.int64], asked: NDArray[np.int64], seed: int) -> Floats:
    return _closed_form(target.basis, target, seen, asked)


def _closed_form(basis: Basis, target: Target, seen: NDArray[np.int64], asked: NDArray[np.int64]) -> Floats:
    if not len(seen):
        return target.zero_shot[asked]
    model = Model(basis, {}).learning("target", target.networks[seen], target.values[seen] / target.over[seen])
    return model.predict("target", target.networks[asked]).values * target.over[asked]


def _by_trees(target: Target, seen: NDArray[np.int64], asked: NDArray[np.int64], seed: int) -> Floats:
    if not len(seen):
        return target.zero_shot[asked]
    learnt = target.values[seen] / target.over[seen]
    return boosted_trees(target.networks[seen], learnt, target.networks[asked], seed) * target.over[asked]


def _by_sum(target: Target, seen: NDArray[np.int64], asked: NDArray[np.int64], seed: int) -> Floats:
    if not len(seen):
        return target.added[asked]
    coefficients = fit_additive(target.networks.raw[seen], target.values[seen])
    return additive(coefficients, target.networks.raw[asked])


METHODS: Final[dict[str, Method]] = {
    "flops": _by_flops,
    "ridge": _by_ridge,
    "trees": _by_trees,
    "blocks": _by_blocks,
    "sum": _by_sum,
}


def rows(
    targets: Iterable[Target],
    seeds: int,
    known: Iterable[Row] = (),
    samples: Sequence[int] = SAMPLES,
    methods: Sequence[str] = tuple(METHODS),
) -> Iterator[Row]:
    """Rows of every target, method and number of samples up to half of its networks.

    Rows that are known are given back as they are.

    Raises:
        UnknownNameError: no such method, or one of graph networks.
    """
    for name in methods:
        if name not in METHODS:
            raise UnknownNameError("method", name, (*METHODS, *GRAPH_NETWORKS))
    have = {row.key: row for row in known}
    for target in targets:
        for method in methods:
            for count in (n for n in samples if 2 * n <= len(target.values)):
                key = (target.experiment, target.space, target.task, method, count)
                yield have[key] if key in have else measured(target, method, METHODS[method], count, seeds)


def measured(target: Target, name: str, method: Method, count: int, seeds: int) -> Row:
    """One row: draws the samples anew for every seed, and predicts the rest."""
    runs = 1 if not count else min(seeds, TREE_SEEDS) if name == "trees" else seeds
    found = [_once(target, method, count, seed) for seed in range(runs)]
    return row_of(target, name, count, found)


def row_of(target: Target, name: str, count: int, found: Sequence[Metrics]) -> Row:
    """Means and half-widths over runs."""
    values = np.array(found)
    half = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.zeros(values.shape[1])
    mean = Metrics(*values.mean(axis=0).tolist())
    spread = Metrics(*half.tolist())
    return Row(
        target.experiment, target.space, target.task, name, count, len(found),
        mean.mae, spread.mae, mean.srcc, spread.srcc, mean.mape, mean.kendall, mean.top,
    )  # fmt: skip


def split(target: Target, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are samples, and the others, by a seed."""
    order = np.random.default_rng(seed).permutation(len(target.values))
    return order[:count], order[count:]


def _once(target: Target, method: Method, count: int, seed: int) -> Metrics:
    seen, asked = split(target, count, seed)
    return metrics(target.values[asked], method(target, seen, asked, seed))


def kind_of(device: str) -> str:
    """GPU, CPU, phone, or the device itself."""
    if "ti" in device:
        return "gpu"
    if device.startswith(("gold", "silver")):
        return "cpu"
    return "phone" if device.startswith(("essential", "samsung", "pixel")) else device


class Measured(NamedTuple):
    """The latencies of a space with its networks described, and a basis that knows all its devices."""

    latencies: Latencies
    networks: Described
    basis: Basis


def measured_spaces(path: Path, on_step: Callable[[str], None]) -> list[Measured]:
    """Read and describe the networks of every space."""
    found = []
    for latencies in (some(every, LEARNT_FROM) for every in read_latencies(path)):
        on_step(f"describing {len(latencies.archs):,} networks of {latencies.space}")
        networks = describe(latencies.space, latencies.archs)
        plain = Basis.of(latencies.space, reference(latencies.space))
        tasks = dict(zip(latencies.devices, latencies.values, strict=True))
        found.append(Measured(latencies, networks, plain.knowing(networks, tasks)))
    return found


def device_targets(spaces: Iterable[Measured], experiment: str = "device") -> Iterator[Target]:
    """Each device of each space, the others known; or, as ``group``, the others of another kind."""
    for latencies, networks, basis in spaces:
        for i, device in enumerate(latencies.devices):
            hidden = [
                d for d in latencies.devices if d == device or (experiment == "group" and kind_of(d) == kind_of(device))
            ]
            known = [j for j, d in enumerate(latencies.devices) if d not in hidden]
            if known:
                middle = np.exp(np.log(latencies.values[known]).mean(axis=0))
                model = Model(basis.without_tasks(), {}).learning("middle", networks, middle)
                guess = model.predict("middle", networks).values
                ones, left = np.ones(len(networks)), basis.without(*hidden)
                added = model.predict_elsewhere("middle", networks).values
                values = latencies.values[i]
                yield Target(experiment, latencies.space, device, networks, values, ones, left, guess, added)


def space_targets(spaces: Sequence[Measured]) -> Iterator[Target]:
    """Each device on each space, known on another space that has it, by analytic features alone."""
    for source in spaces:
        for target in spaces:
            shared = sorted(set(source.latencies.devices) & set(target.latencies.devices))
            if source is not target:
                yield from (_across(source, target, device) for device in shared)


def _across(source: Measured, target: Measured, device: str) -> Target:
    there, here = (Described(m.networks.extra[:, :0], m.networks.raw) for m in (source, target))
    known = source.latencies.values[source.latencies.devices.index(device)]
    values = target.latencies.values[target.latencies.devices.index(device)]
    plain = Basis.of(
        "pooled", Described(np.concatenate([there.extra, here.extra]), np.concatenate([there.raw, here.raw]))
    )
    model = Model(plain, {}).learning(device, there, known)
    guess = model.predict(device, here).values
    basis = plain.knowing(there, {device: known})
    name = f"{source.latencies.space} to {target.latencies.space}"
    added = model.predict_elsewhere(device, here).values
    return Target("space", name, device, here, values, np.ones(len(here)), basis, guess, added)


def solved_targets(
    labels: Sequence[Label],
    source: str = "mobilenet_v2",
    size: str = "256KiB",
    experiments: Sequence[str] = SOLVED,
) -> Iterator[Target]:
    """Fewest DRAM bytes: families that are not known, heads, then a buffer and a scheme."""
    under, mixed = f"lbdf@{size}", f"dram@{size}"
    wanted = {under} | ({mixed} if "scheme" in experiments else set())
    found = _Solved.of([r for r in labels if r.task in wanted or (_at_some_buffer(r) and "buffer" in experiments)])
    families, tasks = found.families, found.tasks
    asked = tasks == under
    for family in sorted(set(families) - {source}) if "family" in experiments else ():
        yield found.target(
            "family", f"{source} to {family}", asked & (families == source), asked & (families == family)
        )
    headed = np.isin(families, HEADED)
    for family in sorted(set(families) & set(HEADED)) if "head" in experiments else ():
        yield found.target("head", f"classifiers to {family}", asked & ~headed, asked & (families == family))
    if "buffer" in experiments:
        yield found.target("buffer", "all families", np.char.startswith(tasks, "lbdf@") & ~asked, asked)
    if "scheme" in experiments:
        yield found.target("scheme", "lbdf to mixed", asked, tasks == mixed)
        yield found.target("scheme", "mixed to lbdf", tasks == mixed, asked)


def _at_some_buffer(row: Label) -> bool:
    return row.task.startswith("lbdf@")


class _Solved(NamedTuple):
    """Labels of DRAM bytes with their networks described against their buffers."""

    networks: Described
    values: Floats
    families: NDArray[np.str_]
    tasks: NDArray[np.str_]

    @classmethod
    def of(cls, labels: Sequence[Label]) -> _Solved:
        graphs = {key: member(*key) for key in sorted({(r.family, r.seed) for r in labels})}
        raw = {key: features.quantities(graph) for key, graph in graphs.items()}
        sizes = [parse_bytes(r.task.partition("@")[2]) for r in labels]
        extra = [features.against_buffer(graphs[r.family, r.seed], b) for r, b in zip(labels, sizes, strict=True)]
        every = Described(np.array(extra), np.array([raw[r.family, r.seed] for r in labels]))
        values = np.array([float(r.value) for r in labels])
        return cls(every, values, np.array([r.family for r in labels]), np.array([r.task for r in labels]))

    def target(self, experiment: str, space: str, there: NDArray[np.bool_], here: NDArray[np.bool_]) -> Target:
        """What is known ``there`` is asked ``here``; both are scaled by the networks of their own tasks."""
        unfused = self.networks.raw[:, NAMES.index("unfused")]
        scaled = np.isin(self.tasks, np.unique(self.tasks[there | here]))
        task = str(self.tasks[here][0])
        rows = (self.networks[scaled], self.values[scaled], unfused[scaled], there[scaled], here[scaled])
        return _solved(experiment, space, task, *rows)


def _solved(
    experiment: str,
    space: str,
    task: str,
    networks: Described,
    values: Floats,
    unfused: Floats,
    there: NDArray[np.bool_],
    here: NDArray[np.bool_],
) -> Target:
    """A target whose known task is the same label, relative to unfused DRAM, on other networks."""
    ratio, plain = values / unfused, Basis.of(space, networks).without_linear()
    model = Model(plain, {}).learning("source", networks[there], ratio[there])
    guess = np.clip(model.predict("source", networks[here]).values, 0, 1) * unfused[here]
    basis = plain.knowing(networks[there], {"source": np.log(ratio[there])})
    added = additive(fit_additive(networks.raw[there], values[there]), networks.raw[here])
    return Target(experiment, space, task, networks[here], values[here], unfused[here], basis, guess, added)


def targets(
    experiments: Sequence[str], latencies: Path | None, quick: bool, on_step: Callable[[str], None]
) -> Iterator[Target]:
    """The targets of experiments; those on measured devices only where there is a file of latencies.

    ``quick`` takes every eighth of them.

    Raises:
        UnknownNameError: no such experiment, before anything is computed.
    """
    for name in experiments:
        if name not in EXPERIMENTS:
            raise UnknownNameError("experiment", name, EXPERIMENTS)
    return _targets(experiments, latencies, quick, on_step)


def _targets(
    experiments: Sequence[str], latencies: Path | None, quick: bool, on_step: Callable[[str], None]
) -> Iterator[Target]:
    labels = read_labels(FOLDER / "solved.csv")
    solved = [e for e in SOLVED if e in experiments]
    every = [solved_targets(labels, experiments=solved)] if solved else []
    if latencies is not None and set(MEASURED) & set(experiments):
        every.append(targets_of(measured_spaces(latencies, on_step), experiments))
    chosen = (t for some in every for t in some if t.experiment in experiments)
    for i, target in enumerate(chosen):
        if not quick or i % 8 == 0 or target.experiment in SOLVED:
            yield target


def targets_of(spaces: Sequence[Measured], experiments: Sequence[str]) -> Iterator[Target]:
    """The targets of the experiments on measured devices."""
    for experiment in (e for e in MEASURED if e in experiments):
        yield from space_targets(spaces) if experiment == "space" else device_targets(spaces, experiment)


def read_rows(path: Path) -> list[Row]:
    """Rows written before; see :func:`fusecut.reproduce.kept.read`."""
    return kept.read(path, _parsed)


def _parsed(data: dict[str, Any]) -> Row:
    values = {field.name: data[field.name] for field in fields(Row)}
    for name, value in values.items():
        kinds = {"str": str, "int": int}.get(str(Row.__annotations__[name]), (int, float))
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(f"{name!r} is not what it should be")
    return Row(**values)


def append_row(path: Path, row: Row) -> None:
    """Keep a row as soon as it is there."""
    kept.append(path, asdict(row))


def text(found: Sequence[Row], width: int = 100, colour: bool = False) -> str:
    """Means over the targets of an experiment and space, a line for each method and number of samples."""
    columns = [Column("experiment", "left"), Column("space", "left", True), Column("method", "left")]
    columns += [Column(c) for c in ("samples", "targets", "MAE %", "MAPE %", "SRCC", "worst", "Kendall", "top 10")]
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in found:
        groups.setdefault((row.experiment, row.space, row.method, row.samples), []).append(row)
    cells = []
    for (experiment, space, method, count), part in groups.items():
        mean = {k: float(np.mean([getattr(r, k) for r in part])) for k in ("mae", "mape", "srcc", "kendall", "top")}
        worst = min(r.srcc for r in part)
        scaled = method == "flops" and not count
        errors = ["", ""] if scaled else [f"{100 * mean['mae']:.1f}", f"{100 * mean['mape']:.1f}"]
        ranks = [f"{mean['srcc']:.3f}", f"{worst:.3f}", f"{mean['kendall']:.3f}", f"{mean['top']:.2f}"]
        cells.append([experiment, space, method, str(count), str(len(part)), *errors, *ranks])
    return render_table(columns, cells, width, colour)
