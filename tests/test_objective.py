"""Ranks, scores, energy and cycles: by hand on a small network, and the laws that searches build on."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import fusecut as fc
from fusecut.errors import MachineError, UnknownNameError
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import Layerwise, LineBuffer
from fusecut.objective import NEEDS, UNITS, Energy, Figures, Objective, Prices, check, figures, sram_bytes
from fusecut.testing import Net

MACHINE = Machine(
    4096,
    macs_per_cycle=Fraction(5, 2),
    dram_bytes_per_cycle=3,
    macs_per_activation=4,
    macs_per_weight=Fraction(1, 2),
    pj_per_dram_byte=100,
    pj_per_sram_byte=Fraction(3, 2),
    pj_per_mac=Fraction(1, 1000),
)
every_objective = pytest.mark.parametrize("objective", UNITS)


def chain() -> Graph:
    """conv 3x3 of 2 -> 3 channels on 4 x 5, then twice that: 1080 MACs, 54 weights and 3 biases of 32 bits."""
    net = Net()
    y = net.conv(net.input(2, 4, 5), 3, kernel=3, biases=True)
    return net.graph(net.add(y, y))


def test_the_small_network_is_the_one_counted_by_hand() -> None:
    conv, double = chain().ops
    assert (conv.macs, conv.weight_bytes, double.macs, double.weight_bytes) == (3 * 4 * 5 * 2 * 9, 54 + 12, 0, 0)


def test_an_op_reads_each_operand_once_or_as_often_as_the_array_fetches_it() -> None:
    graph = chain()
    conv, double = graph.ops
    assert sram_bytes(graph, conv, MACHINE) == 1080 // 4 + 2 * 1080 + 60
    assert sram_bytes(graph, conv, replace(MACHINE, macs_per_activation=None)) == 40 + 2 * 1080 + 60
    assert sram_bytes(graph, conv, replace(MACHINE, macs_per_activation=1000, macs_per_weight=1000)) == 40 + 66 + 60
    assert sram_bytes(graph, double, MACHINE) == 60 + 60


def test_energy_and_cycles_of_a_group_are_those_counted_by_hand() -> None:
    found = figures(chain(), MACHINE, 0b11, dram_bytes=500, repeated_macs=10)
    passed = 500 + (270 + 2160 + 60) + 120
    fetched = Fraction(10, 4) + 10 * 2
    assert found.energy == Energy(100_000 * 500, 1500 * passed + int(1500 * fetched), 1090)
    assert found.cycles == max(436, 167)


def test_a_partly_used_cycle_is_a_cycle() -> None:
    assert figures(chain(), MACHINE, 0b11, 3 * 436 + 1, 0).cycles == 437
    assert figures(chain(), MACHINE, 0b11, 0, 1).cycles == 433


def test_without_rates_there_are_no_figures() -> None:
    assert figures(chain(), Machine(4096), 0b11, 500, 0) == Figures(None, None)
    assert figures(chain(), replace(MACHINE, pj_per_mac=None), 0b11, 500, 0).energy is None
    assert figures(chain(), replace(MACHINE, macs_per_cycle=None), 0b11, 500, 0).cycles is None


@pytest.mark.parametrize("objective", ["energy", "latency"])
def test_an_objective_names_what_the_machine_does_not_say(objective: Objective) -> None:
    for field in NEEDS[objective]:
        with pytest.raises(MachineError) as caught:
            check(objective, replace(MACHINE, **{field: None}))  # type: ignore[arg-type]
        assert str(caught.value).startswith(f"objective {objective} needs {field}, and machine 'custom' does not say")


def test_an_unknown_objective_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown objective 'power'\. Known: dram, energy, latency$"):
        fc.solve(chain(), 4096, objective="power")  # type: ignore[arg-type]


def random_groups(seed: int) -> list[tuple[int, int, int]]:
    """(group, DRAM bytes, repeated MACs), disjoint groups of the chain or of one op."""
    rng = np.random.default_rng(seed)
    groups = [0b11] if rng.random() < 0.3 else [0b01, 0b10]
    return [(g, int(rng.integers(0, 10**6)), int(rng.integers(0, 2) * rng.integers(0, 10**6))) for g in groups]


@every_objective
def test_scores_from_ranks_are_the_figures_added_up(objective: Objective) -> None:
    graph = chain()
    prices = Prices(graph, MACHINE, objective)
    for seed in range(50):
        parts = random_groups(seed)
        score = prices.score(sum(prices.rank(*part) for part in parts))
        found = [figures(graph, MACHINE, *part) for part in parts]
        energies, cycles = [f.energy.fj for f in found if f.energy], [f.cycles or 0 for f in found]
        assert score == {"dram": sum(p[1] for p in parts), "energy": sum(energies), "latency": sum(cycles)}[objective]


@every_objective
def test_more_bytes_or_macs_never_rank_better(objective: Objective) -> None:
    prices = Prices(chain(), MACHINE, objective)
    for seed in range(50):
        group, dram, again = random_groups(seed)[0]
        rank = prices.rank(group, dram, again)
        assert prices.rank(group, dram + 1, again) > rank and prices.rank(group, dram, again + 1) >= rank


@every_objective
def test_a_lesser_rank_never_has_a_greater_score(objective: Objective) -> None:
    prices = Prices(chain(), MACHINE, objective)
    ranks = sorted(sum(prices.rank(*part) for part in random_groups(seed)) for seed in range(50))
    scores = [prices.score(rank) for rank in ranks]
    assert scores == sorted(scores)


def test_figures_of_the_largest_rates_stay_exact() -> None:
    huge = replace(MACHINE, pj_per_dram_byte=10**9, pj_per_sram_byte=10**9, pj_per_mac=10**9)
    found = figures(chain(), huge, 0b11, 2**62, 2**62).energy
    assert found is not None and found.dram_fj == 10**12 * 2**62 and found.mac_fj == 10**12 * (2**62 + 1080)


def test_a_dram_plan_is_the_same_on_a_machine_with_rates() -> None:
    net = fc.zoo("squeezenet1_1")
    plain = fc.solve(net, machine=Machine(65536))
    rated = fc.solve(net, machine=replace(MACHINE, buffer_bytes=65536))
    assert plain.partition is not None and rated.partition is not None
    assert (plain.partition.groups, plain.bound, plain.cost) == (rated.partition.groups, rated.bound, rated.cost)
    assert rated.figures.cycles is not None and plain.figures == Figures(None, None)


def test_two_passes_are_not_worth_their_macs_on_a_slow_array() -> None:
    """Streaming squeeze-excite groups twice saves bytes; where compute is all that counts, none is."""
    net = fc.zoo("mobilenet_v3_large")
    slow = replace(MACHINE, buffer_bytes=131072, macs_per_cycle=Fraction(1, 100))
    model = fc.models.Cheapest((LineBuffer(), LineBuffer(squeeze_excite="two_pass")), Layerwise())
    fewest, fastest = (fc.solve(net, machine=slow, model=model, objective=one) for one in ("dram", "latency"))
    assert fewest.cost.recomputed_macs > 0 == fastest.cost.recomputed_macs
    assert fastest.status is fc.Status.optimal and fastest.figures.cycles < fewest.figures.cycles  # type: ignore[operator]
