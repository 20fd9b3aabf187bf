"""The report as one HTML file: no network, no script but its own, names only ever as text.

The page carries its data as JSON and its drawing code inline. A content security policy admits
exactly those scripts and that style sheet, by hash, and nothing from anywhere else, so that a name
in a hostile network file can neither run nor load anything. What matters most (figures, certificate,
table of groups) is plain HTML and needs no script at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from fusecut.models import SCHEMES, scheme_model
from fusecut.plan_file import line_buffer, write_text
from fusecut.report.html_data import ReportData, ReportGroup, lines_of, report_data
from fusecut.search import Greedy
from fusecut.solution import Solution
from fusecut.solve import Progress, solve

_ASSETS: Final = files("fusecut.report") / "assets"
_SCRIPTS: Final = ("vendor/d3.min.js", "vendor/dagre.min.js", "charts.js", "report.js")
GREEDY_OPS: Final = 400
"""Networks with more ops get no greedy bar unless it is asked for: it can take longer than the proof."""


def write_report(
    solution: Solution,
    path: str | Path,
    *,
    greedy: bool | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Write the report of a plan as one self-contained HTML file, whole or not at all.

    Args:
        greedy: whether to compute the greedy plan for comparison; by default for networks of at
            most :data:`GREEDY_OPS` ops.
        on_progress: called while that search runs.

    Raises:
        PlanError: the solution holds no plan.
        FusecutError: the place cannot be written.
    """
    write_text(path, report(solution, greedy=greedy, on_progress=on_progress))


def report(
    solution: Solution, *, greedy: bool | None = None, on_progress: Callable[[Progress], None] | None = None
) -> str:
    """The text of that file; arguments and errors as in :func:`write_report`."""
    small = solution.partition is not None and len(solution.partition.graph) <= GREEDY_OPS
    wanted = small if greedy is None else greedy
    return page(report_data(solution, lines_of(solution), _greedy_bytes(solution, on_progress) if wanted else None))


def _greedy_bytes(solution: Solution, on_progress: Callable[[Progress], None] | None) -> int | None:
    """DRAM bytes of the greedy plan of the same problem; None for a cost model that has no name here."""
    origin, partition = solution.provenance, solution.partition
    if partition is None or origin.scheme not in SCHEMES:
        return None
    model = scheme_model(origin.scheme, line_buffer(origin.scheme, dict(origin.options)))
    found = solve(partition.graph, machine=solution.machine, model=model, search=Greedy(), on_progress=on_progress)
    return found.cost.dram_bytes if found.partition is not None else None


def page(data: ReportData) -> str:
    """The HTML of a report. Equal data gives equal bytes."""
    style = _asset("report.css")
    scripts = [_asset(name) for name in _SCRIPTS]
    text = Template(_asset("report.html")).substitute(
        policy=_policy(style, scripts),
        licences=escape(_asset("vendor/LICENSES.txt"), quote=False).replace("--", "- -"),
        style=style,
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
        data=embedded(data),
        network=escape(data.network),
        headline=escape(_headline(data)),
        figures=_figures(data),
        certificate="\n".join(f"<p>{escape(text)}</p>" for text in data.certificate),
        rows="\n".join(_row(data, group) for group in data.groups),
        facts="\n".join(f"<tr><th>{escape(f.name)}</th><td>{escape(f.value)}</td></tr>" for f in data.facts),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in data.notes),
        notes_hidden="" if data.notes else "hidden",
    )
    return text.encode("utf-8", "replace").decode("utf-8") + "\n"


@cache
def _asset(name: str) -> str:
    return _ASSETS.joinpath(*name.split("/")).read_text(encoding="utf-8").strip()


def _policy(style: str, scripts: list[str]) -> str:
    allowed = " ".join(_hash(text) for text in scripts)
    return f"default-src 'none'; style-src {_hash(style)}; script-src {allowed}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(data: ReportData) -> str:
    """The data as JSON that cannot end the script element it stands in.

    Lone surrogates and control characters are escaped by JSON itself; ``<``, ``>`` and ``&`` here.
    """
    text = json.dumps(asdict(data), separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _headline(data: ReportData) -> str:
    return f"{len(data.ops):,} ops in {len(data.groups):,} groups, {data.capacity_bytes:,} B of buffer"


def _figures(data: ReportData) -> str:
    proof = "Optimal, proved" if data.optimal else f"gap {data.gap_percent}"
    cells = [
        ("DRAM traffic", f"{data.dram_bytes:,} B", f"{data.read_bytes:,} read, {data.write_bytes:,} written"),
        ("Certificate", proof, f"proved bound {data.bound}"),
        ("Without fusion", *_saving(data)),
        ("Fullest buffer", f"{data.max_buffer_bytes:,} B", f"of {data.capacity_bytes:,} B"),
    ]
    return "\n".join(
        f'<div class="figure"><h3>{escape(a)}</h3><strong>{escape(b)}</strong><small>{escape(c)}</small></div>'
        for a, b, c in cells
    )


def _saving(data: ReportData) -> tuple[str, str]:
    before = next((r.dram_bytes for r in data.rivals if r.name == "without fusion"), None)
    if not before:
        return "no figure", "some op cannot run alone"
    return f"{100 * (before - data.dram_bytes) / before:.1f} % less", f"than {before:,} B"


def _row(data: ReportData, group: ReportGroup) -> str:
    names = [data.ops[i].name for i in group.ops]
    span = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
    figures = (group.buffer_bytes, group.weight_bytes, group.read_bytes, group.write_bytes, group.dram_bytes)
    cells = "".join(f"<td>{n:,}</td>" for n in figures)
    return (
        f'<tr data-group="{group.index}"><td>{group.index}</td><th>{escape(span)}</th>'
        f"<td>{len(names)}</td><td>{escape(group.scheme)}</td>{cells}</tr>"
    )
