"""A plan's groups: disjoint, covering, connected, convex, with an acyclic quotient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fusecut.errors import PartitionError, instead_of
from fusecut.ir import Graph, Group, bits


@dataclass(frozen=True)
class Partition:
    """Groups that cover a graph, kept in a runnable order.

    Whatever order the groups come in, they are stored in one canonical order: of the groups whose
    inputs are ready, the one with the smallest op index comes first. O(groups^2 + V).

    ``needs`` gives for each group the ops outside it that it reads from. ``like`` is a plan of the same
    graph: groups that it has, too, are sound and not looked into again, so a plan that differs from
    it in a few groups costs O(groups + ops of the new groups) where the order hardly changes.

    Raises:
        PartitionError: empty, overlapping, incomplete, disconnected or non-convex groups, or
            groups that wait for each other. The message names the ops.
    """

    graph: Graph
    groups: tuple[Group, ...]
    needs: Mapping[Group, Group] = field(init=False, repr=False, compare=False)

    def __init__(self, graph: Graph, groups: Iterable[Group], like: Partition | None = None) -> None:
        known = like.needs if like is not None and like.graph is graph else {}
        needs = _checked(graph, list(groups), known)
        object.__setattr__(self, "graph", graph)
        object.__setattr__(self, "needs", needs)
        object.__setattr__(self, "groups", _runnable(graph, needs))

    @classmethod
    def singletons(cls, graph: Graph) -> Partition:
        """Every op a group of its own: no fusion."""
        return cls(graph, (1 << i for i in range(len(graph))))

    @classmethod
    def of_names(cls, graph: Graph, groups: Iterable[Iterable[str]]) -> Partition:
        """A partition from op names; the names of folded nodes are understood.

        Raises:
            PartitionError: an unknown name, or one folded op's nodes spread over two groups.
        """
        return cls(graph, [_group_of_names(graph, list(names)) for names in groups])

    def __len__(self) -> int:
        return len(self.groups)

    def names(self) -> list[list[str]]:
        """Op names as in the file, folded nodes included, group by group."""
        return [[m for i in bits(g) for m in self.graph.ops[i].members] for g in self.groups]


def _group_of_names(graph: Graph, names: list[str]) -> Group:
    group = 0
    for name in names:
        if name not in graph.op_index:
            raise PartitionError(f"{graph.name!r} has no op named {name!r}")
        group |= 1 << graph.op_index[name]
    return group


def _label(graph: Graph, group: Group) -> str:
    names = [graph.ops[i].name for i in bits(group)]
    return names[0] if len(names) == 1 else f"{names[0]}..{names[-1]} ({len(names)} ops)"


def _checked(graph: Graph, groups: list[Group], known: Mapping[Group, Group]) -> dict[Group, Group]:
    """What each group needs from outside; ``known`` groups are sound."""
    seen, needs = 0, {}
    for group in groups:
        if not isinstance(group, int):
            found = instead_of("a number whose bits are ops", group)
            raise PartitionError(f"a group is none: {found}; Partition.of_names takes names")
        if group <= 0 or group & ~graph.everything:
            raise PartitionError(f"a group is empty or names ops that {graph.name!r} does not have")
        if group & seen:
            raise PartitionError(f"op {_label(graph, group & seen & -(group & seen))} is in two groups")
        needs[group] = known[group] if group in known else _sound(graph, group)
        seen |= group
    if seen != graph.everything:
        raise PartitionError(f"no group holds op {_label(graph, ~seen & graph.everything)}")
    return needs


def _sound(graph: Graph, group: Group) -> Group:
    """The ops outside a group that it reads from, once it is sure that the group is connected and convex."""
    if not graph.is_connected(group):
        raise PartitionError(f"group {_label(graph, group)} is not connected: make it one group per part")
    if not graph.is_convex(group):
        raise PartitionError(f"group {_label(graph, group)} is not convex: a path leaves it and comes back")
    return _outside_preds(graph, group)


def _runnable(graph: Graph, needs: Mapping[Group, Group]) -> tuple[Group, ...]:
    """Groups by first op; one that has to wait goes as soon as it can, before all that come later."""
    done = 0
    order: list[Group] = []
    waiting: list[Group] = []
    for group in sorted(needs, key=lambda g: g & -g):
        ready: Group | None = group
        if needs[group] & ~done:
            waiting.append(group)
            continue
        while ready is not None:
            order.append(ready)
            done |= ready
            ready = next((g for g in waiting if not needs[g] & ~done), None) if waiting else None
            if ready is not None:
                waiting.remove(ready)
    if waiting:
        raise PartitionError(f"groups wait for each other: {_label(graph, waiting[0])} can never start")
    return tuple(order)


def _outside_preds(graph: Graph, group: Group) -> int:
    mask = 0
    for i in bits(group):
        mask |= graph.preds[i]
    return mask & ~group
