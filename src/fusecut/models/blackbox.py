"""Cost models that are somebody else's program: a Python function, or a command that speaks JSON.

The question is one JSON object that describes a group and the machine, the answer one JSON object;
docs/blackbox.md has both, field by field. Nothing an answer says is taken on trust but its figures:
it is read up to a size limit, checked field by field, and refused in one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fusecut.cost import BufferFloor, Cost, Infeasible, NoFloor, Planned
from fusecut.errors import CostModelError
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models._command import run_command
from fusecut.schedule import Schedule

PROTOCOL: Final = 1
LARGEST_ANSWER_BYTES: Final = 2**20
_LARGEST_FIGURE: Final = 2**62
_LONGEST_QUOTE: Final = 200
_FIGURES: Final = ("dram_bytes", "buffer_bytes", "write_bytes", "weight_bytes", "macs", "recomputed_macs")

Question = Mapping[str, Any]
Answer = Mapping[str, Any]


def question(graph: Graph, group: Group, machine: Machine) -> dict[str, Any]:
    """A group and a machine as plain data; the same group always gives the same data."""
    touched = sorted({t for i in bits(group) for t in (*graph.ops[i].inputs, *graph.ops[i].outputs)})
    names = [t.name for t in graph.tensors]
    return {
        "protocol": PROTOCOL,
        "network": graph.name,
        "machine": machine.to_dict(),
        "reads": [names[t] for t in graph.reads(group)],
        "writes": [names[t] for t in graph.writes(group)],
        "tensors": {
            names[t]: {
                "shape": list(graph.tensors[t].shape),
                "bits": graph.tensors[t].bits,
                "bytes": graph.tensors[t].nbytes,
            }
            for t in touched
        },
        "ops": [
            {
                "name": op.name,
                "members": list(op.members),
                "kind": op.kind,
                "attrs": {key: list(v) if isinstance(v, tuple) else v for key, v in sorted(op.attrs.items())},
                "inputs": [names[t] for t in op.inputs],
                "outputs": [names[t] for t in op.outputs],
                "weight_elements": op.weight_elements,
                "bias_elements": op.bias_elements,
                "weight_bytes": op.weight_bytes,
                "macs": op.macs,
            }
            for op in (graph.ops[i] for i in bits(group))
        ],
    }


@dataclass(frozen=True)
class BlackBox:
    """A cost model from a function: :func:`question` in, an answer out (docs/blackbox.md).

    ``touches_once`` is a promise about the function: no group moves fewer bytes than every tensor
    that enters or leaves it, and every weight, once. It makes bounds and exact search useful, and
    an answer that breaks it is refused. No buffer floor is assumed.

    >>> model = BlackBox(lambda group: {"feasible": len(group["ops"]) == 1, "buffer_bytes": 1, "dram_bytes": 10})
    >>> from fusecut.testing import Net
    >>> net = Net(); graph = net.graph(net.conv(net.input(1, 4, 4), 1))
    >>> model.plan(graph, 1, Machine(64)).cost.dram_bytes
    10

    Raises:
        CostModelError: from ``plan``, when the answer is not one.
    """

    function: Callable[[Question], Answer]
    name: str = "blackbox"
    touches_once: bool = False

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        answer = self.function(question(graph, group, machine))
        return _Reader(graph, group, machine, self.name, self.touches_once).read(answer)

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        """The plan as it is: a black box shows no more."""
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


@dataclass(frozen=True)
class ExternalCommand:
    """A cost model from a command: :func:`question` as JSON on its stdin, an answer on its stdout.

    The command is started once for each group, without a shell. If it takes more than
    ``timeout_seconds`` or exits with another code than 0 it is started again, ``retries`` times. With
    a ``cache_dir`` answers are kept in files named by the SHA-256 of command and question, written
    whole or not at all, so that several searches may share the folder; a damaged file is asked for
    again. ``touches_once`` as in :class:`BlackBox`.

    Raises:
        CostModelError: from ``plan``: the command cannot be started, keeps failing, or its answer
            is none. Names the group and what the command said.
    """

    command: tuple[str, ...]
    timeout_seconds: float = 60.0
    retries: int = 1
    cache_dir: Path | None = None
    name: str = "command"
    touches_once: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", tuple(self.command))
        if not self.command or self.timeout_seconds <= 0 or self.retries < 0:
            raise CostModelError("a command needs at least a program, a timeout above 0 and 0 or more retries")

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        reader = _Reader(graph, group, machine, self.name, self.touches_once)
        asked = json.dumps(question(graph, group, machine), sort_keys=True).encode()
        place = self._place(asked)
        with suppress(OSError, CostModelError):
            if place is not None:
                return reader.read(_parsed(place.read_bytes(), reader))
        said = self._ask(asked, reader)
        planned = reader.read(_parsed(said, reader))
        if place is not None:
            _keep(place, said)
        return planned

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        """The plan as it is: a black box shows no more."""
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()

    def _place(self, asked: bytes) -> Path | None:
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256(json.dumps(self.command).encode() + b"\n" + asked).hexdigest()
        return Path(self.cache_dir) / digest[:2] / f"{digest}.json"

    def _ask(self, asked: bytes, reader: _Reader) -> bytes:
        failed = ""
        for _ in range(1 + self.retries):
            try:
                done = run_command(self.command, asked, self.timeout_seconds, LARGEST_ANSWER_BYTES + 1)
            except OSError as error:
                raise reader.error(f"{self.command[0]!r} cannot be started: {error.strerror}") from None
            if done.code == 0:
                return done.out
            failed = f"exited with {done.code}{_last_line(done.err)}"
            if done.code is None:
                failed = f"took longer than {self.timeout_seconds:g} s"
        times = f" ({1 + self.retries} times)" if self.retries else ""
        raise reader.error(f"{self.command[0]!r} {failed}{times}")


@dataclass(frozen=True)
class _Reader:
    """Turns an answer about one group into a plan; knows how to name the group in an error."""

    graph: Graph
    group: Group
    machine: Machine
    model: str
    touches_once: bool

    def error(self, what: str) -> CostModelError:
        names = [self.graph.ops[i].name for i in bits(self.group)]
        label = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]} ({len(names)} ops)"
        return CostModelError(f"cost model {self.model!r}, group {label}: {what}")

    def read(self, answer: Answer) -> Planned | Infeasible:
        if not isinstance(answer, Mapping) or not isinstance(answer.get("feasible"), bool):
            raise self.error('the answer must be an object with "feasible": true or false')
        figures = {name: self._figure(answer, name) for name in _FIGURES}
        if not answer["feasible"]:
            return self._refusal(answer, figures["buffer_bytes"])
        return Planned(Schedule(self.model, self.group, tuple(bits(self.group))), self._cost(figures))

    def _figure(self, answer: Answer, name: str) -> int | None:
        value = answer.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_FIGURE:
            shown = "out of range" if isinstance(value, int) else _short(repr(value))
            raise self.error(f'"{name}" is {shown}: it must be a whole number of 0 or more')
        return value

    def _refusal(self, answer: Answer, demand: int | None) -> Infeasible:
        limit = self.machine.buffer_bytes
        reason = _short(str(answer.get("reason", "no reason given")))
        if demand is not None and demand > limit:
            return Infeasible("buffer", demand, limit, reason)
        return Infeasible(self.model, limit + 1, limit, reason)

    def _cost(self, figures: Mapping[str, int | None]) -> Cost:
        dram, buffer = figures["dram_bytes"], figures["buffer_bytes"]
        if dram is None or buffer is None:
            raise self.error('a feasible group needs "dram_bytes" and "buffer_bytes"')
        if buffer > self.machine.buffer_bytes:
            limit = self.machine.buffer_bytes
            raise self.error(f'"feasible" is true, but "buffer_bytes" is {buffer:,}: the buffer has {limit:,}')
        least = self.graph.touch_once_bytes(self.group)
        if self.touches_once and dram < least:
            raise self.error(f'"dram_bytes" is {dram:,}, less than touching all once, {least:,}: touches_once is false')
        write = figures["write_bytes"]
        if write is None:
            write = min(dram, sum(self.graph.tensors[t].nbytes for t in self.graph.writes(self.group)))
        weight = figures["weight_bytes"]
        if weight is None:
            weight = min(dram - write, sum(self.graph.ops[i].weight_bytes for i in bits(self.group)))
        if write + weight > dram:
            raise self.error(
                f'"write_bytes" and "weight_bytes" are {write + weight:,}, more than "dram_bytes", {dram:,}'
            )
        return Cost(dram - write, write, weight, buffer, 0, figures["macs"] or 0, figures["recomputed_macs"] or 0)


def _parsed(said: bytes, reader: _Reader) -> Answer:
    if len(said) > LARGEST_ANSWER_BYTES:
        raise reader.error(f"the answer is longer than {LARGEST_ANSWER_BYTES:,} bytes")
    try:
        answer: Answer = json.loads(said)
    except (ValueError, RecursionError):
        raise reader.error(f"the answer is not JSON: {_short(said[:200].decode(errors='replace'))!r}") from None
    return answer


def _keep(place: Path, said: bytes) -> None:
    """Write a cache file whole or not at all.

    Raises:
        CostModelError: the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=place.parent, prefix=".answer.")
        temporary = Path(path)
        with os.fdopen(handle, "wb") as file:
            file.write(said)
        temporary.replace(place)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise CostModelError(f"cannot write the cache {place.parent}: {error.strerror}; choose another one") from None


def _last_line(complaint: bytes) -> str:
    """The last thing a command said, behind a colon."""
    lines = complaint.decode(errors="replace").strip().splitlines()
    return f": {_short(lines[-1])}" if lines else ""


def _short(text: str) -> str:
    """Foreign text made fit for one line of a terminal."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= _LONGEST_QUOTE else f"{clean[:_LONGEST_QUOTE]}..."
