"""Plans as sets of columns: the linear relaxation, cuts of it, and the best whole plan among known groups.

    minimise   sum of bytes(G) * x(G)
    such that  every op lies in exactly one G, x(G) in {0, 1}; relaxed: x(G) >= 0

Of three ops a plan can hold at most one group with two or three of them: fractional solutions that break
this are cut off (subset-row inequalities: Jepsen, Petersen, Spoorendonk & Pisinger, Operations Research 2008).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np

from fusecut.ir import Group, bits
from fusecut.search._solver import Program, best_choice

_USED: Final = 1e-6
_BROKEN: Final = 0.02
_CUTS_AT_ONCE: Final = 40


class Relaxed(NamedTuple):
    """A solution of the relaxation: bytes, prices of ops, fines of triples, and the groups in use."""

    nbytes: float
    prices: list[float]
    fines: dict[Group, float]
    used: dict[Group, float]


class Master:
    """Columns and cuts of one network. ``bytes_of`` are the known groups and what they move.

    A dear column for each op, of ``penalty`` bytes, sees to it that there always is a solution.
    """

    def __init__(self, ops: int, penalty: int) -> None:
        self.ops = ops
        self.bytes_of: dict[Group, int] = {}
        self.triples: list[Group] = []
        self._place: dict[Group, int] = {}
        self._groups: list[Group] = []
        self._waiting: list[Group] = []
        self._program = Program()
        self._program.add_rows([()] * ops, 1, 1)
        self._program.add_columns([penalty] * ops, [[(op, 1.0)] for op in range(ops)])

    def add(self, group: Group, nbytes: int) -> None:
        """A group that may be used, or what it moves after all."""
        if group in self._place:
            self._program.price(self._place[group], nbytes)
        elif group not in self.bytes_of:
            self._waiting.append(group)
        self.bytes_of[group] = nbytes

    def drop(self, group: Group) -> None:
        """A group that may not be used."""
        if self.bytes_of.pop(group, None) is not None and group in self._place:
            self._program.forbid(self._place[group])

    def relaxed(self) -> Relaxed:
        """The linear relaxation, from its last optimum on."""
        new = [group for group in self._waiting if group in self.bytes_of]
        self._waiting.clear()
        if new:
            self._place.update((group, self.ops + len(self._groups) + k) for k, group in enumerate(new))
            self._groups += new
            self._program.add_columns([self.bytes_of[group] for group in new], [self._column(group) for group in new])
        found = self._program.solve()
        shares = found.columns[self.ops :]
        used = {self._groups[k]: float(shares[k]) for k in np.flatnonzero(shares > _USED).tolist()}
        fines = {ops: -worth for ops, worth in zip(self.triples, found.rows[self.ops :], strict=True)}
        return Relaxed(found.value, found.rows[: self.ops], fines, used)

    def cut_off(self, relaxed: Relaxed) -> int:
        """Add the triples that a fractional solution breaks most; how many there are."""
        known = set(self.triples)
        broken = [(most, ops) for most, ops in _broken(relaxed.used) if ops not in known]
        broken.sort(key=lambda entry: (-entry[0], entry[1]))
        new = [ops for _, ops in broken[:_CUTS_AT_ONCE]]
        if new:
            self._program.add_rows([list(self._row(ops)) for ops in new], None, 1)
            self.triples += new
        return len(new)

    def best_whole(
        self, groups: Sequence[Group], apart: Sequence[Sequence[Group]] = (), slack: float = 0.0
    ) -> list[Group] | None:
        """A good plan made of some of the groups, within ``slack`` of the best or as good as the nodes allow.

        ``apart`` are sets of groups that must not all be in it. None if no plan was found.
        """
        if not groups:
            return None
        place = {group: k for k, group in enumerate(groups)}
        known = [[place[group] for group in each] for each in apart if all(group in place for group in each)]
        costs, columns = [self.bytes_of[group] for group in groups], [list(bits(group)) for group in groups]
        chosen = best_choice(costs, columns, self.ops, known, slack)
        return None if chosen is None else [groups[k] for k in chosen]

    def _column(self, group: Group) -> list[tuple[int, float]]:
        """The rows of a group: its ops, and the triples of which it holds two or three."""
        rows = [(op, 1.0) for op in bits(group)]
        held = [k for k, ops in enumerate(self.triples) if (group & ops).bit_count() > 1]
        return rows + [(self.ops + k, 1.0) for k in held]

    def _row(self, ops: Group) -> Iterator[tuple[int, float]]:
        """The columns of a triple."""
        for k, group in enumerate(self._groups, self.ops):
            if (group & ops).bit_count() > 1:
                yield k, 1.0


def _broken(used: Mapping[Group, float]) -> list[tuple[float, Group]]:
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
