"""What a cost model decided about one group, and what an execution of it must obey."""

from __future__ import annotations

from dataclasses import dataclass

from fusecut.ir import Group


@dataclass(frozen=True)
class Hold:
    """A ring buffer: so many rows of one tensor are on chip at a time.

    ``row_bytes`` is the size of one slot. At pixel granularity the ring holds ``rows - 1`` whole
    rows and ``cols`` columns of the next (``cols == 0``: whole rows). ``stage`` is the pass over
    the group's inputs in which the ring exists.
    """

    tensor: int
    rows: int
    row_bytes: int
    nbytes: int
    cols: int = 0
    stage: int = 0


@dataclass(frozen=True)
class Tile:
    """How one op is cut when it runs alone: sizes of one tile and the order of the loops.

    ``order`` names the loops from outermost to innermost: g groups, k output channels, c input
    channels, s space (rows, and column strips where a row does not fit).
    """

    out_channels: int
    in_channels: int
    groups: int
    rows: int
    cols: int
    order: str


@dataclass(frozen=True)
class Schedule:
    """How one group runs.

    ``order`` lists the ops upstream first. ``policy`` says how events are ordered ("dd" pull,
    "ddc" arrival, see docs/lbdf.md). ``passes`` is how often the group's inputs are streamed
    (more than once for squeeze-excite in two passes), ``weight_passes`` how often weights are read.
    """

    scheme: str
    group: Group
    order: tuple[int, ...]
    policy: str = ""
    rows_per_step: int = 1
    holds: tuple[Hold, ...] = ()
    weight_passes: int = 1
    passes: int = 1
    tile: Tile | None = None
