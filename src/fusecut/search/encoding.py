"""How the heuristic searchers see plans: random plans, one-edit steps, and crossing two plans.

A plan is encoded as its groups in a runnable order, which is what :class:`Partition` keeps. The
alternative, a bit for each edge (cut or not), has many words for one plan, most of them cyclic or
not closed (a cut edge inside a connected group means nothing), and needs a repair that changes what
a mutation meant. Here every operator keeps the groups connected and the graph of groups acyclic,
hence every group convex, by construction; nothing is ever rejected.

**Random plans.** Draw a cut rate c uniformly from (0, 1). Draw an order of all ops
(:func:`fusecut.bonds.random_order`: random priorities, the ready op with the least goes next). Cut
between each two neighbours in that order independently with probability c. The connected parts of
the stretches are the groups: edges between stretches lead forward, parts of one stretch share none,
so the result is acyclic. Every valid plan has positive probability: its runnable order, written op
by op, is such an order. Given c, a plan with groups G1..Gk (as a set) has the probability

    P(plan | c) = sum over orders o and cut sets X that yield it of P(o) c^|X| (1 - c)^(V - 1 - |X|)

and a chain of V ops, which has one order, gets each plan of k groups with probability
(k - 1)! (V - k)! / V!: the number of groups is uniform over 1..V.

**One edit**, each kind with probability 1/3 where it applies (:func:`mutated`):

* *split*: a uniformly drawn group of two ops or more is cut at a random directed bond.
* *merge*: of the pairs of neighbouring groups (one reads from the other) one is drawn uniformly; the
  two become one, together with the m groups on paths between them (else they would wait for each
  other). A pair is kept with probability 2^-m, else another one is drawn: most neighbours in a
  densely connected network are far apart, and what lies between is mostly too much for a buffer.
* *move*: such a pair is drawn in the same way, and uniformly an edge u -> v between its groups and
  one of its ends. u leaves for the group of v with everything in its own group that depends on it
  (usually nothing), or v for the group of u with everything in its group that it depends on; parts
  that fall off stay as groups.

Merge and split lead from any plan to any other, so every plan is reachable.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from fusecut.bonds import components, random_bond, random_order
from fusecut.cost import Infeasible
from fusecut.ir import Graph, Group, bits
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._cuts import ForcedCuts, Reach

Score = tuple[int, int, int]
"""(groups that cannot run, score of the others, largest buffer): less is better, in this order.

The score is DRAM bytes unless the problem has another objective."""


def random_plan(graph: Graph, rng: Generator) -> Partition:
    """A plan drawn as the module says. O(V log V + groups^2)."""
    order = random_order(graph, graph.everything, rng)
    cut = rng.random(len(order) - 1) < rng.random()
    groups, stretch = [], 0
    for position, op in enumerate(order):
        stretch |= 1 << op
        if position == len(order) - 1 or cut[position]:
            groups += components(graph, stretch)
            stretch = 0
    return Partition(graph, groups)


def mutated(graph: Graph, plan: Partition, rng: Generator) -> Partition:
    """The plan after one random edit; the plan itself for a graph of one op. O(V + E + groups^2)."""
    wide = [group for group in plan.groups if group & (group - 1)]
    joined = any(plan.needs.values())
    kinds = [*(["split"] if wide else []), *(["merge", "move"] if joined else [])]
    if not kinds:
        return plan
    kind = kinds[int(rng.integers(len(kinds)))]
    if kind == "split":
        group = wide[int(rng.integers(len(wide)))]
        return Partition(graph, _replaced(plan.groups, group, random_bond(graph, group, rng)), plan)
    first, second = _neighbours(graph, plan, rng)
    edges = [(u, v) for v in bits(second) for u in bits(graph.preds[v] & first)]
    u, v = edges[int(rng.integers(len(edges)))]
    if kind == "move":
        return Partition(graph, _moved(graph, plan.groups, u, v, forward=bool(rng.integers(2))), plan)
    return Partition(graph, merged(graph, plan.groups, u, v), plan)


def crossed(graph: Graph, first: Partition, second: Partition, rng: Generator) -> Partition:
    """One plan from two: a random prefix of the first one's groups, the rest cut as in the second.

    A prefix of a runnable order is a down-set D of the graph. Edges lead from D outwards only, and
    the second plan's groups without D, taken apart into connected parts, keep their order: the
    result is valid. The prefix has 0 to all groups, uniformly. O(groups + V).
    """
    kept = list(first.groups[: int(rng.integers(len(first) + 1))])
    done = sum(kept)
    rest = [part for group in second.groups for part in components(graph, group & ~done)]
    return Partition(graph, [*kept, *rest], first)


def merged(graph: Graph, groups: Sequence[Group], u: int, v: int) -> list[Group]:
    """The groups of u and v as one, with every group on a path between them; in runnable order.

    ``groups`` are in runnable order and u -> v is an edge between two of them. O(groups + V).
    """
    first = next(k for k, group in enumerate(groups) if group >> u & 1)
    last = next(k for k in range(first + 1, len(groups)) if groups[k] >> v & 1)
    between = groups[first + 1 : last]
    reached, after = groups[first], []
    for group in between:
        if _preds(graph, group) & reached:
            reached |= group
            after.append(group)
    needed, union = _preds(graph, groups[last]), groups[first] | groups[last]
    for group in reversed(after):
        if group & needed:
            needed |= _preds(graph, group)
            union |= group
    before = [group for group in between if not group & reached]
    after = [group for group in after if not group & union]
    return [*groups[:first], *before, union, *after, *groups[last + 1 :]]


def score(problem: Problem, plan: Partition) -> Score:
    """How good a plan is; only groups never met before are priced."""
    unfit = rank = buffer = 0
    for group in plan.groups:
        planned = problem.plan(group)
        if isinstance(planned, Infeasible):
            unfit += 1
        else:
            rank += problem.rank_of(group, planned.cost)
            buffer = max(buffer, planned.cost.buffer_bytes)
    return unfit, problem.prices.score(rank), buffer


def root_bound(problem: Problem) -> int:
    """What every plan scores at least, from shapes and forced cuts: the bound where an exact search starts."""
    forced = ForcedCuts(problem, Reach(problem)).total_bytes
    return problem.prices.score(problem.prices.rank(problem.graph.everything, forced))


def _moved(graph: Graph, groups: Sequence[Group], u: int, v: int, forward: bool) -> list[Group]:
    """Cut off u with its dependents, or v with what it depends on, and merge it across u -> v."""
    op, relatives = (u, graph.descendants[u]) if forward else (v, graph.ancestors[v])
    home = next(group for group in groups if group >> op & 1)
    part = home & (relatives | 1 << op)
    rest = components(graph, home & ~part)
    return merged(graph, _replaced(groups, home, [*rest, part] if forward else [part, *rest]), u, v)


def _replaced(groups: Sequence[Group], group: Group, parts: Sequence[Group]) -> list[Group]:
    place = groups.index(group)
    return [*groups[:place], *parts, *groups[place + 1 :]]


def _neighbours(graph: Graph, plan: Partition, rng: Generator) -> tuple[Group, Group]:
    """Two groups, the second of which reads from the first, drawn as the module says.

    Ends, since some pair has no group between: two that follow each other on a longest path of groups.
    O(V + E), and O(groups) for each pair that is drawn.
    """
    before = _before(graph, plan)
    pairs = [(k, j) for j, (direct, _) in enumerate(before) for k in direct]
    while True:
        k, j = pairs[int(rng.integers(len(pairs)))]
        first, reached = plan.groups[k], before[j][1]
        between = sum(1 for i in range(k + 1, j) if plan.groups[i] & reached and first & before[i][1])
        if not between or rng.random() < 0.5**between:
            return first, plan.groups[j]


def _before(graph: Graph, plan: Partition) -> list[tuple[list[int], Group]]:
    """For each group those that it reads from, by place, and the ops of all that it waits for."""
    place = [0] * len(graph)
    for k, group in enumerate(plan.groups):
        for i in bits(group):
            place[i] = k
    found: list[tuple[list[int], Group]] = []
    for group in plan.groups:
        direct, waits, needed = [], 0, plan.needs[group]
        while needed:
            k = place[(needed & -needed).bit_length() - 1]
            direct.append(k)
            needed &= ~plan.groups[k]
            waits |= plan.groups[k] | found[k][1]
        found.append((direct, waits))
    return found


def _preds(graph: Graph, group: Group) -> Group:
    mask = 0
    for i in bits(group):
        mask |= graph.preds[i]
    return mask & ~group
