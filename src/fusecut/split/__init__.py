"""Splitters: they cut a group that does not fit into groups that do.

``SPLITTERS`` are the names of the command line; in Python pass an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fusecut.errors import UnknownNameError
from fusecut.problem import Splitter
from fusecut.split.cost_guided import CostGuided
from fusecut.split.random import Random

__all__ = ["SPLITTERS", "CostGuided", "Random", "Splitter", "splitter"]

SPLITTERS: Final[dict[str, Callable[[], Splitter]]] = {"random": Random, "cost_guided": CostGuided}


def splitter(name: str) -> Splitter:
    """A splitter with its default settings.

    Raises:
        UnknownNameError: lists the known splitters.
    """
    if name not in SPLITTERS:
        raise UnknownNameError("splitter", name, SPLITTERS)
    return SPLITTERS[name]()
