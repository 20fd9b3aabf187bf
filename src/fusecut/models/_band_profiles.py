"""What groups need on chip by number of bands, numbered: the same for every capacity."""

from __future__ import annotations

from typing import Final, NamedTuple

from fusecut.ir import Group

NOTHING: Final = 0
"""The profile of no op."""
NEVER_FITS: Final = 1
"""The profile that stands for all that fit in no number of bands: what else they need is not looked at."""

_MOST: Final = 1 << 62
_STEPS: Final = 200_000


class Need(NamedTuple):
    """Bytes on chip in ``more`` bands beyond one: whatever is done about shared rows; beside halos; if none is kept."""

    more: int
    any_way: int
    kept: int
    again: int

    def with_halos(self, nbytes: int) -> int:
        """Where so many bytes wait from band to band. One band keeps nothing for the next."""
        return min(max(self.any_way, self.kept + nbytes), self.again) if self.more else self.any_way


class Profiles:
    """Profiles by number; ``pairs`` are those of two ops and what lies between, ``steps`` of groups that grew by an op.

    ``alike`` are those of stretches that look the same. ``steps`` are remembered when told to, up to :data:`_STEPS`:
    by a sweep over capacities, which meets the same groups at every one. ``least`` is what a profile needs at least,
    were there no halos.
    """

    def __init__(self, starts: list[int]) -> None:
        self.starts = starts
        self.least: list[int] = []
        self.pairs: dict[tuple[int, int], int] = {}
        self.alike: dict[int, int] = {}
        self.steps: dict[tuple[Group, int], tuple[int, int]] | None = None
        self._needs: list[tuple[int, ...]] = []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._merged: dict[tuple[int, int], int] = {}
        self._ways: dict[int, tuple[Need, ...]] = {}
        self.number((0,) * (3 * len(starts)))
        self.number((_MOST,) * (3 * len(starts)))

    def number(self, needs: tuple[int, ...]) -> int:
        """The number of a profile: all :class:`Need` figures of one kind, then those of the next."""
        number = self._numbers.get(needs)
        if number is None:
            number = self._numbers[needs] = len(self._needs)
            self._needs.append(needs)
            self.least.append(min(need.with_halos(0) for need in self.needs(number)))
        return number

    def needs(self, number: int) -> tuple[Need, ...]:
        """By number of bands."""
        figures, count = self._needs[number], len(self.starts)
        return tuple(Need(start - 1, *figures[k::count]) for k, start in enumerate(self.starts))

    def figures(self) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[tuple[int, ...]]]:
        """The figures of all profiles, those of one kind after those of another, by number of bands."""
        count = len(self.starts)
        any_way, kept, again = ([needs[k : k + count] for needs in self._needs] for k in (0, count, 2 * count))
        return any_way, kept, again

    def ways(self, number: int) -> tuple[Need, ...]:
        """Of the needs those worth a look."""
        known = self._ways.get(number)
        if known is None:
            known = self._ways[number] = _worth(self.needs(number))
        return known

    def remember(self, group: Group, op: int, step: tuple[int, int]) -> None:
        """A step, where steps are remembered; they begin anew when there are too many."""
        if self.steps is not None:
            if len(self.steps) >= _STEPS:
                self.steps.clear()
            self.steps[group, op] = step

    def merged(self, one: int, other: int) -> int:
        """The number of the profile that needs what either needs."""
        if one == other or other == NOTHING:
            return one
        if one == NOTHING:
            return other
        key = (one, other) if one < other else (other, one)
        number = self._merged.get(key)
        if number is None:
            both = tuple(map(max, self._needs[one], self._needs[other]))
            number = self._merged[key] = self.number(both)
        return number


def _worth(needs: tuple[Need, ...]) -> tuple[Need, ...]:
    """Numbers of bands that need less, in some way, than fewer bands do."""
    ways: list[Need] = []
    for need in needs:
        _, any_way, kept, again = need
        for _, a, b, c in ways:
            if a <= any_way and b <= kept and c <= again:
                break
        else:
            ways.append(need)
    return tuple(ways)
