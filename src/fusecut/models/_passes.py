"""Streaming a group more than once: what each pass runs when global reductions rejoin the stream.

A reduction *rejoins* when something that depends on it also reads a map that does not (squeeze-
excite: the scaling reads the depthwise map and the vector made of it). Held in one pass, the whole
map waits for the vector. Instead one pass may run just what leads to the reduction and drop the
rows, and the next pass stream the inputs again with the vector at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

from fusecut.ir import Graph, Group, bits
from fusecut.models._program import Pass
from fusecut.ops import ROWS, axis_map


def passes_of(graph: Graph, group: Group) -> tuple[Pass, ...]:
    """The passes of a group, or nothing when no reduction in it rejoins the stream.

    With reductions in series there is one pass per level and a last one. O(V^2 / wordsize).
    """
    levels = _levels(graph, group)
    if not levels:
        return ()
    runs: list[Group] = []
    known = 0
    for ends in levels:
        wanted = ends
        for r in bits(ends):
            wanted |= graph.ancestors[r] & group
        after = _vectors(graph, group, known | ends, wanted)
        runs.append((wanted | after) & ~known)
        known = after
    runs.append(_needed(graph, group, group & ~known))
    return tuple(_pass(graph, group, runs, i, known) for i in range(len(runs)))


def _pass(graph: Graph, group: Group, runs: list[Group], at: int, known: Group) -> Pass:
    """One of the passes; ``known`` are the vectors that all but the last hand over."""
    run, later = runs[at], sum_masks(runs[at + 1 :])
    leaving = _made_known(graph, group, run, known, later) if later else _leaving(graph, group, run)
    before = _vectors_of(graph, sum_masks(runs[:at]) & known)
    carried = tuple(t for t in before if graph.consumer_mask[t] & run)
    made = _vectors_of(graph, sum_masks(runs[: at + 1]) & known)
    kept = tuple(t for t in made if graph.consumer_mask[t] & later)
    return Pass(run, leaving, _waiting(graph, kept, run, before), carried, kept)


def _vectors_of(graph: Graph, ops: Group) -> list[int]:
    return [t for i in bits(ops) for t in graph.ops[i].outputs]


def _levels(graph: Graph, group: Group) -> list[Group]:
    """Rejoining reductions by how many of them lie before one another."""
    level: dict[int, int] = {}
    for i in bits(rejoining(graph, group)):
        level[i] = 1 + max((n for j, n in level.items() if graph.ancestors[i] >> j & 1), default=-1)
    return [sum(1 << i for i in level if level[i] == n) for n in range(max(level.values(), default=-1) + 1)]


def _reduces(graph: Graph, index: int) -> bool:
    op = graph.ops[index]
    return any(axis_map(graph, op, k, ROWS).reduces for k in range(len(op.inputs)))


def _rejoins(graph: Graph, group: Group, reduction: int) -> bool:
    after = graph.descendants[reduction] & group
    inside = after | 1 << reduction
    for i in bits(after):
        for t in graph.ops[i].inputs:
            maker = graph.producer[t]
            if graph.tensors[t].rows > 1 and (maker < 0 or not inside >> maker & 1):
                return True
    return False


def rejoining(graph: Graph, group: Group) -> Group:
    """The reductions of a group that rejoin the stream inside it."""
    return sum(1 << i for i in bits(group) if _reduces(graph, i) and _rejoins(graph, group, i))


def certain_readers(graph: Graph) -> Group:
    """Ops that run in the last pass of any group they are in.

    Such an op makes a map and reaches a network output on a path without a rejoining reduction:
    inside any group that path stays in the last pass until it leaves the group.
    """
    ignored = rejoining(graph, graph.everything)
    certain = reaching = 0
    for i in range(len(graph.ops) - 1, -1, -1):
        op = graph.ops[i]
        ends = any(t in graph.output_set or not graph.consumers[t] for t in op.outputs)
        if (ends or graph.succs[i] & reaching) and not ignored >> i & 1:
            reaching |= 1 << i
            certain |= (1 << i) * (graph.tensors[op.outputs[0]].rows > 1)
    return certain


def _vectors(graph: Graph, group: Group, known: Group, wanted: Group) -> Group:
    """``known`` and every one-row op of the group that needs nothing else.

    An op that the pass runs anyway (``wanted``) may read one-row tensors from outside the group too: what it
    makes is kept, so that no later pass makes it again.
    """
    for i in bits(group & ~known):
        op = graph.ops[i]
        if graph.tensors[op.outputs[0]].rows == 1 and all(
            _is_known(graph, group, t, known, bool(wanted >> i & 1)) for t in op.inputs
        ):
            known |= 1 << i
    return known


def _is_known(graph: Graph, group: Group, tensor: int, known: Group, may_load: bool) -> bool:
    maker = graph.producer[tensor]
    if maker >= 0 and group >> maker & 1:
        return bool(known >> maker & 1)
    return may_load and graph.tensors[tensor].rows == 1


def _made_known(graph: Graph, group: Group, run: Group, known: Group, later: Group) -> Group:
    """Vectors of a pass that later passes, or something outside the group, want."""
    return sum(
        1 << i
        for i in bits(run & known)
        if any(graph.leaves(t, group) or graph.consumer_mask[t] & later for t in graph.ops[i].outputs)
    )


def _leaving(graph: Graph, group: Group, run: Group) -> Group:
    return sum(1 << i for i in bits(run) if any(graph.leaves(t, group) for t in graph.ops[i].outputs))


def _needed(graph: Graph, group: Group, run: Group) -> Group:
    """Ops of the last pass that lead to something that leaves the group."""
    leaving = _leaving(graph, group, run)
    needed = leaving
    for i in bits(leaving):
        needed |= graph.ancestors[i] & run
    return needed


def _waiting(graph: Graph, kept: Sequence[int], run: Group, before: Sequence[int]) -> int:
    """Bytes of vectors made before a pass and read after it but not in it."""
    through = [graph.tensors[t] for t in kept if t in before and not graph.consumer_mask[t] & run]
    return sum(t.nbytes // t.batch for t in through)


def sum_masks(masks: list[Group]) -> Group:
    """The union of groups."""
    union = 0
    for mask in masks:
        union |= mask
    return union
