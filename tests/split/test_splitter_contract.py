"""Every splitter that ships, under the contract that ships; and the contract catches what it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.random import Generator

from fusecut.errors import PartitionError
from fusecut.ir import Group, bits
from fusecut.problem import Problem, Splitter
from fusecut.split import CostGuided, Random
from fusecut.testing import SplitterContract


class TestRandom(SplitterContract):
    def make(self) -> Splitter:
        return Random()


class TestCostGuided(SplitterContract):
    def make(self) -> Splitter:
        return CostGuided()


class TestCostGuidedWithFewBonds(SplitterContract):
    def make(self) -> Splitter:
        return CostGuided(most_bonds=1)


@dataclass(frozen=True)
class Cheat:
    """A splitter that breaks one rule."""

    kind: str
    name: str = "cheat"

    def split(self, problem: Problem, group: Group, rng: Generator) -> Sequence[Group] | None:
        singles = [1 << i for i in bits(group)]
        if self.kind == "unseeded":
            return Random().split(problem, group, np.random.default_rng())
        return {"whole": [group], "lost": singles[1:], "backwards": singles[::-1], "odd_even": _odd_even(singles)}[
            self.kind
        ]


def _odd_even(singles: Sequence[Group]) -> list[Group]:
    return [sum(singles[::2]), sum(singles[1::2])]


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        ("whole", SplitterContract.test_parts_are_feasible_and_together_the_group),
        ("lost", SplitterContract.test_parts_are_feasible_and_together_the_group),
        ("odd_even", SplitterContract.test_the_plan_stays_valid_with_the_parts_in_place_of_the_group),
        ("backwards", SplitterContract.test_parts_come_in_an_order_in_which_they_run),
        ("unseeded", SplitterContract.test_the_same_generator_gives_the_same_parts),
    ],
)
def test_the_contract_catches_a_splitter_that_breaks_a_rule(
    kind: str, test: Callable[[SplitterContract], None]
) -> None:
    class Contract(SplitterContract):
        def make(self) -> Splitter:
            return Cheat(kind)

    with pytest.raises((AssertionError, PartitionError)):
        test(Contract())
