"""What a group that may run in bands moves again at least, told from its ops.

For two ops, one leading to the other, :mod:`fusecut.models._band_needs` says how many bytes any group that
holds both has on chip, by the number of bands: need(n). Weights that stay on chip have only the rest of the
buffer; those that do not fit in there pass in every band::

    again(G) >= min over n of (n - 1) * max(0, weights - capacity + need(n))     where need(n) <= capacity

need is the most over all such pairs of the group's ops. Weights and need only grow with the group, and a
group made of two pays at least what both pay: each of their needs is at most the capacity.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple

from fusecut.cost import NEVER_BYTES
from fusecut.ir import Group, bits
from fusecut.models._band_needs import BandNeeds
from fusecut.models._bounds import RingFloor

NEVER: Final = 1 << 40
"""More bands than any group has rows: it cannot run in bands at all."""

_LONGEST: Final = 20
"""Ops between two that are looked at; of longer stretches only the end, as time and recursion grow with the length."""

_FIELD: Final = (1 << 64) - 1
_RING, _PROFILE = 64, 128
"""Where the numbers of a mark begin."""


class _Profile(NamedTuple):
    """What is needed on chip by number of bands, up to the capacity, and the counts worth a look."""

    needs: tuple[int, ...]
    ways: tuple[tuple[int, int], ...]


class BandFloor:
    """The floor of groups that run with all weights resident (``fits`` is their floor), or in bands.

    A mark is the number of a profile (what bands need on chip), the mark of ``fits``, and the bytes of weights.
    """

    def __init__(self, needs: BandNeeds, lines: RingFloor, capacity: int) -> None:
        self.fits, self.needs, self.capacity = lines, needs, capacity
        self.graph = needs.graph
        self._weights = [op.weight_bytes for op in self.graph.ops]
        self._profiles: list[_Profile] = []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._merged: dict[tuple[int, int], int] = {}
        self._pairs: dict[tuple[int, int], int] = {}
        self._nothing = self._number((0,) * len(needs.starts))
        self._never = self._number((capacity + 1,) * len(needs.starts))
        self.start = (self._nothing << _PROFILE) + (lines.start << _RING)

    def extend(self, group: Group, mark: int, op: int) -> int:
        """The mark of ``group`` with ``op`` added. O(ops between which the group begins or ends around it)."""
        ring = self.fits.extend(group, mark >> _RING & _FIELD, op)
        number = mark >> _PROFILE
        graph = self.graph
        above, below = group & graph.ancestors[op], group & graph.descendants[op]
        if not above and not below:
            number = self._merge(number, self.pair(op, op))
        number = self._from_heads(number, above, op)
        while below and number != self._never:
            last = below.bit_length() - 1
            below &= ~(graph.ancestors[last] | 1 << last)
            number = self._merge(number, self.pair(op, last))
        return (number << _PROFILE) + (ring << _RING) + (mark & _FIELD) + self._weights[op]

    def again_bytes(self, mark: int, capacity_bytes: int) -> int:
        """Nothing where line buffers may fit; else weights that do not fit, in all bands but the first."""
        if mark >> _RING & _FIELD <= capacity_bytes:
            return 0
        over = (mark & _FIELD) - capacity_bytes
        least = NEVER_BYTES
        for more, need in self._profiles[mark >> _PROFILE].ways:
            least = min(least, more * (over + need) if over + need > 0 else 0)
        return least

    def bands(self, group: Group) -> int:
        """Bands that a group needs at least; :data:`NEVER` where it cannot run in bands."""
        ways = self._profiles[self._whole(group)].ways
        return ways[0][0] + 1 if ways else NEVER

    def need_bytes(self, group: Group) -> Callable[[int], int]:
        """Bytes on chip at least if a group runs in so many bands; more than the capacity if it cannot."""
        needs, starts = self._profiles[self._whole(group)].needs, self.needs.starts
        return lambda count: needs[bisect_right(starts, count) - 1]

    def _whole(self, group: Group) -> int:
        mark, seen = self.start, 0
        for i in bits(group):
            mark, seen = self.extend(seen, mark, i), seen | 1 << i
        return mark >> _PROFILE

    def pair(self, first: int, last: int) -> int:
        """The profile of all groups that hold two ops, or the one: of what lies between, and of each part of it.

        Of more than :data:`_LONGEST` ops between, that of the last ones.
        """
        known = self._pairs.get((first, last))
        if known is None and (near := self._near(first, last)):
            known = self._pairs[first, last] = self._from_heads(self._nothing, near, last)
        if known is None:
            graph = self.graph
            known = self._nothing
            after = graph.succs[first] & (graph.ancestors[last] | 1 << last) if first != last else 0
            before = graph.preds[last] & (graph.descendants[first] | 1 << first) if first != last else 0
            for i in bits(after):
                known = self._merge(known, self.pair(i, last))
                if known == self._never:
                    break
            for i in bits(before):
                if known == self._never:
                    break
                known = self._merge(known, self.pair(first, i))
            if known != self._never:
                limit = self.capacity + 1
                own = tuple(min(need, limit) for need in self.needs.of(first, last).tolist())
                known = self._merge(known, self._number(own))
            self._pairs[first, last] = known
        return known

    def _from_heads(self, number: int, ops: Group, last: int) -> int:
        """A profile merged with that of each pair of an op that no other of ``ops`` leads to, and ``last``."""
        while ops and number != self._never:
            first = (ops & -ops).bit_length() - 1
            ops &= ~(self.graph.descendants[first] | 1 << first)
            number = self._merge(number, self.pair(first, last))
        return number

    def _near(self, first: int, last: int) -> Group:
        """Of a stretch that is too long to be looked at, the ops before its last one that are near it; else none."""
        between = self.graph.descendants[first] & self.graph.ancestors[last]
        over = between.bit_count() - _LONGEST
        if over <= 0:
            return 0
        for _ in range(over):
            between &= between - 1
        return between

    def _number(self, needs: tuple[int, ...]) -> int:
        number = self._numbers.get(needs)
        if number is None:
            number = self._numbers[needs] = len(self._profiles)
            ways: list[tuple[int, int]] = []
            for start, need in zip(self.needs.starts, needs, strict=True):
                if need <= self.capacity and (not ways or need < ways[-1][1]):
                    ways.append((start - 1, need))
            self._profiles.append(_Profile(needs, tuple(ways)))
        return number

    def _merge(self, one: int, other: int) -> int:
        """The number of the profile that needs what either needs."""
        if one == other or other == self._nothing:
            return one
        if one == self._nothing:
            return other
        key = (one, other) if one < other else (other, one)
        number = self._merged.get(key)
        if number is None:
            both = tuple(map(max, self._profiles[one].needs, self._profiles[other].needs))
            number = self._merged[key] = self._number(both)
        return number
