"""Forced cuts: bytes that every plan moves because some stretch of ops cannot fit the buffer."""

from __future__ import annotations

from fusecut.ir import Graph, bits
from fusecut.problem import Problem


def forced_cuts(problem: Problem) -> list[int]:
    """Bytes of forced cuts that executing each op settles; their sum is a lower bound.

    Ops are covered by disjoint paths. A *window* of a path whose convex closure overflows the
    buffer even by its floor lies in no feasible group, so one of the tensors along it is written
    and read: 2 |t| bytes, or |t| for a network output, which is written anyway. Windows that share
    no tensor add up; best[k] packs them into path[k:]. An op in position k settles
    best[k] - best[k+1], so what remains after any ideal is the sum over the ops outside it.

    That remainder is consistent: a group that leads from one ideal to the next holds no whole
    window, so along each path it settles at most one window's bytes, and when that window is only
    begun, the tensor at the boundary is written by the group and read after it.
    O(sum over paths of length * closure).
    """
    settled = [0] * len(problem.graph)
    for path in disjoint_paths(problem.graph):
        best = _packing(problem, path)
        for k, op in enumerate(path):
            settled[op] = best[k] - best[k + 1]
    return settled


def _packing(problem: Problem, path: list[int]) -> list[int]:
    """best[k]: bytes forced by windows within path[k:], packed best."""
    graph = problem.graph
    ends = _window_ends(problem, path)
    cut = [_cut_bytes(graph, a, b) for a, b in zip(path, path[1:], strict=False)]
    best = [0] * (len(path) + 1)
    for k in range(len(path) - 1, -1, -1):
        best[k] = best[k + 1]
        if ends[k] < len(path):
            best[k] = max(best[k], min(cut[k : ends[k]]) + best[ends[k]])
    return best


def _cut_bytes(graph: Graph, op: int, successor: int) -> int:
    """Least bytes of separating two ops: the tensors from one to the other, out and in again."""
    return sum(
        graph.tensors[t].nbytes * (1 if t in graph.output_set else 2)
        for t in graph.ops[op].outputs
        if graph.consumer_mask[t] >> successor & 1
    )


def _window_ends(problem: Problem, path: list[int]) -> list[int]:
    """For each start the first end whose closure overflows the buffer; len(path) if none does."""
    ends = []
    end = 0
    for k in range(len(path)):
        end = max(end, k + 1)
        while end < len(path) and not _overflows(problem, path[k], path[end]):
            end += 1
        ends.append(end)
    return ends


def _overflows(problem: Problem, first: int, last: int) -> bool:
    graph, floor = problem.graph, problem.buffer_floor
    closure = graph.descendants[first] & graph.ancestors[last] | 1 << first | 1 << last
    nbytes, done = floor.start, 0
    for op in bits(closure):
        nbytes, done = floor.extend(done, nbytes, op), done | 1 << op
        if nbytes > problem.capacity_bytes:
            return True
    return False


def disjoint_paths(graph: Graph) -> list[list[int]]:
    """Cover all ops by vertex-disjoint paths, each the longest that is left. O(paths * E)."""
    left, paths = graph.everything, []
    while left:
        longest: dict[int, tuple[int, int]] = {}
        for op in sorted(bits(left), reverse=True):
            ahead = [(longest[s][0], -s) for s in bits(graph.succs[op] & left)]
            steps, successor = max(ahead, default=(0, 1))
            longest[op] = (steps + 1, -successor)
        op = max(longest, key=lambda i: (longest[i][0], -i))
        path = []
        while op >= 0:
            path.append(op)
            left ^= 1 << op
            op = longest[op][1]
        paths.append(path)
    return paths
