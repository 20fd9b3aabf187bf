"""The order of events by due time (``due``), as docs/lbdf.md says: an implementation of its own of the words there."""

from __future__ import annotations

from collections.abc import Sequence, Set
from fractions import Fraction
from typing import TypeAlias

from fusecut.simulate.stages import Stream

Wants: TypeAlias = Sequence[Sequence[tuple[int, Sequence[int]]]]
"""For each stream what it reads: another stream, and the last row of it that each of its own rows needs."""


class DueTimes:
    """When each wanted row of each stream is due; a whole map takes a time of 1."""

    def __init__(self, streams: Sequence[Stream], wants: Wants) -> None:
        self.streams, self.wants = streams, wants
        self.sinks = [s.index for s in streams if s.ends]
        self.step = [Fraction(1, s.total) for s in streams]
        self.needs = {sink: self._needs(sink) for sink in self.sinks}

    def order(self, resident: Set[int]) -> list[Stream]:
        """The stream that makes its next row, again and again: by time, equal times upstream first."""
        due = self._due()
        turns = [(time, s) for s, times in enumerate(due) if s not in resident for time in times]
        first = [self.streams[s] for s in sorted(resident) for _ in range(self.streams[s].total)]
        return first + [self.streams[s] for _, s in sorted(turns)]

    def _needs(self, sink: int) -> dict[int, list[int]]:
        """Last row of each loaded map that each row of a sink depends on; maps of one row do not count."""
        rows = {sink: list(range(self.streams[sink].total))}
        for s in range(sink, -1, -1):
            for other, hi in self.wants[s] if s in rows else ():
                mine = [hi[q] if q >= 0 else -1 for q in rows[s]]
                rows[other] = [max(pair) for pair in zip(mine, rows.get(other, mine), strict=True)]
        return {s: r for s, r in rows.items() if not self.wants[s] and self.streams[s].total > 1 and max(r) >= 0}

    def _lag(self, sink: int, loader: int) -> Fraction:
        """By which share of a map a sink must be behind the loader of an input."""
        rows = self.needs[sink][loader]
        return max(r * self.step[loader] - q * self.step[sink] for q, r in enumerate(rows) if r >= 0)

    def _starts(self) -> dict[int, Fraction]:
        """Each input begins just in time for the first sink that is asked about it."""
        starts: dict[int, Fraction] = {}
        asked: set[int] = set()
        ranked = sorted(self.sinks, key=lambda s: (-self.streams[s].total, -s))
        while len(asked) < len(ranked):
            open_sinks = [s for s in ranked if s not in asked]
            joined = [s for s in open_sinks if any(i in starts for i in self.needs[s])]
            sink = (joined or open_sinks)[0]
            asked.add(sink)
            bound = [starts[i] + self._lag(sink, i) for i in self.needs[sink] if i in starts]
            time = max(bound or [self._lag(sink, i) for i in self.needs[sink]], default=Fraction(0))
            for i in self.needs[sink]:
                starts.setdefault(i, time - self._lag(sink, i))
        return starts

    def _due(self) -> list[list[Fraction]]:
        starts = self._starts()
        due: list[list[Fraction | None]] = [[None] * s.rows for s in self.streams]
        for sink in self.sinks:
            for q in range(len(due[sink])):
                there = [rows[q] * self.step[i] + starts[i] for i, rows in self.needs[sink].items()]
                before = due[sink][q - 1] if q else None
                there += [] if before is None else [before + self.step[sink]]
                due[sink][q] = max(there, default=Fraction(0))
        for s in range(len(due) - 1, -1, -1):
            self._before_the_next(s, due[s])
            for other, hi in self.wants[s]:
                made = 0
                for q, time in enumerate(due[s]):
                    for r in range(made, hi[q] + 1):
                        due[other][r] = _sooner(due[other][r], time)
                    made = max(made, hi[q] + 1)
        return [[time for time in times if time is not None] for times in due]

    def _before_the_next(self, stream: int, times: list[Fraction | None]) -> None:
        for q in range(len(times) - 2, -1, -1):
            after = times[q + 1]
            times[q] = _sooner(times[q], None if after is None else after - self.step[stream])


def _sooner(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    """The earlier of two times; None is never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
