"""From a solution to its simulation: finds the network behind the plan and the arrays to run it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from fusecut.errors import SimulationError, UnknownNameError, check_seed
from fusecut.frontend.weights import Network
from fusecut.frontend.weights import network as read_network
from fusecut.ir import Graph
from fusecut.load import file_of, fingerprint
from fusecut.simulate.compute import Compute
from fusecut.simulate.execution import Progress, execute
from fusecut.simulate.integers import IntegerCompute
from fusecut.simulate.memory import Array
from fusecut.simulate.report import Simulation
from fusecut.simulate.synthetic import network_of
from fusecut.solution import Provenance, Solution
from fusecut.zoo import names

Mode: TypeAlias = Literal["full", "fast"]
Dtype: TypeAlias = Literal["float32", "float64", "int8"]
Inputs: TypeAlias = Literal["random"] | Mapping[str, Array]

DTYPES: Final = ("float32", "float64", "int8")
MODES: Final = ("full", "fast")


def simulate(
    solution: Solution,
    *,
    inputs: Inputs = "random",
    seed: int = 0,
    mode: Mode = "full",
    dtype: Dtype = "float32",
    model: str | Path | None = None,
    trace: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Simulation:
    """Execute a plan and set what it moved and held beside what the model said.

    Args:
        inputs: network inputs by name, shaped like the file's; or drawn from ``seed``.
        seed: of random inputs, and of weights whose values are not with the file.
        dtype: what is computed in; ``int8`` scales everything to 8-bit integers, so that results are equal bit for
            bit in whatever order rows are made (docs/simulator.md).
        mode: ``full`` computes every row on real arrays; ``fast`` tracks which rows are where.
        model: the ONNX file (or ``zoo:NAME``) the plan was made for, where the plan does not say.
        trace: record what is on chip after every event.
        on_progress: called before each group.

    Raises:
        SimulationError: there is no plan, it cannot be executed as granted, its network cannot be
            found or is not the one that was solved, or a node has no arithmetic here.
    """
    if solution.partition is None:
        raise SimulationError("there is no plan to execute: the search found none")
    graph = solution.partition.graph
    if mode not in MODES:
        raise UnknownNameError("mode", mode, MODES)
    if isinstance(inputs, str) and inputs != "random":
        raise UnknownNameError("inputs", inputs, ("random",))
    check_seed(seed)
    compute = None
    if mode == "full":
        inputs = random_inputs(graph, seed) if isinstance(inputs, str) else checked_inputs(graph, inputs)
        compute = compute_of(graph, network_behind(graph, solution.provenance, model, seed), dtype, inputs)
    arrays = None if isinstance(inputs, str) else inputs
    return execute(graph, solution.machine, solution.planned, compute, arrays, trace, on_progress=on_progress)[0]


def compute_of(graph: Graph, network: Network, dtype: str, inputs: Mapping[str, Array]) -> Compute:
    """Arithmetic in a type.

    Raises:
        UnknownNameError: a type that is not known; lists those that are.
        SimulationError: a node has no arithmetic in integers.
    """
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    return IntegerCompute(graph, network, inputs) if dtype == "int8" else Compute(graph, network, dtype)


def random_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    """Standard normal values for every network input."""
    rng = np.random.default_rng(seed)
    return {t.name: rng.standard_normal(t.dims) for t in (graph.tensors[i] for i in graph.inputs)}


def checked_inputs(graph: Graph, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """Raises SimulationError unless there is one array for each network input, of its shape."""
    for tensor in (graph.tensors[i] for i in graph.inputs):
        if tensor.name not in inputs:
            raise SimulationError(f"there is no array for network input {tensor.name!r}: expected shape {tensor.dims}")
        if np.shape(inputs[tensor.name]) != tensor.dims:
            raise SimulationError(
                f"network input {tensor.name!r} has shape {tensor.dims}, the array has {np.shape(inputs[tensor.name])}"
            )
    return inputs


def network_behind(graph: Graph, provenance: Provenance, model: str | Path | None, seed: int) -> Network:
    """The nodes and weights of the file a graph came from; invented ones for a graph made by hand.

    Raises:
        SimulationError: the file is unknown, has changed, or holds another network.
    """
    if all("op_type" not in op.attrs for op in graph.ops):
        return network_of(graph, seed)
    source = model if model is not None else provenance.model if provenance.model_sha256 else f"zoo:{graph.name}"
    if model is None and not provenance.model_sha256 and graph.name not in names():
        raise SimulationError(f"the plan does not say which file {graph.name!r} came from: name it with model=")
    if model is None and provenance.model_sha256 and fingerprint(source) != provenance.model_sha256:
        raise SimulationError(f"{source} has changed since it was solved: solve it again")
    shapes = {graph.tensors[t].name: graph.tensors[t].dims for t in graph.inputs}
    network = read_network(file_of(source), shapes, seed)
    strange = [m for op in graph.ops for m in op.members if m not in network.steps]
    if strange:
        raise SimulationError(f"{source} is not the network of this plan: it has no op {strange[0]!r}")
    return network
