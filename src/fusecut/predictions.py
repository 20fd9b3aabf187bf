"""What networks will cost, without searching: by bundled predictors, or by a model of one's own.

A network is an ONNX file, ``zoo:NAME``, ``SPACE:ARCH`` with a search space of
:data:`fusecut.predict.spaces.SPACES`, or ``FAMILY:SEED``. A task is one of

* ``dram@256KiB``, the fewest DRAM bytes as ``fusecut solve`` finds them by default (``mixed@256KiB`` is the same),
  ``lbdf@256KiB``, those under the scheme lbdf, or ``layerwise@256KiB`` (no fusion);
* ``energy@MACHINE``, ``latency@MACHINE`` of the machines that labels were computed for;
* a measured device, such as ``eyeriss``;
* any task of a model file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fusecut import machines
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.ir import Graph
from fusecut.load import load
from fusecut.predict.basis import Described, describe_archs, describe_graphs
from fusecut.predict.bundle import ANY, SOLVED, bundled, bundled_names
from fusecut.predict.model import Model
from fusecut.predict.spaces import SPACES, space
from fusecut.predict.spaces.families import FAMILIES, member
from fusecut.units import format_bytes, parse_bytes

BUFFERS_BYTES: Final = (32 * 1024, 4 * 1024 * 1024)
"""Buffers that DRAM is predicted for: what labels were computed for, and a factor beyond."""

_BY_BUFFER: Final = ("dram", "lbdf", "layerwise")
_ALSO: Final = {"mixed": "dram"}


@dataclass(frozen=True)
class Prediction:
    """A network and what it costs: ``low`` to ``high`` holds the truth in nine cases of ten."""

    network: str
    task: str
    value: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class _Asked:
    """A model, its task, the buffer that the features need, if they do, and whether networks are of another space."""

    model: Model
    task: str
    buffer_bytes: int | None = None
    elsewhere: bool = False


def predict(networks: Sequence[str], task: str, model: Model | None = None) -> list[Prediction]:
    """What networks cost, in the order given. About 2 ms each for networks of a search space.

    Raises:
        UnknownNameError: no such task; lists those there are.
        FusecutError: a buffer out of range, or networks of several spaces.
        ModelError: a network that cannot be read, or of another space where the task is for one alone.
    """
    spaces = {space_of(name) for name in networks}
    if len(spaces) != 1:
        raise FusecutError(
            f"networks of {len(spaces)} spaces ({', '.join(sorted(spaces))}): predict one space at a time"
        )
    asked = _asked(spaces.pop(), task, model)
    predict_them = asked.model.predict_elsewhere if asked.elsewhere else asked.model.predict
    found = predict_them(asked.task, _described(asked, networks))
    unit = asked.model.tasks[asked.task].unit
    rows = zip(networks, found.values.tolist(), found.half_widths.tolist(), strict=True)
    return [Prediction(name, task, v, max(0.0, v - h) if v >= 0 else v - h, v + h, unit) for name, v, h in rows]


def tasks(space_name: str = ANY) -> list[str]:
    """Names of the tasks that the bundled predictors know for networks of a space, or for any network."""
    own = list(bundled(space_name).tasks) if space_name in bundled_names() else []
    solved = bundled(SOLVED).tasks if SOLVED in bundled_names() else {}
    return sorted({*own, *(f"{t}@SIZE" if t in _BY_BUFFER else t for t in solved)})


def space_of(network: str) -> str:
    """The search space of a network's name; :data:`ANY` for files, the zoo and families."""
    prefix = network.partition(":")[0]
    return prefix if prefix in SPACES else ANY


def graph_of(network: str) -> Graph:
    """The network of a name.

    Raises:
        ModelError, UnknownNameError: it cannot be read, or there is none.
    """
    prefix, _, rest = network.partition(":")
    if prefix in SPACES:
        return space(prefix).graph(rest)
    if prefix in FAMILIES and rest.isdecimal():
        return member(prefix, int(rest))
    return load(network)


def _asked(space_name: str, task: str, model: Model | None) -> _Asked:
    if model is not None:
        return _Asked(model, task, elsewhere=model.basis.space not in (space_name, ANY))
    what, _, where = task.partition("@")
    what = _ALSO.get(what, what)
    if what in _BY_BUFFER and where:
        return _Asked(bundled(SOLVED), what, _checked(parse_bytes(where)))
    if task in bundled(SOLVED).tasks and where:
        return _Asked(bundled(SOLVED), task, machines.load(where).buffer_bytes)
    if space_name not in bundled_names() or task not in bundled(space_name).tasks:
        raise UnknownNameError("task", task, tasks(space_name))
    return _Asked(bundled(space_name), task, elsewhere=space_name == ANY)


def _checked(buffer_bytes: int) -> int:
    least, most = BUFFERS_BYTES
    if not least <= buffer_bytes <= most:
        raise FusecutError(
            f"a buffer of {format_bytes(buffer_bytes)} is beyond what was learnt: "
            f"predictions are for {format_bytes(least)} to {format_bytes(most)}; use fusecut solve"
        )
    return buffer_bytes


def _described(asked: _Asked, networks: Sequence[str]) -> Described:
    if asked.model.basis.space in SPACES and not asked.elsewhere:
        return describe_archs(space(asked.model.basis.space), [n.partition(":")[2] for n in networks])
    graphs = [graph_of(n) for n in networks]
    return describe_graphs(graphs, [asked.buffer_bytes] * len(graphs) if asked.buffer_bytes else [])
