"""Good plans fast, from the lattice of ideals: at every size of ideal only the most promising ones go on."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple

from fusecut.ir import Group
from fusecut.problem import Problem
from fusecut.search._lattice import Lattice
from fusecut.search._ranking import Ranking
from fusecut.search.protocol import Proposal


class Beam(NamedTuple):
    """Ideals kept of every size, and groups kept of every size after each of them."""

    ideals: int
    groups: int


BEAMS: Final = (Beam(1, 1), Beam(1, 3), Beam(1, 30), Beam(4, 30), Beam(10, 30))
"""From cheap to thorough."""


class Settled(NamedTuple):
    """How an ideal is reached: at what rank, by which group, from where."""

    reached: int
    group: Group
    parent: Group


def beam_plan(
    problem: Problem, lattice: Lattice, ranking: Ranking, beam: Beam, end: int
) -> Generator[Proposal, None, list[Group] | None]:
    """A plan along the most promising ideals of every size, in order of size.

    Yields empty proposals, so that the driver can stop it between expansions. Returns None when the
    lattice's effort passes ``end``, or when the beam loses itself in ideals that no feasible group
    leaves. O(ops * ideals * :meth:`Lattice.likely_from`).
    """
    everything = problem.graph.everything
    layers: list[dict[Group, list[_Way]]] = [{} for _ in range(everything.bit_count() + 1)]
    layers[0][0] = []
    settled: dict[Group, Settled] = {}
    rests = {0: _Rest(lattice.whole, 0)}
    for layer in layers:
        for ideal in _most_promising(problem, layer, settled, rests, beam.ideals):
            yield Proposal(None)
            if lattice.steps > end:
                return None
            for step in lattice.likely_from(ideal, rests[ideal].nbytes, beam.groups):
                after = ideal | step.group
                spent, left = ranking.step(ideal, step)
                rests[after] = _Rest(step.rest_bytes, left)
                way = _Way(settled[ideal].reached + spent, step.group, ideal)
                layers[after.bit_count()].setdefault(after, []).append(way)
        layer.clear()
    return path_to(settled, everything) if everything in settled else None


def path_to(settled: dict[Group, Settled], ideal: Group) -> list[Group]:
    """The groups on the way to an ideal, first to last."""
    groups = []
    while ideal:
        groups.append(settled[ideal].group)
        ideal = settled[ideal].parent
    return groups[::-1]


class _Rest(NamedTuple):
    """What is left after an ideal, at least: bytes, and rank."""

    nbytes: int
    rank: int


class _Way(NamedTuple):
    """A way to an ideal with its rank, at least."""

    reached: int
    group: Group
    parent: Group


def _most_promising(
    problem: Problem,
    layer: dict[Group, list[_Way]],
    settled: dict[Group, Settled],
    rests: dict[Group, _Rest],
    width: int,
) -> list[Group]:
    """Up to ``width`` ideals of one size, settled; the model is asked in order of promise only."""
    ranked = sorted(
        (min(ways, default=_Way(0, 0, 0)).reached + rests[ideal].rank, ideal) for ideal, ways in layer.items()
    )
    kept: list[Group] = []
    for _, ideal in ranked:
        way = _cheapest(problem, settled, layer[ideal]) if ideal else Settled(0, 0, 0)
        if way is not None:
            settled[ideal] = way
            kept.append(ideal)
        if len(kept) == width:
            break
    return kept


def _cheapest(problem: Problem, settled: dict[Group, Settled], ways: list[_Way]) -> Settled | None:
    """The cheapest way to an ideal by true cost, asking the model no more often than needed."""
    best: Settled | None = None
    for bound, group, parent in sorted(ways):
        if best is not None and bound >= best.reached:
            break
        rank = problem.rank(group)
        if rank is not None:
            reached = settled[parent].reached + rank
            if best is None or reached < best.reached:
                best = Settled(reached, group, parent)
    return best
