"""The tests that a cost model of your own should pass, with the simulator as judge.

Subclass :class:`CostModelContract` in your tests, say which model, and pytest collects the suite::

    class TestMyModel(CostModelContract):
        def model(self) -> CostModel:
            return MyModel()

Schedules of a scheme that the simulator can execute are executed; those of another are only checked
for what every scheme must keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import ClassVar

import numpy as np

from fusecut.cost import CostModel, Dearer, Infeasible, Planned, planned_within
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.simulate.execution import SCHEMES, execute
from fusecut.testing.nets import random_graph


class CostModelContract:
    """What every cost model promises, on random networks. Attributes set how hard it is tried."""

    networks: ClassVar[int] = 12
    groups: ClassVar[int] = 8
    capacities: ClassVar[tuple[int, ...]] = (80, 200, 600, 100_000)

    def model(self) -> CostModel:
        """The model under test; a new instance each time."""
        raise NotImplementedError("return your cost model here")

    def _cases(self) -> Iterator[tuple[Graph, Group]]:
        for seed in range(self.networks):
            rng = np.random.default_rng(seed)
            graph = random_graph(rng, int(rng.integers(3, 10)), rows=10)
            yield from ((graph, 1 << i) for i in range(len(graph)))
            yield from ((graph, g) for g in _grown(graph, rng, self.groups))

    def _plans(self) -> Iterator[tuple[Graph, Machine, Planned]]:
        model = self.model()
        for graph, group in self._cases():
            for capacity in self.capacities:
                machine = Machine(capacity)
                planned = model.plan(graph, group, machine)
                if isinstance(planned, Planned):
                    yield graph, machine, planned

    def test_a_plan_fits_the_buffer(self) -> None:
        for _, machine, planned in self._plans():
            claim(planned.cost.buffer_bytes <= machine.buffer_bytes, f"{planned.cost.buffer_bytes:,} B held")

    def test_the_same_question_has_the_same_answer(self) -> None:
        one, other = self.model(), self.model()
        for graph, group in self._cases():
            machine = Machine(self.capacities[-1])
            first = one.plan(graph, group, machine)
            claim(first == one.plan(graph, group, machine) == other.plan(graph, group, machine))

    def test_a_refusal_says_why(self) -> None:
        model = self.model()
        for graph, group in self._cases():
            planned = model.plan(graph, group, Machine(1))
            claim(isinstance(planned, Infeasible | Planned))
            claim(not isinstance(planned, Infeasible) or bool(str(planned)))

    def test_a_larger_buffer_never_costs_more(self) -> None:
        model = self.model()
        for graph, group in self._cases():
            best: int | None = None
            for capacity in sorted(self.capacities):
                planned = model.plan(graph, group, Machine(capacity))
                if isinstance(planned, Planned):
                    claim(best is None or planned.cost.dram_bytes <= best)
                    best = planned.cost.dram_bytes
                claim(best is None or isinstance(planned, Planned))

    def test_within_a_limit_the_answer_is_the_same_or_a_bound_above_it(self) -> None:
        """Of models that take a limit (``plan_within``)."""
        one, other = self.model(), self.model()
        for (graph, group), capacity in product(self._cases(), self.capacities):
            machine = Machine(capacity)
            truth = one.plan(graph, group, machine)
            moved = truth.cost.dram_bytes if isinstance(truth, Planned) else graph.touch_once_bytes(group)
            for limit in (moved - 1, moved, 2 * moved):
                answer = planned_within(other, graph, group, machine, limit)
                if isinstance(answer, Dearer):
                    claim(limit < answer.dram_bytes, f"{answer.dram_bytes:,} B is within {limit:,} B")
                    claim(isinstance(truth, Infeasible) or answer.dram_bytes <= moved)
                else:
                    claim(answer == truth)

    def test_no_plan_moves_less_than_touching_everything_once(self) -> None:
        for graph, _, planned in self._plans():
            if self.model().touches_once:
                claim(planned.cost.dram_bytes >= graph.touch_once_bytes(planned.schedule.group))

    def test_the_buffer_floor_grows_and_stays_below_every_plan(self) -> None:
        """In a buffer no larger than the plan's own, where the floor says the most.

        Of two ops or more: an op alone is always priced, so nothing is pruned by its floor.
        """
        for graph, machine, planned in self._plans():
            capacity = max(1, planned.cost.buffer_bytes)
            floor = self.model().buffer_floor(graph, replace(machine, buffer_bytes=capacity))
            again, mark, seen = 0, floor.start, 0
            for i in bits(planned.schedule.group):
                mark, seen, before = floor.extend(seen, mark, i), seen | 1 << i, again
                again = floor.again_bytes(mark, capacity)
                claim(again >= before, f"{again:,} B again, {before:,} B with fewer ops")
            extra = planned.cost.dram_bytes - graph.touch_once_bytes(seen)
            claim(again <= max(0, extra) or seen.bit_count() == 1, f"{again:,} B again at least, {extra:,} B in truth")

    def test_an_execution_moves_and_holds_what_the_plan_says(self) -> None:
        for graph, machine, planned in self._plans():
            if planned.schedule.scheme in SCHEMES:
                simulation, _ = execute(graph, machine, [planned], given=graph.reads(planned.schedule.group))
                claim(simulation.agrees, str(simulation))


def claim(holds: bool, text: str = "") -> None:
    """Raises AssertionError unless the claim holds."""
    if not holds:
        raise AssertionError(text)


def _grown(graph: Graph, rng: np.random.Generator, count: int) -> Iterator[Group]:
    """Connected, convex groups around random ops."""
    for _ in range(count):
        group = 1 << int(rng.integers(len(graph)))
        for _ in range(int(rng.integers(1, 8))):
            near = 0
            for i in bits(group):
                near |= graph.preds[i] | graph.succs[i]
            if near & ~group:
                group |= 1 << int(rng.choice(list(bits(near & ~group))))
        if graph.is_convex(group):
            yield group
