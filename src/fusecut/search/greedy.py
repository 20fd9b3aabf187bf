"""Greedy plans: what a compiler does in one pass, and the best merge again and again."""

from __future__ import annotations

from collections.abc import Generator as Coroutine
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from numpy.random import Generator

from fusecut.ir import Graph, Group, bits
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search.encoding import merged, root_bound
from fusecut.search.protocol import Proposal

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Greedy:
    """No fusion, two plans, and the end; no randomness, no splitter needed.

    *First fit*: ops in topological order; each joins the group of the predecessor from which it
    reads most bytes if the result (with every group in between) fits and costs no more than the two
    apart, else it starts a group. V evaluations at most. What a compiler does in one pass.

    *Best merge*: from single ops, the merge of two neighbouring groups (with every group in
    between) that saves most is made, until none saves any; ties by the first edge. Every plan
    on the way is proposed. Savings are of ranks: bytes, unless the problem has another objective. At
    most V - 1 merges of O(E) prices, few of them new each time.
    """

    name = "greedy"

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """No fusion, first fit, then every plan on the way of the best merges."""
        graph = problem.graph
        plan = Partition.singletons(graph)
        yield Proposal(plan, root_bound(problem))
        yield Proposal(Partition(graph, (yield from first_fit(problem))))
        while (better := (yield from _best_merge(problem, plan.groups))) is not None:
            plan = Partition(graph, better, plan)
            yield Proposal(plan)


_Steps = Coroutine[Proposal, None, _Result]
"""Stoppable after every question to the cost model."""


def first_fit(problem: Problem, last: int | None = None) -> _Steps[list[Group]]:
    """Groups of the first plan of :class:`Greedy`, a question at a time, until ``last`` evaluations are spent."""
    graph = problem.graph
    groups = [1 << i for i in range(len(graph))]
    for v in range(len(graph)):
        if last is not None and problem.evaluations >= last:
            break
        for u in sorted(bits(graph.preds[v]), key=lambda u: (-_read_bytes(graph, u, v), u)):
            if any(group >> u & 1 and group >> v & 1 for group in groups):
                break
            after = merged(graph, groups, u, v)
            fits = _saving(problem, groups, after) >= 0
            yield Proposal(None)
            if fits:
                groups = after
                break
    return groups


def climb(problem: Problem, groups: Sequence[Group], last: int | None = None) -> _Steps[list[Group]]:
    """A plan made better by the best merge of two neighbouring groups, again and again.

    Until none saves anything or ``last`` evaluations are spent. O(groups) merges of O(E) prices, few of them new
    each time.
    """
    while last is None or problem.evaluations < last:
        better = yield from _best_merge(problem, groups)
        if better is None:
            break
        groups = better
    return list(groups)


def _best_merge(problem: Problem, groups: Sequence[Group]) -> _Steps[list[Group] | None]:
    """The groups after the merge that saves most; None if none saves anything."""
    graph, best, most = problem.graph, None, 0
    for group in groups:
        for u in bits(group):
            for v in bits(graph.succs[u] & ~group):
                after = merged(graph, groups, u, v)
                saving = _saving(problem, groups, after)
                yield Proposal(None)
                if saving > most:
                    best, most = after, saving
    return best


def _saving(problem: Problem, before: Sequence[Group], after: Sequence[Group]) -> int:
    """Rank that the only new group saves over those it replaces; -1 if it cannot run."""
    (new,) = set(after).difference(before)
    rank = problem.rank(new)
    if rank is None:
        return -1
    old = [problem.rank(group) for group in before if group & new]
    return 0 if None in old else sum(r for r in old if r is not None) - rank


def _read_bytes(graph: Graph, u: int, v: int) -> int:
    return sum(graph.tensors[t].nbytes for t in set(graph.ops[u].outputs) & set(graph.ops[v].inputs))
