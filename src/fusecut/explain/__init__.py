"""Why a fusion group does not fit the buffer: explainers, and the graph network they look into.

The explainers that learn need the extra ``fusecut[gnn]`` and are imported only when used.
"""

from __future__ import annotations

from fusecut.explain.attribution import Attribution
from fusecut.explain.negated import Negated
from fusecut.explain.protocol import Edge, Explainer, Scores, edges
from fusecut.explain.random import RandomEdges

__all__ = ["Attribution", "Edge", "Explainer", "Negated", "RandomEdges", "Scores", "edges"]
