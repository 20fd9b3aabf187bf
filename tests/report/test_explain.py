"""An explanation adds up to the figures of the group it explains."""

from __future__ import annotations

import pytest

import fusecut as fc
from fusecut.errors import PlanError
from fusecut.models import default_lines
from fusecut.report.explain import Explanation, explain
from fusecut.solution import Solution

LINES = default_lines("mixed")


@pytest.fixture(scope="module", params=["mobilenet_v2", "mobilenet_v3_small", "squeezenet1_0", "resnet18"])
def solution(request: pytest.FixtureRequest) -> Solution:
    return fc.solve(fc.zoo(request.param), "96KiB")


def explained(solution: Solution) -> list[Explanation]:
    return [explain(solution, index, LINES) for index in range(len(solution.planned))]


def test_rows_weights_and_accumulators_add_up_to_the_buffer(solution: Solution) -> None:
    for e in explained(solution):
        if e.planned.schedule.scheme == "lbdf" and e.planned.schedule.passes == 1:
            parts = sum(h.nbytes for h in e.held) + sum(n for _, n in e.weights) + sum(n for _, n in e.accumulators)
            assert parts == e.planned.cost.buffer_bytes


def test_tensors_and_weights_add_up_to_the_traffic(solution: Solution) -> None:
    for e in explained(solution):
        read = sum(m.nbytes for m in e.moved if m.direction == "read") + e.planned.cost.weight_bytes
        written = sum(m.nbytes for m in e.moved if m.direction == "write")
        assert (read, written) == (e.planned.cost.read_bytes, e.planned.cost.write_bytes)


def test_every_lever_needs_more_buffer_and_saves_bytes(solution: Solution) -> None:
    for e in explained(solution):
        for lever in e.levers:
            assert lever.buffer_bytes > e.capacity_bytes and lever.saved_bytes > 0


def test_a_lever_holds_what_it_promises(solution: Solution) -> None:
    """With the buffer of the cheapest lever, the best plan is at least as good as the lever says."""
    levers = [lever for e in explained(solution) for lever in e.levers]
    lever = min(levers, key=lambda item: (item.buffer_bytes, item.change))
    assert solution.partition is not None
    better = fc.solve(solution.partition.graph, lever.buffer_bytes)
    assert better.cost.dram_bytes <= solution.cost.dram_bytes - lever.saved_bytes


def test_a_skip_is_blamed_on_the_reader_that_is_late() -> None:
    solution = fc.solve(fc.zoo("mobilenet_v2"), "256KiB", scheme="lbdf")
    whys = [h.why for e in explained(solution) for h in e.held]
    assert any("waits for" in why for why in whys) and any("window of" in why for why in whys)


def test_text_names_every_tensor_that_is_held(solution: Solution) -> None:
    e = explained(solution)[0]
    text = e.text(width=400)
    assert all(h.tensor in text for h in e.held)


def test_a_plan_without_that_group_is_refused(solution: Solution) -> None:
    with pytest.raises(PlanError, match="there is no group 999"):
        explain(solution, 999, LINES)


def test_a_group_in_bands_says_what_is_on_chip_when_most_is() -> None:
    solution = fc.solve(fc.zoo("mobilenet_v2"), "256KiB")
    banded = [e for e in explained(solution) if e.planned.schedule.bands is not None]
    assert banded
    for e in banded:
        assert sum(p.nbytes for p in e.places) == e.planned.cost.pooled_buffer_bytes
        assert e.bands in " ".join(e.text(100).split())
