"""The row schedule of a group: in which order rows are made, and how high each ring rises.

Two policies, both deterministic and both bounded by demand (no row is made before something
needs it):

``dd``   pull. A row asks for its operands' rows one operand after the other, the operand that
         lags least first.
``ddc``  arrival. At a join the rows needed for its next row form a *closure* in the region between
         the join and its immediate dominator; any ready row of the closure is made, downstream
         first, and only when none is ready the dominator makes one more row. Without a common
         dominator the least advanced group input loads one more row.

With several sinks the rows of all sinks are served in the order of the share of the inputs they
need; equal shares form one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import lcm
from typing import Final, TypeAlias

from fusecut.models._program import Operand, Program

Observer: TypeAlias = Callable[[int, int], None]
"""Called with (stream, row) when a row is made, before the rows of its operands are released."""

Targets: TypeAlias = list[tuple[int, int]]
"""Rows wanted together: (stream, last row)."""

ROOT: Final = -1

_LEAPS: Final = 4
"""How often a run looks whether it may leap: the tables of all rows are read each time."""
_REMEMBERED: Final = 256
"""Positions kept to find a period in; then all are forgotten."""


def sink_steps(program: Program) -> Iterator[Targets]:
    """The sink rows in serving order; for a single sink simply its rows, one by one."""
    if len(program.sinks) == 1:
        sink = program.sinks[0]
        yield from ([(sink, q)] for q in range(program.rows[sink]))
        return
    scale = lcm(*(rows for rows, operands in zip(program.rows, program.operands, strict=True) if not operands))
    keyed = sorted((key, s, q) for s in program.sinks for q, key in enumerate(_shares(program, s, scale)))
    step: Targets = []
    for i, (key, s, q) in enumerate(keyed):
        step.append((s, q))
        if i + 1 == len(keyed) or keyed[i + 1][0] != key:
            yield step
            step = []


def _shares(program: Program, sink: int, scale: int) -> list[int]:
    """For each row of a sink: max over inputs of (last row needed + 1) / rows, times ``scale``."""
    reach: dict[int, list[int]] = {sink: list(range(program.rows[sink]))}
    shares = [0] * program.rows[sink]
    for stream in range(sink, -1, -1):
        mine = reach.pop(stream, None)
        if mine is None:
            continue
        for o in program.operands[stream]:
            new = [o.hi[q] if q >= 0 else -1 for q in mine]
            old = reach.get(o.source)
            reach[o.source] = new if old is None else list(map(max, old, new))
        if not program.operands[stream]:
            weight = scale // program.rows[stream]
            shares = [max(share, (q + 1) * weight) for share, q in zip(shares, mine, strict=True)]
    return shares


class RowMachine:
    """Makes the rows of a program under one policy and records the peak of every ring.

    A run stops early when the rings together exceed ``limit`` bytes (:attr:`overflown`), or when
    the schedule of a single steady sink has become periodic; else it leaps over periods.
    Time is O(events * region).
    """

    def __init__(
        self, program: Program, arrival: bool, limit: int | None = None, observer: Observer | None = None
    ) -> None:
        self.program, self.arrival, self.limit, self.observer = program, arrival, limit, observer
        self.operands: list[tuple[Operand, ...]] = program.operands
        streams = len(program.rows)
        self.made = [0] * streams
        self.readers = program.readers()
        self.rings_of: list[list[int]] = [[] for _ in range(streams)]
        self._falls: list[list[int]] = [[] for _ in range(streams)]
        for r, ring in enumerate(program.rings):
            self.rings_of[ring.maker].append(r)
            for stream in {ring.maker, *(reader for reader, _ in ring.readers)}:
                self._falls[stream].append(r)
        self.peaks = [0] * len(program.rings)
        self.pooled = 0
        self._live = 0
        self._heights = [0] * len(program.rings)
        self.nbytes = 0
        self.overflown = False
        self._dominators = immediate_dominators(program) if arrival else []
        self._regions: dict[int, tuple[int, list[int]]] = {}
        self._closures: dict[int, tuple[int, dict[int, int], int]] = {}
        self._pull_order: dict[int, tuple[Operand, ...]] = {}

    def run(self, to_the_end: bool = False) -> RowMachine:
        """Serve every sink row, or enough of them for the peaks of the rings to be final.

        Clipping at the bottom never raises a ring, but it may raise the sum of all: the pooled
        peak is final only when run to the end. Whole periods in between are leapt over.
        """
        for stream, rows in enumerate(self.program.rows):
            if stream in self.program.resident:
                for _ in range(rows):
                    self._fire(stream)
            elif rows == 1 and not self.operands[stream] and self.program.last[stream] == 0:
                self._fire(stream)
        if self.program.steady and len(self.program.sinks) == 1 and not to_the_end and self.observer is None:
            self._until_it_repeats()
        else:
            self._to_the_end(_LEAPS if self.observer is None else 0)
        return self

    def follow(self, streams: Iterable[int]) -> RowMachine:
        """Make rows in the order given."""
        for stream in streams:
            self._fire(stream)
        return self

    def _until_it_repeats(self) -> None:
        seen: dict[tuple[int, ...], list[int]] = {}
        for number, step in enumerate(sink_steps(self.program)):
            self._serve(number, step)
            if self.overflown or self._repeats(seen):
                return
            if len(seen) > _REMEMBERED:
                seen.clear()

    def _to_the_end(self, leaps: int) -> None:
        steps, number = list(sink_steps(self.program)), 0
        seen: dict[tuple[int, ...], tuple[int, list[int]]] = {}
        while number < len(steps) and not self.overflown:
            self._serve(number, steps[number])
            number += 1
            if len(seen) > _REMEMBERED:
                seen.clear()
            if leaps:
                then, before = seen.setdefault(self._position(), (number, self.made.copy()))
                if then != number:
                    leaps -= 1
                    number += self._leap(before, steps, then, number)
                    seen.clear()

    def _position(self) -> tuple[int, ...]:
        """How far the source of every operand is ahead of the window of the next row, and the phase of that row."""
        position = list[int]()
        for stream, operands in enumerate(self.operands):
            q = self.made[stream]
            for o in operands:
                position += (-1, -1) if q >= len(o.lo) else (self.made[o.source] - o.lo[q], q % o.period)
        return tuple(position)

    def _leap(self, before: list[int], steps: list[Targets], then: int, now: int) -> int:
        """Skip as many periods as are sure to be like the last one; how many steps that saves.

        Let A be the state before the last period (before step ``then``) and B the present one (before step
        ``now``), in the same position, and let each stream have made ``far`` rows in between. What is done next
        depends on positions, on ``lo`` and ``hi`` of rows that are needed, on shares of inputs and on the
        steps to come. As long as both tables of every needed row q of a stream are those of row q - far, plus the
        ``far`` of its source, and steps are those of A, shifted, the run from B is the run from A, shifted; heights and
        their sum are the same. Needed are the rows that the sinks ask for, and the next one of each stream. Inputs
        that still advance must do so in proportion to their heights, as their shares are compared.
        """
        made, last, period = self.made, self.program.last, now - then
        far = [b - a for a, b in zip(before, made, strict=True)]
        if not self._proportional(far):
            return 0
        alike = now
        while alike < len(steps) and steps[alike] == [(s, q + far[s]) for s, q in steps[alike - period]]:
            alike += 1
        periods = (alike - now) // period
        need = self._closure([(s, made[s] - 1) for s in self.program.sinks], list(range(len(made) - 1, -1, -1)))
        for stream, rows in enumerate(far):
            if rows and periods:
                tables = (self._alike(o, made[stream], rows, far[o.source]) for o in self.operands[stream])
                sure = min((last[stream], *tables))
                periods = min(periods, (sure - max(made[stream], need.get(stream, -1) + 1)) // rows)
        if periods <= 0:
            return 0
        for stream, rows in enumerate(far):
            made[stream] += periods * rows
        self._closures.clear()
        return periods * period

    def _proportional(self, far: list[int]) -> bool:
        """Whether the shares of all inputs that are not complete grow alike, and no ring that is kept grows."""
        inputs = [s for s, o in enumerate(self.operands) if not o and (far[s] or self.made[s] <= self.program.last[s])]
        rows = self.program.rows
        growing = any(ring.kept and far[ring.maker] for ring in self.program.rings)
        return not growing and all(far[s] and far[s] * rows[inputs[0]] == far[inputs[0]] * rows[s] for s in inputs)

    def _alike(self, operand: Operand, made: int, far: int, source_far: int) -> int:
        """The last row up to which the tables repeat, from the rows of the last period on."""
        lo, hi = operand.lo, operand.hi
        for q in range(made, len(lo)):
            if lo[q] - lo[q - far] != source_far or hi[q] - hi[q - far] != source_far:
                return q - 1
        return len(lo) - 1

    def _serve(self, number: int, step: Targets) -> None:
        if not self.arrival or len(step) == 1:
            for stream, row in step:
                self._make(stream, row)
            return
        ends = list(dict(step).items())  # the last row of each sink: rows of a step ascend
        while not self.overflown:
            pull = self._arrive(ROOT, number, ends)
            if pull is None:
                return
            self._make(pull, self.made[pull])

    def _make(self, stream: int, row: int) -> None:
        """Make rows of a stream up to ``row``, and whatever they need first."""
        made, operands = self.made, self.operands
        stack = [(stream, row)]
        while stack and not self.overflown:
            stream, row = stack[-1]
            q = made[stream]
            if q > row:
                stack.pop()
                continue
            wanted = operands[stream]
            if len(wanted) > 1:
                if self.arrival:
                    targets = [(o.source, o.hi[q]) for o in wanted if made[o.source] <= o.hi[q]]
                    pull = self._arrive(stream, q, targets) if targets else None
                    if pull is not None:
                        stack.append((pull, made[pull]))
                    elif not self.overflown:
                        self._fire(stream)
                    continue
                wanted = self._least_lag_first(stream)
            for o in wanted:
                if made[o.source] <= o.hi[q]:
                    stack.append((o.source, o.hi[q]))
                    break
            else:
                self._fire(stream)

    def _fire(self, stream: int) -> None:
        """Make the next row of a stream: its rings rise, then its operands' rings fall."""
        made, program = self.made, self.program
        now = made[stream] = made[stream] + 1
        if self.observer is not None:
            self.observer(stream, now - 1)
        for r in self.rings_of[stream]:
            ring = program.rings[r]
            height = max(1, self._height(r, now))
            self._live += ring.nbytes(height) - ring.nbytes(self._heights[r])
            self._heights[r] = height
            if height > self.peaks[r]:
                self.nbytes += ring.nbytes(height) - ring.nbytes(self.peaks[r])
                self.peaks[r] = height
                if self.limit is not None and self.nbytes > self.limit:
                    self.overflown = True
        self.pooled = max(self.pooled, self._live)
        for r in self._falls[stream]:
            ring = program.rings[r]
            height = self._height(r, made[ring.maker])
            self._live -= ring.nbytes(self._heights[r]) - ring.nbytes(height)
            self._heights[r] = height

    def _height(self, ring: int, made: int) -> int:
        """Rows of a ring that exist and that some reader still waits for."""
        slot, last, done_rows = self.program.rings[ring], self.program.last, self.made
        low = 0 if slot.kept else made
        for reader, lo in slot.readers:
            done = done_rows[reader]
            if done <= last[reader] and lo[done] < low:
                low = lo[done]
        return made - low

    def _arrive(self, join: int, row: int, targets: Targets) -> int | None:
        """Make every closure row that is ready; the stream to pull next, or None when all targets are there.

        ``join`` keys the cached region and closure (ROOT: the step of several sinks). After a row
        is made only its readers can have become ready, so the scan resumes at the last of them.
        """
        made, operands, readers = self.made, self.operands, self.readers
        dominator, region = self._region(join, targets)
        known = self._closures.get(join)
        if known is None or known[0] != row:
            need = self._closure(targets, region)
            at = 0
        else:
            need, at = known[1], known[2]
        while at < len(region) and not self.overflown:
            stream = region[at]
            q = made[stream]
            if q <= need.get(stream, -1) and operands[stream]:
                for o in operands[stream]:
                    if made[o.source] <= o.hi[q]:
                        break
                else:
                    self._fire(stream)
                    at = self._resume(region, readers[stream], at)
                    continue
            at += 1
        if self.overflown or all(made[s] > q for s, q in targets):
            return None
        pull = dominator if dominator != ROOT else self._least_advanced(region, need)
        self._closures[join] = (row, need, self._resume(region, readers[pull], len(region)))
        return pull

    def _resume(self, region: list[int], readers: list[int], at: int) -> int:
        """Position of the most downstream of these readers within the (descending) region, at most ``at``."""
        top = readers[-1] if readers else -1
        while at > 0 and region[at - 1] <= top:
            at -= 1
        return at

    def _closure(self, targets: Targets, region: list[int]) -> dict[int, int]:
        need: dict[int, int] = {}
        for stream, q in targets:
            need[stream] = max(need.get(stream, -1), q)
        for stream in region:
            q = need.get(stream, -1)
            if q >= 0:
                for o in self.operands[stream]:
                    if o.hi[q] > need.get(o.source, -1):
                        need[o.source] = o.hi[q]
        return need

    def _region(self, join: int, targets: Targets) -> tuple[int, list[int]]:
        """The dominator of a join and the streams between both, most downstream first."""
        if join in self._regions:
            return self._regions[join]
        program = self.program
        ends = sorted({o.source for o in self.operands[join]} if join != ROOT else set(program.sinks))
        dominator = self._dominators[join] if join != ROOT else common_dominator(ends, self._dominators)
        inside = set(ends)
        for stream in range(ends[-1], -1, -1):
            if stream in inside and stream != dominator:
                inside.update(o.source for o in self.operands[stream])
        region = [s for s in sorted(inside, reverse=True) if s > dominator or dominator == ROOT]
        self._regions[join] = (dominator, region)
        return self._regions[join]

    def _least_advanced(self, region: list[int], need: dict[int, int]) -> int:
        rows = self.program.rows
        waiting = [s for s in region if not self.operands[s] and self.made[s] <= need.get(s, -1)]
        return min(waiting, key=lambda s: (self.made[s] / rows[s], s))

    def _least_lag_first(self, stream: int) -> tuple[Operand, ...]:
        """Operands in the order in which a pull visits them: by the share of the inputs that they need half way."""
        if stream not in self._pull_order:
            q = self.program.rows[stream] // 2
            lags = [(self._share_of(o.source, o.hi[q]), k) for k, o in enumerate(self.operands[stream])]
            self._pull_order[stream] = tuple(self.operands[stream][k] for _, k in sorted(lags))
        return self._pull_order[stream]

    def _share_of(self, stream: int, row: int) -> float:
        need = self._closure([(stream, row)], list(range(stream, -1, -1)))
        rows = self.program.rows
        return max(((q + 1) / rows[s] for s, q in need.items() if not self.operands[s]), default=0.0)

    def _repeats(self, seen: dict[tuple[int, ...], list[int]]) -> bool:
        """Whether the schedule is in the same relative state as after an earlier sink row.

        The state is, for every operand, how far its source is ahead of the window of the next row,
        and the phase of that row. It says everything about the future only where no window is
        clipped at the top, and where inputs advance in proportion to their heights (their shares
        are compared). Clipping at the bottom only shortens windows, so peaks are final.
        """
        made, state = self.made, list[int]()
        for stream, operands in enumerate(self.operands):
            q = made[stream]
            for o in operands:
                if q < o.start or q >= len(o.lo):
                    return False
                state += (made[o.source] - o.lo[q], q % o.period)
        before = seen.setdefault(tuple(state), made.copy())
        if before == made:
            return False
        steps = [(made[s] - before[s], self.program.rows[s]) for s, o in enumerate(self.operands) if not o]
        moving = [(step, rows) for step, rows in steps if rows > 1]
        return all(step * moving[0][1] == moving[0][0] * rows for step, rows in moving)


def immediate_dominators(program: Program) -> list[int]:
    """Immediate dominator of every stream over multi-row sources; ROOT where there is no common one.

    One-row group inputs (squeeze-excite vectors) are loaded up front and dominate nothing.
    """
    idom: list[int] = []
    for operands in program.operands:
        sources = {o.source for o in operands if program.rows[o.source] > 1 or program.operands[o.source]}
        idom.append(common_dominator(sorted(sources), idom) if sources else ROOT)
    return idom


def common_dominator(streams: list[int], idom: list[int]) -> int:
    """The nearest stream through which all paths to these streams go; ROOT if there is none."""
    nearest = streams[0]
    for other in streams[1:]:
        while nearest != other:
            if nearest > other:
                nearest = idom[nearest]
            else:
                other = idom[other]
            if nearest == ROOT or other == ROOT:
                return ROOT
    return nearest
