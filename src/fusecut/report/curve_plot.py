"""Curves as a picture: SVG, and an HTML page around it. No library, no script, nothing from outside.

Bytes in MB (10^6) over the buffer in KiB, the latter by powers of two, since that is how buffers are
built. Lines are named where they end, knees where they are. What is not proved has a shade down to
its bound. Colours have light and dark variants; every name is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, log2, log10
from typing import Final, NamedTuple

from fusecut.curve import Curve
from fusecut.errors import FusecutError
from fusecut.report.curve_text import bought, cells, labels, sentences

WIDTH: Final = 900
HEIGHT: Final = 480
_LEFT, _TOP, _BOTTOM = 62, 24, 46
_LINE_HEIGHT: Final = 15
_LETTER: Final = 7
"""Width of a letter, about; text is never wider than so many of them."""
_PALETTE: Final = (
    ("#2a78d6", "#5a9cec"),
    ("#d95926", "#f08a5d"),
    ("#0f8f63", "#3cc492"),
    ("#6a4fc4", "#a797f2"),
    ("#c2487f", "#ec84b0"),
    ("#9a7400", "#d6a92c"),
)
"""Light and dark; a seventh curve takes the first colour again, dashed."""
_INK: Final = {"ink": ("#1b1b1a", "#f2f1ec"), "soft": ("#5e5d59", "#b4b3aa"), "grid": ("#e4e3dc", "#33332f"),
               "page": ("#fdfdfb", "#191918"), "base": ("#84837d", "#8f8e86")}  # fmt: skip
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
        return round(_LEFT + share * (self.right - _LEFT), 1)

    def y(self, dram_bytes: float) -> float:
        return round(HEIGHT - _BOTTOM - dram_bytes / self.top * (HEIGHT - _TOP - _BOTTOM), 1)


def svg(curves: Sequence[Curve], title: str) -> str:
    """The picture as a file of its own.

    Raises:
        FusecutError: no curve has a point.
    """
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_picture(curves, title)}\n'


def html(curves: Sequence[Curve], title: str) -> str:
    """A page with the picture, the curves in words, and every breakpoint in a table; errors as :func:`svg`."""
    parts = [f"<h1>{escape(title)}</h1>", _picture(curves, title)]
    for label, curve in zip(labels(curves), curves, strict=True):
        parts += [f"<h2>{escape(label)}</h2>", *(f"<p>{escape(line)}</p>" for line in sentences(curve))]
        parts.append(_table(curve))
    body = "\n".join(parts)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_page_style()}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _picture(curves: Sequence[Curve], title: str) -> str:
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        raise FusecutError(f"{title}: nothing to draw: {curves[0].ended if curves else 'no curve'}")
    lines = _lines(drawn)
    frame = _frame(drawn, max(len(line.label) for line in lines))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="page" fill="{_INK["page"][0]}" width="{WIDTH}" height="{HEIGHT}"/>',
        *_grid(frame),
        *_floors(lines, frame),
        *(part for line in reversed(lines) for part in _drawn(line, frame)),
        *_knees(lines[0], frame),
        *_names(lines, frame),
        "</svg>",
    ]
    return "\n".join(parts)


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
        dash = ' stroke-dasharray="6 3"' if colours >= len(_PALETTE) and not baseline else ""
        style = "base" if baseline else f"c{colours % len(_PALETTE)}"
        lines.append(_Line(curves[indices[0]], label, style, dash))
        colours += not baseline
    return lines


def _frame(curves: Sequence[Curve], letters: int) -> _Frame:
    most = max(curve.points[0].dram_bytes for curve in curves)
    step = _tick(most)
    return _Frame(
        min(curve.points[0].buffer_bytes for curve in curves),
        max(curve.machine.buffer_bytes for curve in curves),
        max(1.0, -(-most // step) * step),
        max(WIDTH // 2, WIDTH - 16 - _LETTER * letters),
    )


def _tick(most: int) -> float:
    """A round distance between about five lines: 1, 2, 2.5 or 5 times a power of ten."""
    rough = max(1, most) / 5
    power = 10.0 ** floor(log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)


def _grid(frame: _Frame) -> list[str]:
    step = _tick(int(frame.top))
    parts = []
    for k in range(round(frame.top / step) + 1):
        y = frame.y(k * step)
        parts.append(_rule(_LEFT, y, frame.right, y, "grid"))
        parts.append(_text(_LEFT - 8, y + 4, f"{k * step / 1e6:g}", "soft", "end"))
    for power in range(-10, 40):
        size = 1024 * 2**power if power >= 0 else 1024 >> -power
        if frame.low <= size <= frame.high:
            x = frame.x(size)
            parts.append(_rule(x, HEIGHT - _BOTTOM, x, HEIGHT - _BOTTOM + 4, "soft"))
            parts.append(_text(x, HEIGHT - _BOTTOM + 17, f"{size / 1024:g}", "soft", "middle"))
    parts.append(_text(_LEFT, _TOP - 10, "DRAM traffic of one inference, MB (10^6 bytes)", "soft"))
    parts.append(_text((frame.right + _LEFT) / 2, HEIGHT - 8, "buffer, KiB", "soft", "middle"))
    return parts


def _floors(lines: Sequence[_Line], frame: _Frame) -> list[str]:
    """A dotted line for each floor, in the colour of its curve where there are several; the lowest is named."""
    styles: dict[int, str] = {}
    for line in lines:
        styles.setdefault(line.curve.floor_bytes, line.style)
    parts = []
    for floor_bytes, style in styles.items():
        y = frame.y(floor_bytes)
        parts.append(_rule(_LEFT, y, frame.right, y, style if len(styles) > 1 else "soft", ' stroke-dasharray="2 3"'))
    name = "floor: weights, inputs and outputs once"
    return [*parts, _text(_LEFT + 6, frame.y(min(styles)) + 14, name, "soft")]


def _drawn(line: _Line, frame: _Frame) -> list[str]:
    """The steps, the shade of what is not proved, and the figures of each point for the pointer."""
    curve, colour = line.curve, _colour(line.style)
    parts = []
    if not curve.proved:
        shade = f"M{_steps(curve, frame, bound=False)} L{_steps(curve, frame, bound=True, back=True)} Z"
        parts.append(f'<path class="{line.style} fill" fill="{colour}" fill-opacity="0.18" d="{shade}"/>')
    parts.append(
        f'<path class="{line.style}" fill="none" stroke="{colour}" stroke-width="2"{line.dash} '
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
        x, y, words = frame.x(point.buffer_bytes), frame.y(point.dram_bytes), bought(line.curve, point)
        parts.append(f'<circle class="{line.style} fill" fill="{_colour(line.style)}" cx="{x}" cy="{y}" r="4"/>')
        if x - _LETTER * len(words) > _LEFT and y + 2 * _LINE_HEIGHT < frame.y(line.curve.floor_bytes):
            parts.append(_text(x - 6, y + 15, words, "ink", "end", halo=True))
        else:
            parts.append(_text(x + 8, y - 8, words, "ink", halo=True))
    return parts


def _names(lines: Sequence[_Line], frame: _Frame) -> list[str]:
    """Names at the ends of the lines, pushed apart where lines end close together."""
    ends = sorted((frame.y(line.curve.points[-1].dram_bytes), index) for index, line in enumerate(lines))
    parts, taken = [], [0.0]
    room = HEIGHT - _BOTTOM - (len(ends) - 1) * _LINE_HEIGHT
    for place, (y, index) in enumerate(ends):
        at = max(min(y, room + place * _LINE_HEIGHT), taken[-1] + _LINE_HEIGHT)
        taken.append(at)
        parts.append(_text(frame.right + 8, at + 4, lines[index].label, f"{lines[index].style} name", halo=True))
    return parts


def _rule(x0: float, y0: float, x1: float, y1: float, style: str, more: str = "") -> str:
    return f'<line class="{style}" stroke="{_colour(style)}"{more} x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}"/>'


def _text(x: float, y: float, words: str, style: str, anchor: str = "start", halo: bool = False) -> str:
    around = (
        f' stroke="{_INK["page"][0]}" stroke-width="3" paint-order="stroke" stroke-linejoin="round"' if halo else ""
    )
    kind = f"{style} text{' halo' if halo else ''}"
    fill = _colour(style.split()[0])
    return (
        f'<text class="{kind}" fill="{fill}"{around} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _colour(style: str, dark: bool = False) -> str:
    pair = _INK[style] if style in _INK else _PALETTE[int(style.removeprefix("c"))]
    return pair[dark]


def _style() -> str:
    """Dark variants; attributes carry the light ones, for programs that know no style sheets."""
    styles = [*_INK, *(f"c{k}" for k in range(len(_PALETTE)))]
    rules = [f"path.{s},line.{s}{{stroke:{_colour(s, True)}}}" for s in styles]
    rules += [f".{s}.text,.{s}.fill{{fill:{_colour(s, True)}}}" for s in styles]
    page = _INK["page"][1]
    rules += [f"rect.page{{fill:{page}}}", f".halo{{stroke:{page}}}", "path.fill{stroke:none}"]
    return f"text.name{{font-weight:600}}@media (prefers-color-scheme:dark){{{''.join(rules)}}}"


def _page_style() -> str:
    return (
        f":root{{color-scheme:light dark;{_variables(False)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_variables(True)}}}}}"
        "body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--page);"
        "max-width:60rem;margin:2rem auto;padding:0 1rem}h1{font-size:1.35rem}h2{font-size:1.05rem;margin-bottom:0}"
        "svg{width:100%;height:auto}p{margin:.3rem 0}summary{cursor:pointer}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem}"
        "td,th{text-align:right;padding:.1rem .8rem;border-bottom:1px solid var(--grid)}"
    )


def _variables(dark: bool) -> str:
    return ";".join(f"--{name}:{_colour(name, dark)}" for name in ("ink", "page", "grid"))


def _table(curve: Curve) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEADINGS)
    rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in cells(curve, curve.points))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<details><summary>every breakpoint</summary>\n<table><tr>{head}</tr>\n{body}</table></details>"
