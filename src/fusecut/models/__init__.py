"""Execution models: how a group runs, and what that costs.

``SCHEMES`` are the names of the command line; in Python pass an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fusecut.cost import CostModel
from fusecut.errors import UnknownNameError
from fusecut.models.blackbox import BlackBox, ExternalCommand
from fusecut.models.brr import Brr
from fusecut.models.compose import Cheapest, WithFallback, never_rising
from fusecut.models.layerwise import Layerwise
from fusecut.models.lbdf import LineBuffer

__all__ = [
    "SCHEMES",
    "BlackBox",
    "Brr",
    "Cheapest",
    "ExternalCommand",
    "Layerwise",
    "LineBuffer",
    "WithFallback",
    "default_lines",
    "never_rising",
    "scheme_model",
]

SCHEMES: Final[dict[str, Callable[[LineBuffer], CostModel]]] = {
    "lbdf": lambda lines: WithFallback(lines, Layerwise()),
    "layerwise": lambda lines: Layerwise(),
    "brr": lambda lines: WithFallback(Brr(lines), Layerwise()),
    "mixed": lambda lines: Cheapest((Brr(lines),), Layerwise()),
}
"""Scheme by name, made from the line-buffer switches in force."""


def default_lines(scheme: str) -> LineBuffer:
    """The line buffer a scheme uses unless told otherwise: ``mixed`` may stream squeeze-excite groups twice."""
    return LineBuffer(squeeze_excite="two_pass" if scheme == "mixed" else "full")


def scheme_model(name: str, lines: LineBuffer | None = None) -> CostModel:
    """The cost model of a scheme, with the line buffer given or :func:`default_lines`.

    Raises:
        UnknownNameError: lists the known schemes.
    """
    if name not in SCHEMES:
        raise UnknownNameError("scheme", name, SCHEMES)
    return SCHEMES[name](lines if lines is not None else default_lines(name))
