"""Prices: asked for once, added up, and read at the widths of the machine."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from fusecut.cost import NO_COST, BufferFloor, Cost, Dearer, Infeasible, NoFloor, Planned
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.schedule import Schedule
from fusecut.testing import Net


@dataclass(frozen=True)
class Priced:
    """Refuses the groups it is told to; everything else costs its own number."""

    refused: tuple[Group, ...] = ()
    touches_once: bool = False
    name: str = "priced"
    asked: list[Group] = field(default_factory=list)

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        self.asked.append(group)
        if group in self.refused:
            return Infeasible("buffer", machine.buffer_bytes + group, machine.buffer_bytes, f"group {group}")
        return Planned(Schedule(self.name, group, ()), Cost(group, 10 * group, 1, 100 + group, 5, 7 * group, group))

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


def chain(ops: int = 3) -> Graph:
    net = Net()
    y = net.input(3, 8, 8)
    for _ in range(ops):
        y = net.conv(y, 3, biases=True)
    return net.graph()


def test_a_group_is_priced_once() -> None:
    model = Priced()
    problem = Problem(chain(), Machine(64), model)
    assert problem.plan(0b11) is problem.plan(0b11)
    assert (model.asked, problem.evaluations) == ([0b11], 1)


def test_a_refusal_is_remembered_too() -> None:
    model = Priced(refused=(0b11,))
    problem = Problem(chain(), Machine(64), model)
    assert problem.plan(0b11) is problem.plan(0b11)
    assert problem.evaluations == 1


@dataclass(frozen=True)
class Thrifty(Priced):
    """Prices no group that moves more than the limit."""

    def plan_within(
        self, graph: Graph, group: Group, machine: Machine, limit_bytes: int
    ) -> Planned | Infeasible | Dearer:
        if group not in self.refused and 11 * group > limit_bytes:
            self.asked.append(group)
            return Dearer(limit_bytes + 1)
        return self.plan(graph, group, machine)


def test_a_group_above_the_limit_is_asked_for_again_only_where_the_limit_rises() -> None:
    model = Thrifty()
    problem = Problem(chain(), Machine(64), model)
    assert problem.rank_within(0b11, 20) == 21
    assert problem.rank_within(0b11, 15) == 21
    assert (len(model.asked), problem.known(0b11)) == (1, None)
    assert problem.rank_within(0b11, 33) == 33 == problem.rank_within(0b11, 20) == problem.rank(0b11)
    assert (len(model.asked), problem.evaluations) == (2, 2)


@pytest.mark.parametrize("model", [Priced, Thrifty])
def test_within_a_limit_prices_and_refusals_are_those_of_the_model(model: type[Priced]) -> None:
    problem = Problem(chain(), Machine(64), model(refused=(0b11,)))
    assert problem.rank_within(0b11, 100) is None
    assert problem.rank_within(0b110, 100) == 66


def test_the_cost_of_a_plan_adds_bytes_and_takes_the_largest_buffer() -> None:
    problem = Problem(chain(), Machine(64), Priced())
    assert problem.cost([0b001, 0b110]) == Cost(7, 70, 2, 106, 5, 49, 7)


def test_a_partition_costs_what_its_groups_cost() -> None:
    problem = Problem(chain(), Machine(64), Priced())
    assert problem.cost(Partition(problem.graph, [0b001, 0b110])) == problem.cost([0b001, 0b110])


def test_no_groups_cost_nothing() -> None:
    assert Problem(chain(), Machine(64), Priced()).cost([]) == NO_COST


def test_the_first_refusal_is_the_cost_of_a_plan_that_does_not_run() -> None:
    problem = Problem(chain(), Machine(64), Priced(refused=(0b010, 0b100)))
    refusal = problem.cost([0b001, 0b010, 0b100])
    assert isinstance(refusal, Infeasible)
    assert refusal.where == "group 2"


def test_the_graph_is_read_at_the_widths_of_the_machine() -> None:
    problem = Problem(chain(1), Machine(64, activation_bits=16, weight_bits=4, accumulator_bits=64), LineBuffer())
    assert problem.graph.tensors[0].row_bytes == 3 * 8 * 2
    assert problem.graph.ops[0].weight_bytes == -(-81 // 2) + 3 * 8


def test_the_capacity_is_that_of_the_machine() -> None:
    assert Problem(chain(), Machine(77), Priced()).capacity_bytes == 77


def test_another_buffer_asks_anew() -> None:
    problem = Problem(chain(), Machine(1000), Priced())
    problem.plan(1)
    smaller = problem.in_buffer(10)
    assert (smaller.capacity_bytes, smaller.evaluations, smaller.known(1)) == (10, 0, None)


def test_the_floor_is_inputs_outputs_and_weights_once() -> None:
    problem = Problem(chain(), Machine(64), LineBuffer())
    assert problem.floor_bytes() == 2 * 3 * 64 + 3 * (81 + 12)


def test_a_model_that_promises_nothing_has_no_floor() -> None:
    assert Problem(chain(), Machine(64), Priced()).floor_bytes() == 0


def test_the_finished_plan_has_every_figure() -> None:
    problem = Problem(chain(), Machine(4096), LineBuffer())
    (planned,) = problem.finished(Partition(problem.graph, [0b111]))
    assert 0 < planned.cost.pooled_buffer_bytes <= planned.cost.buffer_bytes


def test_traffic_is_what_is_read_and_written() -> None:
    assert Cost(3, 4, 1, 9).dram_bytes == 7


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (
            Infeasible("buffer", 1500, 1000, "x is large"),
            "needs 1,500 B, the buffer has 1,000 B: 500 B over; x is large",
        ),
        (
            Infeasible("buffer", 1500, 1000, "x is large", ("a cut", "a buffer"), at_least=True),
            "needs at least 1,500 B, the buffer has 1,000 B: 500 B over; x is large; a cut; a buffer",
        ),
        (Infeasible("batch", 0, 0, "'x' mixes images of a batch"), "'x' mixes images of a batch"),
    ],
)
def test_a_refusal_says_demand_limit_and_what_would_help(refusal: Infeasible, text: str) -> None:
    assert str(refusal) == text


@pytest.mark.parametrize("model", [LineBuffer(), Layerwise(), Priced()])
def test_the_empty_group_has_an_empty_floor(model: LineBuffer | Layerwise | Priced) -> None:
    assert model.buffer_floor(chain(), Machine(64)).start == 0
