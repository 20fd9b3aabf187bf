"""Occupancy of the buffer over time, as a file that Perfetto (ui.perfetto.dev) and chrome://tracing open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from fusecut.simulate.report import Simulation

_TITLES: Final = (
    {"name": "process_name", "ph": "M", "ts": 0, "pid": 0, "args": {"name": "bytes on chip"}},
    {"name": "thread_name", "ph": "M", "ts": 0, "pid": 0, "tid": 0, "args": {"name": "groups"}},
)


def trace_events(simulation: Simulation) -> list[dict[str, Any]]:
    """Chrome trace events: a counter for each label on chip, and a slice for each group.

    One event of the execution is one microsecond. A label's counter goes back to 0 when its group ends.
    Fields are those of the Trace Event Format (C: counter, X: complete event, M: name of a process or thread).
    """
    names = {g.index: f"group {g.index}: {g.ops[0]}" for g in simulation.groups}
    events: list[dict[str, Any]] = []
    labels: dict[int, dict[str, None]] = {}
    spans: dict[int, tuple[int, int]] = {}
    for sample in simulation.trace:
        labels.setdefault(sample.group, {})[sample.label] = None
        first, _ = spans.get(sample.group, (sample.event, sample.event))
        spans[sample.group] = first, sample.event
        events.append(_counter(sample.label, sample.event, sample.nbytes))
    for group, (first, last) in spans.items():
        slice_ = {"name": names[group], "ph": "X", "ts": first, "dur": last + 1 - first, "pid": 0, "tid": 0}
        events.append(slice_)
        events += [_counter(label, last + 1, 0) for label in labels[group]]
    return [*_TITLES, *sorted(events, key=lambda e: e["ts"])]


def _counter(label: str, event: int, nbytes: int) -> dict[str, Any]:
    return {"name": label, "ph": "C", "ts": event, "pid": 0, "args": {"bytes": nbytes}}


def trace_json(simulation: Simulation) -> str:
    """The trace of a simulation that was asked for one, as the text of a trace file."""
    return json.dumps({"traceEvents": trace_events(simulation), "displayTimeUnit": "ms"})


def write_trace(simulation: Simulation, path: str | Path) -> None:
    """Write the trace of a simulation that was asked for one.

    Raises:
        OSError: the place cannot be written.
    """
    Path(path).write_text(trace_json(simulation), encoding="utf-8")
