"""The entrance: plans in, verdicts out; traces; what is refused and how it says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusecut as fc
from fusecut.errors import PlanError, SimulationError
from fusecut.frontend.weights import network
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.plan_file import load_plan, to_json
from fusecut.simulate import execute, simulate, trace_json, write_trace
from fusecut.simulate.compute import Compute
from fusecut.simulate.memory import Buffer, Dram, Lane, Ring
from fusecut.solution import Provenance
from fusecut.testing import Net
from fusecut.zoo import load, path


def solved(name: str = "mobilenet_v3_small", buffer: str = "64KiB", scheme: str = "mixed", **shape: Any) -> fc.Solution:
    return fc.solve(load(name, **shape), buffer=buffer, scheme=scheme, max_plans=1)


SMALL: dict[str, Any] = {"input_shapes": {"input": (1, 3, 64, 64)}}


def test_a_plan_of_the_zoo_is_executed_on_real_arrays() -> None:
    simulation = simulate(solved(**SMALL))
    assert simulation.agrees and simulation.data
    assert str(simulation).endswith("moved")
    assert simulation.dram_bytes == sum(g.model.read_bytes + g.model.write_bytes for g in simulation.groups)


@pytest.mark.parametrize(("name", "scheme"), [("efficientnet_b3", "mixed"), ("hrnet_w18", "lbdf")])
def test_without_data_large_networks_take_no_time(name: str, scheme: str) -> None:
    simulation = simulate(solved(name, "256KiB", scheme), mode="fast")
    assert simulation.agrees, str(simulation)
    assert not simulation.data


def test_weights_and_inputs_come_from_the_seed() -> None:
    solution = solved(**SMALL)
    assert solution.partition is not None
    graph = solution.partition.graph
    outputs = []
    for seed in (0, 0, 1):
        compute = Compute(graph, network(path(graph.name), {"input": (1, 3, 64, 64)}, seed))
        inputs = {"input": np.ones((1, 3, 64, 64))}
        _, dram = execute(graph, solution.machine, solution.planned, compute, inputs)
        outputs.append(dram.data[graph.outputs[0]])
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.allclose(outputs[0], outputs[2])


@pytest.mark.parametrize("buffer", ["24KiB", "512KiB"])
def test_the_images_of_a_batch_do_not_mix(buffer: str) -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 3, 64, 64))
    found = []
    for batch in (images, images[:1], images[1:]):
        solution = solved(buffer=buffer, input_shapes={"input": batch.shape})
        assert solution.partition is not None
        graph = solution.partition.graph
        compute = Compute(graph, network(path(graph.name), {"input": batch.shape}), "float64")
        simulation, dram = execute(graph, solution.machine, solution.planned, compute, {"input": batch})
        assert simulation.agrees, str(simulation)
        found.append(compute.array_of(graph.outputs[0], dram.data[graph.outputs[0]]))
    np.testing.assert_allclose(found[0], np.concatenate(found[1:]), rtol=1e-9)


def test_a_plan_file_is_executed_on_the_network_it_names(tmp_path: Path) -> None:
    from fusecut.load import fingerprint

    solution = solved()
    about = replace(
        solution.provenance,
        model="zoo:mobilenet_v3_small",
        model_sha256=fingerprint("zoo:mobilenet_v3_small"),
        granularity="folded",
        scheme="mixed",
    )
    file = tmp_path / "plan.json"
    file.write_text(to_json(replace(solution, provenance=about)), encoding="utf-8")
    assert simulate(load_plan(file), mode="fast").agrees
    changed = replace(solution, provenance=replace(about, model_sha256="0" * 64))
    with pytest.raises(SimulationError, match="zoo:mobilenet_v3_small has changed since it was solved: solve it again"):
        simulate(changed)


def test_a_plan_file_says_what_each_pass_runs_and_files_that_do_not_are_read_too(tmp_path: Path) -> None:
    from fusecut.load import fingerprint

    model = WithFallback(LineBuffer(squeeze_excite="two_pass"), Layerwise())
    solution = fc.solve(load("mobilenet_v3_small"), buffer="64KiB", model=model)
    name = "zoo:mobilenet_v3_small"
    about = replace(
        solution.provenance,
        model=name,
        model_sha256=fingerprint(name),
        granularity="folded",
        scheme="lbdf",
        options=(("squeeze_excite", "two_pass"),),
    )
    data = json.loads(to_json(replace(solution, provenance=about)))
    at, twice = next((i, g) for i, g in enumerate(data["groups"]) if g["schedule"]["passes"] == 2)
    first, last = twice["schedule"]["runs"]
    assert {*first, *last} == set(twice["schedule"]["order"]) and first != last
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    assert load_plan(file).planned[at].schedule == solution.planned[at].schedule
    twice["schedule"]["runs"] = [last, first]
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(PlanError, match=f"the passes of group {at} run other ops than here; solve the network again"):
        load_plan(file)
    for group in data["groups"]:
        del group["schedule"]["runs"]
    file.write_text(json.dumps(data), encoding="utf-8")
    assert load_plan(file).planned == solution.planned


def test_another_network_than_the_plans_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"resnet18\.onnx is not the network of this plan: it has no op"):
        simulate(solved(), model=path("resnet18"))


def test_a_graph_that_says_nothing_of_its_file_needs_a_name() -> None:
    solution = solved()
    assert solution.partition is not None
    graph = replace(solution.partition.graph, name="mine")
    unnamed = replace(solution, partition=fc.Partition(graph, solution.partition.groups))
    with pytest.raises(SimulationError, match="does not say which file 'mine' came from: name it with model="):
        simulate(unnamed)
    assert simulate(unnamed, model="zoo:mobilenet_v3_small", mode="fast").agrees


def test_inputs_are_checked() -> None:
    solution = solved(**SMALL)
    with pytest.raises(SimulationError, match="no array for network input 'input': expected shape"):
        simulate(solution, inputs={})
    with pytest.raises(SimulationError, match=r"has shape \(1, 3, 64, 64\), the array has \(1, 3, 8, 8\)"):
        simulate(solution, inputs={"input": np.ones((1, 3, 8, 8))})


def test_no_plan_cannot_be_executed() -> None:
    with pytest.raises(SimulationError, match="there is no plan to execute: the search found none"):
        simulate(fc.solve(load("resnet18"), buffer=10))


def test_a_network_made_by_hand_gets_invented_weights() -> None:
    net = Net()
    x = net.input(4, 12, 12)
    solution = fc.solve(net.graph(net.add(net.conv(net.conv(x, 4), 4), x)), buffer="1KiB")
    assert solution.provenance == Provenance("net", "", "", "mixed", "exact", None, fc.__version__)
    assert simulate(solution, dtype="float64").agrees


def test_the_trace_says_what_is_on_chip_and_perfetto_opens_it(tmp_path: Path) -> None:
    net = Net()
    x = net.input(4, 12, 12)
    solution = fc.solve(net.graph(net.conv(net.conv(x, 4, name="a"), 4, name="b")), buffer="1KiB")
    simulation = simulate(solution, mode="fast", trace=True)
    held: dict[str, int] = {}
    most = 0
    for sample in simulation.trace:
        held[sample.label] = sample.nbytes
        most = max(most, sum(held.values()))
    assert most == simulation.groups[0].executed.pooled_buffer_bytes
    assert held == {"weights of a": 144, "weights of b": 144, "t0": 0, "t1": 0, "t2": 0}
    write_trace(simulation, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {e["ph"] for e in events} == {"C", "M", "X"}
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)
    assert not simulate(solution, mode="fast").trace


def test_a_trace_keeps_the_format_that_viewers_read() -> None:
    """The Trace Event Format: fields of each kind, slices of a thread side by side, counters that end at 0."""
    simulation = simulate(solved(buffer="24KiB", **SMALL), mode="fast", trace=True)
    document = json.loads(trace_json(simulation))
    assert document.keys() == {"traceEvents", "displayTimeUnit"} and document["displayTimeUnit"] == "ms"
    fields = {"C": {"args"}, "M": {"args"}, "X": {"dur", "tid"}}
    counters: dict[str, int] = {}
    end = 0
    for event in document["traceEvents"]:
        kind = event["ph"]
        assert {"name", "ph", "ts", "pid", *fields[kind]} <= event.keys() and event["ts"] >= 0
        if kind == "X":
            assert event["ts"] >= end and event["dur"] > 0
            end = event["ts"] + event["dur"]
        if kind == "C":
            counters[event["name"]] = event["args"]["bytes"]
            assert isinstance(event["args"]["bytes"], int) and event["args"]["bytes"] >= 0
    assert set(counters.values()) == {0}
    assert sum(e["ph"] == "X" for e in document["traceEvents"]) == len(simulation.groups)


def test_a_buffer_gives_what_it_has_and_no_more() -> None:
    buffer = Buffer(100, "group 3")
    buffer.allocate("a", 60)
    with pytest.raises(SimulationError, match=r"group 3: b needs 50 B, the buffer of 100 B has 40 B left: 10 B over"):
        buffer.allocate("b", 50)
    with pytest.raises(SimulationError, match="group 3: a is on chip already"):
        buffer.allocate("a", 1)
    buffer.release("a")
    buffer.allocate("b", 100)
    assert buffer.peak_bytes == 100


def test_a_ring_forgets_and_what_it_forgot_is_not_a_number() -> None:
    ring = Ring("x", 2, 32, (3,), "float32")
    lane = Lane("x", ring)
    for row in range(3):
        lane.push(row, np.full(3, row, np.float32))
    window = lane.window(1, 2, str)
    assert window is not None and window[:, 0].tolist() == [1, 2]
    with pytest.raises(SimulationError, match="op q reads row 0 of 'x', which was evicted \\(2 rows held\\)"):
        lane.window(0, 1, lambda: "op q")
    with pytest.raises(SimulationError, match="op q reads row 3 of 'x', which is not made yet"):
        lane.window(2, 3, lambda: "op q")
    lane.forget_below(2)
    assert ring.data is not None and np.isnan(ring.data[1]).all() and ring.live_bytes == 4


def test_dram_keeps_one_row_of_every_name_and_counts_it() -> None:
    net = Net()
    graph = net.graph(net.conv(net.input(2, 4, 4), 2))
    dram = Dram(graph)
    dram.write_row(0, 1, 2, np.ones((2, 4)), str)
    with pytest.raises(SimulationError, match="op q writes row 2 of 't1', which is in DRAM already"):
        dram.write_row(0, 1, 2, None, lambda: "op q")
    with pytest.raises(SimulationError, match="op q reads row 0 of 't1' from DRAM, where nobody wrote it"):
        dram.read_row(1, 1, 0, lambda: "op q")
    dram.read_row(1, 1, 2, str)
    assert (dram.of_group(0).write_bytes, dram.of_group(1).read_bytes) == (8, 8)
    with pytest.raises(SimulationError, match="group 1: 't1' lacks row 0 in DRAM"):
        dram.require(1, "group 1")
