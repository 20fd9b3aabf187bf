"""Lowering of Einsum: sums of products named by letters.

Two activations become a `matmul`, one with a constant over its last axis a `linear`. Of anything
else (a diagonal, three factors, broadcasting by size) the MACs are known and nothing more: every
output row needs everything.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from fusecut.frontend import layout
from fusecut.frontend.lower_math import linear
from fusecut.frontend.values import Value
from fusecut.frontend.view import Attributes, Draft, Rule, View, names, opaque


class _Equation(NamedTuple):
    """Letters of every factor and of the result, axis by axis, and what each counts."""

    factors: tuple[str, ...]
    result: str
    sizes: dict[str, int]

    @property
    def macs(self) -> int:
        return math.prod(self.sizes.values())


def einsum(view: View) -> list[Draft]:
    """Einsum; MACs are the product of the extents of all letters."""
    found = _equation(view)
    if found is None:
        return opaque(view)
    plain = all(len(set(term)) == len(term) for term in (*found.factors, found.result))
    if not plain or len(found.factors) != 2 or _uneven(view, found):
        return opaque(view, found.macs)
    constant = [value.constant for value in view.operands if value is not None]
    if constant == [False, False]:
        return _product(view, found)
    return _with_constant(view, found, constant.index(True)) or opaque(view, found.macs)


def _equation(view: View) -> _Equation | None:
    """None where the letters do not name the axes one by one.

    Raises:
        ModelError: a letter with two extents.
    """
    text, values = "".join(str(view.attr("equation", "")).split()), [v for v in view.operands if v is not None]
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(values) or len(values) != len(view.operands):
        return None
    terms = [_spelled(term, value.rank) for term, value in zip(terms, values, strict=True)]
    every = "".join(terms)
    if arrow:
        result = _spelled(right, view.result.rank)
    else:
        hidden = [c for c in sorted(set(every)) if c in _HIDDEN]
        result = "".join([*hidden, *sorted(c for c in set(every) - set(hidden) if every.count(c) == 1)])
    if any(len(t) != v.rank for t, v in zip((*terms, result), (*values, view.result), strict=True)):
        return None
    sizes: dict[str, int] = {}
    for term, value in zip(terms, values, strict=True):
        for letter, size in zip(term, value.dims, strict=True):
            known = sizes.setdefault(letter, size)
            if 1 not in (known, size) and known != size:
                raise view.fail(f"gives {letter!r} of {text!r} the extents {known} and {size}; check the input shape")
            sizes[letter] = max(known, size)
    return _Equation(tuple(terms), result, sizes) if set(result) <= set(sizes) else None


_HIDDEN: Final = "0123456789"
"""What stands for the axes of an ellipsis, the last one first: they are counted from the right."""


def _spelled(term: str, rank: int) -> str:
    """A term with its ellipsis spelled out."""
    missing = rank - (len(term) - 3)
    return term.replace("...", _HIDDEN[:missing][::-1]) if "..." in term and 0 <= missing <= len(_HIDDEN) else term


def _uneven(view: View, found: _Equation) -> bool:
    """Whether some extent is repeated to fit another."""
    return any(
        size != found.sizes[letter]
        for term, value in zip(found.factors, view.operands, strict=True)
        if value is not None
        for letter, size in zip(term, value.dims, strict=True)
    )


def _product(view: View, found: _Equation) -> list[Draft]:
    """Rows come from the factor whose row letter is in the result and not in the other factor."""
    values, terms = view.activations, found.factors
    roles, operand = list(layout.natural(view.result.rank)), -1
    for k, (value, other) in enumerate(zip(values, terms[::-1], strict=True)):
        row = value.row_axis
        if operand < 0 and row is not None and terms[k][row] in found.result and terms[k][row] not in other:
            operand, by_letter = k, dict(zip(terms[k], value.roles, strict=True))
            roles = [by_letter.get(letter, "C").replace("W", "C") for letter in found.result]
    if any(
        _batch_lost(value, term, dict(zip(found.result, roles, strict=True))) for value, term in _pairs(view, found)
    ):
        return opaque(view, found.macs)
    left, right = (set(term) for term in terms)
    alone = [math.prod(found.sizes[c] for c in found.result if c not in other) for other in (right, left)]
    attrs: Attributes = {"row_operand": operand, "product": (alone[0], alone[1])}
    return [Draft("matmul", names(values), names(view.results), "".join(roles), attrs, macs=found.macs)]


def _pairs(view: View, found: _Equation) -> list[tuple[Value, str]]:
    return list(zip(view.activations, found.factors, strict=True))


def _batch_lost(value: Value, term: str, roles: dict[str, str]) -> bool:
    """Whether images are mixed: a batch of several that is not the batch of the result."""
    return any(
        role == "N" and size > 1 and roles.get(letter) != "N"
        for letter, role, size in zip(term, value.roles, value.dims, strict=True)
    )


def _with_constant(view: View, found: _Equation, constant: int) -> list[Draft] | None:
    """A linear map: the last letter of the activation is summed over, a letter of the constant comes in its place."""
    term, weights = found.factors[1 - constant], found.factors[constant]
    if term[:-1] != found.result[:-1] or sorted(weights) != sorted({term[-1], found.result[-1]} if term else ""):
        return None
    w = next(iter(view.constants))
    return [linear(view, view.first, w, view.first.roles, found.sizes[term[-1]], found.macs)]


EINSUM_RULES: Final[dict[str, Rule]] = {"Einsum": einsum}
"""ONNX op type -> lowering rule."""
