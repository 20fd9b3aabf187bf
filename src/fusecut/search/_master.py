"""Plans as sets of columns: the linear relaxation, cuts of it, and the best whole plan among known groups.

    minimise   sum of bytes(G) * x(G)
    such that  every op lies in exactly one G, x(G) in {0, 1}; relaxed: x(G) >= 0

HiGHS solves both, through scipy (Huangfu & Hall, Math. Prog. Comp. 2018). Of three ops a plan can
hold at most one group with two or three of them: fractional solutions that break this are cut off
(subset-row inequalities: Jepsen, Petersen, Spoorendonk & Pisinger, Operations Research 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np

from fusecut.ir import Group, bits

_USED: Final = 1e-6
_BROKEN: Final = 0.02
_CUTS_AT_ONCE: Final = 40
_NODES: Final = 300


class Relaxed(NamedTuple):
    """A solution of the relaxation: bytes, prices of ops, fines of triples, and the groups in use."""

    nbytes: float
    prices: list[float]
    fines: list[float]
    used: dict[Group, float]

    @property
    def whole(self) -> bool:
        """Whether it is a plan already."""
        return all(x > 1 - _USED for x in self.used.values())


class Master:
    """Columns and cuts of one network. ``bytes_of`` are the known groups and what they move."""

    def __init__(self, ops: int, bytes_of: dict[Group, int], penalty: int) -> None:
        self.ops, self.bytes_of, self.penalty = ops, bytes_of, penalty
        self.triples: list[Group] = []

    def relaxed(self) -> Relaxed:
        """The linear relaxation, with a dear column for each op so that there always is a solution."""
        from scipy.optimize import linprog

        groups = [*self.bytes_of, *(1 << op for op in range(self.ops))]
        costs = [*self.bytes_of.values(), *[self.penalty] * self.ops]
        result = linprog(
            np.array(costs, float),
            A_eq=self._rows(groups),
            b_eq=np.ones(self.ops),
            A_ub=_pairs(self.triples, groups),
            b_ub=np.ones(len(self.triples)) if self.triples else None,
            bounds=(0, None),
            method="highs",
        )
        if result.status:
            raise AssertionError(f"the relaxation has a solution, but: {result.message}")
        used = {group: float(x) for group, x in zip(groups, result.x, strict=True) if x > _USED}
        fines = [-float(f) for f in result.ineqlin.marginals] if self.triples else []
        return Relaxed(float(result.fun), result.eqlin.marginals.tolist(), fines, used)

    def cut_off(self, relaxed: Relaxed) -> int:
        """Add the triples that a fractional solution breaks most; how many there are."""
        known = set(self.triples)
        broken = [(most, ops) for most, ops in _broken(relaxed.used) if ops not in known]
        broken.sort(key=lambda entry: (-entry[0], entry[1]))
        self.triples += [ops for _, ops in broken[:_CUTS_AT_ONCE]]
        return len(broken[:_CUTS_AT_ONCE])

    def best_whole(
        self, groups: Sequence[Group], apart: Sequence[Sequence[Group]] = (), slack: float = 0.0
    ) -> list[Group] | None:
        """A good plan made of some of the groups, within ``slack`` of the best or as good as the nodes allow.

        ``apart`` are sets of groups that must not all be in it. None if no plan was found.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        if not groups:
            return None
        costs = np.array([self.bytes_of[group] for group in groups], float)
        rules: list[Any] = [LinearConstraint(self._rows(groups), 1, 1)]
        rows = [[float(group in each) for group in groups] for each in apart]
        if rows:
            rules.append(LinearConstraint(np.array(rows), -np.inf, np.array(rows).sum(axis=1) - 1))
        options = {"node_limit": _NODES, "mip_rel_gap": slack}
        result = milp(costs, constraints=rules, integrality=np.ones(len(groups)), bounds=Bounds(0, 1), options=options)
        if result.x is None:
            return None
        return [group for group, x in zip(groups, result.x, strict=True) if x > 1 / 2]

    def _rows(self, groups: Sequence[Group]) -> Any:
        from scipy.sparse import csc_matrix

        sizes = [group.bit_count() for group in groups]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.fromiter((op for group in groups for op in bits(group)), np.int32, int(ends[-1]))
        return csc_matrix((np.ones(len(rows)), rows, ends), shape=(self.ops, len(groups)))


def _pairs(triples: Sequence[Group], groups: Sequence[Group]) -> Any:
    """One row for each triple: which groups hold two or three of its ops."""
    from scipy.sparse import csr_matrix

    if not triples:
        return None
    places = [[k for k, group in enumerate(groups) if (group & ops).bit_count() > 1] for ops in triples]
    ends = np.concatenate([[0], np.cumsum([len(row) for row in places])])
    columns = np.array([k for row in places for k in row], np.int32)
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(triples), len(groups)))


def _broken(used: dict[Group, float]) -> list[tuple[float, Group]]:
    """Triples of ops of which a solution holds more than one pair, with how much more.

    Ops that lie in the same fractional groups are alike; one of them stands for all. O(classes^3) at
    most, in practice neighbours of neighbours only.
    """
    parts = {group: x for group, x in used.items() if x < 1 - _USED}
    classes: dict[tuple[Group, ...], int] = {}
    for op in sorted({op for group in parts for op in bits(group)}):
        classes.setdefault(tuple(group for group in parts if group >> op & 1), op)
    shared: dict[int, dict[int, float]] = {}
    for (homes, a), (others, b) in combinations(classes.items(), 2):
        both = sum(parts[group] for group in homes if group in others)
        if both > _USED:
            shared.setdefault(a, {})[b] = both
            shared.setdefault(b, {})[a] = both
    found = []
    for a, near in shared.items():
        for b, c in combinations([op for op in near if op > a], 2):
            ops = 1 << a | 1 << b | 1 << c
            held = sum(x for group, x in parts.items() if (group & ops).bit_count() > 1) if c in shared[b] else 0.0
            if held > 1 + _BROKEN:
                found.append((held - 1, ops))
    return found
