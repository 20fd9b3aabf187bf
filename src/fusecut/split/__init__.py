"""Splitters: they cut a group that does not fit into groups that do.

``SPLITTERS`` are the names of the command line; in Python pass an instance. Those that learned
(``LEARNED``) need the extra ``fusecut[gnn]``, which is loaded only when one of them is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fusecut.errors import UnknownNameError
from fusecut.explain import Attribution, RandomEdges
from fusecut.problem import Splitter
from fusecut.split.cost_guided import CostGuided
from fusecut.split.explained import Explained
from fusecut.split.random import Random
from fusecut.split.surrogate import Surrogate

__all__ = [
    "LEARNED",
    "SPLITTERS",
    "CostGuided",
    "Explained",
    "Random",
    "Splitter",
    "Surrogate",
    "splitter",
]


def _gnne() -> Splitter:
    from fusecut.explain.gnnexplainer import GNNExplainer

    return Explained(GNNExplainer())


def _pg() -> Splitter:
    from fusecut.explain.pgexplainer import PGExplainer

    return Explained(PGExplainer())


def _rg() -> Splitter:
    from fusecut.explain.rgexplainer import RGExplainer

    return Explained(RGExplainer())


def _occlusion() -> Splitter:
    from fusecut.explain.occlusion import Occlusion

    return Explained(Occlusion())


SPLITTERS: Final[dict[str, Callable[[], Splitter]]] = {
    "random": Random,
    "cost_guided": CostGuided,
    "random_edges": lambda: Explained(RandomEdges()),
    "attribution": lambda: Explained(Attribution()),
    "occlusion": _occlusion,
    "gnne": _gnne,
    "pg": _pg,
    "rg": _rg,
    "surrogate": Surrogate,
}

LEARNED: Final = frozenset({"occlusion", "gnne", "pg", "rg", "surrogate"})


def splitter(name: str) -> Splitter:
    """A splitter with its default settings.

    Raises:
        UnknownNameError: lists the known splitters.
        FusecutError: one that needs the extra gnn, which is not installed.
    """
    if name not in SPLITTERS:
        raise UnknownNameError("splitter", name, SPLITTERS)
    if name in LEARNED:
        from fusecut.explain.weights_file import require_gnn

        require_gnn()
    return SPLITTERS[name]()
