"""Plan files: written by ``solve -o``, read back by explain, compare and simulate."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from fusecut.cost import NO_COST, Infeasible, Planned
from fusecut.errors import (
    FusecutError,
    MachineError,
    ModelError,
    PartitionError,
    PlanError,
    UnknownNameError,
    shown,
)
from fusecut.frontend.onnx import Granularity
from fusecut.ir import Graph
from fusecut.load import fingerprint, load
from fusecut.machine import Machine
from fusecut.models import LineBuffer, default_lines, scheme_model
from fusecut.objective import Objective
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.solution import SCHEMA_VERSION, Provenance, Solution, Status, runs_dict

LARGEST_PLAN_BYTES: Final = 64 * 2**20

LINE_SWITCHES: Final = {
    "line_granularity": "granularity",
    "prefetch_rows": "prefetch_rows",
    "inline_elementwise": "inline_elementwise",
    "virtual_concat": "virtual_concat",
    "skip_separate_buffer": "skip_separate_buffer",
    "squeeze_excite": "squeeze_excite",
}
"""Options of a plan file, and of the command line, that are switches of the line buffer."""


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all; errors as in :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary neighbour first, then renamed.

    Raises:
        FusecutError: the place cannot be written.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
        raise FusecutError(f"cannot write {target}: {error.strerror}; choose another place") from None


def to_json(solution: Solution) -> str:
    """The plan as one JSON object."""
    return json.dumps(solution.to_dict(), indent=2) + "\n"


def read_object(path: str | Path) -> dict[str, Any]:
    """A JSON object from a file that may be anything.

    Raises:
        PlanError: missing, too large, not JSON, nested too deeply, or not an object.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST_PLAN_BYTES:
            raise PlanError(f"{file} is larger than {LARGEST_PLAN_BYTES:,} B: not a plan")
        data = json.loads(file.read_bytes())  # UTF-8, or what its first bytes say
    except OSError as error:
        raise PlanError(f"cannot read plan {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PlanError(f"{file} is not a plan: it is not text; write one with solve -o") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise PlanError(f"{file} is not a plan: it is not JSON ({reason}); write one with solve -o") from None
    if not isinstance(data, dict):
        raise PlanError(f"{file} is not a plan: expected a JSON object, found {type(data).__name__}")
    return data


def groups_of(path: str | Path, data: Mapping[str, Any]) -> list[list[str]]:
    """Op names group by group: from ``{"groups": [["a", "b"], ...]}`` or from a plan file.

    Raises:
        PlanError: there are no groups, or they are not lists of op names.
    """
    groups = data.get("groups")
    if not isinstance(groups, list):
        raise PlanError(f'{path} has no "groups": expected a list of groups of op names')
    names = [group.get("ops") if isinstance(group, dict) else group for group in groups]
    for index, ops in enumerate(names):
        if not isinstance(ops, list) or not ops or not all(isinstance(op, str) for op in ops):
            raise PlanError(f"{path}: group {index} is not a list of op names")
    return cast("list[list[str]]", names)


_ANEW: Final = "write one with solve -o"


def load_plan(path: str | Path) -> Solution:
    """Read a plan file back: the network is loaded again, and every group priced again.

    Raises:
        PlanError: not a plan, the network is not the one that was solved, or the figures in the
            file are not what this version computes.
        ModelError: the network cannot be read.
    """
    data = read_object(path)
    try:
        return _rebuild(path, data)
    except (MachineError, PartitionError, UnknownNameError) as error:
        raise PlanError(f"{path}: {error}") from None
    except KeyError as error:
        raise PlanError(f'{path} is not a plan of this version: "{error.args[0]}" is missing; {_ANEW}') from None
    except (TypeError, AttributeError, IndexError) as error:
        raise PlanError(f"{path} is not a plan of this version: {error}; {_ANEW}") from None


def _rebuild(path: str | Path, data: Mapping[str, Any]) -> Solution:
    if data["schema_version"] != SCHEMA_VERSION:
        raise PlanError(
            f"{path} has schema version {shown(data['schema_version'])}; this fusecut reads {SCHEMA_VERSION}"
        )
    _check_head(path, data)
    provenance = _provenance(data)
    try:
        found = fingerprint(provenance.model)
    except ModelError as error:
        raise PlanError(f"{path}: the network of the plan is not there: {error}") from None
    if found != provenance.model_sha256:
        raise PlanError(f"{path}: {provenance.model} has changed since it was solved; solve it again")
    options = dict(provenance.options)
    graph = load(
        provenance.model,
        batch=cast("int | None", options.get("batch")),
        input_shapes=_shapes(options),
        granularity=cast("Granularity", provenance.granularity),
    )
    machine = Machine.from_dict(data["machine"])
    objective = cast("Objective", data.get("objective", "dram"))
    model = scheme_model(provenance.scheme, line_buffer(provenance.scheme, options))
    problem = Problem(graph, machine, model, objective=objective)
    partition = Partition.of_names(problem.graph, groups_of(path, data)) if data["groups"] else None
    cost = problem.cost(partition if partition is not None else ())
    if isinstance(cost, Infeasible) or cost.dram_bytes != data["dram_bytes"]:
        raise PlanError(f"{path}: the groups do not cost what the file says; solve the network again")
    planned = problem.finished(partition) if partition is not None else ()
    _check_runs(path, problem.graph, planned, data["groups"])
    solution = Solution(
        machine=machine,
        partition=partition,
        planned=planned,
        cost=sum((p.cost for p in planned), NO_COST),
        status=Status[data["status"]],
        bound_bytes=data["bound_bytes"],
        floor_bytes=data["floor_dram_bytes"],
        layerwise_bytes=data["layerwise_dram_bytes"],
        plans_proposed=data["plans_proposed"],
        evaluations=data["evaluations"],
        seconds=data["seconds"],
        seed=data["seed"],
        provenance=provenance,
        notes=tuple(data["notes"]),
        objective=objective,
        bound_score=data.get("bound", 0),
    )
    if partition is not None:
        _check_proof(path, solution)
    return solution


def _check_proof(path: str | Path, solution: Solution) -> None:
    """Raises PlanError where the file claims a proof that cannot be one."""
    if solution.bound > solution.score:
        raise PlanError(f"{path}: its bound is above what its plan moves; solve the network again")
    if solution.status is Status.optimal and solution.bound < solution.score:
        raise PlanError(
            f"{path}: it is called optimal, and its bound is below what its plan moves; solve the network again"
        )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _UNHEARD_OF


_UNHEARD_OF: Final = 2**100
_COUNT: Final = "a whole number of 0 or more"
_HEAD: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    **dict.fromkeys(
        ("model", "model_sha256", "granularity", "scheme", "search", "fusecut_version"),
        ("a text", lambda value: isinstance(value, str)),
    ),
    **dict.fromkeys(
        ("dram_bytes", "floor_dram_bytes", "bound_bytes", "bound", "plans_proposed", "evaluations", "seed"),
        (_COUNT, _is_count),
    ),
    "layerwise_dram_bytes": (f"{_COUNT}, or null", lambda value: value is None or _is_count(value)),
    "splitter": ("a text, or null", lambda value: value is None or isinstance(value, str)),
    "seconds": ("a number", lambda value: type(value) in (int, float) and 0 <= value < _UNHEARD_OF),
    "machine": ("an object", lambda value: isinstance(value, dict)),
    "options": (
        "an object of texts and whole numbers",
        lambda value: isinstance(value, dict) and all(isinstance(v, str | int) for v in value.values()),
    ),
    "notes": (
        "a list of texts",
        lambda value: isinstance(value, list) and all(isinstance(note, str) for note in value),
    ),
    "status": (f"one of {', '.join(Status.__members__)}", lambda value: value in list(Status.__members__)),
}
"""What must be there besides the groups, what it must be, and whether something is that."""


def _check_head(path: str | Path, data: Mapping[str, Any]) -> None:
    """Raises PlanError where something is not what it must be; KeyError where it is missing."""
    for key, (what, holds) in _HEAD.items():
        value = data.get(key, 0) if key == "bound" else data[key]
        if not holds(value):
            raise PlanError(f'{path}: "{key}" is {shown(value)}: expected {what}; {_ANEW}')


def _check_runs(path: str | Path, graph: Graph, planned: Sequence[Planned], groups: Sequence[Any]) -> None:
    """Raises PlanError where the file says that passes run other ops than they do; old files do not say."""
    for index, (group, plan) in enumerate(zip(groups, planned, strict=True)):
        schedule = group.get("schedule", {}) if isinstance(group, dict) else {}
        expected = runs_dict(graph, plan.schedule)
        if schedule.get("runs", expected) != expected:
            raise PlanError(f"{path}: the passes of group {index} run other ops than here; solve the network again")


def _provenance(data: Mapping[str, Any]) -> Provenance:
    return Provenance(
        model=data["model"],
        model_sha256=data["model_sha256"],
        granularity=data["granularity"],
        scheme=data["scheme"],
        search=data["search"],
        splitter=data["splitter"],
        fusecut_version=data["fusecut_version"],
        options=tuple(sorted(data["options"].items())),
    )


def _shapes(options: Mapping[str, str | int | bool]) -> dict[str, tuple[int, ...]]:
    prefix = "input_shape:"
    return {
        key.removeprefix(prefix): tuple(int(d) for d in str(value).split("x"))
        for key, value in options.items()
        if key.startswith(prefix)
    }


def line_buffer(scheme: str, options: Mapping[str, Any]) -> LineBuffer:
    """The line buffer of a scheme with the switches among recorded options.

    Raises:
        MachineError: a switch with a value it cannot have.
    """
    known = {field: options[option] for option, field in LINE_SWITCHES.items() if option in options}
    return replace(default_lines(scheme), **known)
