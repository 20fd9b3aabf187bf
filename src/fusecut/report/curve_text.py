"""Curves as words, tables and CSV: what the terminal, the page and the spreadsheet say. No drawing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from typing import Any, Final

from fusecut.curve import Curve, Point
from fusecut.solution import SCHEMA_VERSION
from fusecut.text import Column, render_table, wrapped
from fusecut.units import format_bytes, format_kib

_SHOWN: Final = 0.02
"""A point is worth a line on the terminal if it gains so much more than the one shown before it."""

COLUMNS: Final = (
    "scheme", "activation_bits", "weight_bits", "inputs", "buffer_bytes", "dram_bytes", "bound_bytes",
    "gained_percent", "groups", "floor_dram_bytes",
)  # fmt: skip


def labels(curves: Sequence[Curve]) -> list[str]:
    """A short name for each curve: whatever is not the same for all of them; the scheme where nothing differs."""
    parts: tuple[Callable[[Curve], str], ...] = (
        lambda c: c.scheme,
        lambda c: f"{c.machine.weight_bits}-bit weights",
        lambda c: f"{c.machine.activation_bits}-bit activations",
        shapes,
    )
    telling = [part for part in parts if len({part(c) for c in curves}) > 1]
    return [", ".join(part(c) for part in telling) or c.scheme for c in curves]


def shapes(curve: Curve) -> str:
    """Shapes of the network's inputs, such as ``1x3x224x224``."""
    tensors = (curve.graph.tensors[t] for t in curve.graph.inputs)
    return " ".join("x".join(map(str, tensor.shape)) for tensor in tensors)


def bought(curve: Curve, point: Point) -> str:
    """What a knee says: the buffer, rounded up to whole KiB, and its share of all there is to gain."""
    return f"{-(-point.buffer_bytes // 1024):,} KiB buys {100 * curve.gained(point):.0f} %"


def sentences(curve: Curve) -> list[str]:
    """The curve in words: extent, proof, knees."""
    if not curve.points:
        return [f"no point: {curve.ended}"]
    count, unproved = len(curve.points), [p for p in curve.points if not p.proved]
    extent = f"{format_bytes(curve.points[0].buffer_bytes)} to {format_bytes(curve.machine.buffer_bytes)}"
    proof = "all proved: no plan moves fewer bytes"
    if unproved:
        proof = f"{len(unproved)} of them not proved, gap at most {100 * max(p.gap for p in unproved):.2f} %"
    lines = [f"{extent}: {count:,} step{'s' * (count > 1)}, {proof}"]
    if knees := curve.knees():
        said = ", ".join(bought(curve, point) for point in knees)
        lines.append(f"{said} of all there is to gain (down to the floor of {curve.floor_bytes:,} B)")
    return [*lines, f"below that: {curve.ended}"] if curve.ended else lines


def text(curves: Sequence[Curve], width: int, colour: bool, every: bool = False) -> str:
    """Tables for a terminal, one for each curve: every step, or those that gain 2 % or more."""
    parts = []
    for label, curve in zip(labels(curves), curves, strict=True):
        rows = curve.points if every else telling(curve)
        parts += [label, "", _table(curve, rows, width, colour)] if rows else [label]
        hidden = len(curve.points) - len(rows)
        more = [f"{hidden:,} smaller steps not shown: all of them with --all, or in a file with -o"] if hidden else []
        parts += ["", *(wrapped(line, width, 2) for line in (*sentences(curve), *more)), ""]
    return "\n".join(parts[:-1])


def telling(curve: Curve) -> list[Point]:
    """The first and the last point, the knees, and points that gain 2 % of all over the one listed before."""
    kept: list[Point] = []
    always = {p.buffer_bytes for p in (*curve.points[:1], *curve.points[-1:], *curve.knees())}
    for point in curve.points:
        if point.buffer_bytes in always or curve.gained(point) - curve.gained(kept[-1]) >= _SHOWN:
            kept.append(point)
    return kept


def _table(curve: Curve, points: Iterable[Point], width: int, colour: bool) -> str:
    columns = [Column(name) for name in ("buffer B", "", "DRAM B", "gained", "groups", "proved gap")]
    return render_table([*columns, Column("", "left")], cells(curve, points), width, colour)


def cells(curve: Curve, points: Iterable[Point]) -> list[list[str]]:
    """Rows of a table for people."""
    knees = {point.buffer_bytes for point in curve.knees()}
    return [
        [
            f"{p.buffer_bytes:,}",
            format_kib(p.buffer_bytes),
            f"{p.dram_bytes:,}",
            f"{100 * curve.gained(p):.1f} %",
            str(len(p.partition)),
            f"{100 * p.gap:.2f} %",
            "knee" if p.buffer_bytes in knees else "",
        ]
        for p in points
    ]


def to_csv(curves: Sequence[Curve]) -> str:
    """One line for every point of every curve; columns are :data:`COLUMNS`."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for curve in curves:
        fixed = curve.scheme, curve.machine.activation_bits, curve.machine.weight_bits, shapes(curve)
        for p in curve.points:
            gained = f"{100 * curve.gained(p):.4f}"
            figures = p.buffer_bytes, p.dram_bytes, p.bound_bytes, gained, len(p.partition), curve.floor_bytes
            writer.writerow([*fixed, *figures])
    return out.getvalue()


def to_json(curves: Sequence[Curve], origin: dict[str, Any]) -> str:
    """One JSON object in the layout of docs/curve.md; ``origin`` says what was read, and by whom."""
    data = {"schema_version": SCHEMA_VERSION, **origin, "curves": [curve.to_dict() for curve in curves]}
    return json.dumps(data, indent=1) + "\n"
