"""What a lowering rule sees (:class:`View`) and says (:class:`Draft`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from fusecut.errors import ModelError
from fusecut.frontend.layout import natural
from fusecut.frontend.values import Dims, Node, Value, whole_numbers
from fusecut.ir import AttrValue

Attributes: TypeAlias = dict[str, AttrValue]


@dataclass(frozen=True)
class Draft:
    """An op about to be made; tensors by name. All outputs have the same roles; ``lost`` as in :class:`Value`."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    roles: str
    attrs: Attributes = field(default_factory=dict)
    weights: int = 0
    biases: int = 0
    macs: int = 0
    name: str = ""
    lost: tuple[Dims, str] | None = None


@dataclass(frozen=True)
class View:
    """One node with its operands (None: left out) and the results that somebody reads."""

    path: Path
    node: Node
    operands: Sequence[Value | None]
    results: Sequence[Value]
    opset: int

    @property
    def activations(self) -> list[Value]:
        return [v for v in self.operands if v is not None and not v.constant]

    @property
    def constants(self) -> list[Value]:
        return [v for v in self.operands if v is not None and v.constant]

    @property
    def first(self) -> Value:
        """The first activation operand."""
        return self.activations[0]

    @property
    def result(self) -> Value:
        return self.results[0]

    def operand(self, index: int) -> Value | None:
        return self.operands[index] if index < len(self.operands) else None

    def attr(self, key: str, default: Any) -> Any:
        return self.node.attrs.get(key, default)

    def ints(self, key: str, operand: int) -> Dims | None:
        """Integers that are an attribute in old opsets and an operand in new ones; None if neither is known."""
        if key in self.node.attrs:
            value = self.node.attrs[key]
            return (int(value),) if isinstance(value, int) else tuple(int(v) for v in value)
        return whole_numbers(self.operand(operand))

    def axis(self, default: int, rank: int) -> int:
        axis = int(self.attr("axis", default))
        return axis + rank if axis < 0 else axis

    def fail(self, message: str) -> ModelError:
        """An error that names the file and the op."""
        return ModelError(f"{self.path}: op {self.node.name!r} ({self.node.op_type}) {message}")

    def one(self, kind: str, roles: str, **attrs: AttrValue) -> list[Draft]:
        """The usual case: one op that reads all activations and makes all results; constants are weights."""
        weights = sum(c.elements for c in self.constants if c.elements > 1)
        return [Draft(kind, names(self.activations), names(self.results), roles, attrs, weights=weights)]

    def moved(self, kind: str, roles: str, **attrs: AttrValue) -> list[Draft]:
        """One op that moves the first activation's elements; its other operands only say where."""
        return [Draft(kind, [self.first.name], names(self.results), roles, attrs)]


Rule: TypeAlias = Callable[[View], list[Draft]]


def names(values: Sequence[Value]) -> list[str]:
    return [v.name for v in values]


def barrier_if(condition: bool) -> Attributes:
    """The barrier attribute, only where it holds."""
    return {"barrier": True} if condition else {}


def opaque(view: View, macs: int = 0) -> list[Draft]:
    """An op nothing is known of: every output row needs everything. One op per output if their rows differ."""
    weights = sum(c.elements for c in view.constants if c.elements > 1)
    groups: dict[int, list[Value]] = {}
    for value in view.results:
        roles = natural(value.rank)
        groups.setdefault(Value("", 0, value.dims, roles).rows, []).append(value)
    drafts: list[Draft] = []
    for index, group in enumerate(groups.values()):
        for rank, same in _by_rank(group).items():
            first = not drafts
            drafts.append(
                Draft(
                    "opaque",
                    names(view.activations),
                    names(same),
                    natural(rank),
                    weights=weights if first else 0,
                    macs=macs if first else 0,
                    name="" if first else f"{view.node.name}:{index}:{same[0].name}",
                )
            )
    return drafts


def _by_rank(values: Sequence[Value]) -> dict[int, list[Value]]:
    ranks: dict[int, list[Value]] = {}
    for value in values:
        ranks.setdefault(value.rank, []).append(value)
    return ranks
