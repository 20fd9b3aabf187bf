"""Curves as a picture: SVG, and an HTML page around it. No library, no script, nothing from outside.

Bytes in MB (10^6) over the buffer in KiB, the latter by powers of two, since that is how buffers are
built. Lines are named where they end, knees where they are. What is not proved has a shade down to
its bound. Colours have light and dark variants; every name is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import log2
from typing import Final, NamedTuple

from fusecut.curve import Curve
from fusecut.errors import FusecutError
from fusecut.report._svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER,
    LINE_HEIGHT,
    PALETTE,
    TOP,
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
    words,
)
from fusecut.report.curve_text import bought, cells, labels, sentences

_FLOOR: Final = "floor: weights, inputs and outputs once"
_HEADINGS: Final = ("buffer B", "KiB", "DRAM B", "gained", "groups", "proved gap", "")


class _Line(NamedTuple):
    """A curve to draw, with the names of all curves that run exactly there."""

    curve: Curve
    label: str
    style: str
    dash: str


class _Frame(NamedTuple):
    """Where figures lie on the picture."""

    low: int
    high: int
    top: float
    right: int

    def x(self, buffer_bytes: int) -> float:
        wide = log2(self.high) - log2(self.low)
        share = (log2(buffer_bytes) - log2(self.low)) / wide if wide else 0.0
        return round(LEFT + share * (self.right - LEFT), 1)

    def y(self, dram_bytes: float) -> float:
        return height(dram_bytes, self.top)


def svg(curves: Sequence[Curve], title: str) -> str:
    """The picture as a file of its own.

    Raises:
        FusecutError: no curve has a point.
    """
    return document(_picture(curves, title))


def html(curves: Sequence[Curve], title: str) -> str:
    """A page with the picture, the curves in words, and every breakpoint in a table; errors as :func:`svg`."""
    named = zip(labels(curves), curves, strict=True)
    sections = [Section(label, sentences(curve), _table(curve)) for label, curve in named]
    return page(title, _picture(curves, title), sections)


def _picture(curves: Sequence[Curve], title: str) -> str:
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        raise FusecutError(f"{title}: nothing to draw: {curves[0].ended if curves else 'no curve'}")
    lines = _lines(drawn)
    frame = _frame(drawn, max(len(line.label) for line in lines))
    parts = [
        *_grid(frame),
        *_floors(lines, frame),
        *(part for line in reversed(lines) for part in _drawn(line, frame)),
        *_knees(lines, frame),
        *_names(lines, frame),
    ]
    return picture(parts, title)


def _lines(curves: Sequence[Curve]) -> list[_Line]:
    """Curves in their order; those that coincide share one line. No fusion is the grey baseline."""
    merged: dict[tuple[tuple[int, int, int], ...], list[int]] = {}
    for index, curve in enumerate(curves):
        key = tuple((p.buffer_bytes, p.dram_bytes, p.bound_bytes) for p in curve.points)
        merged.setdefault(key, []).append(index)
    names, lines, colours = labels(curves), list[_Line](), 0
    for indices in merged.values():
        label = " = ".join(names[i] for i in indices)
        baseline = len(curves) > 1 and all(curves[i].scheme == "layerwise" for i in indices)
        label += " (no fusion)" if baseline else ""
        dash = ' stroke-dasharray="6 3"' if colours >= len(PALETTE) and not baseline else ""
        style = "base" if baseline else f"c{colours % len(PALETTE)}"
        lines.append(_Line(curves[indices[0]], label, style, dash))
        colours += not baseline
    return lines


def _frame(curves: Sequence[Curve], letters: int) -> _Frame:
    most = max(curve.points[0].dram_bytes for curve in curves)
    return _Frame(
        min(curve.points[0].buffer_bytes for curve in curves),
        max(curve.machine.buffer_bytes for curve in curves),
        highest(most),
        max(WIDTH // 2, WIDTH - 16 - LETTER * letters),
    )


def _grid(frame: _Frame) -> list[str]:
    parts = byte_axis(frame.top, frame.right, "buffer, KiB")
    for power in range(-10, 40):
        size = 1024 * 2**power if power >= 0 else 1024 >> -power
        if frame.low <= size <= frame.high:
            x = frame.x(size)
            parts.append(rule(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, "soft"))
            parts.append(words(x, HEIGHT - BOTTOM + 17, f"{size / 1024:g}", "soft", "middle"))
    return parts


def _floors(lines: Sequence[_Line], frame: _Frame) -> list[str]:
    """A dotted line for each floor, in the colour of its curve where there are several; the lowest is named."""
    styles: dict[int, str] = {}
    for line in lines:
        styles.setdefault(line.curve.floor_bytes, line.style)
    parts = []
    for floor_bytes, style in styles.items():
        y = frame.y(floor_bytes)
        parts.append(rule(LEFT, y, frame.right, y, style if len(styles) > 1 else "soft", ' stroke-dasharray="2 3"'))
    return [*parts, words(LEFT + 6, frame.y(min(styles)) + 14, _FLOOR, "soft")]


def _drawn(line: _Line, frame: _Frame) -> list[str]:
    """The steps, the shade of what is not proved, and the figures of each point for the pointer."""
    curve, ink = line.curve, colour(line.style)
    parts = []
    if not curve.proved:
        shade = f"M{_steps(curve, frame, bound=False)} L{_steps(curve, frame, bound=True, back=True)} Z"
        parts.append(f'<path class="{line.style} fill" fill="{ink}" fill-opacity="0.18" d="{shade}"/>')
    parts.append(
        f'<path class="{line.style}" fill="none" stroke="{ink}" stroke-width="2"{line.dash} '
        f'd="M{_steps(curve, frame, bound=False)}"/>'
    )
    for p in curve.points:
        told = (
            f"{p.buffer_bytes:,} B ({bought(curve, p)})\n{p.dram_bytes:,} B of DRAM traffic, {len(p.partition)} groups"
        )
        parts.append(
            f'<circle cx="{frame.x(p.buffer_bytes)}" cy="{frame.y(p.dram_bytes)}" r="5" fill="transparent">'
            f"<title>{escape(line.label)}: {told}</title></circle>"
        )
    return parts


def _steps(curve: Curve, frame: _Frame, bound: bool, back: bool = False) -> str:
    """Corners of the staircase, left to right, or back."""
    corners = _corners(curve, frame, bound)
    return " L".join(f"{x:g},{y:g}" for x, y in (reversed(corners) if back else corners))


def _corners(curve: Curve, frame: _Frame, bound: bool = False) -> list[tuple[float, float]]:
    """Of the staircase, left to right."""
    corners, last = list[tuple[float, float]](), None
    for p in curve.points:
        x, y = frame.x(p.buffer_bytes), frame.y(p.bound_bytes if bound else p.dram_bytes)
        corners += [(x, y)] if last is None else [(x, last), (x, y)]
        last = y
    return [*corners, (frame.x(curve.machine.buffer_bytes), corners[-1][1])]


def _knees(lines: Sequence[_Line], frame: _Frame) -> list[str]:
    """Dots on the first line, each with what it says, where the least is in its way."""
    line, parts = lines[0], list[str]()
    floor = frame.y(min(each.curve.floor_bytes for each in lines))
    taken = [_Box(LEFT, floor, LEFT + 6 + LETTER * len(_FLOOR), floor + LINE_HEIGHT)]
    stairs = [_corners(each.curve, frame) for each in lines]
    for point in line.curve.knees():
        x, y, said = frame.x(point.buffer_bytes), frame.y(point.dram_bytes), bought(line.curve, point)
        box, away = min(
            _places(x, y, LETTER * len(said), frame),
            key=lambda place: 2 * place[1] + _in_the_way(place[0], stairs, floor, taken),
        )
        taken.append(box)
        if away:
            parts.append(rule(x, y, box.left if box.left > x else box.right, box.top + LINE_HEIGHT / 2, "soft"))
        parts.append(f'<circle class="{line.style} fill" fill="{colour(line.style)}" cx="{x}" cy="{y}" r="4"/>')
        parts.append(words(box.left, box.bottom - 3, said, "ink", halo=True))
    return parts


class _Box(NamedTuple):
    """Where words lie: pixels, downwards."""

    left: float
    top: float
    right: float
    bottom: float


def _places(x: float, y: float, wide: float, frame: _Frame) -> list[tuple[_Box, int]]:
    """Where the words of a dot may go, and how many lines of words away: below before above."""
    found = []
    for away in range(4):
        below, above = y + 4 + away * LINE_HEIGHT, y - 4 - (away + 1) * LINE_HEIGHT
        for left, top in ((x - 6 - wide, below), (x + 8, below), (x + 8, above), (x - 6 - wide, above)):
            if left >= LEFT and left + wide <= frame.right and top >= TOP and top + LINE_HEIGHT <= HEIGHT - BOTTOM:
                box = _Box(round(left, 1), round(top, 1), round(left + wide, 1), round(top + LINE_HEIGHT, 1))
                found.append((box, away))
    return found or [(_Box(x + 8, y - 4 - LINE_HEIGHT, x + 8 + wide, y - 4), 0)]


def _in_the_way(box: _Box, stairs: Sequence[Sequence[tuple[float, float]]], floor: float, taken: Sequence[_Box]) -> int:
    """What the box would cover: other words count most, then pieces of lines, then the dotted floor."""
    covered = sum(
        b.left < box.right and b.right > box.left and b.top < box.bottom and b.bottom > box.top for b in taken
    )
    crossed = sum(
        x0 < box.right and x1 > box.left and min(y0, y1) < box.bottom and max(y0, y1) > box.top
        for corners in stairs
        for (x0, y0), (x1, y1) in pairwise(corners)
    )
    return 1000 * covered + 4 * crossed + (box.top < floor < box.bottom)


def _names(lines: Sequence[_Line], frame: _Frame) -> list[str]:
    """Names at the ends of the lines, pushed apart where lines end close together."""
    ends = sorted((frame.y(line.curve.points[-1].dram_bytes), index) for index, line in enumerate(lines))
    parts, taken = [], [0.0]
    room = HEIGHT - BOTTOM - (len(ends) - 1) * LINE_HEIGHT
    for place, (y, index) in enumerate(ends):
        at = max(min(y, room + place * LINE_HEIGHT), taken[-1] + LINE_HEIGHT)
        taken.append(at)
        parts.append(words(frame.right + 8, at + 4, lines[index].label, f"{lines[index].style} name", halo=True))
    return parts


def _table(curve: Curve) -> str:
    return table(_HEADINGS, cells(curve, curve.points), "every breakpoint")
