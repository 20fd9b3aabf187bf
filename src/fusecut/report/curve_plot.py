"""Curves as a picture: SVG, and an HTML page around it. No library, no script, nothing from outside.

Bytes in MB (10^6) over the buffer in KiB, the latter by powers of two, since that is how buffers are
built. Lines are named where they end, knees where they are. What is not proved has a shade down to
its bound. Colours have light and dark variants; every name is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
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
    WIDTH,
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
    parts = [f"<h1>{escape(title)}</h1>", _picture(curves, title)]
    for label, curve in zip(labels(curves), curves, strict=True):
        parts += [f"<h2>{escape(label)}</h2>", *(f"<p>{escape(line)}</p>" for line in sentences(curve))]
        parts.append(_table(curve))
    return page(parts, title)


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
        *_knees(lines[0], frame),
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
    name = "floor: weights, inputs and outputs once"
    return [*parts, words(LEFT + 6, frame.y(min(styles)) + 14, name, "soft")]


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
    corners, last = [], None
    for p in curve.points:
        x, y = frame.x(p.buffer_bytes), frame.y(p.bound_bytes if bound else p.dram_bytes)
        corners += [(x, y)] if last is None else [(x, last), (x, y)]
        last = y
    corners.append((frame.x(curve.machine.buffer_bytes), corners[-1][1]))
    return " L".join(f"{x:g},{y:g}" for x, y in (reversed(corners) if back else corners))


def _knees(line: _Line, frame: _Frame) -> list[str]:
    """Dots with what they say: below the falling line where there is room, else above it."""
    parts = []
    for point in line.curve.knees():
        x, y, said = frame.x(point.buffer_bytes), frame.y(point.dram_bytes), bought(line.curve, point)
        parts.append(f'<circle class="{line.style} fill" fill="{colour(line.style)}" cx="{x}" cy="{y}" r="4"/>')
        if x - LETTER * len(said) > LEFT and y + 2 * LINE_HEIGHT < frame.y(line.curve.floor_bytes):
            parts.append(words(x - 6, y + 15, said, "ink", "end", halo=True))
        else:
            parts.append(words(x + 8, y - 8, said, "ink", halo=True))
    return parts


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
