"""Plans as sets of columns: the linear relaxation.

minimise   sum of bytes(G) * x(G)
such that  every op lies in exactly one G, x(G) >= 0
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from fusecut.ir import Group, bits
from fusecut.search._solver import Program

_USED: Final = 1e-6


class Relaxed(NamedTuple):
    """A solution of the relaxation: bytes, prices of ops, and the groups in use."""

    nbytes: float
    prices: list[float]
    used: list[Group]


class Master:
    """Columns of one network. ``bytes_of`` are the known groups and what they move.

    A dear column for each op, of ``penalty`` bytes, sees to it that there always is a solution.
    """

    def __init__(self, ops: int, penalty: int) -> None:
        self.ops = ops
        self.bytes_of: dict[Group, int] = {}
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
            columns = [[(op, 1.0) for op in bits(group)] for group in new]
            self._program.add_columns([self.bytes_of[group] for group in new], columns)
        found = self._program.solve()
        used = [self._groups[k] for k in np.flatnonzero(found.columns[self.ops :] > _USED).tolist()]
        return Relaxed(found.value, found.rows, used)
