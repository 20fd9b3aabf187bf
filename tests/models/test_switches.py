"""Each switch of the line-buffer model: one example by hand, then an independent judge on random groups."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from row_nets import everyday_net, groups_of, odd_net

from fusecut.cost import Planned
from fusecut.ir import Graph, Op, Tensor
from fusecut.machine import Machine
from fusecut.models._bounds import RowBounds
from fusecut.models._measure import POLICIES, run_to_the_end
from fusecut.models._program import Lowering, Pass, Program, Ring, lower
from fusecut.models.lbdf import LineBuffer
from fusecut.testing import Net

C, W = 3, 20


def holds(graph: Graph, model: LineBuffer) -> dict[int, list[tuple[int, int]]]:
    """(rows, bytes) of every ring, by tensor."""
    found: dict[int, list[tuple[int, int]]] = {}
    for h in model.demand(graph, graph.everything).holds:
        found.setdefault(h.tensor, []).append((h.rows, h.nbytes))
    return found


def one_conv() -> Graph:
    net = Net()
    net.conv(net.input(C, 12, W), C)
    return net.graph()


def residual() -> Graph:
    net = Net()
    x = net.input(C, 12, W)
    net.add(net.conv(net.conv(x, C), C), x)
    return net.graph()


X, Y1, Y2, Z = range(4)


# Pixels ------------------------------------------------------------------------------------------


def test_a_3x3_window_of_pixels_takes_two_rows_and_three_columns() -> None:
    assert holds(one_conv(), LineBuffer(granularity="pixel")) == {X: [(3, (2 * W + 3) * C)], Y1: [(1, C)]}


def test_whole_rows_take_three_rows() -> None:
    assert holds(one_conv(), LineBuffer()) == {X: [(3, 3 * W * C)], Y1: [(1, W * C)]}


def test_pixels_of_a_skip_follow_the_delay_along_columns() -> None:
    net = Net()
    x = net.input(C, 12, W)
    net.add(net.conv(net.conv(net.conv(x, C, 1), C), C, 1), x)
    assert holds(net.graph(), LineBuffer(granularity="pixel"))[X] == [(2, (W + 2) * C)]


def test_pixels_never_take_more_columns_than_there_are() -> None:
    net = Net()
    net.conv(net.input(C, 12, 2), C)
    assert holds(net.graph(), LineBuffer(granularity="pixel"))[X] == [(3, 3 * 2 * C)]


def test_pixels_of_a_group_count_every_column_that_leaves_it() -> None:
    """The stride of the second convolution skips the last column, but the first one is written in full."""
    net = Net()
    x = net.input(1, 3, 4)
    net.conv(net.conv(x, 3, stride=2), 1, 1, stride=2)
    graph = net.graph()
    held = {h.tensor: h for h in LineBuffer(granularity="pixel").demand(graph, 0b01).holds}
    assert held[x].cols == 3


def test_a_row_that_is_repeated_is_held_whole() -> None:
    net = Net()
    net.upsample(net.input(C, 12, W))
    assert holds(net.graph(), LineBuffer(granularity="pixel"))[X] == [(1, W * C)]


def test_a_window_over_the_last_row_finds_it_loaded() -> None:
    net = Net()
    net.conv(net.input(C, 2, W), C)
    assert holds(net.graph(), LineBuffer(granularity="pixel"))[X] == [(2, 2 * W * C)]


def test_pixels_of_columns_that_are_split_are_refused() -> None:
    tensors = (Tensor("x", (1, 2, 4, 6)), Tensor("a", (1, 2, 4, 3)), Tensor("b", (1, 2, 4, 3)))
    graph = Graph("g", tensors, (Op("cut", "split", (0,), (1, 2)),), (0,), (1, 2))
    refused = LineBuffer(granularity="pixel").plan(graph, 1, Machine(1000))
    assert str(refused) == "'cut' splits columns: it cannot run by pixels"
    assert isinstance(LineBuffer().plan(graph, 1, Machine(1000)), Planned)


def test_pixels_narrower_than_a_byte_are_rounded_up_once() -> None:
    graph = one_conv().with_bits(4, 8, 32)
    assert holds(graph, LineBuffer(granularity="pixel"))[X] == [(3, -(-(2 * W + 3) * C // 2))]


# Prefetching -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_rows_are_prefetched_for_inputs_and_outputs_only(ahead: int) -> None:
    row = W * C
    assert holds(residual(), LineBuffer(prefetch_rows=ahead)) == {
        X: [(3 + ahead, (3 + ahead) * row)],
        Y1: [(3, 3 * row)],
        Y2: [(1, row)],
        Z: [(1 + ahead, (1 + ahead) * row)],
    }


def test_a_ring_that_rows_enter_and_leave_is_prefetched_at_both_ends() -> None:
    net = Net()
    net.op("activation", [net.input(C, 12, W)], (C, 12, W))
    assert holds(net.graph(), LineBuffer(prefetch_rows=1, inline_elementwise=True)) == {Y1: [(3, 3 * W * C)]}


# Elementwise results in place --------------------------------------------------------------------


def test_a_sum_takes_the_place_of_the_operand_that_dies() -> None:
    assert holds(residual(), LineBuffer(inline_elementwise=True)) == {
        X: [(3, 3 * W * C)],
        Y1: [(3, 3 * W * C)],
        Z: [(1, W * C)],
    }


def test_a_chain_of_pointwise_ops_takes_one_row() -> None:
    net = Net()
    y = net.conv(net.input(C, 12, W), C)
    for _ in range(3):
        y = net.op("activation", [y], (C, 12, W))
    assert holds(net.graph(), LineBuffer(inline_elementwise=True)) == {X: [(3, 3 * W * C)], y: [(1, W * C)]}


def test_an_operand_that_somebody_else_reads_keeps_its_place() -> None:
    net = Net()
    y = net.conv(net.input(C, 12, W), C)
    z = net.op("activation", [y], (C, 12, W))
    net.add(net.conv(y, C), z)
    assert set(holds(net.graph(), LineBuffer(inline_elementwise=True))) >= {y}


def test_an_operand_with_wider_rows_keeps_its_place() -> None:
    net = Net()
    x = net.input(C, 12, W)
    net.op("elementwise", [net.conv(x, 1, 1), net.conv(x, C, 1)], (C, 12, W))
    assert set(holds(net.graph(), LineBuffer(inline_elementwise=True))) == {X, 1, 3}


def test_an_operand_used_twice_keeps_its_place() -> None:
    net = Net()
    y = net.conv(net.input(C, 12, W), C)
    net.op("elementwise", [y, y], (C, 12, W))
    assert set(holds(net.graph(), LineBuffer(inline_elementwise=True))) == {X, y, 2}


def test_an_operand_waits_in_the_first_of_several_copies() -> None:
    net = Net()
    x = net.input(C, 12, W)
    z = net.add(net.conv(net.conv(x, C), C), x)
    net.add(net.conv(net.conv(z, C), C), net.conv(z, C, 1))
    model = LineBuffer(inline_elementwise=True, skip_separate_buffer=True)
    assert [rows for rows, _ in holds(net.graph(), model)[z]] == [3, 2]


# Concatenation without a copy --------------------------------------------------------------------


def stacked() -> Graph:
    net = Net()
    x = net.input(C, 12, W)
    net.conv(net.concat(net.conv(x, 1, 1), net.conv(x, 2, 1)), C)
    return net.graph()


def test_a_copied_concatenation_has_a_ring_of_its_own() -> None:
    assert holds(stacked(), LineBuffer()) == {
        0: [(1, W * C)],
        1: [(1, W)],
        2: [(1, 2 * W)],
        3: [(3, 3 * W * C)],
        4: [(1, W * C)],
    }


def test_a_virtual_concatenation_moves_the_window_to_its_parts() -> None:
    assert holds(stacked(), LineBuffer(virtual_concat=True)) == {
        0: [(1, W * C)],
        1: [(3, 3 * W)],
        2: [(3, 3 * 2 * W)],
        4: [(1, W * C)],
    }


def test_parts_of_a_virtual_concatenation_that_leaves_are_written_themselves() -> None:
    net = Net()
    x = net.input(C, 12, W)
    net.concat(net.conv(x, 1, 1), net.conv(x, 2, 1))
    assert holds(net.graph(), LineBuffer(virtual_concat=True)) == {0: [(1, W * C)], 1: [(1, W)], 2: [(1, 2 * W)]}


def test_a_concatenation_over_rows_is_always_copied() -> None:
    net = Net()
    x = net.input(1, 4, W)
    y = net.conv(x, 1, 1)
    z = net.op("concat", [x, y], (1, 8, W), axis=0, offsets=(0, 4))
    assert z in holds(net.graph(), LineBuffer(virtual_concat=True))


def test_a_concatenation_with_an_activation_folded_into_it_is_copied() -> None:
    net = Net()
    x = net.input(C, 12, W)
    z = net.op("concat", [net.conv(x, 1, 1), net.conv(x, 2, 1)], (3, 12, W), axis=-1, fused="Relu")
    assert z in holds(net.graph(), LineBuffer(virtual_concat=True))


def test_a_virtual_concatenation_of_a_virtual_concatenation_reaches_the_first_parts() -> None:
    net = Net()
    x = net.input(C, 12, W)
    inner = net.concat(net.conv(x, 1, 1), net.conv(x, 1, 1))
    net.conv(net.concat(inner, net.conv(x, 1, 1)), 1)
    assert set(holds(net.graph(), LineBuffer(virtual_concat=True))) == {0, 1, 2, 4, 6}


# A copy of the skip ------------------------------------------------------------------------------


def test_a_copied_skip_has_a_ring_for_each_reader() -> None:
    net = Net()
    x = y = net.input(C, 20, W)
    for _ in range(4):
        y = net.conv(y, C)
    net.add(y, x)
    row = W * C
    assert holds(net.graph(), LineBuffer(skip_separate_buffer=True))[X] == [(3, 3 * row), (5, 5 * row)]


def test_a_tensor_with_one_reader_is_not_copied() -> None:
    assert len(holds(residual(), LineBuffer(skip_separate_buffer=True))[Y1]) == 1


# Two passes --------------------------------------------------------------------------------------


def excited() -> Graph:
    net = Net()
    net.squeeze_excite(net.depthwise(net.input(8, 14, 14)), 2)
    return net.graph()


def test_two_passes_hold_windows_where_one_holds_the_map() -> None:
    graph = excited()
    once = LineBuffer().demand(graph, graph.everything).nbytes
    planned = LineBuffer(squeeze_excite="two_pass").plan(graph, graph.everything, Machine(once - 1))
    assert getattr(planned, "schedule").passes == 2  # noqa: B009


# Judged by sets of rows --------------------------------------------------------------------------


class SlotJudge:
    """Counts slots from an order of events: rows made, not consumed, not overwritten."""

    def __init__(self, program: Program, plain: Program) -> None:
        self.program, self.plain = program, plain
        self.made = [0] * len(plain.rows)
        self.peaks = [0] * len(program.rings)

    def see(self, stream: int, _row: int) -> None:
        """A row takes its slot while its operands still hold theirs, unless it takes one of theirs."""
        before = list(self.made)
        self.made[stream] += 1
        for r, ring in enumerate(self.program.rings):
            chain = self._chain(ring)
            if stream == chain[0]:
                self.peaks[r] = max(self.peaks[r], self._live(ring, chain, before))

    def _chain(self, ring: Ring) -> list[int]:
        """Streams whose rows pass through the ring, from the first to the one that makes its tensor."""
        owner = {r.tensor: r.maker for r in self.plain.rings}
        chain = [owner[ring.tensor]]
        while chain[0] != ring.maker:
            sources = [o.source for o in self.plain.operands[chain[0]]]
            chain.insert(0, next(s for s in sources if self._leads(ring.maker, s)))
        return chain

    def _leads(self, start: int, stream: int) -> bool:
        return stream == start or any(self._leads(start, o.source) for o in self.plain.operands[stream])

    def _live(self, ring: Ring, chain: list[int], before: list[int]) -> int:
        """Rows made by the first stream and not yet released by the readers of the last."""
        last = chain[-1]
        low = self.made[last] if last != chain[0] else before[last]
        for reader, lo in ring.readers:
            if self.made[reader] <= self.plain.last[reader]:
                low = min(low, lo[self.made[reader]])
        if not any(self.made[reader] <= self.plain.last[reader] for reader, _ in ring.readers):
            return self.made[chain[0]] - low
        return max(1, self.made[chain[0]] - low)


def slot_runs(switches: Lowering, count: int) -> Iterator[tuple[str, list[int], list[int]]]:
    """(label, peaks by the machine, peaks by the judge) of random groups under every policy."""
    for seed in range(count):
        for draw in (everyday_net, odd_net):
            graph = draw(np.random.default_rng(seed))
            maps = RowBounds(graph).maps
            for group in groups_of(graph, 4):
                program, plain = lower(graph, maps, Pass(group), switches=switches), lower(graph, maps, Pass(group))
                for policy in POLICIES:
                    judge = SlotJudge(program, plain)
                    peaks = run_to_the_end(program, policy, judge.see).peaks
                    yield f"{draw.__name__} {seed} group {group:b} {policy}", peaks, judge.peaks


@pytest.mark.parametrize(
    "switches",
    [Lowering(), Lowering(inline_elementwise=True), Lowering(skip_separate_buffer=True)],
    ids=["none", "inline_elementwise", "skip_separate_buffer"],
)
def test_rings_hold_every_slot_in_use(switches: Lowering) -> None:
    wrong = [label for label, peaks, judged in slot_runs(switches, 120) if peaks != judged]
    assert not wrong, f"{len(wrong)}: {wrong[:3]}"
