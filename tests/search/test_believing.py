"""Searching among beliefs: what is asked, what is learned from the answers, and that nothing depends on being right."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from fusecut.cost import BufferFloor, Infeasible, NoFloor, Planned
from fusecut.errors import UnknownNameError
from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import LineBuffer
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search import Believing
from fusecut.search._answers import SURE, Answers
from fusecut.search._promises import StaticFloor
from fusecut.testing import Net


def ladder(rungs: int = 8) -> Graph:
    """Two chains side by side that are added up at every rung."""
    net = Net("ladder")
    left = right = net.input(8, 16, 16)
    for _ in range(rungs):
        left, right = net.conv(left, 8), net.conv(right, 8)
        left = net.add(left, right)
    return net.graph()


GRAPH = ladder()


@dataclass
class OneSum:
    """A black box that refuses every group with more than one sum, and no other; keeps what it was asked."""

    name: str = "one_sum"
    touches_once: bool = True
    asked: list[Group] = field(default_factory=list)

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        self.asked.append(group)
        if sums(group) > 1:
            return Infeasible("adders", 2, 1, "all")
        return LineBuffer().plan(graph, group, machine)

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return planned

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return NoFloor()


def sums(group: Group) -> int:
    return sum(GRAPH.ops[i].kind == "elementwise" for i in bits(group))


def searched(search: Believing, questions: int, seed: int = 0) -> tuple[Problem, list[Partition], list[Group]]:
    """The plans proposed until so many groups of two ops or more were asked for, and those groups."""
    box = OneSum()
    problem = Problem(GRAPH, Machine.of("64KiB"), box)
    plans = []
    for plan, _ in search.propose(problem, np.random.default_rng(seed)):
        if plan is not None:
            plans.append(plan)
        if problem.fused_evaluations >= questions:
            break
    return problem, plans, [group for group in box.asked if group & (group - 1)]


def best(problem: Problem, plans: list[Partition]) -> int:
    return min(score for plan in plans if (score := problem.score(plan)) is not None)


def test_a_rule_that_nobody_taught_is_learned_from_the_answers() -> None:
    for seed in range(3):
        problem, plans, asked = searched(Believing(steps=20, stale=2), 40, seed)
        blind, found, tried = searched(Believing(learns=False, steps=20, stale=2), 40, seed)
        assert best(problem, plans) < best(blind, found)
        assert sum(sums(group) > 1 for group in asked) < 0.75 * sum(sums(group) > 1 for group in tried)


def test_only_plans_that_were_asked_for_in_full_are_proposed_after_the_first() -> None:
    problem, plans, _ = searched(Believing(steps=20, stale=2), 30)
    assert len(plans) > 1
    assert all(isinstance(problem.known(group), Planned) for plan in plans for group in plan.groups)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_surrogate_that_is_wrong_costs_questions_and_no_validity(sign: int) -> None:
    right, plans, _ = searched(Believing(doubt=lambda p, g: 3.0 * sign * (sums(g) > 1) - sign, steps=20, stale=2), 60)
    assert all(right.score(plan) is not None for plan in plans)
    assert best(right, plans) < (right.score(plans[0]) or 0)


def test_what_the_user_vouches_for_is_never_asked() -> None:
    problem = Problem(GRAPH, Machine(2_000), OneSum())
    floor = StaticFloor(GRAPH, rows=True)
    search = Believing(prune="rows", trust=(SURE - 1,), steps=20, stale=2)
    for _ in search.propose(problem, np.random.default_rng(0)):
        pass
    assert problem.fused_evaluations > 0
    for group in problem.model.asked:  # type: ignore[attr-defined]
        mark, done = floor.start, 0
        for op in bits(group):
            mark, done = floor.extend(done, mark, op), done | 1 << op
        assert mark <= 2_000


def test_who_hopes_for_nothing_asks_nothing() -> None:
    problem = Problem(GRAPH, Machine.of("64KiB"), OneSum())
    plans = [
        p.partition for p in Believing(trust=(-SURE,), steps=20, stale=2).propose(problem, np.random.default_rng(0))
    ]
    assert all(plan is not None and len(plan) == len(GRAPH) for plan in plans) and problem.fused_evaluations == 0


def test_answers_begin_as_the_prior_and_end_as_what_was_said() -> None:
    answers = Answers(GRAPH, lambda group: -1.0)
    alike = [1 << a | 1 << b for a in range(12) for b in range(a)]
    assert all(answers.logit(group) == -1.0 for group in alike)
    for group in alike[:40]:
        answers.note(group, sums(group) > 1)
    answers.learn()
    assert all((answers.logit(group) > 0) == (sums(group) > 1) for group in alike)


def test_what_cannot_be_stays_so_whatever_is_answered() -> None:
    answers = Answers(GRAPH, lambda group: SURE if group == 3 else -1.0)
    for group in (5, 6, 9):
        answers.note(group, refused=False)
    answers.learn()
    assert answers.logit(3) == SURE


def test_an_unknown_word_for_prune_lists_the_four() -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown prune 'row'.*weights"):
        Believing(prune="row")  # type: ignore[arg-type]
