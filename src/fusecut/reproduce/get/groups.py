"""Table I and Figure 3: what groups a random search meets, and how many of them fit.

Both come from the data set of :mod:`fusecut.train.dataset`, collected anew or read from a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusecut.report.plots import Line, Panel
from fusecut.reproduce.get.published import GROUPS
from fusecut.text import Column
from fusecut.train.dataset import Samples, collected, read
from fusecut.units import format_bytes


@dataclass(frozen=True)
class Share:
    """Groups of one network under one scheme, and the share of them that fits each buffer."""

    scheme: str
    network: str
    groups: int
    published_groups: int | None
    feasible: tuple[tuple[int, float], ...]


def samples(scheme: str, networks: int | None, share: float, file: Path | None, note: Callable[[str], None]) -> Samples:
    """The data set of a file, or a fresh one: for each network of Table I as many groups as the paper has.

    Under BRR the paper leaves out the networks with squeeze-excite.

    Raises:
        FusecutError: the file is no data set.
    """
    if file is not None:
        return read(file)
    names = [name for name in GROUPS if scheme == "lbdf" or not name.startswith(("efficientnet", "mobilenet_v3"))]
    most = max(40, round(share * max(GROUPS.values())))
    return collected(scheme, names[:networks], most, 0, note)


def shares(found: Samples) -> list[Share]:
    """For each network of a data set, in its order."""
    rows = []
    for k, network in enumerate(found.networks):
        mine = found.infeasible[found.network_of == k]
        fits = 1 - mine.mean(axis=0) if len(mine) else np.zeros(len(found.buffers))
        feasible = tuple(zip(found.buffers, fits.tolist(), strict=True))
        rows.append(Share(found.scheme, network, len(mine), GROUPS.get(network), feasible))
    return rows


def columns(rows: list[Share]) -> list[Column]:
    """Buffers differ from scheme to scheme: the columns are those of the first row."""
    buffers = [Column(format_bytes(nbytes)) for nbytes, _ in rows[0].feasible]
    return [Column("network", "left"), Column("groups"), Column("paper"), Column("samples"), *buffers]


def lines(rows: list[Share]) -> list[list[str]]:
    """Share of the groups that fit each buffer, in percent."""
    text = [
        [
            row.network,
            f"{row.groups:,}",
            "" if row.published_groups is None else f"{row.published_groups:,}",
            f"{row.groups * len(row.feasible):,}",
            *(f"{100 * share:.1f}" for _, share in row.feasible),
        ]
        for row in rows
    ]
    total, published = sum(row.groups for row in rows), sum(row.published_groups or 0 for row in rows)
    return [
        *text,
        ["all", f"{total:,}", f"{published:,}", f"{total * len(rows[0].feasible):,}", *[""] * len(rows[0].feasible)],
    ]


def panel(rows: list[Share]) -> Panel:
    """Share of feasible groups against the buffer, a line for each network of the paper."""
    drawn = tuple(
        Line(row.network, tuple(n / 1024 for n, _ in row.feasible), tuple(100 * share for _, share in row.feasible))
        for row in rows
        if row.published_groups is not None
    )
    ticks = tuple((n / 1024, f"{n // 1024}") for n, _ in rows[0].feasible)
    return Panel(f"groups that fit under {rows[0].scheme}", "buffer, KiB", "%", drawn, y_log=False, x_ticks=ticks)
