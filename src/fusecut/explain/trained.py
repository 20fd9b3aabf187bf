"""The trained networks that come with fusecut, by what they speak for. Loads torch only when asked for one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from fusecut.errors import WeightsError
from fusecut.explain.weights_file import BUNDLED, require_gnn
from fusecut.problem import Problem

if TYPE_CHECKING:
    from fusecut.explain.gnn import ValidityModel

SCHEME_NETWORKS: Final = {"lbdf": "lbdf", "brr": "brr", "mixed": "brr"}
"""Which bundled network speaks for which cost model: ``mixed`` fuses as BRR does."""


@cache
def bundled(scheme: str) -> ValidityModel:
    """The validity network for a scheme ("lbdf", "brr") that comes with fusecut; read once.

    Raises:
        WeightsError: there is none for this scheme, or its file is damaged.
        FusecutError: the extra gnn is not installed.
    """
    require_gnn()
    from fusecut.explain.gnn import ValidityModel

    file = BUNDLED / f"validity_{scheme}.safetensors"
    if not file.is_file():
        raise WeightsError(f"no validity network for {scheme!r} comes with fusecut: train one (fusecut train validity)")
    return ValidityModel.load(file, scheme)


def scheme_of(problem: Problem) -> str:
    """The scheme whose trained networks speak for the cost model of a problem.

    Raises:
        WeightsError: none do; give an explainer networks of your own.
    """
    name = problem.model.name
    if name not in SCHEME_NETWORKS:
        raise WeightsError(
            f"no validity network speaks for cost model {name!r}, only for {', '.join(SCHEME_NETWORKS)}: "
            "train one and pass it as model=, or explain by attribution or random"
        )
    return SCHEME_NETWORKS[name]


def model_for(problem: Problem) -> ValidityModel:
    """The bundled validity network that speaks for the cost model of a problem; errors as above."""
    return bundled(scheme_of(problem))
