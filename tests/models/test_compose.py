"""Cost models made of cost models, with made-up schemes whose prices are tables."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from fusecut.cost import BufferFloor, Cost, CostModel, Infeasible, NoFloor, Planned
from fusecut.errors import UnknownNameError
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import SCHEMES, Brr, Cheapest, Layerwise, LineBuffer, WithFallback, scheme_model
from fusecut.schedule import Schedule
from fusecut.testing import Net

MACHINE = Machine(1024)
REFUSED = Infeasible("buffer", 2, 1, "made up")


@dataclass(frozen=True)
class Table:
    """Groups and their prices; anything else is refused. ``asked`` are the groups asked for."""

    name: str
    prices: dict[Group, int]
    touches_once: bool = True
    asked: list[Group] = field(default_factory=list)

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        self.asked.append(group)
        if group not in self.prices:
            return REFUSED
        return Planned(Schedule(self.name, group, ()), Cost(self.prices[group], 0, 0, 0))

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return Planned(planned.schedule, Cost(0, 0, 0, 0, pooled_buffer_bytes=len(self.name)))

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


def two_ops() -> Graph:
    net = Net()
    net.conv(net.conv(net.input(1, 4, 4), 1, 1), 1, 1)
    return net.graph()


GRAPH = two_ops()
ONCE = GRAPH.touch_once_bytes(0b01)


def price(model: CostModel, group: Group) -> tuple[str, int] | None:
    planned = model.plan(GRAPH, group, MACHINE)
    return None if isinstance(planned, Infeasible) else (planned.schedule.scheme, planned.cost.dram_bytes)


def test_tables_and_the_models_made_of_them_are_cost_models() -> None:
    table = Table("a", {})
    assert all(isinstance(m, CostModel) for m in (table, WithFallback(table, table), Cheapest((table,), table)))


# With a fallback ---------------------------------------------------------------------------------


def test_the_scheme_runs_whatever_it_can() -> None:
    assert price(WithFallback(Table("a", {1: 9}), Table("b", {1: 5})), 0b01) == ("a", 9)


def test_a_single_op_that_the_scheme_refuses_goes_to_the_fallback() -> None:
    assert price(WithFallback(Table("a", {}), Table("b", {1: 5})), 0b01) == ("b", 5)


def test_a_group_that_the_scheme_refuses_is_refused() -> None:
    fallback = Table("b", {3: 5})
    assert price(WithFallback(Table("a", {}), fallback), 0b11) is None
    assert fallback.asked == []


def test_an_op_that_runs_under_neither_is_refused() -> None:
    assert price(WithFallback(Table("a", {}), Table("b", {})), 0b01) is None


def test_a_scheme_with_a_fallback_keeps_its_name() -> None:
    assert WithFallback(Table("a", {}), Table("b", {})).name == "a"


def test_the_floor_is_that_of_the_scheme() -> None:
    lines = LineBuffer()
    assert WithFallback(lines, Layerwise()).buffer_floor(GRAPH, MACHINE) is lines.buffer_floor(GRAPH, MACHINE)


@pytest.mark.parametrize(("group", "finisher"), [(0b01, "aaa"), (0b10, "bb")])
def test_a_plan_is_finished_by_the_model_that_made_it(group: Group, finisher: str) -> None:
    model = WithFallback(Table("aaa", {1: 9}), Table("bb", {2: 5}))
    planned = model.plan(GRAPH, group, MACHINE)
    assert isinstance(planned, Planned)
    assert model.finish(GRAPH, planned, MACHINE).cost.pooled_buffer_bytes == len(finisher)


# The cheapest ------------------------------------------------------------------------------------


def test_the_cheapest_scheme_runs_the_group() -> None:
    assert price(Cheapest((Table("a", {3: 90}), Table("b", {3: 70})), Table("c", {})), 0b11) == ("b", 70)


def test_the_earlier_scheme_runs_the_group_on_a_tie() -> None:
    assert price(Cheapest((Table("a", {3: 70}), Table("b", {3: 70})), Table("c", {})), 0b11) == ("a", 70)


def test_a_scheme_that_refuses_does_not_hide_one_that_runs() -> None:
    assert price(Cheapest((Table("a", {}), Table("b", {3: 70})), Table("c", {})), 0b11) == ("b", 70)


def test_the_single_op_scheme_competes_for_single_ops_only() -> None:
    model = Cheapest((Table("a", {1: 90, 3: 90}),), Table("c", {1: 80, 3: 10}))
    assert [price(model, 0b01), price(model, 0b11)] == [("c", 80), ("a", 90)]


def test_a_group_that_no_scheme_runs_is_refused() -> None:
    assert price(Cheapest((Table("a", {}),), Table("c", {3: 1})), 0b11) is None


def test_the_first_refusal_is_the_one_reported() -> None:
    assert Cheapest((Table("a", {}),), Table("c", {})).plan(GRAPH, 0b01, MACHINE) is REFUSED


def test_a_plan_that_touches_everything_once_ends_the_search() -> None:
    single = Table("c", {1: ONCE})
    assert price(Cheapest((Table("a", {1: ONCE}),), single), 0b01) == ("a", ONCE)
    assert single.asked == []


def test_without_that_promise_every_scheme_is_asked() -> None:
    single = Table("c", {1: ONCE - 1}, touches_once=False)
    assert price(Cheapest((Table("a", {1: ONCE}),), single), 0b01) == ("c", ONCE - 1)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_a_combination_promises_what_all_its_parts_promise(first: bool, second: bool) -> None:
    a, b = Table("a", {}, first), Table("b", {}, second)
    assert WithFallback(a, b).touches_once == Cheapest((a,), b).touches_once == (first and second)


def test_the_floor_of_one_scheme_is_its_own() -> None:
    lines = LineBuffer()
    assert Cheapest((lines,), Layerwise()).buffer_floor(GRAPH, MACHINE) is lines.buffer_floor(GRAPH, MACHINE)


def test_several_schemes_promise_no_floor() -> None:
    floor = Cheapest((LineBuffer(), Table("b", {})), Layerwise()).buffer_floor(GRAPH, MACHINE)
    assert floor.extend(0, floor.start, 0) == 0


# Names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_of_the_table_is_a_model_of_that_name(name: str) -> None:
    assert scheme_model(name).name == name


def test_mixed_may_stream_twice_and_lbdf_does_not() -> None:
    assert scheme_model("mixed") == Cheapest((Brr(LineBuffer(squeeze_excite="two_pass")),), Layerwise())
    assert scheme_model("lbdf") == WithFallback(LineBuffer(), Layerwise())


def test_switches_reach_the_scheme() -> None:
    lines = LineBuffer(prefetch_rows=1)
    assert scheme_model("lbdf", lines) == WithFallback(lines, Layerwise())


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as caught:
        scheme_model("lbfd")
    assert str(caught.value) == "unknown scheme 'lbfd': did you mean 'lbdf'? Known: brr, layerwise, lbdf, mixed"
