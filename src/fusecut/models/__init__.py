"""Execution models: how a group runs, and what that costs.

``SCHEMES`` are the names of the command line; in Python pass an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fusecut.cost import CostModel
from fusecut.errors import UnknownNameError
from fusecut.models.compose import Cheapest, WithFallback
from fusecut.models.layerwise import Layerwise
from fusecut.models.lbdf import LineBuffer

__all__ = ["SCHEMES", "Cheapest", "Layerwise", "LineBuffer", "WithFallback", "scheme_model"]

SCHEMES: Final[dict[str, Callable[[LineBuffer], CostModel]]] = {
    "lbdf": lambda lines: WithFallback(lines, Layerwise()),
    "layerwise": lambda lines: Layerwise(),
    "mixed": lambda lines: Cheapest((lines,), Layerwise()),
}
"""Scheme by name, made from the line-buffer switches in force."""


def scheme_model(name: str, lines: LineBuffer | None = None) -> CostModel:
    """The cost model of a scheme.

    Without ``lines``, ``mixed`` lets squeeze-excite groups stream twice, and the others run the
    line buffer with all switches off.

    Raises:
        UnknownNameError: lists the known schemes.
    """
    if name not in SCHEMES:
        raise UnknownNameError("scheme", name, SCHEMES)
    if lines is None:
        lines = LineBuffer(squeeze_excite="two_pass" if name == "mixed" else "full")
    return SCHEMES[name](lines)
