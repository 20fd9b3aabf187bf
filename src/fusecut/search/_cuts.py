"""Which ops can share a group at all, and the bytes that every plan must move because some cannot."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import pairwise

from fusecut.cost import NEVER_BYTES, BufferFloor, Infeasible
from fusecut.ir import Graph, Group, bits
from fusecut.problem import Problem


class Reach:
    """For each op, the later ops that some group worth having can hold together with it, by the floor.

    Two ops v before w share a group only if their convex closure moves fewer than ``limit_bytes`` again.
    ``floor`` is the model's own unless another one is given. Without a limit all that is feasible counts;
    with the distance between a known plan and a bound of all plans, no plan worse than the known one does.
    """

    def __init__(self, problem: Problem, floor: BufferFloor | None = None, limit_bytes: int = NEVER_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.graph = problem.graph
        self.floor = problem.buffer_floor if floor is None else floor
        self.capacity = problem.capacity_bytes
        self._wider: Reach | None = None
        self._mates: dict[int, Group] = {}
        self._again: dict[int, list[tuple[int, int]]] = {}
        self._needs: dict[int, Group] = {}

    def narrowed(self, problem: Problem, limit_bytes: int) -> Reach:
        """The same with a lower limit, out of what is known here: a closure pays at least what those inside it pay."""
        if limit_bytes > self.limit_bytes:
            raise ValueError(f"what moves {self.limit_bytes} B or more again is not known: {limit_bytes} B is above")
        narrow = Reach(problem, self.floor, limit_bytes)
        narrow._wider = self
        return narrow

    def mates(self, op: int) -> Group:
        """Descendants of ``op`` that can share a group with it. O(descendants within reach)."""
        known = self._mates.get(op)
        if known is None:
            known = self._mates[op] = sum(1 << mate for mate, _ in self._of(op))
        return known

    def _of(self, op: int) -> list[tuple[int, int]]:
        """The mates of an op, each with what their closure moves again at least."""
        known = self._again.get(op)
        if known is None:
            if self._wider is None:
                known = list(self._explore(op))
            else:
                known = [pair for pair in self._wider._of(op) if pair[1] < self.limit_bytes]
            self._again[op] = known
        return known

    def _explore(self, op: int) -> Iterator[tuple[int, int]]:
        """Walk downstream in topological order; closures grow from those of the predecessors."""
        graph, floor = self.graph, self.floor
        start = 1 << op
        closures = {op: (start, floor.extend(0, floor.start, op))}
        near = graph.succs[op]
        while near:
            low = near & -near
            near ^= low
            mate = low.bit_length() - 1
            inside = [p for p in bits(graph.preds[mate]) if p == op or graph.descendants[op] >> p & 1]
            if any(p not in closures for p in inside):
                continue
            closure, mark = max((closures[p] for p in inside), key=lambda c: (c[0].bit_count(), c[0]))
            for p in inside:
                for missing in bits(closures[p][0] & ~closure):
                    closure, mark = closure | 1 << missing, floor.extend(closure, mark, missing)
            mark = floor.extend(closure, mark, mate)
            again = floor.again_bytes(mark, self.capacity)
            if again < self.limit_bytes:
                closures[mate] = (closure | low, mark)
                near |= graph.succs[mate]
                yield mate, again

    def alone(self, op: int) -> bool:
        """Whether the op can share a group with none of its neighbours, so with nobody."""
        return not self.mates(op) and not any(self.mates(p) >> op & 1 for p in bits(self.graph.preds[op]))

    def seeds(self, ideal: Group) -> list[int]:
        """Ready ops from which the next group may be grown without losing every best plan.

        A set U of ready ops is enough when every unexecuted ancestor of an op that can share a
        group with some u in U comes after (or is) an op of U. For take the groups that hold the
        ops of U in any plan: one that waits for something waits, by that condition, for another
        one of them, and as the plan has no cycle, some one of them waits for nothing: it may run
        first. U is grown from each ready op in turn; the smallest is taken, the first on a tie.
        """
        graph = self.graph
        rest = graph.everything & ~ideal
        ready = self.ready(ideal)
        best = ready
        for op in ready if len(ready) > 1 else ():
            chosen = self._closed(op, ready, rest, len(best))
            if chosen is not None and len(chosen) < len(best):
                best = chosen
            if len(best) == 1:
                break
        return best

    def ready(self, ideal: Group) -> list[int]:
        """Ops outside an ideal that wait for nothing. O(ops between its first gap and its end, and those they feed).

        Such an op reads nothing at all, an op before the first gap, or one of the few behind it.
        """
        graph = self.graph
        gap = (~ideal & (ideal + 1)).bit_length() - 1
        near = self._fed[gap]
        for op in bits(ideal >> gap):
            near |= graph.succs[gap + op]
        return [op for op in bits(near & ~ideal) if not graph.preds[op] & ~ideal]

    @cached_property
    def _fed(self) -> list[Group]:
        """For each place in the order of ops, the ops from there on that read nothing, or something made before it."""
        graph = self.graph
        fed = [sum(1 << op for op, preds in enumerate(graph.preds) if not preds)]
        for op in range(len(graph)):
            fed.append((fed[-1] | graph.succs[op]) & ~(1 << op))
        return fed

    def _closed(self, op: int, ready: list[int], rest: Group, limit: int) -> list[int] | None:
        """The smallest sufficient set with ``op``, or None if it is not smaller than ``limit``."""
        descendants = self.graph.descendants
        chosen, covered, todo = [op], descendants[op] | 1 << op, [op]
        while todo:
            missing = self._ancestors_of_mates(todo.pop()) & rest & ~covered
            for other in ready if missing else ():
                reaches = descendants[other] | 1 << other
                if reaches & missing and other not in chosen:
                    chosen.append(other)
                    todo.append(other)
                    covered |= reaches
                    if len(chosen) >= limit:
                        return None
        return sorted(chosen)

    def _ancestors_of_mates(self, op: int) -> Group:
        known = self._needs.get(op)
        if known is None:
            known = 0
            for mate in bits(self.mates(op)):
                known |= self.graph.ancestors[mate] | 1 << mate
            self._needs[op] = known
        return known


class ForcedCuts:
    """Bytes that every plan moves beyond touching the network's weights, inputs and outputs once.

    Three kinds, none counted twice:

    * *Ops that must run alone* (their own floor overflows) cost what the model says they cost:
      ``extra[op]`` bytes above touching each of their tensors once.
    * *Forced tensors*: an op and a reader of its tensor t that cannot share a group. t is written
      and read, 2 |t| (|t| if it is a network output, which is written anyway). Where several
      readers can share a group neither with the maker nor with each other (``apart[t]``), each
      reads it for itself: |t| more for each beyond the first.
    * *Windows*: a stretch of a path whose convex closure overflows lies in no group, so one of the
      tensors along it is cut. The ops are covered by disjoint paths; windows that share no tensor
      add up, and best[k] packs them into path[k:]. Windows with a forced tensor inside count 0.

    ``settled[op]`` is what executing the op takes off the bound, so that the remainder after an
    ideal is a sum over the ops outside it; ``windows[op]`` is the part for windows. It is
    consistent: the group that leads from one ideal to the next holds no whole window and no forced
    pair, and where it ends inside a window it writes a tensor that somebody reads later.
    O(sum of path lengths * closure).
    """

    def __init__(self, problem: Problem, reach: Reach) -> None:
        graph = problem.graph
        self.graph, self.reach = graph, reach
        self.extra = [0] * len(graph)
        self.settled = [0] * len(graph)
        self.windows = [0] * len(graph)
        self.apart = [0] * len(graph.tensors)
        self.total_bytes = 0
        if not problem.touches_once:
            return
        self._forced: set[tuple[int, int]] = set()
        self._alone(problem)
        self._tensors()
        for path in disjoint_paths(graph):
            self._windows(path)
        touched = graph.touch_once_bytes(graph.everything)
        waiting = sum(max(0, a.bit_count() - 1) * graph.tensors[t].nbytes for t, a in enumerate(self.apart))
        self.total_bytes = touched + sum(self.settled) + sum(self.extra) + waiting

    def _alone(self, problem: Problem) -> None:
        graph, floor = self.graph, self.reach.floor
        for i in range(len(graph)):
            mark = floor.extend(0, floor.start, i)
            if floor.again_bytes(mark, problem.capacity_bytes) >= NEVER_BYTES:
                planned = problem.plan(1 << i)
                if not isinstance(planned, Infeasible):
                    self.extra[i] = planned.cost.dram_bytes - graph.touch_once_bytes(1 << i)

    def _tensors(self) -> None:
        graph = self.graph
        for t, readers in enumerate(graph.consumers):
            maker = graph.producer[t]
            cut = [r for r in readers if maker < 0 or not self.reach.mates(maker) >> r & 1]
            if maker >= 0 and cut:
                self._forced.update((maker, r) for r in readers)
                self.settled[maker] += graph.tensors[t].nbytes * (1 if t in graph.output_set else 2)
            apart: list[int] = []
            for r in cut:
                if all(self._never_meet(a, r) for a in apart):
                    apart.append(r)
            if len(apart) > 1:
                self.apart[t] = sum(1 << r for r in apart)

    def _never_meet(self, a: int, b: int) -> bool:
        """Whether no group can hold both of two readers, a before b."""
        if self.graph.descendants[a] >> b & 1:
            return not self.reach.mates(a) >> b & 1
        return self.reach.alone(a) or self.reach.alone(b)

    def _windows(self, path: list[int]) -> None:
        ends = self._window_ends(path)
        cut = [self._cut_bytes(a, b) for a, b in pairwise(path)]
        best = [0] * (len(path) + 1)
        for k in range(len(path) - 1, -1, -1):
            best[k] = best[k + 1]
            if ends[k] < len(path):
                best[k] = max(best[k], min(cut[k : ends[k]]) + best[ends[k]])
        for k, op in enumerate(path):
            self.windows[op] = best[k] - best[k + 1]
            self.settled[op] += self.windows[op]

    def _cut_bytes(self, op: int, successor: int) -> int:
        """Least bytes of separating two ops, beyond what is forced: the tensors between them, out and in."""
        if (op, successor) in self._forced:
            return 0
        graph = self.graph
        return sum(
            graph.tensors[t].nbytes * (1 if t in graph.output_set else 2)
            for t in graph.ops[op].outputs
            if graph.consumer_mask[t] >> successor & 1
        )

    def _window_ends(self, path: list[int]) -> list[int]:
        """For each start the first op on the path that cannot share its group; len(path) if all can."""
        ends: list[int] = []
        for k, op in enumerate(path):
            mates = self.reach.mates(op)
            end = max(k + 1, ends[-1] if ends else 0)
            while end < len(path) and mates >> path[end] & 1:
                end += 1
            ends.append(end)
        return ends


def disjoint_paths(graph: Graph) -> list[list[int]]:
    """Cover all ops by vertex-disjoint paths, each the longest that is left; of equally long ones the first.

    When a path is taken out, lengths change upstream of it only. O((E + lengths that change) log V).
    """
    left, paths = graph.everything, []
    longest: list[tuple[int, int]] = [(0, 0)] * len(graph)
    for op in range(len(graph) - 1, -1, -1):
        longest[op] = _longest_from(graph, op, left, longest)
    queue = [(-steps, op) for op, (steps, _) in enumerate(longest)]
    heapify(queue)
    while left:
        steps, op = heappop(queue)
        if not left >> op & 1 or longest[op][0] != -steps:
            continue
        path = []
        while op >= 0:
            path.append(op)
            left ^= 1 << op
            op = longest[op][1]
        paths.append(path)
        for changed in _shortened(graph, path, left, longest):
            heappush(queue, (-longest[changed][0], changed))
    return paths


def _longest_from(graph: Graph, op: int, left: Group, longest: list[tuple[int, int]]) -> tuple[int, int]:
    """(ops on the longest path from an op on, its next op or -1)."""
    ahead = [(longest[s][0], -s) for s in bits(graph.succs[op] & left)]
    steps, successor = max(ahead, default=(0, 1))
    return steps + 1, -successor


def _shortened(graph: Graph, path: list[int], left: Group, longest: list[tuple[int, int]]) -> Iterator[int]:
    """Ops whose longest path is another one now that a path is gone, last first; ``longest`` is kept right."""
    waiting = 0
    for op in path:
        waiting |= graph.preds[op]
    waiting &= left
    while waiting:
        op = waiting.bit_length() - 1
        waiting ^= 1 << op
        now = _longest_from(graph, op, left, longest)
        if now != longest[op]:
            shorter = now[0] != longest[op][0]
            longest[op] = now
            if shorter:
                yield op
            waiting |= graph.preds[op] & left
