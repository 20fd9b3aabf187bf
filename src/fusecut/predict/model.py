"""A predictor of one or more tasks of a space, and its file: safetensors, nothing that can run code.

``save`` and ``load`` are inverse to each other; the same model gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecut.errors import ModelError, UnknownNameError
from fusecut.predict import features
from fusecut.predict.additive import additive, by_buffer, fit_additive, fit_by_buffer
from fusecut.predict.basis import Basis, Described, Scaling
from fusecut.predict.gaussian import Block, Fitted, fit

Floats = NDArray[np.float64]

FORMAT: Final = "fusecut-predictor"
VERSION: Final = 1
LARGEST_BYTES: Final = 64 * 2**20
_BUFFER: Final = features.BUFFER_NAMES.index("buffer")
_TINY: Final = 1e-300
_TWO_SIDED: Final = 1.645
"""Deviations to either side that hold 90 % of a normal distribution."""

_SCALINGS: Final = ("extra", "linear", "log")
_QUANTITIES: Final = ("baseline", "least", "most")
_SCALARS: Final = ("noise", "offset", "centre", "scale", "log", "widening", "samples", "dropped")


class Predicted(NamedTuple):
    """Medians, and the half-widths of their 90 % intervals."""

    values: Floats
    half_widths: Floats


@dataclass(frozen=True)
class Task:
    """One thing that is predicted.

    ``fitted`` predicts values divided by the quantity ``baseline`` of the network (one of
    :data:`fusecut.predict.features.NAMES`); they are kept between its quantities ``least`` and ``most``.
    ``elsewhere`` are coefficients for networks of other spaces (:mod:`fusecut.predict.additive`); none
    where values are not positive.

    ``sums``, where there are any, are such coefficients for each buffer (:func:`fusecut.predict.additive.by_buffer`).
    The prediction is then the geometric mean of both: on families that it has not seen, each is astray at times,
    their mean less (docs/aiop-results.md). Half of what they are apart counts as a deviation more.
    """

    fitted: Fitted
    unit: str = ""
    baseline: str = ""
    least: str = ""
    most: str = ""
    elsewhere: Floats = field(default_factory=lambda: np.zeros(0))
    sums: Floats = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True)
class Model:
    """Tasks by name on one basis; ``notes`` say where it came from."""

    basis: Basis
    tasks: Mapping[str, Task]
    notes: Mapping[str, str] = field(default_factory=dict)

    def predict(self, task: str, networks: Described) -> Predicted:
        """What networks of the space cost.

        Raises:
            UnknownNameError: no such task; lists those there are.
        """
        if task not in self.tasks:
            raise UnknownNameError("task", task, self.tasks)
        found = self.tasks[task]
        values, halves = found.fitted.predict(self.basis.phi(networks))
        over = _quantity(networks, found.baseline)
        values, halves = _kept(found, networks, values * over), halves * over
        if len(found.sums):
            summed = _kept(found, networks, by_buffer(found.sums, networks.raw, networks.extra[:, _BUFFER]))
            both = np.sqrt(np.maximum(values, 0.0) * summed)
            apart = (values - summed) / 2
            values, halves = both, np.hypot(halves * both / np.maximum(values, _TINY), _TWO_SIDED * apart)
        return Predicted(values, halves)

    def predict_elsewhere(self, task: str, networks: Described) -> Predicted:
        """What networks of another space cost: their order is worth more than the values (0 to twice).

        Raises:
            UnknownNameError: no such task.
            ModelError: a task that is not predicted beyond its space.
        """
        if task not in self.tasks:
            raise UnknownNameError("task", task, self.tasks)
        found = self.tasks[task]
        if not len(found.elsewhere):
            raise ModelError(f"task {task!r} is predicted for networks of {self.basis.space} only")
        values = additive(found.elsewhere, networks.raw)
        return Predicted(values, values)

    def learning(
        self,
        name: str,
        networks: Described,
        values: Floats,
        unit: str = "",
        baseline: str = "",
        bounds: tuple[str, str] = ("", ""),
        buffered: bool = False,
    ) -> Model:
        """The model with one task more, fitted to its values on networks; ``buffered`` adds sums for each buffer."""
        fitted = fit(self.basis.blocks, self.basis.phi(networks), values / _quantity(networks, baseline))
        elsewhere = np.zeros(0) if baseline or (values <= 0).any() else fit_additive(networks.raw, values)
        task = Task(fitted, unit, baseline, *bounds, elsewhere)
        if buffered:
            task = replace(task, sums=fit_by_buffer(networks.raw, values, networks.extra[:, _BUFFER]))
        return replace(self, tasks={**self.tasks, name: task})

    def condensed(self) -> Model:
        """Without what says how sure it is of its weights: much smaller, for tasks with thousands of samples."""
        tasks = {name: replace(task, fitted=task.fitted.condensed()) for name, task in self.tasks.items()}
        return replace(self, tasks=tasks)

    def save(self) -> bytes:
        """The file, as bytes."""
        from safetensors.numpy import save

        names = sorted(self.tasks)
        tensors: dict[str, NDArray[Any]] = {"basis.weights": self.basis.weights}
        for part in _SCALINGS:
            scaling: Scaling = getattr(self.basis, part)
            tensors |= {f"basis.{part}.mean": scaling.mean, f"basis.{part}.scale": scaling.scale}
        for i, name in enumerate(names):
            fitted = self.tasks[name].fitted
            tensors |= {f"task.{i}.{part}": getattr(fitted, part) for part in ("weights", "variances", "factor")}
            tensors[f"task.{i}.elsewhere"] = self.tasks[name].elsewhere
            if len(self.tasks[name].sums):
                tensors[f"task.{i}.sums"] = self.tasks[name].sums
        header = {
            "format": FORMAT,
            "version": VERSION,
            "space": self.basis.space,
            "known": self.basis.known,
            "blocks": [asdict(b) for b in self.basis.blocks],
            "notes": dict(self.notes),
            "tasks": [_task_header(name, self.tasks[name]) for name in names],
        }
        tensors = {name: np.ascontiguousarray(t, dtype=np.float64) for name, t in sorted(tensors.items())}
        content: bytes = save(tensors, {"fusecut": json.dumps(header, sort_keys=True)})
        return content


def load(path: Path) -> Model:
    """Read a model file.

    Raises:
        ModelError: missing, too large, not a model of this version, or with values no model can have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as read_tensors

    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ModelError(f"{path} is larger than {LARGEST_BYTES:,} B: not a predictor")
        content = path.read_bytes()
        header = _header(content)
        return _rebuilt(header, read_tensors(content))
    except OSError as error:
        raise ModelError(f"cannot read predictor {path}: {error.strerror}") from None
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        raise ModelError(f"{path} is not a predictor of this version: write one with fusecut train predictor") from None


def _header(content: bytes) -> dict[str, Any]:
    """The JSON that :meth:`Model.save` put into the file's metadata."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["fusecut"])
    if header["format"] != FORMAT or header["version"] != VERSION:
        raise ValueError
    return dict(header)


def _rebuilt(header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Model:
    if not all(t.dtype == np.float64 and np.isfinite(t).all() for t in tensors.values()):
        raise ValueError
    scalings = [Scaling(tensors[f"basis.{p}.mean"], tensors[f"basis.{p}.scale"]) for p in _SCALINGS]
    extra, linear, log = scalings
    basis = Basis(str(header["space"]), extra, linear, log, tuple(map(str, header["known"])), tensors["basis.weights"])
    blocks = tuple(Block(str(b["name"]), int(b["size"]), float(b["variance"])) for b in header["blocks"])
    plain, quantities = sum(len(s.mean) for s in scalings), len(features.NAMES)
    if blocks != basis.blocks or basis.weights.shape != (plain, len(basis.known)):
        raise ValueError
    if not len(extra.mean) and any(name.endswith(".sums") for name in tensors):
        raise ValueError
    if any(s.mean.shape != s.scale.shape for s in scalings) or len(basis.log.mean) != quantities:
        raise ValueError
    parts = ("weights", "variances", "factor", "elsewhere")
    tasks = {
        str(task["name"]): replace(
            _task(blocks, task, *(tensors[f"task.{i}.{part}"] for part in parts)),
            sums=_sums(tensors.get(f"task.{i}.sums", np.zeros((0, 0)))),
        )
        for i, task in enumerate(header["tasks"])
    }
    return Model(basis, tasks, {str(k): str(v) for k, v in header["notes"].items()})


def _sums(table: Floats) -> Floats:
    """Coefficients for each buffer, in order of size, or none."""
    if len(table) and (table.shape[1:] != (len(features.NAMES) + 2,) or (np.diff(table[:, 0]) <= 0).any()):
        raise ValueError
    return table


def _task(
    blocks: tuple[Block, ...],
    data: Mapping[str, Any],
    weights: Floats,
    variances: Floats,
    factor: Floats,
    elsewhere: Floats,
) -> Task:
    columns = sum(b.size for b in blocks)
    if elsewhere.shape not in ((0,), (len(features.NAMES) + 1,)):
        raise ValueError
    if weights.shape != (columns,) or variances.shape != (columns,) or factor.shape[1:] != (columns + 1,):
        raise ValueError
    noise, offset, centre, scale, widening = (
        float(data[k]) for k in ("noise", "offset", "centre", "scale", "widening")
    )
    if not np.isfinite([noise, offset, centre, scale, widening]).all():
        raise ValueError
    if any(data[key] and data[key] not in features.NAMES for key in _QUANTITIES):
        raise ValueError
    fitted = Fitted(
        blocks, weights, factor, variances, noise, offset, centre, scale, bool(data["log"]), widening,
        int(data["samples"]), int(data["dropped"]),
    )  # fmt: skip
    baseline, least, most = (str(data[key]) for key in _QUANTITIES)
    return Task(fitted, str(data["unit"]), baseline, least, most, elsewhere)


def _kept(task: Task, networks: Described, values: Floats) -> Floats:
    """Values between what the task can be at least and at most."""
    if task.most:
        values = np.minimum(values, _quantity(networks, task.most))
    return np.maximum(values, _quantity(networks, task.least)) if task.least else values


def _task_header(name: str, task: Task) -> dict[str, Any]:
    scalars = {key: getattr(task.fitted, key) for key in _SCALARS}
    return {"name": name, "unit": task.unit, **{key: getattr(task, key) for key in _QUANTITIES}, **scalars}


def _quantity(networks: Described, name: str) -> Floats:
    """A raw quantity of every network; ones for no name."""
    found: Floats = networks.raw[:, features.NAMES.index(name)] if name else np.ones(len(networks))
    return found
