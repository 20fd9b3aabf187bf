"""The best bands of a group, against all bands one by one; and questions with a limit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from band_nets import CAPACITIES, grown_groups, strange_net, wide_net

import fusecut as fc
from fusecut.cost import Dearer, Infeasible, Planned
from fusecut.ir import Graph, Group
from fusecut.machine import Machine
from fusecut.models import Brr
from fusecut.models._band_group import Banding
from fusecut.models._band_search import BandSearch
from fusecut.objective import Objective, Prices

EVERYTHING = 1 << 40
OBJECTIVES: tuple[Objective, ...] = ("energy", "latency")


def searches(seeds: range) -> Iterator[tuple[Graph, Group, int, BandSearch]]:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        graph = (wide_net if seed % 2 else strange_net)(rng)
        for group in grown_groups(graph, rng, 2):
            for capacity in CAPACITIES[seed % 3 :: 3]:
                yield graph, group, capacity, Brr()._search(graph, group, Machine(capacity))


def one_by_one(search: BandSearch) -> list[tuple[Banding, int | None]]:
    """What every number of bands moves again, None where they do not fit; no bound is looked at."""
    found: list[tuple[Banding, int | None]] = []
    for banding in search.bands.bandings:
        fits = search.bands.height(banding) <= search.capacity
        choice = search._choice(banding) if fits and search.bands.overlap(banding).useful else None
        found.append((banding, None if choice is None else choice.moved[0]))
    return found


def test_no_other_bands_move_less() -> None:
    tried = 0
    for _, _, _, search in searches(range(24)):
        least = min((again for _, again in one_by_one(search) if again is not None), default=None)
        answer = search.within(EVERYTHING)
        if least is None:
            assert isinstance(answer, Dearer)
        else:
            assert isinstance(answer, Planned)
            assert answer.cost.dram_bytes == search.touched + least
            tried += 1
    assert tried > 30


def test_more_bands_may_not_fit_where_fewer_do() -> None:
    """So the fewest that fit cannot be found by bisection: here three need more than two."""
    rng = np.random.default_rng(283)
    graph = wide_net(rng)
    group = next(group for group in grown_groups(graph, rng, 2) if group == 0b11101)
    search = Brr()._search(graph, group, Machine(93))
    fits: dict[int, bool] = {}
    for banding, again in one_by_one(search):
        fits[banding.number] = fits.get(banding.number, False) or again is not None
    assert [number for number, fit in sorted(fits.items()) if fit] == [2, 4, 5, 10]
    answer = search.within(EVERYTHING)
    assert isinstance(answer, Planned) and answer.schedule.weight_passes == 2


def test_curve_and_solve_agree_where_more_bands_may_not_fit() -> None:
    graph = wide_net(np.random.default_rng(283))
    found = fc.curve(graph, 80, 140, scheme="mixed")
    assert found.proved and len(found.points) > 3
    for size in range(found.points[0].buffer_bytes, 141, 3):
        assert found.at(size).dram_bytes == fc.solve(graph, size).cost.dram_bytes


def test_nothing_holds_less_than_the_bound_of_its_bands() -> None:
    """Whatever is part."""
    shares = []
    for _, _, _, search in searches(range(32)):
        bands = search.bands
        ends, others = bands.candidates
        tensors = sorted(ends.union(*others))
        if len(tensors) > 6:
            continue
        parts = (frozenset(part) for count in range(len(tensors) + 1) for part in combinations(tensors, count))
        slicings = [slicing for part in parts if (slicing := bands.slicings.of(part)).valid]
        for banding in bands.bandings:
            rows = bands.rows_of(banding)
            least = min(bands.peaks(slicing, rows, banding.images)[0] for slicing in slicings)
            assert bands.overlap(banding).least_bytes <= least
            shares.append(bands.overlap(banding).least_bytes / least)
    assert len(shares) > 250 and sorted(shares)[len(shares) // 2] > 0.8


def test_within_a_limit_the_plan_is_the_same_and_above_it_a_bound_is_told() -> None:
    found = above = 0
    for graph, group, capacity, _ in searches(range(16)):
        machine, truth = Machine(capacity), Brr().plan(graph, group, Machine(capacity))
        for limit in (0, 500, 2_000, 8_000, 30_000, EVERYTHING):
            answer = Brr().plan_within(graph, group, machine, limit)
            if isinstance(answer, Dearer):
                assert answer.dram_bytes > limit
                assert isinstance(truth, Infeasible) or answer.dram_bytes <= truth.cost.dram_bytes
                above += 1
            else:
                assert answer == truth
                found += isinstance(answer, Planned)
    assert found > 20 and above > 20


def test_a_higher_limit_is_answered_anew_and_a_lower_one_from_memory() -> None:
    for graph, group, capacity, _ in searches(range(16)):
        model, machine, truth = Brr(), Machine(capacity), Brr().plan(graph, group, Machine(capacity))
        for limit in (500, 100, 3_000, 2_000, EVERYTHING, 100):
            answer = model.plan_within(graph, group, machine, limit)
            assert isinstance(answer, Dearer) or answer == truth
        assert model.plan(graph, group, machine) == truth


def test_within_a_limit_plans_of_another_objective_are_the_best_ones_or_a_bound_is_told() -> None:
    """What moves fewer bytes than the limit, but repeats more MACs than the best plan is worth, is no answer."""
    found = above = 0
    for graph, group, capacity, _ in searches(range(8)):
        machine = Machine(
            capacity,
            dram_bytes_per_cycle=1,
            macs_per_cycle=16,
            pj_per_dram_byte=100,
            pj_per_sram_byte=2,
            pj_per_mac=2_000,
        )
        for objective in OBJECTIVES:
            model, prices = Brr().choosing_by(objective), Prices(graph, machine, objective)
            truth = model.plan(graph, group, machine)
            cost = truth.cost if isinstance(truth, Planned) else None
            rank = None if cost is None else prices.rank(group, cost.dram_bytes, cost.recomputed_macs)
            for limit in (500, 2_000, 8_000, EVERYTHING):
                answer = Brr().choosing_by(objective).plan_within(graph, group, machine, limit)
                if isinstance(answer, Dearer):
                    assert limit < answer.dram_bytes
                    assert rank is None or prices.rank(group, answer.dram_bytes) <= rank
                    above += 1
                else:
                    assert answer == truth
                    found += 1
    assert found > 20 and above > 20
