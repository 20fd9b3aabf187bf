"""The exact search for cost models that are expensive to ask.

The bytes of a group follow from shapes, whether it fits takes a compiler or a chip. So assume that
every group not asked yet runs at its touch-once bytes, find the best plan, ask for the groups of
that plan, and repeat until the best plan consists of groups that were asked: then nothing cheaper
exists, since every other plan was priced too low at worst. (Dellin & Srinivasa, ICAPS 2016, call
the scheme LazySP.) :class:`fusecut.search.Exact` is lazy as well, but it asks for every group on
the way to any promising ideal; this one asks only for groups of plans that would be best of all,
and pays with one shortest path for each refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from numpy.random import Generator

from fusecut.cost import Infeasible
from fusecut.errors import FusecutError
from fusecut.ir import Group
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.search._astar import AStar
from fusecut.search._cuts import Reach
from fusecut.search._promises import Doubt, Prune, check_prune, floor_of
from fusecut.search.protocol import Proposal


@dataclass(frozen=True)
class LazyExact:
    """Best plan and proof with as few questions to the cost model as possible.

    The best plan's groups that were not asked yet are asked in the order of their first ops; a
    refusal, or a price above touch-once, sends the search back at once. ``doubt`` is a surrogate,
    such as a trained classifier: the group it doubts most is asked first. It orders questions and
    decides nothing, so the proof stands whatever it says. There is little to gain: even an oracle
    in its place saves 0 to 10 % of the questions (docs/choosing.md), as every plan that would be
    better must be refuted in any order.

    With ``trust`` the surrogate is believed first, for good plans long before the proof: in one round for
    each of these margins a group not asked yet whose doubt is above the margin (0 is even) counts as
    refused. The best plan under what is known and believed is asked for and corrected until it
    consists of groups that were asked; it is proposed, and the next round goes on. Rising margins and
    the proof at the end ask for ever more. A wrong surrogate costs questions, never validity or proof.

    ``prune`` is the static bound that leaves groups out unasked; the proof is worth what this
    promise is worth. ``model`` is the monotone buffer floor that the model itself promises;
    ``weights`` is for a model that promises none but keeps all weights of a group on chip, ``rows``
    for one that keeps a row of every tensor there as well; ``nothing`` leaves no group out. That
    whatever holds a refused group is refused, too, is not assumed: under ``lbdf`` it is false, and
    taken for true it ends with plans up to 5 % worse, called optimal.

    Needs a model that ``touches_once``; for others every unasked group counts 0 bytes, still exact,
    rarely useful. ``effort`` bounds the lattice steps of each round; past it the search ends with
    the bound proved so far. Single ops are asked beforehand by ``solve``.
    ``problem.fused_evaluations`` counts the questions about groups of two ops or more.

    Raises:
        UnknownNameError: ``prune`` is none of the four.
        FusecutError: ``trust`` without a ``doubt``.
    """

    doubt: Doubt | None = None
    prune: Prune = "model"
    effort: int = 1_000_000
    trust: tuple[float, ...] = ()

    name = "lazy_exact"
    anytime = True

    def __post_init__(self) -> None:
        check_prune(self.prune)
        if self.trust and self.doubt is None:
            raise FusecutError("trust is in a surrogate: give doubt=, too")

    def propose(self, problem: Problem, rng: Generator) -> Iterator[Proposal]:
        """Bounds that rise with every answer; the last plan is optimal, those before are of the rounds of trust."""
        yield Proposal(Partition.singletons(problem.graph))
        reach = Reach(problem, floor_of(problem, self.prune))
        for margin in self.trust:
            for proposal in self._round(problem, reach, partial(self._believed, problem, margin)):
                yield Proposal(proposal.partition)
        yield from self._round(problem, reach, partial(_at_least, problem))

    def _round(self, problem: Problem, reach: Reach, price: Callable[[Group], int | None]) -> Iterator[Proposal]:
        """Ask for the groups of the best plan under a price until it is the best of all that was not asked."""
        while True:
            search = AStar(problem, reach, price)
            for proposal in search.run(self.effort):
                yield Proposal(None, proposal.bound)
            if search.best is None:
                return
            plan = search.groups()
            unknown = [group for group in plan if problem.known(group) is None]
            if not unknown:
                yield Proposal(Partition(problem.graph, plan), search.bound())
                return
            yield from self._ask(problem, unknown)

    def _believed(self, problem: Problem, margin: float, group: Group) -> int | None:
        """The rank of a group as in :func:`_at_least`; None, too, where it is not known and doubted."""
        if problem.known(group) is None and self.doubt is not None and self.doubt(problem, group) > margin:
            return None
        return _at_least(problem, group)

    def _ask(self, problem: Problem, groups: list[Group]) -> Iterator[Proposal]:
        """Ask until an answer is not the one hoped for; stoppable between two questions."""
        for group in sorted(groups, key=lambda g: (-self.doubt(problem, g) if self.doubt else 0.0, g & -g)):
            hoped = _at_least(problem, group)
            problem.plan(group)
            yield Proposal(None)
            if _at_least(problem, group) != hoped:
                return


def _at_least(problem: Problem, group: Group) -> int | None:
    """Rank of a group: by the model's answer if there is one, else from shapes; None if it cannot run."""
    planned = problem.known(group)
    if planned is None:
        return problem.least_rank(group)
    return None if isinstance(planned, Infeasible) else problem.rank_of(group, planned.cost)
