"""Training of predictors: a new task from few labels, and the models that ship with the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut import machines
from fusecut._version import __version__
from fusecut.errors import FusecutError
from fusecut.objective import UNITS, Objective
from fusecut.predict.basis import Basis, Described, describe_archs, describe_graphs
from fusecut.predict.bundle import ANY, SOLVED, bundled, bundled_names
from fusecut.predict.metrics import Metrics, metrics
from fusecut.predict.model import Model
from fusecut.predict.spaces import SPACES, space
from fusecut.predict.spaces.families import member
from fusecut.predictions import graph_of
from fusecut.train.labels import Labels, read
from fusecut.train.solved import Label
from fusecut.units import parse_bytes

Floats = NDArray[np.float64]

_BOUNDS: Final = {**dict.fromkeys(("dram", "lbdf"), ("floor", "unfused")), "layerwise": ("floor", "")}
FOLDS: Final = 5
LEAST_FOR_FOLDS: Final = 10
SCALED_BY: Final = 500
LEARNT_FROM: Final = 1500


@dataclass(frozen=True)
class Trained:
    """A model of one task, what was left out of its labels, and its errors on held-out fifths of them."""

    model: Model
    samples: int
    notes: tuple[str, ...]
    held_out: Metrics | None


def describe(space_name: str, archs: Sequence[str]) -> Described:
    """Networks of a space, or any (:data:`fusecut.predict.bundle.ANY`), as numbers.

    Raises:
        UnknownNameError: no such space.
        ModelError: one of them cannot be read.
    """
    if space_name == ANY:
        return describe_graphs([graph_of(arch) for arch in archs])
    return describe_archs(space(space_name), archs)


def check_of(space_name: str) -> Callable[[str], object]:
    """What raises ModelError on a string that is no network of a space."""
    return graph_of if space_name == ANY else space(space_name).choices


def train(space_name: str, labels: Path, task: str, unit: str = "", seed: int = 0) -> Trained:
    """A model of a new task of a space, from a file of labels.

    The tasks of the space that ship with the package are features of it (:mod:`fusecut.predict.basis`).

    Raises:
        FusecutError: labels that cannot be read, or none usable.
    """
    found = read(labels, check_of(space_name))
    networks = describe(space_name, found.archs)
    basis = _basis(space_name, networks)
    return _trained(Model(basis, {}), task, networks, found, unit, seed)


def _trained(empty: Model, task: str, networks: Described, labels: Labels, unit: str, seed: int) -> Trained:
    notes = {"fusecut_version": __version__, "samples": str(len(networks)), "seed": str(seed)}
    model = replace(empty.learning(task, networks, labels.values, unit), notes=notes)
    told = list(labels.notes)
    if dropped := model.tasks[task].fitted.dropped:
        told.append(f"{dropped:,} samples far from all others left out as outliers")
    if len(networks) < LEAST_FOR_FOLDS:
        told.append(f"{len(networks)} samples are too few to say how good the predictor is; give {LEAST_FOR_FOLDS}")
        return Trained(model, len(networks), tuple(told), None)
    held_out = cross_validated(empty, networks, labels.values, np.random.default_rng(seed))
    return Trained(model, len(networks), tuple(told), held_out)


def cross_validated(empty: Model, networks: Described, values: Floats, rng: np.random.Generator) -> Metrics:
    """Errors on each fifth of the samples, predicted from the other four."""
    fold = rng.permutation(len(networks)) % FOLDS
    predicted = np.zeros(len(networks))
    for i in range(FOLDS):
        model = empty.learning("fold", networks[fold != i], values[fold != i])
        predicted[fold == i] = model.predict("fold", networks[fold == i]).values
    return metrics(values, predicted)


def _basis(space_name: str, networks: Described) -> Basis:
    """The basis that ships for a space; one scaled by the samples where there is none."""
    if space_name in bundled_names():
        return bundled(space_name).basis
    return Basis.of(space_name, networks)


def reference(space_name: str, seed: int = 0, count: int = SCALED_BY) -> Described:
    """Networks drawn from a space, to scale a basis by."""
    rng = np.random.default_rng(seed)
    found = space(space_name)
    return describe_archs(found, [found.sample(rng) for _ in range(count)])


@dataclass(frozen=True)
class Latencies:
    """Measured latencies of one space: ``values`` [device, network], unit as published for each device."""

    space: str
    archs: tuple[str, ...]
    devices: tuple[str, ...]
    values: Floats


def read_latencies(path: Path) -> tuple[Latencies, ...]:
    """Read ``<space>_arch``, ``<space>_device`` and ``<space>_latency`` of an .npz file, for every space there.

    Raises:
        FusecutError: the file cannot be read, or has no such arrays.
    """
    import zipfile

    try:
        if not zipfile.is_zipfile(path) and path.is_file():
            raise ValueError("not an .npz file")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = [
                Latencies(
                    name,
                    tuple(str(a) for a in file[f"{name}_arch"]),
                    tuple(str(d) for d in file[f"{name}_device"]),
                    np.asarray(file[f"{name}_latency"], dtype=np.float64),
                )
                for name in sorted(SPACES)
                if f"{name}_arch" in file.files
            ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FusecutError(
            f"cannot read latencies from {path}: {reason}; expected <space>_arch, _device, _latency"
        ) from None
    if not found or any(t.values.shape != (len(t.devices), len(t.archs)) for t in found):
        raise FusecutError(f"{path} holds no latencies: expected <space>_latency of shape [device, arch]")
    return tuple(found)


def device_model(latencies: Latencies, described: Described) -> Model:
    """Predictors of all devices of a space, each also a feature of tasks to come.

    ``described`` are the networks of ``latencies.archs``.
    """
    tasks = dict(zip(latencies.devices, latencies.values, strict=True))
    model = Model(Basis.of(latencies.space, reference(latencies.space)).knowing(described, tasks), {})
    for name in sorted(tasks):
        model = model.learning(name, described, tasks[name], "as published")
    return replace(model.condensed(), notes=_notes(len(described)))


def _notes(networks: int) -> dict[str, str]:
    return {"fusecut_version": __version__, "networks": str(networks)}


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of ``count`` places, evenly apart."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def some(latencies: Latencies, most: int = LEARNT_FROM) -> Latencies:
    """At most so many networks, evenly apart."""
    chosen = evenly(len(latencies.archs), most)
    archs = tuple(latencies.archs[i] for i in chosen)
    return Latencies(latencies.space, archs, latencies.devices, latencies.values[:, chosen])


def any_network_model(parts: Sequence[tuple[Latencies, Described]]) -> Model:
    """Predictors of all devices for networks of no known space: all spaces pooled, analytic features alone."""
    plain = [Described(d.extra[:, :0], d.raw) for _, d in parts]
    pooled = Described(np.concatenate([d.extra for d in plain]), np.concatenate([d.raw for d in plain]))
    model = Model(Basis.of(ANY, pooled), {})
    for device in sorted({d for latencies, _ in parts for d in latencies.devices}):
        having = [(lat, d) for (lat, _), d in zip(parts, plain, strict=True) if device in lat.devices]
        values = np.concatenate([lat.values[lat.devices.index(device)] for lat, _ in having])
        raw = np.concatenate([d.raw for _, d in having])
        model = model.learning(device, Described(np.zeros((len(raw), 0)), raw), values, "as published")
    return replace(model.condensed(), notes=_notes(len(pooled)))


def train_devices(path: Path, on_step: Callable[[str], None] = lambda _: None) -> dict[str, Model]:
    """The bundled models of measured devices, by name, from a file of latencies.

    Raises:
        FusecutError: the file cannot be read.
    """
    models, parts = {}, []
    for latencies in map(some, read_latencies(path)):
        on_step(f"{latencies.space}: {len(latencies.archs):,} networks, {len(latencies.devices)} devices")
        described = describe(latencies.space, latencies.archs)
        models[latencies.space] = device_model(latencies, described)
        parts.append((latencies, described))
    on_step("all spaces together")
    return {**models, ANY: any_network_model(parts)}


def train_families(rows: Sequence[Label]) -> Model:
    """The bundled model of our own solver's labels: DRAM and no fusion at any buffer, energy and latency.

    The closed form learns values over the unfused DRAM bytes, which a search can only lessen; sums are fitted for each
    buffer beside it.
    """
    graphs = {key: member(*key) for key in sorted({(r.family, r.seed) for r in rows})}
    asked = [(r, *solved_task(r.task)) for r in rows]
    every = describe_graphs([graphs[r.family, r.seed] for r, _, _ in asked], [size for _, _, size in asked])
    model = Model(Basis.of(SOLVED, every).without_linear(), {})
    values = np.array([float(r.value) for r in rows])
    for task in sorted({task for _, task, _ in asked}):
        of_task = np.array([t == task for _, t, _ in asked])
        model = model.learning(
            task, every[of_task], values[of_task], UNITS[_objective(task)], "unfused", solved_bounds(task), True
        )
    return replace(model, notes=_notes(len(graphs)))


def solved_bounds(task: str) -> tuple[str, str]:
    """What a task of our solver is at least and at most, as quantities of the network; nothing for none."""
    return _BOUNDS.get(task, ("", ""))


def _objective(task: str) -> Objective:
    """The objective whose unit a task of :mod:`fusecut.train.solved` has."""
    return "energy" if task.startswith("energy") else "latency" if task.startswith("latency") else "dram"


def solved_task(task: str) -> tuple[str, int]:
    """The predicted task and the buffer of a task of :mod:`fusecut.train.solved`."""
    what, _, where = task.partition("@")
    if _objective(task) == "dram":
        return what, parse_bytes(where)
    return task, machines.load(where).buffer_bytes
