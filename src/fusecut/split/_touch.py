"""What cuts cost and fusion saves as far as shapes tell, without asking the cost model."""

from __future__ import annotations

from fusecut.bonds import Bond
from fusecut.ir import Graph, Group, bits


def touched(graph: Graph, bond: Bond) -> int:
    """Touch-once bytes of both halves."""
    return graph.touch_once_bytes(bond[0]) + graph.touch_once_bytes(bond[1])


def saved(graph: Graph, group: Group) -> int:
    """Touch-once bytes of the ops one by one, less those of the group."""
    return sum(graph.touch_once_bytes(1 << i) for i in bits(group)) - graph.touch_once_bytes(group)
