"""Series as tables, CSV, JSON and pictures: DRAM bytes against bits or resolution."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import Any, Final

from fusecut.errors import FusecutError
from fusecut.report._svg import (
    HEIGHT,
    LEFT,
    LETTER,
    PALETTE,
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
from fusecut.series import Sample, Series
from fusecut.solution import SCHEMA_VERSION
from fusecut.text import Column, render_table, wrapped
from fusecut.units import format_bytes

COLUMNS: Final = (
    "over", "scheme", "activation_bits", "weight_bits", "buffer_bytes", "value", "dram_bytes", "bound_bytes", "proved",
    "floor_dram_bytes", "layerwise_dram_bytes", "groups", "refused",
)  # fmt: skip
_HEADINGS: Final = ("DRAM B", "proved gap", "groups", "layer-wise B", "floor B")
_UNDER: Final = 46
"""Pixels below the lines."""


def labels(found: Sequence[Series]) -> list[str]:
    """A short name for each series: the scheme, and widths that are not the same for all."""

    def widths(one: Series) -> tuple[tuple[str, str], ...]:
        machine = one.machine
        both = (
            ("weight bits", f"{machine.weight_bits}-bit weights"),
            (
                "activation bits",
                f"{machine.activation_bits}-bit activations",
            ),
        )
        return tuple(pair for pair in both if pair[0] != one.over)

    telling = {text for one in found for _, text in widths(one)}
    same = {text for text in telling if all(text in [w for _, w in widths(one)] for one in found)}
    return [", ".join([one.scheme, *(w for _, w in widths(one) if w not in same)]) for one in found]


def cells(one: Series) -> list[list[str]]:
    """Rows of a table for people."""
    return [[f"{sample.value:,}", *_figures(sample)] for sample in one.samples]


def _figures(sample: Sample) -> list[str]:
    solution, dram = sample.solution, sample.dram_bytes
    if dram is None or solution.partition is None:
        return ["-", "-", "-", "-", f"{solution.floor_bytes:,}"]
    gap = (dram - sample.bound_bytes) / dram if dram else 0.0
    alone = "-" if solution.layerwise_bytes is None else f"{solution.layerwise_bytes:,}"
    return [f"{dram:,}", f"{100 * gap:.2f} %", str(len(solution.partition)), alone, f"{solution.floor_bytes:,}"]


def sentences(one: Series) -> list[str]:
    """What is proved, what does not run, why it ended."""
    ran = [sample for sample in one.samples if sample.dram_bytes is not None]
    unproved = [str(sample.value) for sample in ran if not sample.proved]
    lines = [f"buffer {format_bytes(one.machine.buffer_bytes)}"]
    lines[0] += f"; not proved at {', '.join(unproved)}" if unproved else "; all proved: no plan moves fewer bytes"
    lines += [f"no plan at {s.value}: {s.refused}" for s in one.samples if s.refused]
    return [*lines, one.ended] if one.ended else lines


def text(found: Sequence[Series], width: int, colours: bool) -> str:
    """Tables for a terminal, one for each series."""
    parts = []
    for label, one in zip(labels(found), found, strict=True):
        columns = [Column(name) for name in (one.over, *_HEADINGS)]
        parts += [label, "", render_table(columns, cells(one), width, colours), ""]
        parts += [*(wrapped(line, width, 2) for line in sentences(one)), ""]
    return "\n".join(parts[:-1])


def to_csv(found: Sequence[Series]) -> str:
    """One line for every sample of every series; columns are :data:`COLUMNS`."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        for sample in one.samples:
            solution, machine = sample.solution, sample.solution.machine
            groups = "" if solution.partition is None else len(solution.partition)
            fixed = one.over, one.scheme, machine.activation_bits, machine.weight_bits, machine.buffer_bytes
            figures = sample.dram_bytes, sample.bound_bytes, int(sample.proved), solution.floor_bytes
            writer.writerow([*fixed, sample.value, *figures, solution.layerwise_bytes, groups, sample.refused])
    return out.getvalue()


def to_json(found: Sequence[Series], origin: dict[str, Any]) -> str:
    """One JSON object in the layout of docs/curve.md."""
    data = {"schema_version": SCHEMA_VERSION, **origin, "series": [one.to_dict() for one in found]}
    return json.dumps(data, indent=1) + "\n"


def svg(found: Sequence[Series], title: str) -> str:
    """The picture as a file of its own.

    Raises:
        FusecutError: no sample has a plan.
    """
    return document(_picture(found, title))


def html(found: Sequence[Series], title: str) -> str:
    """A page with the picture and all figures; errors as :func:`svg`."""
    sections = [
        Section(label, sentences(one), table((one.over, *_HEADINGS), cells(one), "every value"))
        for label, one in zip(labels(found), found, strict=True)
    ]
    return page(title, _picture(found, title), sections)


def _picture(found: Sequence[Series], title: str) -> str:
    """A line for each series, one without fusion, one for the floor; values at their distance from each other."""
    lines = [
        (label, f"c{k % len(PALETTE)}", _dots(one))
        for k, (label, one) in enumerate(zip(labels(found), found, strict=True))
    ]
    lines = [line for line in lines if line[2]]
    if not lines:
        raise FusecutError(
            f"{title}: nothing to draw: {found[0].samples[0].refused if found and found[0].samples else 'no sample'}"
        )
    fused = not any(one.scheme == "layerwise" for one in found)
    alone = {s.value: s.solution.layerwise_bytes for one in found for s in one.samples if s.solution.layerwise_bytes}
    floor = {s.value: s.solution.floor_bytes for one in found for s in one.samples}
    one_floor = len({one.machine.to_dict()["weight_bits"] for one in found}) == 1
    lines += [("layerwise (no fusion)", "base", sorted(alone.items()))] if one_floor and fused and alone else []
    lines += [("floor", "soft", sorted(floor.items()))] if one_floor else []
    values = sorted({value for _, _, dots in lines for value, _ in dots})
    top = highest(max(y for _, _, dots in lines for _, y in dots))
    right = max(WIDTH // 2, WIDTH - 16 - LETTER * max(len(label) for label, _, _ in lines))
    span = max(1, values[-1] - values[0])

    def x(value: int) -> float:
        return round(LEFT + 20 + (value - values[0]) / span * (right - LEFT - 20), 1)

    parts = byte_axis(top, right, found[0].over)
    base = HEIGHT - _UNDER
    for value in values:
        parts += [
            rule(x(value), base, x(value), base + 4, "soft"),
            words(x(value), base + 17, str(value), "soft", "middle"),
        ]
    taken: list[float] = []
    for label, style, dots in lines:
        parts += _drawn(label, style, [(x(v), height(y, top), v, y) for v, y in dots])
        taken.append(_free(height(dots[-1][1], top), taken))
        parts.append(words(right + 8, taken[-1] + 4, label, f"{style} name", halo=True))
    return picture(parts, title)


def _dots(one: Series) -> list[tuple[int, int]]:
    return sorted((s.value, s.dram_bytes) for s in one.samples if s.dram_bytes is not None)


def _drawn(label: str, style: str, dots: Sequence[tuple[float, float, int, int]]) -> list[str]:
    ink, dash = colour(style), ' stroke-dasharray="2 3"' if style == "soft" else ""
    path = " L".join(f"{x:g},{y:g}" for x, y, _, _ in dots)
    parts = [f'<path class="{style}" fill="none" stroke="{ink}" stroke-width="2"{dash} d="M{path}"/>']
    for x, y, value, dram in dots:
        told = f"<title>{escape(label)}, {value}: {dram:,} B of DRAM traffic</title>"
        parts.append(f'<circle class="{style} fill" fill="{ink}" cx="{x:g}" cy="{y:g}" r="3">{told}</circle>')
    return parts


def _free(y: float, taken: Sequence[float]) -> float:
    """The place nearest below ``y`` where no name is yet."""
    while any(abs(y - other) < 14 for other in taken):
        y += 1
    return y
