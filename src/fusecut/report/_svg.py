"""What every picture is drawn with: lines, words, colours that have light and dark variants. SVG as text.

No library, no script, nothing from outside; every name is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import floor, log10
from typing import Final, NamedTuple

WIDTH: Final = 900
HEIGHT: Final = 480
LEFT, TOP, BOTTOM = 62, 24, 46
LINE_HEIGHT: Final = 15
LETTER: Final = 7
"""Width of a letter, about; text is never wider than so many of them."""
PALETTE: Final = (
    ("#2a78d6", "#5a9cec"),
    ("#d95926", "#f08a5d"),
    ("#0f8f63", "#3cc492"),
    ("#6a4fc4", "#a797f2"),
    ("#c2487f", "#ec84b0"),
    ("#9a7400", "#d6a92c"),
)
"""Light and dark; a seventh curve takes the first colour again, dashed."""
INK: Final = {"ink": ("#1b1b1a", "#f2f1ec"), "soft": ("#5e5d59", "#b4b3aa"), "grid": ("#e4e3dc", "#33332f"),
               "page": ("#fdfdfb", "#191918"), "base": ("#84837d", "#8f8e86")}  # fmt: skip


def document(picture: str) -> str:
    """A picture as a file of its own."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{picture}\n'


def picture(parts: Sequence[str], title: str) -> str:
    """Parts as one SVG element, on the page's colour."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(title)}</title>",
            f"<style>{style_sheet()}</style>",
            f'<rect class="page" fill="{INK["page"][0]}" width="{WIDTH}" height="{HEIGHT}"/>',
            *parts,
            "</svg>",
        ]
    )


class Section(NamedTuple):
    """What stands below a picture: a heading if there are several, sentences, and a table that unfolds."""

    heading: str
    sentences: Sequence[str]
    table: str


def page(title: str, image: str, sections: Iterable[Section]) -> str:
    """An HTML page in one file: the picture, and what it shows in words and figures."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    body = [f"<h1>{escape(title)}</h1>", image]
    for section in sections:
        body += [f"<h2>{escape(section.heading)}</h2>"] if section.heading else []
        body += [*(f"<p>{escape(line)}</p>" for line in section.sentences), section.table]
    inside = "\n".join(body)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{page_style()}</style></head>\n'
        f"<body>\n{inside}\n</body></html>\n"
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], summary: str) -> str:
    """A table that unfolds."""
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<details><summary>{escape(summary)}</summary>\n<table><tr>{head}</tr>\n{body}</table></details>"


def byte_axis(top: float, right: float, name: str) -> list[str]:
    """Lines across, every round number of MB."""
    step, parts = tick(int(top)), []
    for k in range(round(top / step) + 1):
        y = height(k * step, top)
        parts.append(rule(LEFT, y, right, y, "grid"))
        parts.append(words(LEFT - 8, y + 4, f"{k * step / 1e6:g}", "soft", "end"))
    return [
        *parts,
        words(LEFT, TOP - 10, "DRAM traffic of one inference, MB (10^6 bytes)", "soft"),
        words((right + LEFT) / 2, HEIGHT - 8, name, "soft", "middle"),
    ]


def height(dram_bytes: float, top: float) -> float:
    """Where a number of bytes lies, if ``top`` is the uppermost."""
    return round(HEIGHT - BOTTOM - dram_bytes / top * (HEIGHT - TOP - BOTTOM), 1)


def highest(most: int) -> float:
    """The round number at which an axis for so many bytes ends."""
    step = tick(most)
    return max(1.0, -(-most // step) * step)


def tick(most: int) -> float:
    """A round distance between about five lines: 1, 2, 2.5 or 5 times a power of ten."""
    rough = max(1, most) / 5
    power = 10.0 ** floor(log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)


def rule(x0: float, y0: float, x1: float, y1: float, style: str, more: str = "") -> str:
    return f'<line class="{style}" stroke="{colour(style)}"{more} x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}"/>'


def words(x: float, y: float, said: str, style: str, anchor: str = "start", halo: bool = False) -> str:
    around = f' stroke="{INK["page"][0]}" stroke-width="3" paint-order="stroke" stroke-linejoin="round"' if halo else ""
    kind = f"{style} text{' halo' if halo else ''}"
    fill = colour(style.split()[0])
    return (
        f'<text class="{kind}" fill="{fill}"{around} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(said)}</text>'
    )


def colour(style: str, dark: bool = False) -> str:
    pair = INK[style] if style in INK else PALETTE[int(style.removeprefix("c"))]
    return pair[dark]


def style_sheet() -> str:
    """Dark variants; attributes carry the light ones, for programs that know no style sheets."""
    styles = [*INK, *(f"c{k}" for k in range(len(PALETTE)))]
    rules = [f"path.{s},line.{s}{{stroke:{colour(s, True)}}}" for s in styles]
    rules += [f".{s}.text,.{s}.fill{{fill:{colour(s, True)}}}" for s in styles]
    page = INK["page"][1]
    rules += [f"rect.page{{fill:{page}}}", f".halo{{stroke:{page}}}", "path.fill{stroke:none}"]
    return f"text.name{{font-weight:600}}@media (prefers-color-scheme:dark){{{''.join(rules)}}}"


def page_style() -> str:
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
    return ";".join(f"--{name}:{colour(name, dark)}" for name in ("ink", "page", "grid"))
