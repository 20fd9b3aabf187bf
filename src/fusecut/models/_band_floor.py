"""What a group that may run in bands moves again at least, told from its ops.

For two ops, one leading to the other, :mod:`fusecut.models._band_needs` says how many bytes any group that
holds both has on chip at some time, by the number of bands; need(n) is the most over all such pairs of the group's
ops. Rows that bands share are all kept or all made again. Kept, they are on chip all the time, so their least
number adds up over the group: need(n) is the lesser of both ways. Weights that stay on chip have only the rest of
the buffer; those that do not fit in there pass in every band::

    again(G) >= min over n of (n - 1) * max(0, weights - capacity + need(n))     where need(n) <= capacity

Weights and need only grow with the group, and a group made of two pays at least what both pay: each of their
needs is at most the capacity.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from fusecut.cost import NEVER_BYTES, BandTable
from fusecut.ir import Graph, Group, bits
from fusecut.models._band_needs import BandNeeds
from fusecut.models._band_profiles import NEVER_FITS, NOTHING, Profiles
from fusecut.models._bounds import RingFloor

NEVER: Final = 1 << 40
"""More bands than any group has rows: it cannot run in bands at all."""

_LONGEST: Final = 20
"""Ops between two that are looked at; of longer stretches only the end, as time and recursion grow with the length."""

_FIELD: Final = (1 << 64) - 1
_RING, _HALO, _PROFILE = 64, 128, 192
"""Where the numbers of a mark begin."""


class BandFloor:
    """The floor of groups that run with all weights resident (``fits`` is their floor), or in bands.

    A mark is the number of a profile (what bands need on chip), the bytes of halos, the mark of ``fits``, and the
    bytes of weights.
    """

    def __init__(self, needs: BandNeeds, profiles: Profiles, lines: RingFloor, capacity: int) -> None:
        self.fits, self.needs, self.profiles, self.capacity = lines, needs, profiles, capacity
        self.graph = needs.graph
        self._weights = [op.weight_bytes for op in self.graph.ops]
        self._never: set[tuple[int, int]] = set()
        self._sharing: dict[int, Group] = {}
        self._known_options: dict[int, list[tuple[int, int]]] = {}
        self.start = (NOTHING << _PROFILE) + (lines.start << _RING)

    def extend(self, group: Group, mark: int, op: int) -> int:
        """The mark of ``group`` with ``op`` added. O(ops between which the group begins or ends around it)."""
        number, ring = self._step(group, mark >> _PROFILE, mark >> _RING & _FIELD, op)
        halos = (mark >> _HALO & _FIELD) + self._more_halos(group, op)
        return (number << _PROFILE) + (halos << _HALO) + (ring << _RING) + (mark & _FIELD) + self._weights[op]

    def _step(self, group: Group, number: int, ring: int, op: int) -> tuple[int, int]:
        """The profile and the mark of ``fits`` with an op more."""
        steps = self.profiles.steps
        if steps is None:
            return self._joined(group, number, op), self.fits.extend(group, ring, op)
        known = steps.get((group, op))
        if known is None:
            known = self._joined(group, number, op), self.fits.extend(group, ring, op)
            if known[0] != NEVER_FITS:
                self.profiles.remember(group, op, known)
        return self._fitting(known[0]), known[1]

    def _joined(self, group: Group, number: int, op: int) -> int:
        graph = self.graph
        above, below = group & graph.ancestors[op], group & graph.descendants[op]
        if not above and not below:
            number = self._merge(number, self.pair(op, op))
        number = self._from_heads(number, above, op)
        while below and number != NEVER_FITS:
            last = below.bit_length() - 1
            below &= ~(graph.ancestors[last] | 1 << last)
            number = self._merge(number, self.pair(op, last))
        return number

    def again_bytes(self, mark: int, capacity_bytes: int) -> int:
        """Nothing where line buffers may fit; else weights that do not fit, in all bands but the first."""
        if mark >> _RING & _FIELD <= capacity_bytes:
            return 0
        over, least = (mark & _FIELD) - capacity_bytes, NEVER_BYTES
        for more, need in self._options(mark):
            least = min(least, more * (over + need) if over + need > 0 else 0)
        return least

    def bands(self, group: Group) -> int:
        """Bands that a group needs at least; :data:`NEVER` where it cannot run in bands."""
        return min((more + 1 for more, _ in self._options(self._whole(group))), default=NEVER)

    def need_bytes(self, group: Group) -> Callable[[int], int]:
        """Bytes on chip at least if a group runs in so many bands; more than the capacity if it cannot."""
        mark, starts = self._whole(group), self.needs.starts
        needs, halos = self.profiles.needs(mark >> _PROFILE), mark >> _HALO & _FIELD
        return lambda count: needs[bisect_right(starts, count) - 1].with_halos(halos)

    def _options(self, mark: int) -> list[tuple[int, int]]:
        """(bands beyond one, bytes on chip) that the buffer may allow."""
        key = mark >> _HALO
        known = self._known_options.get(key)
        if known is None:
            halos, ways = key & _FIELD, self.profiles.ways(mark >> _PROFILE)
            needs = [(way.more, way.with_halos(halos)) for way in ways]
            known = self._known_options[key] = [option for option in needs if option[1] <= self.capacity]
        return known

    def _whole(self, group: Group) -> int:
        mark, seen = self.start, 0
        for i in bits(group):
            mark, seen = self.extend(seen, mark, i), seen | 1 << i
        return mark

    def bands_table(self, graph: Graph, ops: Group) -> BandTable:
        """The floor of groups of some ops as a table. O(pairs of them, one leading to the other)."""
        place = {op: k for k, op in enumerate(bits(ops))}
        profile = [[NOTHING] * len(place) for _ in place]
        for last, b in place.items():
            for first in bits((graph.ancestors[last] | 1 << last) & ops):
                a = place[first]
                profile[a][b] = profile[b][a] = self.pair(first, last)
        more = [start - 1 for start in self.needs.starts]
        halos = [self._halo_pairs(t) for t in range(len(graph.tensors))]
        return BandTable(self.fits.table(graph), more, profile, *self.profiles.figures(), halos)

    # Rows that wait between bands ---------------------------------------------------------------

    def _more_halos(self, group: Group, op: int) -> int:
        """Bytes of rows that wait between bands because an op joins a group: for itself and its readers.

        They wait for an op that is never done in one band: where it and an op before it cannot be.
        """
        halos = self.needs.halos
        after, changed, below = group | 1 << op, [op] if halos[op] else [], self.graph.succs[op] & group
        if below:
            changed += [c for c in bits(below) if halos[c] and not self._shares(c, group)]
        if not changed:
            return 0
        tensors = dict.fromkeys(t for c in changed if self._shares(c, after) for t in halos[c])
        row_bytes = self.graph.tensors
        return sum((self._halo(t, after) - self._halo(t, group)) * row_bytes[t].row_bytes for t in tensors)

    def _halo(self, tensor: int, group: Group) -> int:
        """Rows of a tensor that wait for one of its readers at least."""
        halos, readers = self.needs.halos, self.graph.consumer_mask[tensor] & group
        return max(
            (halos[c][tensor] for c in bits(readers) if tensor in halos[c] and self._shares(c, group)), default=0
        )

    def _halo_pairs(self, tensor: int) -> list[tuple[Group, int]]:
        """Bytes of a tensor that wait where an op and one that keeps it from working in one band are in the group."""
        row_bytes, found = self.graph.tensors[tensor].row_bytes, list[tuple[Group, int]]()
        for c in bits(self.graph.consumer_mask[tensor]):
            if rows := self.needs.halos[c].get(tensor, 0):
                self._shares(c, 0)
                found += [(1 << c | 1 << p, rows * row_bytes) for p in bits(self._sharing[c])]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))

    def _shares(self, op: int, group: Group) -> bool:
        """Whether an op works in several bands, as all its rows do not fit beside one of its predecessors."""
        if op not in self._sharing:
            preds = [p for p in bits(self.graph.preds[op]) if self._too_large(p, op)]
            self._sharing[op] = sum(1 << p for p in preds) | (self._too_large(op, op) << op)
        return bool(self._sharing[op] & (group | 1 << op))

    def _too_large(self, first: int, last: int) -> bool:
        return self.profiles.needs(self.pair(first, last))[0].any_way > self.capacity

    # What stages hold -----------------------------------------------------------------------------

    def pair(self, first: int, last: int) -> int:
        """The profile of all groups that hold two ops, or the one: of what lies between, and of each part of it.

        Of more than :data:`_LONGEST` ops between, that of the last ones.
        """
        known = self.profiles.pairs.get((first, last))
        if known is None:
            if (first, last) in self._never:
                return NEVER_FITS
            near = self._near(first, last)
            known = self._from_heads(NOTHING, near, last) if near else self._between(first, last)
            if known == NEVER_FITS:
                self._never.add((first, last))
                return known
            self.profiles.pairs[first, last] = known
        return self._fitting(known)

    def _between(self, first: int, last: int) -> int:
        """The same of a stretch that is not too long. What fits in no number of bands is not looked into further."""
        graph, key = self.graph, self.needs.key(first, last)
        known = self.profiles.alike.get(key)
        if known is not None:
            return self._fitting(known)
        known = NOTHING
        after = graph.succs[first] & (graph.ancestors[last] | 1 << last) if first != last else 0
        before = graph.preds[last] & (graph.descendants[first] | 1 << first) if first != last else 0
        for one, other in [*((i, last) for i in bits(after)), *((first, i) for i in bits(before))]:
            known = self._merge(known, self.pair(one, other))
            if known == NEVER_FITS:
                return known
        known = self.profiles.merged(known, self.profiles.number(self.needs.of(first, last, key)))
        self.profiles.alike[key] = known
        return self._fitting(known)

    def _from_heads(self, number: int, ops: Group, last: int) -> int:
        """A profile merged with that of each pair of an op that no other of ``ops`` leads to, and ``last``."""
        while ops and number != NEVER_FITS:
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

    def _merge(self, one: int, other: int) -> int:
        """The profile that needs what either needs."""
        if NEVER_FITS in (one, other):
            return NEVER_FITS
        return self._fitting(self.profiles.merged(one, other))

    def _fitting(self, number: int) -> int:
        """The profile, or the one that stands for all that are too large."""
        return number if self.profiles.least[number] <= self.capacity else NEVER_FITS
