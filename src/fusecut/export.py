"""Hand a plan to other tools: ONNX with a function for each group, one file for each group, layer stacks.

The groups of a plan are groups of nodes of its file. Three kinds of nodes belong to no single group:

* Nodes that compute constants (a scale from two initializers) stay outside, before all groups.
* Constants that a file computes from the *shape* of an activation become initializers: their
  values are known for the shapes that were solved, and reading a shape moves no tensor.
* Copies that folding took away (Identity, Dropout) are repeated in every group that reads them,
  so that the tensor that crosses between groups is the one the plan counts.

Weights are never loaded: initializers in other files stay the references they are. Nothing here
depends on anything but the file and the plan: the same plan gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import helper, numpy_helper

from fusecut.errors import ModelError, PlanError
from fusecut.frontend.branches import settled
from fusecut.frontend.inputs import Asked
from fusecut.frontend.lower import Lowering
from fusecut.frontend.source import Source, model_of, read
from fusecut.frontend.values import Node, Value
from fusecut.ir import Graph, bits
from fusecut.load import file_of, fingerprint
from fusecut.plan_file import write_bytes, write_text
from fusecut.solution import Solution
from fusecut.zoo import names as zoo_names

DOMAIN: Final = "fusecut"
_IR_VERSION: Final = 10
"""First version with metadata on nodes and functions; runtimes since 2024 read it."""


@dataclass(frozen=True)
class Piece:
    """A group as nodes of the file, in file order. Names of tensors; constants are among ``inputs``."""

    index: int
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Pieces:
    """The file behind a plan, cut along its groups.

    Raises:
        PlanError: there is no plan, or its file is unknown, has changed, or is another network.
        ModelError: the file cannot be read.
    """

    def __init__(self, solution: Solution, model: str | Path | None = None) -> None:
        if solution.partition is None:
            raise PlanError("there is no plan to export: the search found none")
        self.solution, self.graph = solution, solution.partition.graph
        self.file = _file_behind(solution, self.graph, model)
        shapes = {self.graph.tensors[t].name: self.graph.tensors[t].dims for t in self.graph.inputs}
        self.source: Source
        self.source, inputs = settled(read(self.file), Asked(None, shapes))
        lowering = Lowering(self.source, inputs)
        lowering.graph()
        self.values: dict[str, Value] = lowering.values
        self.maker = {o: node for node in self.source.nodes for o in node.outputs if o}
        self.place = {node.name: i for i, node in enumerate(self.source.nodes)}
        self.owned = [self._owned(lowering, group) for group in solution.partition.groups]
        self.copies = self._folded_copies(lowering)
        self.frozen: dict[str, Value] = {}
        self.outside: dict[str, Node] = {}
        self._bodies = [self._body(nodes) for nodes in self.owned]
        self._keep_constant_outputs()

    def _owned(self, lowering: Lowering, group: int) -> list[Node]:
        """Nodes of a group. A node that became several ops is repeated in each of their groups."""
        members = [m for i in bits(group) for m in self.graph.ops[i].members]
        strange = [m for m in members if m not in lowering.node_of]
        if strange:
            raise PlanError(f"{self.file} is not the network of this plan: it has no op {strange[0]!r}")
        return self._in_order({lowering.node_of[m].name: lowering.node_of[m] for m in members}.values())

    def _in_order(self, nodes: Iterable[Node]) -> list[Node]:
        return sorted(nodes, key=lambda node: self.place[node.name])

    def _folded_copies(self, lowering: Lowering) -> frozenset[str]:
        """Outputs of nodes that only pass a tensor on and are no ops of the plan."""
        kept = {op.name for op in self.graph.ops}
        copies = [op for op in lowering.ops if op.kind == "identity" and op.name not in kept]
        return frozenset(lowering.tensors[t].name for op in copies for t in op.outputs)

    def _body(self, owned: Sequence[Node]) -> list[Node]:
        """The nodes of a group, with the copies it reads and constants that only it can compute."""
        body = {node.name: node for node in owned if not self._is_spare_copy(node)}
        waiting = list(body.values())
        while waiting:
            for name in waiting.pop().inputs:
                node = self.maker.get(name)
                if node is None or node.name in body or not self._pulled(name, node):
                    continue
                body[node.name] = node
                waiting.append(node)
        return self._in_order(body.values())

    def _is_spare_copy(self, node: Node) -> bool:
        return not self.copies.isdisjoint(node.outputs) and not set(self.source.outputs) & set(node.outputs)

    def _pulled(self, name: str, node: Node) -> bool:
        """Whether a reader of this tensor makes it itself; notes what is frozen or stays outside."""
        value = self.values[name]
        if name in self.copies:
            return True
        if not value.constant or name in self.outside or name in self.frozen:
            return False
        if self._is_pure(node):
            self._keep_outside(node)
            return False
        if value.data is None:
            return True
        self.frozen[name] = value
        return False

    def _is_pure(self, node: Node) -> bool:
        """Whether a node needs nothing but constants that need nothing else, all the way back."""
        stack, seen = [node], set()
        while stack:
            at = stack.pop()
            seen.add(at.name)
            if any(name and not self.values[name].constant for name in at.inputs):
                return False
            stack += [m for m in (self.maker.get(n) for n in at.inputs) if m is not None and m.name not in seen]
        return True

    def _keep_outside(self, node: Node) -> None:
        stack = [node]
        while stack:
            at = stack.pop()
            self.outside |= dict.fromkeys((o for o in at.outputs if o), at)
            stack += [self.maker[n] for n in at.inputs if n in self.maker and n not in self.outside]

    def _keep_constant_outputs(self) -> None:
        """Network outputs that depend on no data are made outside all groups."""
        for name in self.source.outputs:
            if name in self.maker and self.values[name].constant:
                self._pulled(name, self.maker[name])

    @cached_property
    def constant_nodes(self) -> list[Node]:
        """Nodes outside all groups, in file order."""
        return self._in_order({node.name: node for node in self.outside.values()}.values())

    @cached_property
    def _wanted(self) -> frozenset[str]:
        """Tensors that some group reads and does not make itself, and the network's outputs."""
        return frozenset(n for body in self._bodies for n in _reads(body)) | frozenset(self.source.outputs)

    @cached_property
    def _read_anywhere(self) -> frozenset[str]:
        return frozenset(name for node in self.source.nodes for name in node.inputs)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The groups in the order of the plan."""
        return tuple(
            Piece(index, tuple(body), _reads(body), self._leaving(index)) for index, body in enumerate(self._bodies)
        )

    def _leaving(self, index: int) -> tuple[str, ...]:
        """What a group makes for others; or, if nothing of it is wanted, what nobody reads."""
        group = 0 if self.solution.partition is None else self.solution.partition.groups[index]
        tensors = {self.graph.tensors[t].name for i in bits(group) for t in self.graph.ops[i].outputs}
        own = [node for node in self.owned[index] if not self._is_spare_copy(node)]
        made = [o for node in own for o in node.outputs if o and not self._is_anothers(o, tensors)]
        wanted = tuple(o for o in made if o in self._wanted)
        return wanted or tuple(o for o in made if o not in self._read_anywhere)

    def _is_anothers(self, name: str, tensors: set[str]) -> bool:
        """Whether another group makes this output of a node that became ops of several groups."""
        return name in {t.name for t in self.graph.tensors} and name not in tensors and name not in self.copies

    def describe(self, name: str) -> onnx.ValueInfoProto:
        """Type and shape of a tensor."""
        value = self.values[name]
        return helper.make_tensor_value_info(name, value.dtype, value.dims)

    def constants_for(self, names: Iterable[str]) -> tuple[list[Node], list[onnx.TensorProto]]:
        """Outside nodes and frozen initializers that these names need, in order."""
        nodes: dict[str, Node] = {}
        stack = [name for name in names if name in self.outside]
        while stack:
            node = self.outside[stack.pop()]
            if node.name not in nodes:
                nodes[node.name] = node
                stack += [n for n in node.inputs if n in self.outside]
        frozen = [_initializer(self.frozen[name]) for name in names if name in self.frozen]
        return self._in_order(nodes.values()), frozen


def _reads(body: Sequence[Node]) -> tuple[str, ...]:
    made = {o for node in body for o in node.outputs}
    return tuple(dict.fromkeys(n for node in body for n in node.inputs if n and n not in made))


def _initializer(value: Value) -> onnx.TensorProto:
    array = value.data
    if array is None:
        raise AssertionError("only constants with values are frozen")
    dtype = helper.tensor_dtype_to_np_dtype(value.dtype)
    return numpy_helper.from_array(array.astype(dtype).reshape(value.dims), value.name)


def _file_behind(solution: Solution, graph: Graph, model: str | Path | None) -> Path:
    origin = solution.provenance
    if model is not None:
        return file_of(model)
    if origin.model_sha256:
        if fingerprint(origin.model) != origin.model_sha256:
            raise PlanError(f"{origin.model} has changed since it was solved; solve it again")
        return file_of(origin.model)
    if graph.name in zoo_names():
        return file_of(f"zoo:{graph.name}")
    raise PlanError(f"the plan does not say which file {graph.name!r} came from: name it with model=")


def to_onnx(pieces: Pieces) -> onnx.ModelProto:
    """The same model with every group a model-local function, called once.

    Equal inputs give equal outputs. Weights are inputs of the functions, as functions cannot refer
    to initializers. ``metadata_props`` of the model hold the plan, those of each call the figures of
    its group. Inputs and outputs have the shapes that were solved, with the batch of the file.

    Raises:
        ModelError: the result is no valid ONNX model.
    """
    model = model_of(pieces.file)
    del model.functions[:], model.graph.node[:], model.graph.value_info[:]
    del model.graph.input[:], model.graph.output[:]
    calls = [_call(pieces, piece) for piece in pieces.pieces]
    model.graph.node.extend([*(_proto(node) for node in pieces.constant_nodes), *calls])
    model.graph.initializer.extend(_initializer(value) for value in pieces.frozen.values())
    model.graph.input.extend(pieces.describe(v.name) for v in pieces.source.inputs)
    model.graph.output.extend(pieces.describe(name) for name in pieces.source.outputs)
    crossing = [o for piece in pieces.pieces for o in piece.outputs if o not in pieces.source.outputs]
    model.graph.value_info.extend(pieces.describe(name) for name in crossing)
    model.functions.extend(_function(pieces, piece, model) for piece in pieces.pieces)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    model.ir_version = max(model.ir_version, _IR_VERSION)
    _annotate(model.metadata_props, _plan_facts(pieces.solution))
    return _checked(pieces, model)


def _call(pieces: Pieces, piece: Piece) -> onnx.NodeProto:
    name = f"group_{piece.index}"
    node = helper.make_node(name, piece.inputs, piece.outputs, name=name, domain=DOMAIN)
    _annotate(node.metadata_props, _group_facts(pieces.solution, piece.index))
    return node


def _function(pieces: Pieces, piece: Piece, model: onnx.ModelProto) -> onnx.FunctionProto:
    nodes = [_proto(node) for node in piece.nodes]
    domains = {node.domain for node in nodes}
    opsets = [o for o in model.opset_import if ("" if o.domain == "ai.onnx" else o.domain) in domains]
    function = helper.make_function(
        DOMAIN, f"group_{piece.index}", piece.inputs, piece.outputs, nodes, opsets, doc_string=_summary(pieces, piece)
    )
    inner = [o for node in piece.nodes for o in node.outputs if o and o not in piece.outputs]
    function.value_info.extend(pieces.describe(name) for name in inner)
    return function


def _proto(node: Node) -> onnx.NodeProto:
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.name, proto.domain = node.name, node.domain
    return proto


def _summary(pieces: Pieces, piece: Piece) -> str:
    schedule, cost = pieces.solution.planned[piece.index]
    return f"{schedule.scheme}: {cost.buffer_bytes:,} B of buffer, {cost.dram_bytes:,} B of DRAM traffic"


def _annotate(props: Any, facts: Iterable[tuple[str, str]]) -> None:
    known = {entry.key for entry in props}
    for key, value in facts:
        if key not in known:
            props.add(key=key, value=value)


def _plan_facts(solution: Solution) -> Iterator[tuple[str, str]]:
    plan = solution.to_dict()
    for key in ("fusecut_version", "scheme", "status", "dram_bytes", "bound_bytes", "max_buffer_bytes"):
        yield f"{DOMAIN}.{key.removeprefix('fusecut_')}", str(plan[key])
    yield f"{DOMAIN}.plan", json.dumps(plan, separators=(",", ":"))


def _group_facts(solution: Solution, index: int) -> Iterator[tuple[str, str]]:
    schedule, cost = solution.planned[index]
    yield f"{DOMAIN}.group", str(index)
    yield f"{DOMAIN}.scheme", schedule.scheme
    for key in ("buffer_bytes", "dram_bytes", "weight_bytes"):
        yield f"{DOMAIN}.{key}", str(getattr(cost, key))


def _checked(pieces: Pieces, model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        onnx.checker.check_model(_without_references(model))
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ModelError(
            f"{pieces.file}: cut along this plan it is no valid ONNX model ({reason}); export the network again"
        ) from None
    return model


def _without_references(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with initializers of other files as inputs: the checker would look for those files."""
    elsewhere = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if not elsewhere:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    here = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(here)
    inputs = {v.name for v in copy.graph.input}
    copy.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in elsewhere if t.name not in inputs
    )
    return copy


def subgraphs(pieces: Pieces) -> Iterator[tuple[str, onnx.ModelProto]]:
    """File name and model of every group, in the order of the plan.

    Each has the tensors that enter the group as inputs and those that leave it as outputs, under
    the names of the file, so that running them one after the other runs the network.

    Raises:
        ModelError: a group is no valid ONNX model.
    """
    whole = model_of(pieces.file)
    digits = len(str(len(pieces.pieces) - 1))
    for piece in pieces.pieces:
        yield f"group_{piece.index:0{digits}}.onnx", _checked(pieces, _subgraph(pieces, piece, whole))


def _subgraph(pieces: Pieces, piece: Piece, whole: onnx.ModelProto) -> onnx.ModelProto:
    constants, frozen = pieces.constants_for(piece.inputs)
    needed = set(piece.inputs) | {n for node in constants for n in node.inputs}
    weights = [t for t in whole.graph.initializer if t.name in needed]
    sparse = [t for t in whole.graph.sparse_initializer if t.values.name in needed]
    inside = {t.name for t in (*weights, *frozen)} | {t.values.name for t in sparse}
    inside |= {o for node in constants for o in node.outputs}
    graph = helper.make_graph(
        [_proto(node) for node in (*constants, *piece.nodes)],
        f"group_{piece.index}",
        [pieces.describe(name) for name in sorted(needed - inside - {""}, key=_place_in(piece.inputs))],
        [pieces.describe(name) for name in piece.outputs],
        [*weights, *frozen],
        doc_string=_summary(pieces, piece),
        sparse_initializer=sparse,
    )
    model = helper.make_model(graph, opset_imports=whole.opset_import, ir_version=max(whole.ir_version, _IR_VERSION))
    model.producer_name = DOMAIN
    _annotate(model.metadata_props, _group_facts(pieces.solution, piece.index))
    return model


def _place_in(names: Sequence[str]) -> Any:
    place = {name: i for i, name in enumerate(names)}
    return lambda name: (place.get(name, len(place)), name)


def layer_stacks(pieces: Pieces) -> list[list[int]]:
    """The groups as positions of their nodes in the file: ``layer_stacks`` of Stream.

    Stream (Symons et al., arXiv 2212.10612) numbers layers by the position of their node in the ONNX
    file and cuts fusion between stacks; nodes in no stack become stacks of their own there.
    """
    place = {o: i for i, node in enumerate(model_of(pieces.file).graph.node) for o in node.output if o}
    return [
        sorted({place[next(o for o in node.outputs if o)] for node in owned} - _elsewhere(pieces, index, place))
        for index, owned in enumerate(pieces.owned)
    ]


def _elsewhere(pieces: Pieces, index: int, place: dict[str, int]) -> set[int]:
    """Nodes that an earlier group has already: a layer is in one stack."""
    earlier = (node for nodes in pieces.owned[:index] for node in nodes)
    return {place[o] for node in earlier for o in node.outputs[:1] if o in place}


def missing_data(pieces: Pieces, folder: Path) -> list[str]:
    """Files with weights that the exported model refers to and that are not in ``folder``."""
    model = model_of(pieces.file)
    where = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [name for name in sorted(where) if not (folder / name).is_file()]


def write_onnx(pieces: Pieces, path: str | Path) -> None:
    """Write :func:`to_onnx` to a file.

    Raises:
        PlanError: that file is the network of the plan.
        FusecutError: the place cannot be written.
        ModelError: see there; or the model is larger than 2 GiB.
    """
    if Path(path).resolve() == pieces.file.resolve():
        raise PlanError(f"{path} is the network of the plan itself; give the export another name")
    write_bytes(path, _serialized(pieces, to_onnx(pieces)))


def write_subgraphs(pieces: Pieces, folder: str | Path) -> list[Path]:
    """Write :func:`subgraphs` into a folder, which is made if need be; returns the files."""
    content = [(name, _serialized(pieces, model)) for name, model in subgraphs(pieces)]
    home = Path(folder)
    try:
        home.mkdir(exist_ok=True)
    except OSError as error:
        raise PlanError(f"cannot write into {home}: {error.strerror}; choose another folder") from None
    for name, data in content:
        write_bytes(home / name, data)
    return [home / name for name, _ in content]


def write_stream(pieces: Pieces, path: str | Path) -> None:
    """Write :func:`layer_stacks` as JSON, with the mode Stream must be called with."""
    write_text(path, json.dumps({"mode": "fused", "layer_stacks": layer_stacks(pieces)}, indent=1) + "\n")


def _serialized(pieces: Pieces, model: onnx.ModelProto) -> bytes:
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except ValueError:
        raise ModelError(
            f"{pieces.file}: more than 2 GiB with its weights inside; save them as external data and solve that file"
        ) from None
