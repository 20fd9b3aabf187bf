"""8-bit integers: rows through rings equal, bit for bit, a reference in whole tensors and int64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sim_helpers import random_plan, small_graph

import fusecut as fc
from fusecut.errors import SimulationError, UnknownNameError
from fusecut.frontend.weights import Network, Step, network
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer, WithFallback
from fusecut.problem import Problem
from fusecut.simulate import execute, simulate
from fusecut.simulate.calls import to_slab
from fusecut.simulate.compute import OpKernel
from fusecut.simulate.integers import IntegerCompute
from fusecut.simulate.memory import Array
from fusecut.simulate.run import random_inputs
from fusecut.simulate.synthetic import network_of
from fusecut.testing import Net
from fusecut.zoo import load, path

# An independent reference ------------------------------------------------------------------------


class WholeNetwork:
    """Node by node on whole tensors, in int64 with shifts; shares scales and quantised constants, no arithmetic."""

    def __init__(self, compute: IntegerCompute, inputs: dict[str, Array]) -> None:
        self.net: Network = compute.network
        self.compute, self.e = compute, compute.exponents
        self.values: dict[str, Array] = {
            n: np.clip(np.rint(x / 2.0 ** self.e[n]), -128, 127).astype(np.int64) for n, x in inputs.items()
        }
        for step in self.net.steps.values():
            made = getattr(self, step.op_type.lower())(step)
            self.values[step.outputs[0]] = made

    def operand(self, step: Step, k: int) -> tuple[Array, int]:
        """Integers and their exponent."""
        name = step.inputs[k]
        if name in self.values:
            return self.values[name], self.exponent(name)
        value = self.net.constants[name].astype(np.float64)
        return np.rint(value / 2.0 ** self.compute.grids[name]).astype(np.int64), self.compute.grids[name]

    def exponent(self, name: str) -> int:
        while name not in self.e:
            name = self.net.steps[next(n for n, s in self.net.steps.items() if name in s.outputs)].inputs[0]
        return self.e[name]

    def out(self, step: Step, total: Array, e: int, count: int = 1) -> Array:
        """total * 2^e / count in the scale of the result: rounded once, ties to even."""
        shift = e - self.e[step.outputs[0]]
        top, bottom = total << max(0, shift), np.int64(count) << max(0, -shift)
        whole, rest = np.divmod(top, bottom)
        up = (2 * rest > bottom) | ((2 * rest == bottom) & (whole % 2 == 1))
        return np.asarray(np.clip(whole + up, -128, 127))

    def padded(self, step: Step, x: Array, kernel: tuple[int, ...], fill: int) -> tuple[Array, Any, int, int]:
        top, left, bottom, right = step.attrs.get("pads", (0, 0, 0, 0))
        x = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=fill)
        s, t = step.attrs.get("strides", (1, 1))
        return x, (s, t), (x.shape[2] - kernel[0]) // s + 1, (x.shape[3] - kernel[1]) // t + 1

    def conv(self, step: Step) -> Array:
        (x, ex), (w, ew) = self.operand(step, 0), self.operand(step, 1)
        groups, (outs, ins, rows, cols) = int(step.attrs.get("group", 1)), w.shape
        x, (s, t), height, width = self.padded(step, x, (rows, cols), 0)
        total = np.zeros((x.shape[0], outs, height, width), np.int64)
        for r in range(rows):
            for c in range(cols):
                part = x[:, :, r : r + (height - 1) * s + 1 : s, c : c + (width - 1) * t + 1 : t]
                for g in range(groups):
                    mine = slice(g * outs // groups, (g + 1) * outs // groups)
                    total[:, mine] += np.einsum("oi,nihw->nohw", w[mine, :, r, c], part[:, g * ins : (g + 1) * ins])
        assert np.abs(total).max() < 2**31
        if len(step.inputs) > 2:
            bias, eb = self.operand(step, 2)
            assert eb == ex + ew
            total += bias.reshape(-1, 1, 1)
        return self.out(step, total, ex + ew)

    def gemm(self, step: Step) -> Array:
        (x, ex), (w, ew), (bias, _) = (self.operand(step, k) for k in range(3))
        return self.out(step, x @ (w.T if step.attrs.get("transB") else w) + bias, ex + ew)

    def maxpool(self, step: Step) -> Array:
        x, e = self.operand(step, 0)
        rows, cols = step.attrs["kernel_shape"]
        x, (s, t), height, width = self.padded(step, x, (rows, cols), -(2**40))
        parts = [
            x[:, :, r : r + (height - 1) * s + 1 : s, c : c + (width - 1) * t + 1 : t]
            for r in range(rows)
            for c in range(cols)
        ]
        return self.out(step, np.max(parts, axis=0), e)

    def globalaveragepool(self, step: Step) -> Array:
        x, e = self.operand(step, 0)
        return self.out(step, x.sum(axis=(2, 3), keepdims=True), e, x.shape[2] * x.shape[3])

    def reducemean(self, step: Step) -> Array:
        x, e = self.operand(step, 0)
        return self.out(step, x.sum(axis=(2, 3), keepdims=bool(step.attrs.get("keepdims", 1))), e, x[0, 0].size)

    def add(self, step: Step) -> Array:
        (x, ex), (y, ey) = self.operand(step, 0), self.operand(step, 1)
        e = min(ex, ey)
        return self.out(step, (x << (ex - e)) + (y << (ey - e)), e)

    def relu(self, step: Step) -> Array:
        x, e = self.operand(step, 0)
        return self.out(step, np.maximum(x, 0), e)

    def clip(self, step: Step) -> Array:
        x, e = self.operand(step, 0)
        assert e <= 0
        low, high = (int(float(self.net.constants[n]) * 2**-e) for n in step.inputs[1:3])
        return self.out(step, np.clip(x, low, high), e)

    def flatten(self, step: Step) -> Array:
        x, _ = self.operand(step, 0)
        return x.reshape(x.shape[0], -1)

    reshape = flatten


@pytest.mark.parametrize(("name", "size", "buffer"), [("resnet18", 40, "64KiB"), ("mobilenet_v2", 48, "48KiB")])
def test_a_network_of_the_zoo_equals_whole_tensors_in_int64_bit_for_bit(name: str, size: int, buffer: str) -> None:
    dims = (1, 3, size, size)
    solution = fc.solve(load(name, input_shapes={"input": dims}), buffer=buffer, max_plans=1)
    assert solution.partition is not None
    graph = solution.partition.graph
    inputs = random_inputs(graph, 0)
    compute = IntegerCompute(graph, network(path(name), {"input": dims}), inputs)
    simulation, dram = execute(graph, solution.machine, solution.planned, compute, inputs)
    assert simulation.agrees
    reference = WholeNetwork(compute, inputs)
    for t in dram.data:
        found = compute.array_of(t, dram.data[t])
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, reference.values[graph.tensors[t].name].reshape(found.shape))
    assert len(np.unique(dram.data[graph.outputs[0]])) > 50


# Rows against whole tensors ----------------------------------------------------------------------


@pytest.mark.parametrize("switches", [{}, {"granularity": "pixel", "virtual_concat": True, "inline_elementwise": True}])
@pytest.mark.parametrize("seed", range(0, 24, 12))
def test_rows_in_rings_equal_whole_tensors_bit_for_bit(seed: int, switches: dict[str, Any]) -> None:
    executed = 0
    for s in range(seed, seed + (4 if switches else 12)):
        rng = np.random.default_rng(s)
        graph = small_graph(rng)
        if any(op.kind == "opaque" for op in graph.ops):
            continue
        inputs = random_inputs(graph, s)
        compute = IntegerCompute(graph, network_of(graph, s), inputs)
        rows = {t: compute.rows_of(t, inputs[graph.tensors[t].name]) for t in graph.inputs}
        for op in graph.ops:
            slabs = [
                compute.slab_in(graph.tensors[t].name, to_slab(rows[t], compute.layouts[t]).astype(np.float64))
                for t in op.inputs
            ]
            rows |= dict(zip(op.outputs, OpKernel(compute, op).all_rows(slabs), strict=True))
        for capacity in (200, 100_000):
            problem = Problem(graph, Machine(capacity), WithFallback(LineBuffer(**switches), Layerwise()))
            plan = random_plan(problem, rng)
            if plan is not None:
                simulation, dram = execute(problem.graph, problem.machine, plan, compute, inputs)
                assert simulation.agrees
                executed += 1
                for t, found in dram.data.items():
                    np.testing.assert_array_equal(found, rows[t])
    assert executed


def test_two_plans_of_one_network_make_the_same_bits() -> None:
    outputs = []
    for buffer in ("24KiB", "512KiB"):
        solution = fc.solve(
            load("mobilenet_v3_small", input_shapes={"input": (1, 3, 64, 64)}), buffer=buffer, max_plans=1
        )
        assert solution.partition is not None
        graph = solution.partition.graph
        inputs = random_inputs(graph, 0)
        compute = IntegerCompute(graph, network(path(graph.name), {"input": (1, 3, 64, 64)}), inputs)
        _, dram = execute(graph, solution.machine, solution.planned, compute, inputs)
        outputs.append(dram.data[graph.outputs[0]])
    np.testing.assert_array_equal(outputs[0], outputs[1])


# The entrance ------------------------------------------------------------------------------------


def test_what_has_no_integer_arithmetic_is_named() -> None:
    net = Net()
    x = net.input(4, 8, 8)
    graph = net.graph(net.op("softmax", [net.conv(x, 4)], (4, 8, 8)))
    solution = fc.solve(graph, buffer="1KiB")
    with pytest.raises(
        SimulationError, match=r"^Softmax has no integer arithmetic here: simulate with dtype float32 or"
    ):
        simulate(solution, dtype="int8")


def test_an_unknown_type_lists_those_that_are_known() -> None:
    net = Net()
    solution = fc.solve(net.graph(net.conv(net.input(4, 8, 8), 4)), buffer="1KiB")
    with pytest.raises(UnknownNameError, match="float32, float64, int8"):
        simulate(solution, dtype="int4")  # type: ignore[arg-type]


def test_what_is_not_finite_cannot_be_scaled() -> None:
    net = Net()
    solution = fc.solve(net.graph(net.conv(net.input(4, 8, 8), 4)), buffer="1KiB")
    inputs = {"t0": np.full((1, 4, 8, 8), np.inf)}
    with pytest.raises(SimulationError, match="'t0' is not finite: it cannot be scaled to integers"):
        simulate(solution, inputs=inputs, dtype="int8")
