"""Lowering of recurrent layers: what they multiply and how their results lie; when each row comes is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fusecut.frontend.view import Draft, Rule, View, opaque

_ROLES: Final[dict[tuple[int, int], str]] = {(0, 4): "HCNC", (0, 3): "CNC", (1, 4): "NHCC", (1, 3): "NCC"}
"""Roles of a result by layout and rank: every step, or the last state, for each direction."""


def recurrent(view: View) -> list[Draft]:
    """LSTM, GRU, RNN: a barrier. MACs = steps * images * elements of both weight matrices of all directions.

    Operands are (steps, images, features), or with ``layout=1`` (images, steps, features); rows of the result are
    its steps. Where the operand's axes are known to be others, so are those of the result; where images are no
    longer told apart in it, they are not in the result.
    """
    x, w, r = (view.operand(k) for k in range(3))
    if x is None or w is None or r is None or x.constant or x.rank != 3:
        return opaque(view)
    layout = int(view.attr("layout", 0))
    drafts = opaque(view, x.dims[0] * x.dims[1] * (w.elements + r.elements))
    ranks = {v.name: v.rank for v in view.results}
    images = x.dims[1 - layout]
    found = {}
    if x.roles[1 - layout] == "N" or x.batch == images:
        found = _ROLES
    elif x.batch == 1:
        found = {key: roles.replace("N", "C") for key, roles in _ROLES.items()}
    return [
        replace(d, roles=found.get((layout, ranks[d.outputs[0]]), d.roles), attrs={"barrier": True}) for d in drafts
    ]


RECURRENT_RULES: Final[dict[str, Rule]] = dict.fromkeys(("GRU", "LSTM", "RNN"), recurrent)
"""ONNX op type -> lowering rule."""
