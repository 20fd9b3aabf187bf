"""The driver: it judges what a searcher proposes, keeps the best, and says how the search ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from numpy.random import Generator

from fusecut.cost import BufferFloor, Cost, Infeasible, NoFloor, Planned
from fusecut.errors import FusecutError, MachineError, UnitError, UnknownNameError
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.schedule import Schedule
from fusecut.search import Exact, Proposal, Searcher
from fusecut.search.protocol import NO_PLAN
from fusecut.solution import Status
from fusecut.solve import Progress, layerwise_bytes, solve
from fusecut.testing import Net, brute_force

BUFFER = 6_000


def chain() -> Graph:
    net = Net("chain")
    y = net.input(8, 32, 16)
    for channels in (8, 16, 16, 8, 8):
        y = net.conv(y, channels)
    return net.graph()


@dataclass(frozen=True)
class Scripted:
    """Proposes what it is told, then ends, or is interrupted before the proposal ``broken_at``."""

    plans: tuple[tuple[tuple[Group, ...] | None, int | None], ...]
    broken_at: int = -1
    name: str = "scripted"
    states: list[int] = field(default_factory=list)

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        self.states.append(int(rng.integers(1 << 30)))
        for number, (groups, bound) in enumerate(self.plans):
            if number == self.broken_at:
                raise KeyboardInterrupt
            yield Proposal(None if groups is None else Partition(problem.graph, groups), bound)


APART = (0b00001, 0b00010, 0b00100, 0b01000, 0b10000)
PAIRED = (0b00011, 0b00100, 0b01000, 0b10000)


def dram(groups: tuple[Group, ...]) -> int:
    problem = Problem(chain(), Machine(BUFFER), LineBuffer())
    cost = problem.cost(groups)
    assert not isinstance(cost, Infeasible)
    return cost.dram_bytes


# What is asked -----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"buffer": "1KiB", "machine": Machine(1024)}])
def test_exactly_one_of_buffer_and_machine_is_given(given: dict[str, str | Machine]) -> None:
    with pytest.raises(FusecutError) as caught:
        solve(chain(), **given)  # type: ignore[arg-type]
    assert str(caught.value) == "give either a buffer size or a machine"


def test_a_buffer_that_is_no_size_is_refused() -> None:
    with pytest.raises(UnitError):
        solve(chain(), "lots")


def test_a_buffer_of_nothing_is_refused() -> None:
    with pytest.raises(MachineError):
        solve(chain(), 0)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UnknownNameError):
        solve(chain(), BUFFER, scheme="nosuch")


def test_a_size_and_the_machine_of_that_size_give_the_same_answer() -> None:
    assert solve(chain(), "6KB").cost == solve(chain(), machine=Machine(6_000)).cost


# What is judged ----------------------------------------------------------------------------------


def test_the_best_plan_of_a_search_is_kept() -> None:
    found = solve(chain(), BUFFER, model=LineBuffer(), search=Scripted(((APART, None), (PAIRED, None), (APART, None))))
    assert found.cost.dram_bytes == dram(PAIRED) < dram(APART)


def test_a_plan_that_does_not_fit_is_not_kept() -> None:
    everything = (0b11111,)
    found = solve(chain(), BUFFER, model=LineBuffer(), search=Scripted(((everything, None), (APART, None))))
    assert (found.cost.dram_bytes, found.plans_proposed) == (dram(APART), 2)


def test_the_highest_bound_counts() -> None:
    search = Scripted(((None, 10), (APART, 30), (None, 20)))
    assert solve(chain(), BUFFER, model=LineBuffer(), search=search).bound == 30


def test_the_trace_has_a_point_for_each_improvement() -> None:
    search = Scripted(((APART, None), (APART, None), (PAIRED, None)))
    trace = solve(chain(), BUFFER, model=LineBuffer(), search=search).trace
    assert [(p.plans_proposed, p.dram_bytes) for p in trace] == [(1, dram(APART)), (3, dram(PAIRED))]


def test_the_seed_is_what_the_searcher_draws_from() -> None:
    search = Scripted(((APART, None),))
    for seed in (0, 0, 1):
        solve(chain(), BUFFER, model=LineBuffer(), search=search, seed=seed)
    first, again, other = search.states
    assert first == again != other


def test_the_cost_is_that_of_the_groups() -> None:
    found = solve(chain(), BUFFER)
    assert found.cost.dram_bytes == sum(p.cost.dram_bytes for p in found.planned)
    assert found.cost.buffer_bytes == max(p.cost.buffer_bytes for p in found.planned) <= BUFFER


def test_schedules_are_those_of_the_groups() -> None:
    found = solve(chain(), BUFFER)
    assert found.partition is not None
    assert tuple(s.group for s in found.schedules) == found.partition.groups


# How it ended ------------------------------------------------------------------------------------


def test_a_plan_as_good_as_the_bound_is_optimal() -> None:
    search = Scripted(((PAIRED, dram(PAIRED)),))
    found = solve(chain(), BUFFER, model=LineBuffer(), search=search)
    assert (found.status, found.gap) == (Status.optimal, 0.0)


def test_a_search_without_proof_is_feasible() -> None:
    found = solve(chain(), BUFFER, model=LineBuffer(), search=Scripted(((PAIRED, dram(PAIRED) // 2),)))
    assert (found.status, round(found.gap, 3)) == (Status.feasible, 0.5)


def test_a_proved_plan_stays_proved_whatever_is_proposed_after_it() -> None:
    search = Scripted(((PAIRED, dram(PAIRED)), (APART, None)))
    found = solve(chain(), BUFFER, model=LineBuffer(), search=search)
    assert (found.status, found.cost.dram_bytes) == (Status.optimal, dram(PAIRED))


def test_a_searcher_that_proves_that_there_is_no_plan_is_believed() -> None:
    found = solve(chain(), BUFFER, model=LineBuffer(), search=Scripted(((None, NO_PLAN),)))
    assert (found.status, found.partition, found.bound) == (Status.infeasible, None, 0)


def test_a_search_that_ends_without_a_plan_or_a_proof_spent_its_budget() -> None:
    found = solve(chain(), BUFFER, model=LineBuffer(), search=Scripted(((None, 5),)))
    assert (found.status, found.partition, found.bound) == (Status.budget, None, 5)


def test_the_exact_search_agrees_with_brute_force() -> None:
    found = solve(chain(), BUFFER, model=LineBuffer())
    assert found.status is Status.optimal
    assert found.cost.dram_bytes == found.bound == brute_force(Problem(chain(), Machine(BUFFER), LineBuffer()))


def test_an_op_that_runs_nowhere_makes_the_answer_infeasible() -> None:
    found = solve(chain(), 300, model=LineBuffer())
    assert (found.status, found.partition, found.plans_proposed) == (Status.infeasible, None, 0)
    assert [name for name, _ in found.refusals] == ["conv0", "conv1", "conv2", "conv3", "conv4"]


def test_an_infeasible_answer_names_op_demand_and_limit() -> None:
    found = solve(chain(), 300, model=LineBuffer())
    assert str(found).startswith("infeasible: conv0 needs at least 1,088 B, the buffer has 300 B: 788 B over; ")


@dataclass(frozen=True)
class ByTheOp:
    """Every group costs a byte for each of its ops, so that all plans are equally good."""

    name: str = "by_the_op"
    touches_once: bool = False

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        return Planned(Schedule(self.name, group, ()), Cost(group.bit_count(), 0, 0, 0))

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


@pytest.mark.parametrize("search", [Scripted(((APART, 4), (PAIRED, None), (APART, None))), Exact()])
def test_of_equally_good_plans_the_one_with_the_fewest_groups_is_kept(search: Searcher) -> None:
    found = solve(chain(), BUFFER, model=ByTheOp(), search=search)
    assert found.partition is not None
    assert len(found.partition) == (1 if isinstance(search, Exact) else len(PAIRED))


@dataclass(frozen=True)
class Never:
    """Runs nothing and does not say so beforehand."""

    name: str = "never"
    touches_once: bool = False

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        return Infeasible("luck", 1, 0, "never runs")

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


def test_a_search_that_is_exhausted_without_a_plan_says_infeasible() -> None:
    assert solve(chain(), BUFFER, model=Never()).status is Status.infeasible


def test_an_infeasible_answer_is_never_silent() -> None:
    assert "conv0" in str(solve(chain(), BUFFER, model=Never()))


# Budgets -----------------------------------------------------------------------------------------

ENDLESS = ((APART, 1), (PAIRED, 1), (APART, 1), (APART, 1))


@pytest.mark.parametrize(
    ("budget", "plans"),
    [({"max_plans": 1}, 1), ({"max_plans": 2}, 2), ({"max_evaluations": 1}, 1), ({"max_seconds": 0.0}, 1)],
)
def test_a_spent_budget_ends_the_search_with_the_best_plan_so_far(budget: dict[str, int], plans: int) -> None:
    found = solve(chain(), BUFFER, model=LineBuffer(), search=Scripted(ENDLESS), **budget)  # type: ignore[arg-type]
    assert (found.status, found.plans_proposed) == (Status.budget, plans)
    assert found.cost.dram_bytes == min(dram(APART), dram(PAIRED) if plans > 1 else dram(APART))


def test_a_budget_spent_before_any_plan_leaves_the_bound() -> None:
    found = solve(chain(), BUFFER, model=LineBuffer(), search=Scripted(((None, 7), (APART, None))), max_seconds=0.0)
    assert (found.status, found.partition, found.bound) == (Status.budget, None, 7)


def test_a_budget_that_is_not_spent_changes_nothing() -> None:
    free = solve(chain(), BUFFER)
    bounded = solve(chain(), BUFFER, max_plans=10**6, max_evaluations=10**6, max_seconds=3600.0)
    assert (free.cost, free.status, free.plans_proposed) == (bounded.cost, bounded.status, bounded.plans_proposed)


def test_a_search_that_ran_out_of_effort_is_a_spent_budget() -> None:
    found = solve(chain(), BUFFER, model=LineBuffer(), search=Exact(effort=1, first_effort=1))
    assert found.status in (Status.budget, Status.optimal)
    assert found.bound <= dram(PAIRED)


# Interrupts and progress -------------------------------------------------------------------------


def test_an_interrupt_keeps_the_best_plan() -> None:
    search = Scripted(((APART, 5), (PAIRED, 6), (APART, 7)), broken_at=2)
    found = solve(chain(), BUFFER, model=LineBuffer(), search=search)
    assert (found.status, found.cost.dram_bytes, found.bound) == (Status.budget, dram(PAIRED), 6)


def test_an_interrupt_while_progress_is_shown_keeps_the_best_plan() -> None:
    def interrupt(progress: Progress) -> None:
        if progress.dram_bytes is not None:
            raise KeyboardInterrupt

    found = solve(chain(), BUFFER, model=LineBuffer(), search=Scripted(ENDLESS), on_progress=interrupt)
    assert (found.status, found.cost.dram_bytes, found.plans_proposed) == (Status.budget, dram(APART), 1)


def test_an_interrupt_before_any_plan_leaves_the_bound() -> None:
    search = Scripted(((None, 5), (APART, None)), broken_at=1)
    found = solve(chain(), BUFFER, model=LineBuffer(), search=search)
    assert (found.status, found.partition, found.bound) == (Status.budget, None, 5)


def test_progress_is_told_after_every_proposal() -> None:
    told: list[Progress] = []
    search = Scripted(((None, 5), (APART, 6), (PAIRED, 7)))
    solve(chain(), BUFFER, model=LineBuffer(), search=search, on_progress=told.append)
    assert [(p.dram_bytes, p.bound, p.plans_proposed) for p in told] == [
        (None, 5, 0),
        (dram(APART), 6, 1),
        (dram(PAIRED), 7, 2),
    ]


def test_nothing_is_asked_of_the_searcher_when_an_op_runs_nowhere() -> None:
    search = Scripted(((APART, None),))
    solve(chain(), 300, model=LineBuffer(), search=search)
    assert search.states == []


# Figures beside the plan -------------------------------------------------------------------------


def test_without_fusion_every_op_is_tiled_alone() -> None:
    graph, machine = chain(), Machine(BUFFER)
    alone = [Layerwise().plan(graph, 1 << i, machine) for i in range(len(graph))]
    total = sum(p.cost.dram_bytes for p in alone if isinstance(p, Planned))
    assert layerwise_bytes(graph, machine) == solve(graph, BUFFER).layerwise_bytes == total


def test_without_fusion_nothing_is_known_where_an_op_cannot_be_tiled() -> None:
    assert layerwise_bytes(chain(), Machine(1)) is None


def test_the_floor_is_inputs_outputs_and_weights_once() -> None:
    graph = chain()
    assert solve(graph, BUFFER).floor_bytes == graph.touch_once_bytes(graph.everything)


def test_ops_that_only_run_as_tiled_loops_are_named() -> None:
    net = Net()
    net.conv(net.conv(net.input(4, 16, 16), 256), 4, name="last")
    found = solve(net.graph(), 10_000, scheme="lbdf")
    assert found.unfusible_ops == ("conv0", "last")
    assert found.fusible_bytes == 0


def test_the_gap_of_a_network_that_moves_nothing_is_none() -> None:
    found = solve(chain(), 300, model=LineBuffer())
    assert (found.cost.dram_bytes, found.gap) == (0, 0.0)


def test_the_provenance_names_scheme_and_search() -> None:
    provenance = solve(chain(), BUFFER, scheme="lbdf").provenance
    assert (provenance.model, provenance.scheme, provenance.search) == ("chain", "lbdf", "exact")
