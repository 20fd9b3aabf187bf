"""The front of DRAM bytes, buffer bytes and repeated MACs as tables, CSV, JSON and a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from html import escape
from io import StringIO
from math import log2
from typing import Any, Final

from fusecut.errors import FusecutError
from fusecut.pareto import FrontPoint, ParetoFront
from fusecut.report._svg import (
    HEIGHT,
    LEFT,
    WIDTH,
    Section,
    byte_axis,
    colour,
    document,
    height,
    highest,
    page,
    picture,
    rule,
    table,
    tick,
    words,
)
from fusecut.solution import SCHEMA_VERSION
from fusecut.text import Column, render_table, wrapped
from fusecut.units import format_bytes, format_kib

COLUMNS: Final = (
    "scheme", "activation_bits", "weight_bits", "buffer_bytes", "dram_bytes", "recomputed_macs",
    "recomputed_percent", "groups", "floor_dram_bytes",
)  # fmt: skip
_HEADINGS: Final = ("buffer B", "", "DRAM B", "MACs repeated", "of all", "groups")
_RIGHT: Final = WIDTH - 190
_SHOWN: Final = 40
"""Rows on a terminal unless all are asked for."""


def repeated(front: ParetoFront, point: FrontPoint) -> str:
    """Repeated MACs as a share of those of the network."""
    return f"{100 * point.recomputed_macs / front.macs:.2f} %" if front.macs else "0.00 %"


def cells(front: ParetoFront, points: Sequence[FrontPoint]) -> list[list[str]]:
    """Rows of a table for people."""
    return [
        [
            f"{p.buffer_bytes:,}",
            format_kib(p.buffer_bytes),
            f"{p.dram_bytes:,}",
            f"{p.recomputed_macs:,}",
            repeated(front, p),
            str(len(p.partition)),
        ]
        for p in points
    ]


def sentences(front: ParetoFront) -> list[str]:
    """Extent, what is known of it, why it ended."""
    count, end = len(front.points), format_bytes(front.machine.buffer_bytes)
    plans = f"{count:,} plan{'s' * (count != 1)}"
    if front.complete_from_bytes is None:
        lines = [f"{plans} of a buffer of {end}, fewest DRAM bytes first: not all there are"] if count else []
        return [*lines, front.ended]
    extent = f"{format_bytes(front.complete_from_bytes)} to {end}"
    lines = [f"{extent}: {plans}, complete: every other plan is beaten by one of them, or equals one"]
    lines += ["no plan repeats MACs to move fewer bytes"] if not any(p.recomputed_macs for p in front.points) else []
    return [*lines, f"below that: {front.ended}"] if front.ended else lines


def text(front: ParetoFront, width: int, colours: bool, every: bool = False) -> str:
    """A table for a terminal: every point, or the first ones."""
    rows = front.points if every else front.points[:_SHOWN]
    parts = [front.scheme, ""]
    parts += (
        [render_table([Column(name) for name in _HEADINGS], cells(front, rows), width, colours), ""] if rows else []
    )
    hidden = len(front.points) - len(rows)
    more = [f"{hidden:,} more: all of them with --all, or in a file with -o"] if hidden else []
    return "\n".join([*parts, *(wrapped(line, width, 2) for line in (*sentences(front), *more))])


def to_csv(front: ParetoFront) -> str:
    """One line for every point; columns are :data:`COLUMNS`."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for p in front.points:
        fixed = front.scheme, front.machine.activation_bits, front.machine.weight_bits
        share = f"{100 * p.recomputed_macs / front.macs:.4f}" if front.macs else "0.0000"
        writer.writerow([*fixed, *p.figures, share, len(p.partition), front.floor_bytes])
    return out.getvalue()


def to_json(front: ParetoFront, origin: dict[str, Any]) -> str:
    """One JSON object in the layout of docs/pareto.md."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **origin, **front.to_dict()}, indent=1) + "\n"


def svg(front: ParetoFront, title: str) -> str:
    """The picture as a file of its own.

    Raises:
        FusecutError: the front has no point.
    """
    return document(_picture(front, title))


def html(front: ParetoFront, title: str) -> str:
    """A page with the picture and every plan in a table; errors as :func:`svg`."""
    rows = table(_HEADINGS, cells(front, front.points), "every plan")
    return page(title, _picture(front, title), [Section("", sentences(front), rows)])


def _picture(front: ParetoFront, title: str) -> str:
    """Bytes over the buffer, or, where all plans have the same one, over repeated MACs.

    Over the buffer: the stairs of the fewest bytes, those of plans that repeat nothing, and a dot for each plan;
    the larger a dot, the more MACs its plan repeats.
    """
    if not front.points:
        raise FusecutError(f"{title}: nothing to draw: {front.ended}")
    top = highest(max(p.dram_bytes for p in front.points))
    y = height(front.floor_bytes, top)
    floor = [rule(LEFT, y, _RIGHT, y, "soft", ' stroke-dasharray="2 3"'), words(LEFT + 6, y + 14, "floor", "soft")]
    over = _over_macs if len({p.buffer_bytes for p in front.points}) == 1 else _over_buffer
    return picture([*floor, *over(front, top)], title)


def _over_macs(front: ParetoFront, top: float) -> list[str]:
    """One buffer: each plan at what it repeats, and the stairs between."""
    most = max(p.recomputed_macs for p in front.points)
    step = tick(most) if most else 1.0
    wide = max(1, most)
    size = format_bytes(front.points[0].buffer_bytes)
    parts = byte_axis(top, _RIGHT, f"millions of MACs repeated, buffer of {size}")
    for k in range(int(most / step) + 1):
        x = _across(k * step / wide)
        parts += _tick(x, f"{k * step / 1e6:g}")
    places = [(_across(p.recomputed_macs / wide), height(p.dram_bytes, top)) for p in front.points]
    return [
        *parts,
        *_line("c0", places),
        *(_dot(front, p, x, y, 3.0) for p, (x, y) in zip(front.points, places, strict=True)),
    ]


def _over_buffer(front: ParetoFront, top: float) -> list[str]:
    low, high = front.points[0].buffer_bytes, front.machine.buffer_bytes
    wide = log2(high) - log2(low)
    parts = byte_axis(top, _RIGHT, "buffer, KiB")
    for size in sorted({low, high, *(1024 << k for k in range(32) if low < 1024 << k < high)}):
        parts += _tick(_across((log2(size) - log2(low)) / wide), f"{size / 1024:.4g}")
    plain = [p for p in front.points if not p.recomputed_macs]
    for k, (style, points, name) in enumerate(
        (("c1", front.points, "any MACs repeated"), ("c0", plain, "no MAC repeated"))
    ):
        places = [(_across((log2(p.buffer_bytes) - log2(low)) / wide), height(p.dram_bytes, top)) for p in points]
        parts += _line(style, places)
        parts += [words(_RIGHT + 8, 40 + 16 * k, name, f"{style} name")] if places else []
    most = max(1, *(p.recomputed_macs for p in front.points))
    for p in front.points:
        x = _across((log2(p.buffer_bytes) - log2(low)) / wide)
        parts.append(_dot(front, p, x, height(p.dram_bytes, top), 2.5 + 4 * (p.recomputed_macs / most) ** 0.5))
    return parts


def _across(share: float) -> float:
    """The place of a share of the width."""
    return round(LEFT + share * (_RIGHT - LEFT), 1)


def _tick(x: float, said: str) -> list[str]:
    base = HEIGHT - 46
    return [rule(x, base, x, base + 4, "soft"), words(x, base + 17, said, "soft", "middle")]


def _line(style: str, places: Sequence[tuple[float, float]]) -> list[str]:
    if not places:
        return []
    return [
        f'<path class="{style}" fill="none" stroke="{colour(style)}" stroke-width="2" d="M{_stairs(places, _RIGHT)}"/>'
    ]


def _dot(front: ParetoFront, p: FrontPoint, x: float, y: float, radius: float) -> str:
    style = "c1" if p.recomputed_macs else "c0"
    told = f"{p.buffer_bytes:,} B of buffer, {p.dram_bytes:,} B of DRAM traffic, {repeated(front, p)} of MACs repeated"
    return (
        f'<circle class="{style} fill" fill="{colour(style)}" fill-opacity="0.6" cx="{x}" cy="{y}" r="{radius:.1f}">'
        f"<title>{escape(told)}</title></circle>"
    )


def _stairs(places: Sequence[tuple[float, float]], right: float) -> str:
    """Corners of the lower edge of some places, left to right; y grows downwards."""
    corners: list[tuple[float, float]] = []
    for x, y in sorted(places, key=lambda place: (place[0], -place[1])):
        if not corners:
            corners.append((x, y))
        elif y > corners[-1][1]:
            corners += [(x, corners[-1][1]), (x, y)]
    corners.append((right, corners[-1][1]))
    return " L".join(f"{x:g},{y:g}" for x, y in corners)
