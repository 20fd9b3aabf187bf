"""From a path to sorted nodes: reading, refusing, inlining, naming, ordering. No shapes yet."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper

from fusecut.errors import ModelError, first_line
from fusecut.frontend.constants import array_of
from fusecut.frontend.values import MAX_ELEMENTS, Node, Value

MAX_FILE_BYTES: Final = 2**31
MAX_NODES: Final = 200_000

BRANCHES: Final = ("then_branch", "else_branch")
"""The graphs inside an ``If``."""

_CONTROL_FLOW: Final = frozenset({"Loop", "Scan", "SequenceMap"})
_NO_TENSORS: Final = ("Sequence", "Optional", "SplitToSequence", "ConcatFromSequence")
_FIRST_FIELD: Final = 0x08  # the tag of ir_version, which every exporter writes first

_OTHERS: Final = (
    (0, b"version https://git-lfs", "is a pointer of Git LFS, not the network; get the file itself: git lfs pull"),
    (0, b"PK\x03\x04", "is a zip archive, as torch.save writes; export the network to ONNX first (torch.onnx.export)"),
    (4, b"TFL3", "is a TFLite file; convert the network to ONNX first (tf2onnx)"),
    (0, b"<", "is a web page; download the file itself"),
)
"""What files that are given by mistake have from which byte on, and what to do."""


@dataclass(frozen=True)
class Source:
    """A file's network: nodes in topological order and everything they refer to."""

    path: Path
    nodes: tuple[Node, ...]
    inputs: tuple[onnx.ValueInfoProto, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Value]
    recorded: dict[str, onnx.TypeProto]
    opsets: dict[str, int]

    def fail(self, message: str) -> ModelError:
        """An error that names the file."""
        return ModelError(f"{self.path}: {message}")


def read(path: str | Path) -> Source:
    """Read, check and sort a file. No external data is ever opened.

    Raises:
        ModelError: anything that is not a sortable ONNX graph without control flow.
    """
    file = Path(path)
    return source_of(file, model_of(file))


def source_of(file: Path, model: onnx.ModelProto) -> Source:
    """Check and sort a model without local functions; ``file`` is what errors and the graph are named after.

    Raises:
        ModelError: anything that is not a sortable ONNX graph without control flow.
    """
    graph = model.graph
    nodes = nodes_of(file, graph.node, set())
    constants = _constants(file, graph)
    inputs = tuple(v for v in graph.input if v.name not in constants)
    known = constants.keys() | {v.name for v in inputs}
    outputs = tuple(dict.fromkeys(v.name for v in graph.output))
    _check_outputs(file, outputs, known, nodes)
    return Source(
        path=file,
        nodes=ordered(file, nodes, known),
        inputs=inputs,
        outputs=outputs,
        constants=constants,
        recorded={v.name: v.type for v in (*graph.value_info, *graph.output)},
        opsets={o.domain: o.version for o in model.opset_import} or {"": 1},
    )


def model_of(path: str | Path) -> onnx.ModelProto:
    """The model of a file without local functions; weights in other files stay references.

    Raises:
        ModelError: not an ONNX model, or too large a one.
    """
    file = Path(path)
    return _inlined(file, _parse(file, _content(file)))


def _content(file: Path) -> bytes:
    try:
        if file.is_dir():
            raise ModelError(f"{file}: is a directory; give the .onnx file inside it")
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(
                f"{file}: {size:,} bytes, at most {MAX_FILE_BYTES:,} can be an ONNX file; "
                "save it with its weights as external data and give the small file"
            )
        return file.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file; give the path of an ONNX file, or zoo:NAME") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(file)!r}: cannot be read ({error}); give the path of a readable ONNX file") from None


def _parse(file: Path, content: bytes) -> onnx.ModelProto:
    if not content:
        raise ModelError(f"{file}: the file is empty; give an ONNX file")
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError:
        if content[0] == _FIRST_FIELD:
            what = "starts like ONNX but is truncated, damaged or nested too deeply; export or download it again"
        else:
            what = next((said for at, start, said in _OTHERS if content.startswith(start, at)), "")
            what = what or f"is not an ONNX file (it starts with {content[:8]!r}); export the network to ONNX first"
        raise ModelError(f"{file}: {what}") from None
    if not model.HasField("graph"):
        raise ModelError(f"{file}: is not an ONNX model: there is no graph in it; export the network to ONNX first")
    if not all(isinstance(text, str) for text in _texts(model)):
        raise ModelError(f"{file}: is damaged: a name in it is not UTF-8 text; export or download it again")
    if not model.graph.node:
        raise ModelError(f"{file}: the graph has no nodes, only weights; export the network, not its parameters")
    return model


def _texts(model: onnx.ModelProto) -> Iterator[object]:
    """Every name that is used; protobuf hands out bytes for one that is not valid UTF-8."""
    for node in chain.from_iterable(map(every_node, (model.graph, *model.functions))):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute))
    for graph in every_graph(model.graph):
        for value in chain(graph.input, graph.output, graph.value_info):
            yield value.name
            yield from (d.dim_param for d in value.type.tensor_type.shape.dim)
        yield from (t.name for t in graph.initializer)
        yield from (t.values.name for t in graph.sparse_initializer)
    yield from (o.domain for o in model.opset_import)
    yield from chain.from_iterable((f.domain, f.name) for f in model.functions)


def _inlined(file: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without local functions. The size is counted before anything is expanded."""
    if _node_count(file, model) > MAX_NODES:
        raise ModelError(f"{file}: more than {MAX_NODES:,} nodes; give a smaller part of the network")
    if not model.functions:
        return model
    from onnx import inliner

    try:
        inlined = inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{file}: its local functions cannot be inlined ({first_line(error)})") from None
    return inlined


def _node_count(file: Path, model: onnx.ModelProto) -> int:
    """Nodes after inlining: functions may call functions, each call counts in full."""
    bodies = {(f.domain, f.name): Counter((n.domain, n.op_type) for n in every_node(f)) for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    waiting: set[tuple[str, str]] = set()
    stack = list(bodies)
    while stack:
        key = stack[-1]
        missing = [c for c in bodies[key] if c in bodies and c not in sizes]
        if missing and key in waiting and any(c in waiting for c in missing):
            raise ModelError(f"{file}: function {key[1]!r} calls itself; export the network without recursion")
        if missing:
            waiting.add(key)
            stack.extend(missing)
            continue
        sizes[key] = sum(count * sizes.get(c, 1) for c, count in bodies[key].items())
        waiting.discard(key)
        stack.pop()
    return sum(sizes.get((n.domain, n.op_type), 1) for n in every_node(model.graph))


def nodes_of(file: Path, protos: Iterable[onnx.NodeProto], taken: set[str]) -> list[Node]:
    """Nodes with names that are in use neither in ``taken``, to which they are added, nor twice."""
    protos = list(protos)
    repeated = {name for name, count in Counter(p.name for p in protos).items() if count > 1 or name in taken}
    taken |= {p.name for p in protos}
    nodes = []
    for proto in protos:
        name = proto.name
        if not name or name in repeated:
            name = _fresh(proto, taken)
        nodes.append(_node(file, proto, name))
    return nodes


def _fresh(proto: onnx.NodeProto, taken: set[str]) -> str:
    """A name from the op type and the first output, numbered when even that is taken."""
    made = next((o for o in proto.output if o), "nothing")
    base = name = f"{proto.op_type}:{made}"
    count = 1
    while name in taken:
        count += 1
        name = f"{base}#{count}"
    taken.add(name)
    return name


def _node(file: Path, proto: onnx.NodeProto, name: str) -> Node:
    """A node as plain data; an ``If`` reads, after its condition, what its branches read from outside."""
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    condition = proto.op_type == "If" and not domain
    if proto.op_type in _CONTROL_FLOW or proto.op_type.startswith(_NO_TENSORS):
        raise _control_flow(file, proto.op_type, name)
    attrs: dict[str, Any] = {}
    for attr in proto.attribute:
        graph = attr.type in _GRAPHS
        if graph and not (condition and attr.name in BRANCHES):
            raise _control_flow(file, proto.op_type, name)
        value = helper.get_attribute_value(attr)
        attrs[attr.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    inputs = (*proto.input, *(sorted(_captured(proto)) if condition else ()))
    return Node(name, proto.op_type, domain, inputs, tuple(proto.output), attrs, proto)


def _control_flow(file: Path, op_type: str, name: str) -> ModelError:
    """A refusal of what cannot be known before the network runs."""
    return ModelError(
        f"{file}: op {name!r} is {op_type}: expected a plain graph of tensor ops, found control flow or "
        "sequences; export the network with fixed control flow (torch.onnx.export on an example input)"
    )


def _captured(node: onnx.NodeProto) -> set[str]:
    """Names that the graphs inside a node read and do not make themselves."""
    found: set[str] = set()
    for graph in (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH):
        read = {v.name for v in graph.output}.union(*(({*n.input} | _captured(n)) for n in graph.node))
        made = {o for n in graph.node for o in n.output} | {v.name for v in graph.input}
        made |= {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
        found |= read - made - {""}
    return found


def every_graph(graph: Any) -> Iterator[Any]:
    """A graph, or a function, and all graphs inside its nodes."""
    yield graph
    for attribute in (a for node in graph.node for a in node.attribute if a.type in _GRAPHS):
        for inner in (attribute.g, *attribute.graphs):
            yield from every_graph(inner)


def every_node(graph: Any) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph or function, and of all graphs inside."""
    for inside in every_graph(graph):
        yield from inside.node


_GRAPHS: Final = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _constants(file: Path, graph: onnx.GraphProto) -> dict[str, Value]:
    constants = {}
    for tensor in graph.initializer:
        data = array_of(tensor)
        dims = tuple(tensor.dims)
        constants[tensor.name] = Value(tensor.name, tensor.data_type, dims, data=data, constant=True)
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        constants[name] = Value(name, sparse.values.data_type, tuple(sparse.dims), constant=True)
    for value in constants.values():
        if any(d < 0 for d in value.dims):
            raise ModelError(f"{file}: constant {value.name!r} has shape {value.dims}: no dimension can be negative")
        if value.elements > MAX_ELEMENTS:
            raise ModelError(
                f"{file}: constant {value.name!r} has shape {value.dims}: more than 2**40 elements; export it again"
            )
    return constants


def _check_outputs(file: Path, outputs: Sequence[str], known: Iterable[str], nodes: Sequence[Node]) -> None:
    made = {o for n in nodes for o in n.outputs} | set(known)
    if not outputs:
        raise ModelError(f"{file}: the graph declares no outputs; export the network again")
    for name in outputs:
        if name not in made:
            raise ModelError(f"{file}: output {name!r} is made by no op; export the network again")


def ordered(file: Path, nodes: Sequence[Node], known: Iterable[str]) -> tuple[Node, ...]:
    """Kahn's algorithm; of the ready nodes the first in the file comes first.

    Raises:
        ModelError: a cycle, a name that is read and nobody makes, or that is made twice.
    """
    made = _makers(file, nodes, known)
    ready_inputs = set(known)
    readers: dict[int, list[int]] = {}
    open_inputs = []
    for index, node in enumerate(nodes):
        before = {_maker(file, node, t, made) for t in node.inputs if t and t not in ready_inputs}
        open_inputs.append(len(before))
        for maker in before:
            readers.setdefault(maker, []).append(index)
    heap = [i for i, count in enumerate(open_inputs) if not count]
    order: list[Node] = []
    while heap:
        index = heapq.heappop(heap)
        order.append(nodes[index])
        for reader in readers.get(index, ()):
            open_inputs[reader] -= 1
            if not open_inputs[reader]:
                heapq.heappush(heap, reader)
    if len(order) < len(nodes):
        stuck = next(n.name for n, count in zip(nodes, open_inputs, strict=True) if count)
        raise ModelError(f"{file}: op {stuck!r} waits for itself: the graph has a cycle; export the network again")
    return tuple(order)


def _makers(file: Path, nodes: Sequence[Node], known: Iterable[str]) -> dict[str, int]:
    made: dict[str, int] = {}
    taken = set(known)
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in made or name in taken:
                raise ModelError(f"{file}: op {node.name!r} makes {name!r}, which exists already; export it again")
            made[name] = index
    return made


def _maker(file: Path, node: Node, name: str, made: dict[str, int]) -> int:
    if name not in made:
        raise ModelError(
            f"{file}: op {node.name!r} ({node.op_type}) reads {name!r}, which no op, input or initializer "
            "makes; export the network again"
        )
    return made[name]
