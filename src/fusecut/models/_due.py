"""The third row schedule, ``due``: every row has its time, as late as its readers allow (docs/lbdf.md, "By due time").

A whole map takes one unit of time, whatever its rows: row r of input i is there at r / H(i) + f(i). A row of a sink is
due when the last input row it depends on is there, and at least 1 / H(sink) after the one before; any other row when
the first row that needs it is due, and at least 1 / H before the next one of its own. Rows are made in order of their
times, equal ones upstream first.

The start f(i) of an input is such that it is not loaded before it is wanted: one sink after the other takes its time
from the inputs that have a start, and gives one to its other inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusecut.models._program import Program

Ints: TypeAlias = NDArray[Any]
Times: TypeAlias = tuple[Ints, ...]
"""For each stream the times of the rows that are demanded of it."""

_PAST_ALL: Final = 1 << 60


class Timetable:
    """When the rows of a program are made. O(sinks * operands * rows).

    Times are whole ticks, of which a map takes as many as all row counts divide: integers of Python where those of
    numpy are too small.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        ticks = lcm(*program.rows)
        self._never = 4 * (len(program.sinks) + 2) * ticks
        self._dtype = np.dtype(np.int64 if self._never < _PAST_ALL else object)
        self._step = [ticks // rows for rows in program.rows]
        self._hi = [[np.array(o.hi, np.int64) for o in operands] for operands in program.operands]
        self._needs = {sink: self._needed_by(sink) for sink in program.sinks}
        self.times = self._times(self._starts())

    def peaks(self) -> list[int]:
        """How high each ring rises: rows made less the lowest that some reader's next row needs."""
        times, peaks = self.times, []
        for ring in self.program.rings:
            made = np.arange(1, len(times[ring.maker]) + 1)
            low = np.zeros_like(made) if ring.kept else made
            for reader, lo in ring.readers:
                done = np.searchsorted(times[reader], times[ring.maker])
                low = np.minimum(low, np.array((*lo[: len(times[reader])], _PAST_ALL))[done])
            peaks.append(int(np.max(np.maximum(1, made - low), initial=0)))
        return peaks

    def events(self) -> list[int]:
        """The streams in the order in which they make their rows."""
        streams = np.repeat(np.arange(len(self.times)), [len(times) for times in self.times])
        return [int(s) for s in streams[np.argsort(np.concatenate(self.times), kind="stable")]]

    def _needed_by(self, sink: int) -> dict[int, Ints]:
        """For each input of several rows the last one that row q of the sink depends on, -1 for none."""
        reach, inputs = {sink: np.arange(self.program.rows[sink])}, dict[int, Ints]()
        for stream in range(sink, -1, -1):
            mine = reach.pop(stream, None)
            if mine is None:
                continue
            if not self.program.operands[stream] and self.program.rows[stream] > 1 and mine[-1] >= 0:
                inputs[stream] = mine.astype(self._dtype)
            for o, hi in zip(self.program.operands[stream], self._hi[stream], strict=True):
                new = np.where(mine >= 0, hi[mine], -1)
                reach[o.source] = np.maximum(reach[o.source], new) if o.source in reach else new
        return inputs

    def _starts(self) -> dict[int, int]:
        """When each input starts: sinks of many rows are asked first, the most downstream of several."""
        starts: dict[int, int] = {}
        left = sorted(self.program.sinks, key=lambda sink: (self.program.rows[sink], sink), reverse=True)
        while left:
            sink = next((s for s in left if starts.keys() & self._needs[s].keys()), left[0])
            left.remove(sink)
            delay = {i: self._delay(sink, i) for i in self._needs[sink]}
            known = [starts[i] + late for i, late in delay.items() if i in starts]
            time = max(known or delay.values(), default=0)
            starts |= {i: time - late for i, late in delay.items() if i not in starts}
        return starts

    def _delay(self, sink: int, source: int) -> int:
        """How far a sink is behind the input at least: the largest difference of their shares of the map."""
        rows = self._needs[sink][source]
        late = rows * self._step[source] - _multiples(len(rows), self._step[sink], self._dtype)
        return int(np.max(late[rows >= 0]))

    def _times(self, starts: Mapping[int, int]) -> Times:
        program, step = self.program, self._step
        due = [np.full(last + 1, self._never, self._dtype) for last in program.last]
        for sink, needs in self._needs.items():
            there = [rows * step[i] + starts[i] for i, rows in needs.items()]
            there = there or [_multiples(len(due[sink]), step[sink], self._dtype)]
            due[sink] = _apart(np.maximum.reduce(there), step[sink])
        for stream in range(len(due) - 1, -1, -1):
            due[stream] = -_apart(-due[stream][::-1], step[stream])[::-1]
            for o, hi in zip(program.operands[stream], self._hi[stream], strict=True):
                if len(due[stream]):
                    first = np.searchsorted(hi[: len(due[stream])], np.arange(hi[len(due[stream]) - 1] + 1))
                    mine = due[o.source][: len(first)]
                    np.minimum(mine, due[stream][first], out=mine)
        for stream in program.resident:
            due[stream] = np.full(program.rows[stream], -self._never, self._dtype)
        return tuple(due)


def _apart(times: Ints, step: int) -> Ints:
    """The earliest times not before these, each at least a step after the one before."""
    along = _multiples(len(times), step, times.dtype)
    apart: Ints = np.maximum.accumulate(times - along) + along
    return apart


def _multiples(many: int, step: int, dtype: np.dtype[Any]) -> Ints:
    """0, step, 2 step, ..."""
    multiples: Ints = np.arange(many).astype(dtype) * step
    return multiples
