"""What a figure is before it is drawn: panels with lines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """Points (x, y), with a band from ``low`` to ``high`` around them where these are given.

    ``end`` is the x from which on the line only holds its last value: it gets a dot there.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    end: float | None = None


@dataclass(frozen=True)
class Panel:
    """One coordinate system. Lines of one label have one colour in all panels of a figure.

    Both axes may be ``log``; ``y_linear_below`` keeps the part from 0 to it linear, so that 0 has a place.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_log: bool = True
    y_log: bool = True
    y_linear_below: float = 1.0
