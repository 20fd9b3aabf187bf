"""What a figure is before it is drawn: panels with lines or with bars."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """Points (x, y), with a band from ``low`` to ``high`` around them where these are given.

    ``end`` is the x from which on the line only holds its last value: it gets a dot there. With ``steps``
    every value holds up to the next x. ``dashed`` is for what no plan reaches: bounds and limits.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    end: float | None = None
    steps: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One coordinate system. Lines and stacks of one label have one colour in all panels of a figure.

    Both axes may be ``log``; ``y_linear_below`` keeps the part from 0 to it linear, so that 0 has a place.
    A linear y axis begins at 0. ``x_ticks`` are places and their names, in place of round numbers.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_log: bool = True
    y_log: bool = True
    y_linear_below: float = 1.0
    x_ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Stack:
    """One share of every bar; stacks lie on each other in their order."""

    label: str
    heights: tuple[float, ...]


@dataclass(frozen=True)
class BarPanel:
    """Bars side by side, each named and divided into the same shares; ``limit`` is a dashed line across."""

    title: str
    x_label: str
    y_label: str
    bars: tuple[str, ...]
    stacks: tuple[Stack, ...]
    limit: float | None = None
    limit_label: str = ""
