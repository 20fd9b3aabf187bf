"""What every searcher is: a generator of plans, driven and judged by ``solve``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol, runtime_checkable

from numpy.random import Generator

from fusecut.partition import Partition
from fusecut.problem import Problem

NO_PLAN: Final = 1 << 256
"""More than any plan scores under any objective: as a proven lower bound it says that there is no plan."""


class Proposal(NamedTuple):
    """A plan, a proven lower bound of the score of every plan, or both.

    The score is the problem's (:meth:`fusecut.problem.Problem.score`): DRAM bytes, unless it has
    another objective. A searcher that has proved that no plan is feasible says so with the bound
    :data:`NO_PLAN`.
    """

    partition: Partition | None
    bound: int | None = None


@runtime_checkable
class Searcher(Protocol):
    """Proposes plans. Budgets, best-so-far and cancellation are the driver's business: it stops
    asking. All randomness comes from ``rng``.

    Two optional attributes, false where absent: ``endless``, it never ends by itself, so it gets a
    budget of plans if none is given; ``anytime``, it may end before its proof does, and then the
    plan counts as stopped early. Its tests are :class:`fusecut.testing.SearcherContract`.
    """

    @property
    def name(self) -> str: ...

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]: ...
