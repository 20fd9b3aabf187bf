"""Conditions that are known before the network runs: an ``If`` is replaced by the branch it takes.

Exporters write ``If`` around a squeeze that depends on a dimension, or for a switch that is fixed by now. Where the
condition follows from shapes and small constants alone, one branch can never run. The other one is put in its place:
its nodes read what they captured from outside, make what the ``If`` made, and its own constants become Constant nodes.
Names that exist outside already are changed. Nodes that only the branch left out, or the condition, had a use for are
dropped. A condition that depends on data is control flow, which is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import onnx
from onnx import helper

from fusecut.errors import ModelError
from fusecut.frontend.inputs import Asked, Inputs, resolve
from fusecut.frontend.shapes import Shapes
from fusecut.frontend.source import BRANCHES, Source, nodes_of, ordered
from fusecut.frontend.values import Node, Value

Names = Mapping[str, str]


def settled(source: Source, asked: Asked) -> tuple[Source, Inputs]:
    """The network with every condition decided, and its inputs. O(nodes), a few times over if there are conditions.

    Raises:
        ModelError: as :func:`fusecut.frontend.inputs.resolve`; a condition that is not known, or not the same for the
            batch of the file and the one asked for; a branch that is missing, or makes too little.
    """
    inputs = resolve(source, asked)
    if not any(_is_condition(node) for node in source.nodes):
        return source, inputs
    walk = _Settling(source, inputs)
    plain = walk.run()
    found = resolve(plain, asked)
    if found.values != inputs.values:  # what the branches say of the axes of an input may move its batch
        walk = _Settling(source, found)
        plain = walk.run()
    if found.images != 1:
        _check_batch(source, found, walk.decisions)
    return plain, found


def _is_condition(node: Node) -> bool:
    return node.op_type == "If" and not node.domain


def _check_batch(source: Source, inputs: Inputs, decisions: Mapping[str, str]) -> None:
    """Raises ModelError where a condition is another one for all images at once, as far as that can be inferred."""
    whole = {name: value if value.constant else _times(value, inputs.images) for name, value in inputs.values.items()}
    walk = _Settling(source, replace(inputs, values=whole, reshaped=True))
    with suppress(ModelError):  # a batch that is written into a reshape
        walk.run()
    for name, branch in walk.decisions.items():
        if decisions.get(name, branch) != branch:
            raise source.fail(
                f"op {name!r} is If, and takes another branch for this batch than for that of the file; "
                "load the file with its own batch"
            )


def _times(value: Value, images: Fraction) -> Value:
    """An input of all images, where the network is inferred for one of them."""
    if value.rank < 2:
        return value
    batch = max(0, value.roles.find("N"))
    return replace(value, dims=tuple(int(d * images) if a == batch else d for a, d in enumerate(value.dims)))


class _Settling:
    """One walk over the nodes in order, with the shapes and small values of everything before. Use once."""

    def __init__(self, source: Source, inputs: Inputs) -> None:
        self.source = replace(source, recorded=dict(source.recorded))
        self.shapes = Shapes(self.source, inputs.reshaped)
        self.values: dict[str, Value] = dict(source.constants) | inputs.values
        self.names = set(self.values) | {name for node in source.nodes for name in node.outputs}
        self.node_names = {node.name for node in source.nodes}
        self.nodes: list[Node] = []
        self.decisions: dict[str, str] = {}  # the branch that every condition takes
        self.used: set[str] = set()  # what conditions and branches read

    def run(self) -> Source:
        """The network without conditions."""
        waiting = list(reversed(self.source.nodes))
        while waiting:
            node = waiting.pop()
            if _is_condition(node):
                self.used.update(node.inputs)
                waiting.extend(reversed(self._taken(node)))
                continue
            operands = [self.values[name] if name else None for name in node.inputs]
            self.values.update((v.name, v) for v in self.shapes.outputs(node, operands) if v.name)
            self.nodes.append(node)
        return replace(self.source, nodes=tuple(self._alive()))

    def _taken(self, node: Node) -> tuple[Node, ...]:
        """The nodes that stand for a condition, in order."""
        branch = self._branch(node)
        outputs = [value.name for value in branch.output]
        if len(outputs) < len(node.outputs):
            raise self.source.fail(
                f"op {node.name!r} (If) has {len(node.outputs)} outputs, its branch {branch.name!r} makes "
                f"{len(outputs)}; export the network again"
            )
        wanted = {inner: outer for inner, outer in zip(outputs, node.outputs, strict=False) if outer}
        protos = [*_constants(branch), *branch.node]
        made = [name for proto in protos for name in proto.output if name]
        names = {name: wanted.get(name) or self._fresh(name, node) for name in made}
        copies = [
            helper.make_node("Identity", [names.get(inner, inner)], [outer])
            for inner, outer in zip(outputs, node.outputs, strict=False)
            if outer and names.get(inner) != outer
        ]
        for value in (*branch.value_info, *branch.output):
            self.source.recorded[names.get(value.name, value.name)] = value.type
        inside = nodes_of(self.source.path, [*(_renamed(proto, names) for proto in protos), *copies], self.node_names)
        read = {name for inner in inside for name in inner.inputs}
        self.shapes.expect(read)
        return ordered(self.source.path, inside, read & self.values.keys())

    def _branch(self, node: Node) -> onnx.GraphProto:
        """The graph that the condition chooses.

        Raises:
            ModelError: the condition depends on data, or there is no such graph.
        """
        name = next(iter(node.proto.input), "")
        data = self.values[name].data if name else None
        if data is None or data.size != 1:
            raise self.source.fail(
                f"op {node.name!r} is If, and which branch it takes depends on data ({name!r}); export the network "
                "with fixed control flow (torch.onnx.export on an example input)"
            )
        key = self.decisions[node.name] = BRANCHES[0 if bool(data.reshape(-1)[0]) else 1]
        branch = node.attrs.get(key)
        if not isinstance(branch, onnx.GraphProto):
            raise self.source.fail(f"op {node.name!r} (If) has no {key}; export the network again")
        return branch

    def _fresh(self, name: str, node: Node) -> str:
        """The name itself, unless something outside has it."""
        base = made = name
        count = 0
        while made in self.names:
            count += 1
            made = f"{base}#{count}" if count > 1 else f"{node.name}/{base}"
        self.names.add(made)
        return made

    def _alive(self) -> Iterator[Node]:
        """The nodes, without those that nothing but conditions and branches left out had a use for."""
        readers = Counter(name for node in self.nodes for name in set(node.inputs) if name)
        readers.update(self.source.outputs)
        maker = {name: node for node in self.nodes for name in node.outputs if name}
        dead: set[str] = set()
        waiting = sorted(self.used & maker.keys())
        while waiting:
            node = maker[waiting.pop()]
            if node.name in dead or any(readers[name] for name in node.outputs if name):
                continue
            dead.add(node.name)
            readers.subtract(name for name in set(node.inputs) if name)
            waiting.extend(sorted(set(node.inputs) & maker.keys()))
        return (node for node in self.nodes if node.name not in dead)


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The initializers of a branch as nodes."""
    for tensor in graph.initializer:
        yield helper.make_node("Constant", [], [tensor.name], value=tensor)
    for sparse in graph.sparse_initializer:
        yield helper.make_node("Constant", [], [sparse.values.name], sparse_value=sparse)


def _renamed(proto: onnx.NodeProto, names: Names) -> onnx.NodeProto:
    """A copy of the node that reads and makes other names, in the graphs inside it as well."""
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    _rename(copy, names)
    return copy


def _rename(node: onnx.NodeProto, names: Names) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            _rename_captured(attribute.g, names)


def _rename_captured(graph: onnx.GraphProto, names: Names) -> None:
    """What a graph made itself keeps its name, and hides one of that name outside."""
    own = {name for node in graph.node for name in node.output} | _given(graph)
    seen = {name: new for name, new in names.items() if name not in own}
    for node in graph.node:
        _rename(node, seen)
    for value in graph.output:
        value.name = seen.get(value.name, value.name)


def _given(graph: onnx.GraphProto) -> set[str]:
    return {v.name for v in graph.input} | {t.name for t in graph.initializer} | _sparse(graph.sparse_initializer)


def _sparse(tensors: Iterable[Any]) -> set[str]:
    return {tensor.values.name for tensor in tensors}
