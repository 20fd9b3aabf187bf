"""The order of events that a line-buffer schedule names: "dd" (pull), "ddc" (arrival) or "due", as docs/lbdf.md says.

An implementation of its own, of the words on that page: what it shares with the cost models' is the page.
Every question is "what must be made next for this row": the answer is a row to be made first, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TypeAlias

from fusecut.simulate.due import DueTimes
from fusecut.simulate.stages import LOADER, Stage, Stream

Target: TypeAlias = tuple[int, int]
"""(stream, row)."""

NONE = -1


class Policy:
    """Events of a stage in order. The caller makes each row before it asks for the next."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.streams, self.name, self.arrival = stage.streams, name, name != "dd"
        self.wants = [
            [(other.index, source.hi) for source in s.sources for other in stage.makers_of(source)]
            for s in self.streams
        ]
        self.sinks = [s.index for s in self.streams if s.ends]
        self.single: list[int] = []
        for s in range(len(self.streams)):
            self.single.append(self._common({o for o, _ in self.wants[s] if self._counts(o)}))
        self.regions: dict[int, tuple[int, list[int]]] = {}
        self.closures: dict[int, tuple[int, dict[int, int]]] = {}
        self.pull_orders: dict[int, list[int]] = {}

    def events(self, resident: set[int]) -> Iterator[Stream]:
        """The stream that makes its next row, again and again."""
        if self.name == "due":
            yield from DueTimes(self.streams, self.wants).order(resident)
            return
        for stream in self.streams:
            if stream.index in resident:
                yield from (stream for _ in range(stream.total))
            elif stream.op == LOADER and stream.total == stream.rows == 1:
                yield stream
        for number, step in enumerate(self._steps()):
            if self.arrival and len(step) > 1:
                yield from self._together(number, step)
            else:
                for sink, row in step:
                    yield from self._up_to(sink, row)

    def _up_to(self, stream: int, row: int) -> Iterator[Stream]:
        """A row, after everything that it turns out to need first."""
        stack = [(stream, row)]
        while stack:
            top, last = stack[-1]
            if self.streams[top].made > last:
                stack.pop()
                continue
            first = self._first(top)
            if first is None:
                yield self.streams[top]
            else:
                stack.append(first)

    def _together(self, number: int, step: list[Target]) -> Iterator[Stream]:
        """Rows of several sinks that need the same share of the inputs: one closure."""
        while any(self.streams[s].made <= row for s, row in step):
            yield from self._up_to(*self._arriving(NONE, number, step))

    def _first(self, stream: int) -> Target | None:
        """What to make before the next row of a stream; None when it is ready."""
        q, wants = self.streams[stream].made, self.wants[stream]
        missing = [k for k, (s, hi) in enumerate(wants) if self.streams[s].made <= hi[q]]
        if not missing:
            return None
        if self.arrival and len(wants) > 1:
            return self._arriving(stream, q, [(wants[k][0], wants[k][1][q]) for k in missing])
        order = missing if len(wants) == 1 else [k for k in self._least_lag_first(stream) if k in missing]
        return wants[order[0]][0], wants[order[0]][1][q]

    # Arrival ----------------------------------------------------------------------------------------

    def _arriving(self, join: int, row: int, targets: list[Target]) -> Target:
        """The most downstream row of the closure that is ready; else one more row of what all paths go through."""
        single, region = self._region(join, targets)
        if self.closures.get(join, (NONE, {}))[0] != row:
            self.closures[join] = row, self._needs(targets, region)
        need = self.closures[join][1]
        for s in region:
            q = self.streams[s].made
            if q <= need.get(s, -1) and self.wants[s] and self._ready(s, q):
                return s, q
        if single == NONE:
            waiting = [s for s in region if not self.wants[s] and self.streams[s].made <= need.get(s, -1)]
            single = min(waiting, key=lambda s: (Fraction(self.streams[s].made, self.streams[s].total), s))
        return single, self.streams[single].made

    def _ready(self, stream: int, q: int) -> bool:
        return all(self.streams[s].made > hi[q] for s, hi in self.wants[stream])

    def _region(self, join: int, targets: list[Target]) -> tuple[int, list[int]]:
        """(the stream all paths to the join go through, the streams between), most downstream first."""
        if join not in self.regions:
            ends = set(self.sinks) if join == NONE else {s for s, _ in self.wants[join]}
            single = self._common(ends) if join == NONE else self.single[join]
            inside, stack = set(ends), sorted(ends)
            while stack:
                s = stack.pop()
                new = {o for o, _ in self.wants[s]} - inside if s != single else set()
                inside |= new
                stack += sorted(new)
            self.regions[join] = single, sorted((s for s in inside if s > single), reverse=True)
        return self.regions[join]

    def _counts(self, stream: int) -> bool:
        """Vectors that are loaded up front lie on no path."""
        return self.streams[stream].total > 1 or bool(self.wants[stream])

    def _common(self, streams: set[int]) -> int:
        """The latest stream that all paths back from these go through; NONE where they end apart."""
        lines = [set(self._line(s)) for s in sorted(streams)]
        return max(set.intersection(*lines), default=NONE) if lines else NONE

    def _line(self, stream: int) -> list[int]:
        """A stream, the one all its paths go through, and so on upstream."""
        line = [stream]
        while (stream := self.single[stream]) != NONE:
            line.append(stream)
        return line

    # Pull -------------------------------------------------------------------------------------------

    def _least_lag_first(self, stream: int) -> list[int]:
        """Operands by the share of the inputs that they need half way."""
        if stream not in self.pull_orders:
            q = self.streams[stream].total // 2
            lags = [(self._share(s, hi[q]), k) for k, (s, hi) in enumerate(self.wants[stream])]
            self.pull_orders[stream] = [k for _, k in sorted(lags)]
        return self.pull_orders[stream]

    # Several sinks ----------------------------------------------------------------------------------

    def _steps(self) -> Iterator[list[Target]]:
        """Rows of all sinks by the largest share of an input that they need; equal shares together."""
        if len(self.sinks) == 1:
            yield from ([(self.sinks[0], q)] for q in range(self.streams[self.sinks[0]].total))
            return
        rows: dict[Fraction, list[Target]] = {}
        for s in self.sinks:
            for q in range(self.streams[s].total):
                rows.setdefault(self._share(s, q), []).append((s, q))
        for share in sorted(rows):
            yield rows[share]

    def _share(self, stream: int, row: int) -> Fraction:
        need = self._needs([(stream, row)], list(range(stream, -1, -1)))
        shares = (Fraction(q + 1, self.streams[s].total) for s, q in need.items() if not self.wants[s])
        return max(shares, default=Fraction(0))

    def _needs(self, targets: list[Target], region: list[int]) -> dict[int, int]:
        """The last row of every stream that these rows depend on, through the region."""
        need: dict[int, int] = {}
        for s, q in targets:
            need[s] = max(q, need.get(s, -1))
        for s in region:
            q = need.get(s, -1)
            for other, hi in self.wants[s] if q >= 0 else ():
                need[other] = max(hi[q], need.get(other, -1))
        return need
