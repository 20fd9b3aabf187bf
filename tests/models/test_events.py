"""The row schedule against a judge that knows nothing but the order of events.

The judge keeps a set of live rows for every tensor, removes the rows no reader can ask for again,
and looks at what each event reads. The machine only tells it which row is made when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from heapq import heappop, heappush
from itertools import combinations, pairwise
from math import prod

import numpy as np
import pytest
from numpy.random import Generator
from row_nets import everyday_net, groups_of, odd_net, shifted_net

from fusecut.ir import Graph, Group
from fusecut.models._bounds import RowBounds
from fusecut.models._due import Timetable
from fusecut.models._events import RowMachine
from fusecut.models._measure import POLICIES, run_to_the_end
from fusecut.models._program import Pass, Program, lower
from fusecut.models.lbdf import LineBuffer
from fusecut.ops import row_maps
from fusecut.testing import Net, random_graph

FAMILIES: dict[str, tuple[Callable[[Generator], Graph], int]] = {
    "everyday": (everyday_net, 240),
    "odd": (odd_net, 240),
    "shifted": (shifted_net, 120),
    "reflecting": (lambda rng: odd_net(rng, ("reflect", "wrap")), 120),
}
"""How the networks are drawn, and how many of them."""

GROUPS_OF_A_NET = 6


# The judge ---------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What an order of events did: rows out of turn, needless rows, reads of missing rows, and peaks."""

    out_of_turn: int = 0
    beyond_demand: int = 0
    missing: int = 0
    unserved: int = 0
    peaks: list[int] = field(default_factory=list)
    pooled: int = 0


class Judge:
    """Follows an order of events with explicit sets of live rows."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.made = [0] * len(program.rows)
        self.live: list[set[int]] = [set() for _ in program.rings]
        self.verdict = Verdict(peaks=[0] * len(program.rings))
        self.ring_of = {(ring.maker, ring.tensor): r for r, ring in enumerate(program.rings)}

    def see(self, stream: int, row: int) -> None:
        program, verdict = self.program, self.verdict
        verdict.out_of_turn += self.made[stream] != row
        verdict.beyond_demand += row > program.last[stream]
        for operand in program.operands[stream]:
            wanted = range(operand.lo[row], operand.hi[row] + 1)
            if operand.tensor < 0:
                verdict.missing += self.made[operand.source] <= operand.hi[row]
            else:
                verdict.missing += not self.live[self.ring_of[operand.source, operand.tensor]].issuperset(wanted)
        self._add(stream, row)
        self.made[stream] += 1
        for r, ring in enumerate(program.rings):
            self.live[r] = {x for x in self.live[r] if any(self._wants(s, lo, x) for s, lo in ring.readers)}

    def _add(self, stream: int, row: int) -> None:
        verdict = self.verdict
        for r, ring in enumerate(self.program.rings):
            if ring.maker == stream:
                self.live[r].add(row)
                verdict.peaks[r] = max(verdict.peaks[r], len(self.live[r]))
        held = sum(ring.nbytes(len(rows)) for rows, ring in zip(self.live, self.program.rings, strict=True))
        verdict.pooled = max(verdict.pooled, held)

    def _wants(self, reader: int, lo: tuple[int, ...], row: int) -> bool:
        return self.made[reader] <= self.program.last[reader] and row >= lo[self.made[reader]]

    def close(self) -> Verdict:
        self.verdict.unserved = sum(self.made[s] != self.program.rows[s] for s in self.program.sinks)
        return self.verdict


# The campaign ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One group under one policy: what the machine says, what the judge saw, and the lower bound."""

    label: str
    policy: str
    graph: Graph
    group: Group
    program: Program
    judged: Verdict
    peaks: list[int]
    pooled: int
    early_peaks: list[int]
    bounds: list[int]


def judged_runs(label: str, graph: Graph, group: Group, bounds: RowBounds) -> Iterator[Run]:
    program = lower(graph, bounds.maps, Pass(group))
    least = [bounds.rows(ring.tensor, group) for ring in program.rings]
    for policy in POLICIES:
        judge = Judge(program)
        full = run_to_the_end(program, policy, judge.see)
        early = Timetable(program).peaks() if policy == "due" else RowMachine(program, policy == "ddc").run().peaks
        yield Run(
            f"{label} group {group:b} {policy}",
            policy,
            graph,
            group,
            program,
            judge.close(),
            full.peaks,
            full.pooled,
            early,
            least,
        )


@cache
def campaign(family: str) -> tuple[Run, ...]:
    draw, count = FAMILIES[family]
    runs: list[Run] = []
    for seed in range(count):
        graph = draw(np.random.default_rng(seed))
        bounds = RowBounds(graph)
        for group in groups_of(graph, GROUPS_OF_A_NET):
            runs += judged_runs(f"{family} net {seed}", graph, group, bounds)
    return tuple(runs)


def failing(family: str, good: Callable[[Run], bool]) -> list[str]:
    return [run.label for run in campaign(family) if not good(run)]


every_family = pytest.mark.parametrize("family", FAMILIES)


def test_the_campaign_covers_more_than_two_thousand_programs() -> None:
    assert sum(len(campaign(family)) for family in FAMILIES) // len(POLICIES) >= 2000


@every_family
def test_rows_of_a_tensor_are_made_in_order(family: str) -> None:
    assert not failing(family, lambda run: run.judged.out_of_turn == 0)


@every_family
def test_no_row_is_made_that_nothing_demands(family: str) -> None:
    assert not failing(family, lambda run: run.judged.beyond_demand == 0)


@every_family
def test_nothing_is_read_before_it_is_made_or_after_it_is_evicted(family: str) -> None:
    assert not failing(family, lambda run: run.judged.missing == 0)


@every_family
def test_every_row_that_leaves_the_group_is_made(family: str) -> None:
    assert not failing(family, lambda run: run.judged.unserved == 0)


@every_family
def test_the_peak_of_every_ring_is_the_most_rows_ever_live(family: str) -> None:
    assert not failing(family, lambda run: run.peaks == run.judged.peaks)


@every_family
def test_the_pooled_peak_is_the_most_bytes_ever_live(family: str) -> None:
    assert not failing(family, lambda run: run.pooled == run.judged.pooled)


@every_family
def test_stopping_early_finds_the_peaks_of_the_full_run(family: str) -> None:
    assert not failing(family, lambda run: run.early_peaks == run.peaks)


@every_family
def test_no_schedule_goes_below_the_lower_bound(family: str) -> None:
    """A tensor none of whose rows is demanded holds none, and is not in the comparison."""
    assert not failing(family, lambda run: all(b <= p or p == 0 for b, p in zip(run.bounds, run.peaks, strict=True)))


def ordered_by_ancestry(graph: Graph, group: Group) -> bool:
    """Whether of any two readers of a tensor within the group one depends on the other."""
    for readers in graph.consumers:
        mine = [r for r in readers if group >> r & 1]
        if not all(graph.ancestors[b] >> a & 1 for a, b in pairwise(mine)):
            return False
    return True


def rows_needed(graph: Graph, reader: int, row: int) -> dict[int, int]:
    """The last row of every op that a row of the reader depends on; -1 where it depends on none."""
    maps = row_maps(graph)
    needed = {reader: row}
    for index in range(reader, -1, -1):
        last = needed.get(index, -1)
        for t, table in zip(graph.ops[index].inputs, maps[index], strict=True):
            maker = graph.producer[t]
            if maker >= 0 and last >= 0:
                needed[maker] = max(needed.get(maker, -1), table.hi[last])
    return needed


def needs_at_most_what_earlier_readers_need(graph: Graph) -> bool:
    """Whether no reader of a tensor asks for a row before the readers that it depends on do."""
    maps, demand = row_maps(graph), RowBounds(graph).demand
    last = {
        (t, reader): [
            max(row)
            for row in zip(*(m.hi for s, m in zip(op.inputs, maps[reader], strict=True) if s == t), strict=True)
        ]
        for reader, op in enumerate(graph.ops)
        for t in op.inputs
    }
    for t, readers in enumerate(graph.consumers):
        for early, late in combinations(readers, 2):
            for q in range(demand[late] + 1):
                row = rows_needed(graph, late, q).get(early, -1)
                if (last[t, early][row] if row >= 0 else -1) < last[t, late][q]:
                    return False
    return True


def reaches_all_bounds(run: Run) -> bool:
    """One sink, a whole network's demand, readers ordered by ancestry, and none that runs ahead of an earlier one."""
    whole = run.group == run.graph.everything and len(run.program.sinks) == 1
    return whole and ordered_by_ancestry(run.graph, run.group) and needs_at_most_what_earlier_readers_need(run.graph)


@every_family
def test_all_lower_bounds_are_reached_at_once_where_readers_are_ordered_by_ancestry(family: str) -> None:
    """A tensor of which nothing is demanded is charged the one row it does not hold."""
    assert not failing(
        family,
        lambda run: run.policy != "ddc" or not reaches_all_bounds(run) or [max(1, p) for p in run.peaks] == run.bounds,
    )


def skip_chain(rng: Generator) -> Graph:
    """A chain whose ops may also read any earlier map of the same shape: readers are totally ordered."""
    net = Net()
    made = [net.input(2, int(rng.integers(6, 25)), 4)]
    for _ in range(int(rng.integers(2, 9))):
        x = made[-1]
        mates = [t for t in made[:-1] if net.tensors[t].shape == net.tensors[x].shape]
        kind = str(rng.choice(["conv", "conv", "strided", "add", "add", "se"]))
        if kind == "add" and mates:
            made.append(net.add(x, int(rng.choice(mates))))
        elif kind == "se" and net.tensors[x].rows > 1:
            made.append(net.squeeze_excite(x, 1))
        else:
            stride = 2 if kind == "strided" and net.tensors[x].rows > 5 else 1
            made.append(net.conv(x, 2, kernel=int(rng.choice([1, 3, 5])), stride=stride))
    return net.graph()


@pytest.mark.parametrize("policy", POLICIES)
def test_on_chains_with_skips_every_ring_is_at_its_lower_bound(policy: str) -> None:
    for seed in range(300):
        graph = skip_chain(np.random.default_rng(seed))
        bounds = RowBounds(graph)
        program = lower(graph, bounds.maps, Pass(graph.everything))
        assert ordered_by_ancestry(graph, graph.everything)
        peaks = run_to_the_end(program, policy).peaks
        assert peaks == [bounds.rows(ring.tensor, graph.everything) for ring in program.rings], f"seed {seed}"


@every_family
def test_the_demand_of_the_model_is_what_one_of_the_policies_holds(family: str) -> None:
    """Whether it came from the closed form or from a schedule."""
    model = LineBuffer()
    wrong = []
    for runs in _by_group(campaign(family)):
        first = runs[0]
        demand = model.demand(first.graph, first.group)
        if demand.lines_bytes != min(_static_bytes(run) for run in runs):
            wrong.append(first.label)
    assert not wrong


def _by_group(runs: tuple[Run, ...]) -> Iterator[tuple[Run, ...]]:
    yield from zip(*(runs[k :: len(POLICIES)] for k in range(len(POLICIES))), strict=True)


def _static_bytes(run: Run) -> int:
    return sum(ring.nbytes(max(p, 1)) for p, ring in zip(run.peaks, run.program.rings, strict=True))


# Chains ------------------------------------------------------------------------------------------


def random_chain(rng: Generator) -> Graph:
    kinds = ("conv", "conv", "depthwise", "pool", "upsample")
    while True:
        graph = random_graph(rng, int(rng.integers(1, 6)), rows=int(rng.integers(5, 30)), kinds=kinds)
        if all(len(readers) <= 1 for readers in graph.consumers) and len(graph.outputs) == 1:
            return graph


def widest_windows(graph: Graph) -> list[int]:
    """By tensor: the largest window over the rows that the end of the chain demands, walked backwards."""
    maps = RowBounds(graph).maps
    widest = [1] * len(graph.tensors)
    last = graph.tensors[graph.outputs[0]].rows - 1
    for index in reversed(range(len(graph))):
        table, (tensor,) = maps[index][0], graph.ops[index].inputs
        widest[tensor] = max(1, *(table.hi[q] - table.lo[q] + 1 for q in range(last + 1)))
        last = table.hi[last]
    return widest


@pytest.mark.parametrize("policy", POLICIES)
def test_on_chains_the_peak_is_the_largest_clipped_window(policy: str) -> None:
    for seed in range(300):
        graph = random_chain(np.random.default_rng(seed))
        program = lower(graph, RowBounds(graph).maps, Pass(graph.everything))
        peaks = run_to_the_end(program, policy).peaks
        widest = widest_windows(graph)
        assert peaks == [widest[ring.tensor] for ring in program.rings], f"seed {seed}"


# All schedules of tiny networks ------------------------------------------------------------------

MOST_STATES = 20_000

Made = tuple[int, ...]


def next_events(program: Program, made: Made) -> Iterator[int]:
    """Streams whose next row is demanded and whose operand rows all exist."""
    for stream, q in enumerate(made):
        ready = q <= program.last[stream] and all(made[o.source] > o.hi[q] for o in program.operands[stream])
        if ready:
            yield stream


def fired(made: Made, stream: int) -> Made:
    return (*made[:stream], made[stream] + 1, *made[stream + 1 :])


def height(program: Program, ring: int, made: Made) -> int:
    """Rows of a ring that exist and are still wanted, right after a row of it was made."""
    slot = program.rings[ring]
    lows = [lo[made[s]] for s, lo in slot.readers if made[s] <= program.last[s]]
    return max(1, made[slot.maker] - min(lows, default=made[slot.maker]))


def fewest_rows(program: Program, ring: int) -> int:
    """The lowest peak of one ring over all schedules: a bottleneck shortest path over made-vectors."""
    end = tuple(last + 1 for last in program.last)
    queue: list[tuple[int, Made]] = [(0, (0,) * len(end))]
    seen: set[Made] = set()
    while True:
        peak, made = heappop(queue)
        if made == end:
            return peak
        if made in seen:
            continue
        seen.add(made)
        for stream in next_events(program, made):
            after = fired(made, stream)
            rises = program.rings[ring].maker == stream
            heappush(queue, (max(peak, height(program, ring, after)) if rises else peak, after))


def tiny_net(rng: Generator) -> Graph:
    kinds = ("conv", "conv", "pool", "add", "add", "upsample")
    return random_graph(rng, int(rng.integers(2, 6)), rows=int(rng.integers(4, 7)), kinds=kinds)


@pytest.mark.parametrize("block", range(5))
def test_the_lower_bound_is_the_fewest_rows_any_schedule_holds(block: int) -> None:
    """Networks with more than ``MOST_STATES`` states are left out."""
    for seed in range(20 * block, 20 * block + 20):
        graph = tiny_net(np.random.default_rng(seed))
        bounds = RowBounds(graph)
        program = lower(graph, bounds.maps, Pass(graph.everything))
        if prod(last + 1 for last in program.last) > MOST_STATES:
            continue
        for r, ring in enumerate(program.rings):
            assert bounds.rows(ring.tensor, graph.everything) == fewest_rows(program, r), f"seed {seed} ring {r}"


def fewest_bytes(program: Program) -> int:
    """The smallest sum of ring peaks over all schedules: a shortest path over (made, peaks)."""
    end = tuple(last + 1 for last in program.last)
    start = (0,) * len(end), (0,) * len(program.rings)
    queue: list[tuple[int, Made, Made]] = [(0, *start)]
    seen: dict[Made, list[Made]] = {}
    while True:
        nbytes, made, peaks = heappop(queue)
        if made == end:
            return nbytes
        fronts = seen.setdefault(made, [])
        if any(all(a <= b for a, b in zip(front, peaks, strict=True)) for front in fronts):
            continue
        fronts.append(peaks)
        for stream in next_events(program, made):
            after = fired(made, stream)
            risen = tuple(
                max(peak, height(program, r, after)) if program.rings[r].maker == stream else peak
                for r, peak in enumerate(peaks)
            )
            total = sum(ring.nbytes(p) for p, ring in zip(risen, program.rings, strict=True))
            heappush(queue, (total, after, risen))


def series_parallel(rng: Generator, net: Net, x: int, depth: int) -> int:
    """A convolution, two networks in series, or two in parallel that an addition joins."""
    shape = str(rng.choice(["conv", "series", "parallel"])) if depth else "conv"
    if shape == "conv":
        return net.conv(x, net.tensors[x].channels, kernel=int(rng.choice([1, 3])))
    if shape == "series":
        return series_parallel(rng, net, series_parallel(rng, net, x, depth - 1), depth - 1)
    left = series_parallel(rng, net, x, depth - 1)
    right = series_parallel(rng, net, x, depth - 1) if rng.random() < 0.6 else x
    return net.add(left, right)


def series_parallel_nets(count: int, most_ops: int) -> Iterator[Graph]:
    seed = 0
    while count:
        rng = np.random.default_rng(seed)
        net = Net()
        series_parallel(rng, net, net.input(1, 5, 3), 2)
        if 3 <= len(net.ops) <= most_ops:
            count -= 1
            yield net.graph()
        seed += 1


def not_optimal(nets: Iterator[Graph]) -> int:
    """How many networks some schedule runs in fewer bytes than the model's."""
    model = LineBuffer()
    return sum(
        model.demand(graph, graph.everything).lines_bytes
        != fewest_bytes(lower(graph, RowBounds(graph).maps, Pass(graph.everything)))
        for graph in nets
    )


def test_on_small_series_parallel_networks_no_schedule_holds_fewer_bytes() -> None:
    assert not_optimal(series_parallel_nets(250, most_ops=7)) == 0


def test_on_tiny_networks_with_several_sinks_few_schedules_hold_fewer_bytes() -> None:
    """The exceptions are counted: no policy is optimal in general where sinks compete."""
    nets = (tiny_net(np.random.default_rng(seed)) for seed in range(100))
    several = [graph for graph in nets if len(graph.outputs) > 1]
    assert (len(several), not_optimal(iter(several))) == (86, 1)


# Several sinks -----------------------------------------------------------------------------------


def test_sinks_are_served_by_the_share_of_the_input_they_need() -> None:
    """Rows with equal shares form one step, in which the most downstream ready row goes first."""
    net = Net()
    x = net.input(1, 8, 4)
    fine, coarse = net.conv(x, 1, kernel=1), net.pool(x)
    graph = net.graph(fine, coarse)
    program = lower(graph, RowBounds(graph).maps, Pass(graph.everything))
    order: list[tuple[int, int]] = []
    RowMachine(program, True, observer=lambda s, q: order.append((program.op[s], q))).run()
    made = [event for event in order if event[0] >= 0]
    assert made[:6] == [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (0, 3)]


def test_the_machine_stops_as_soon_as_the_limit_is_exceeded() -> None:
    net = Net()
    net.conv(net.input(4, 16, 8), 4, kernel=5)
    graph = net.graph()
    program = lower(graph, RowBounds(graph).maps, Pass(graph.everything))
    fits = RowMachine(program, True, limit=6 * 32).run()
    over = RowMachine(program, True, limit=6 * 32 - 1).run()
    assert (fits.overflown, over.overflown) == (False, True)


def test_a_tensor_between_two_groups_is_a_sink_of_one_and_an_input_of_the_other() -> None:
    net = Net()
    net.conv(net.conv(net.input(1, 8, 4), 1), 1)
    graph = net.graph()
    maps = RowBounds(graph).maps
    first, second = lower(graph, maps, Pass(0b01)), lower(graph, maps, Pass(0b10))
    assert (first.op[first.sinks[0]], second.op[0], second.op[1]) == (0, -1, 1)
