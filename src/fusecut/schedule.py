"""What a cost model decided about one group, and what an execution of it must obey."""

from __future__ import annotations

from dataclasses import dataclass

from fusecut.ir import Group


@dataclass(frozen=True)
class Hold:
    """A ring buffer: so many rows of one tensor are on chip at a time.

    ``row_bytes`` is the size of one slot. At pixel granularity the ring holds ``rows - 1`` whole
    rows and ``cols`` columns of the next (``cols == 0``: whole rows). ``stage`` is the pass over
    the group's inputs in which the ring exists. ``over`` are tensors that share the ring: a row of the
    last of them makes way for the row of ``tensor`` made of it, and so on from the first.
    """

    tensor: int
    rows: int
    row_bytes: int
    nbytes: int
    cols: int = 0
    stage: int = 0
    over: tuple[int, ...] = ()


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
class Place:
    """A stretch of the buffer that belongs to one thing.

    ``what`` is "halo" or "tile" of a tensor, "sums" or "weights" of an op, "accumulators" of a
    reduction, or the "slice" of weights that a stage has on chip; ``index`` says of which. It is
    taken from step ``first`` to step ``last``, both included: stage s runs in step 2 s and hands over
    what it summed up in step 2 s + 1. ``rows`` is how many rows of the tensor lie there.
    """

    what: str
    index: int
    offset: int
    nbytes: int
    first: int
    last: int
    rows: int = 0


@dataclass(frozen=True)
class Bands:
    """How a group runs band by band (docs/brr.md).

    ``clock`` is the op that makes ``rows`` rows, of ``images`` images, in each band. ``stages`` are
    the ops that run together, in order; ``part`` tensors pass by ``channels`` at a time, tensors made
    (or read) ``again`` keep no rows between bands; weights of ``resident`` ops are read once,
    those of all others in every band.
    """

    clock: int
    rows: int
    images: int
    channels: int
    stages: tuple[Group, ...]
    part: tuple[int, ...] = ()
    again: tuple[int, ...] = ()
    resident: tuple[int, ...] = ()
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """How one group runs.

    ``order`` lists the ops upstream first. ``policy`` says how events are ordered ("dd" pull,
    "ddc" arrival, "due" by due time, see docs/lbdf.md). ``passes`` is how often the group's inputs are streamed
    (more than once for squeeze-excite in two passes), ``runs`` the ops of each pass (empty: one pass
    runs all), ``weight_passes`` how often weights are read.
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
    bands: Bands | None = None
    runs: tuple[Group, ...] = ()
