"""What a plan is good for: the fewest DRAM bytes, the least energy, or the fewest cycles.

Every objective is a sum over the groups of a plan, of one formula each, in exact integers
(docs/machines.md says what is and is not in them). For a group G with ``macs(G)`` of its ops and R
MACs repeated by further passes or tiles::

    dram     bytes
    energy   fJ   pj_per_dram_byte * dram + pj_per_sram_byte * sram + pj_per_mac * (macs + R)
                  sram = dram + sum of sram(op) + fetches of the R MACs
    latency  cycles   max(ceil((macs + R) / macs_per_cycle), ceil(dram / dram_bytes_per_cycle))

``sram(op)`` are the bytes that one execution of an op moves between buffer and array: results
written once; operands and weights read once, or as often as the array has to fetch them, whichever
is more: MACs * bits / 8 / MACs served by one fetch. Every DRAM byte passes the buffer once more.

Latency is the roofline of a double-buffered machine (Williams, Waterman & Patterson, CACM 2009):
within a group transfer hides behind compute or the reverse, groups follow each other. Energy by
level is that of Eyeriss (Chen, Emer & Sze, ISCA 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Final, Literal, NamedTuple

from fusecut.errors import MachineError, UnknownNameError
from fusecut.ir import Graph, Group, Op, bits
from fusecut.machine import ENERGIES, SPEEDS, Machine, Rate

Objective = Literal["dram", "energy", "latency"]

UNITS: Final[dict[Objective, str]] = {"dram": "B", "energy": "fJ", "latency": "cycles"}
"""Objectives by name, and what their scores count."""

NEEDS: Final[dict[Objective, tuple[str, ...]]] = {"dram": (), "energy": ENERGIES, "latency": SPEEDS}
"""What a machine must say for each objective."""

_TIE_BITS: Final = 96
"""Of equally fast plans the one that moves fewer bytes is better: ranks are cycles * 2^96 + bytes."""


def check(objective: Objective, machine: Machine) -> None:
    """Refuse an objective that does not exist, or one that the machine does not say enough for.

    Raises:
        UnknownNameError: lists the known objectives.
        MachineError: names the fields that are missing.
    """
    if objective not in UNITS:
        raise UnknownNameError("objective", objective, UNITS)
    missing = _missing(objective, machine)
    if missing:
        raise MachineError(
            f"objective {objective} needs {', '.join(missing)}, and machine {machine.name!r} does not say: "
            "take a machine that does, or add it to the machine's file"
        )


def _missing(objective: Objective, machine: Machine) -> list[str]:
    return [what for what in NEEDS[objective] if getattr(machine, what) is None]


class Tariff(NamedTuple):
    """What one group pays on a machine, as one integer that is less for the better plan: its rank.

    ``rank = per_byte * dram + per_cycle * cycles`` and what the repeated MACs cost. What the ops
    pay in every plan is left out. ``per_cycle`` is 0 where time does not count.
    """

    per_byte: int
    per_cycle: int
    per_repeated_mac: Fraction
    macs_per_cycle: Rate
    bytes_per_cycle: Rate

    def rank(self, macs: int, dram_bytes: int, repeated_macs: int = 0) -> int:
        """Of a group whose ops have ``macs``; never less for more of anything."""
        rank = self.per_byte * dram_bytes
        if repeated_macs:
            rank += ceil(self.per_repeated_mac * repeated_macs)
        return rank + self.per_cycle * self.cycles(macs + repeated_macs, dram_bytes) if self.per_cycle else rank

    def cycles(self, macs: int, dram_bytes: int) -> int:
        """Compute or transfer, whichever takes longer."""
        return max(_divided(macs, self.macs_per_cycle), _divided(dram_bytes, self.bytes_per_cycle))


def _divided(count: int, rate: Rate) -> int:
    return -(-count * rate.denominator // rate.numerator)


@lru_cache(maxsize=64)
def tariff(objective: Objective, machine: Machine) -> Tariff:
    """The tariff of an objective on a machine.

    Raises:
        UnknownNameError, MachineError: see :func:`check`.
    """
    check(objective, machine)
    if objective == "energy":
        dram, sram, mac = (_fj(getattr(machine, what)) for what in ENERGIES)
        return Tariff(dram + sram, 0, mac + sram * _fetched_bytes_per_mac(machine), 1, 1)
    if objective == "latency":
        return Tariff(
            1, 1 << _TIE_BITS, Fraction(0), _known(machine.macs_per_cycle), _known(machine.dram_bytes_per_cycle)
        )
    return Tariff(1, 0, Fraction(0), 1, 1)


def _known(rate: Rate | None) -> Rate:
    return 1 if rate is None else rate


def _fj(pj: Rate) -> int:
    """A price in femtojoules: whole, as Machine promises."""
    return int(pj * 1000)


def _fetched_bytes_per_mac(machine: Machine) -> Fraction:
    """Bytes that the array fetches from the buffer for each MAC."""
    return sum(
        (Fraction(width, 8) / rate for width, rate in _fetches(machine) if rate is not None),
        Fraction(0),
    )


def _fetches(machine: Machine) -> tuple[tuple[int, Rate | None], tuple[int, Rate | None]]:
    """(bits of an element, MACs that one fetch of it serves), for activations and weights."""
    return (machine.activation_bits, machine.macs_per_activation), (machine.weight_bits, machine.macs_per_weight)


def sram_bytes(graph: Graph, op: Op, machine: Machine) -> int:
    """Bytes that one execution of an op moves between buffer and array."""
    read = sum(graph.tensors[t].nbytes for t in dict.fromkeys(op.inputs))
    written = sum(graph.tensors[t].nbytes for t in op.outputs)
    fetched = [0 if rate is None else ceil(Fraction(op.macs * width, 8) / rate) for width, rate in _fetches(machine)]
    weights = max(op.weight_bytes, fetched[1]) if op.weight_elements else op.weight_bytes
    return max(read, fetched[0]) + weights + written


class Energy(NamedTuple):
    """Energy by level, in femtojoules."""

    dram_fj: int
    sram_fj: int
    mac_fj: int

    @property
    def fj(self) -> int:
        return sum(self)


@dataclass(frozen=True)
class Figures:
    """Energy and cycles of a group or a plan; None where the machine does not say enough."""

    energy: Energy | None
    cycles: int | None

    def __add__(self, other: Figures) -> Figures:
        energy = None
        if self.energy is not None and other.energy is not None:
            energy = Energy(*map(sum, zip(self.energy, other.energy, strict=True)))
        cycles = None if self.cycles is None or other.cycles is None else self.cycles + other.cycles
        return Figures(energy, cycles)


def figures(graph: Graph, machine: Machine, group: Group, dram_bytes: int, repeated_macs: int) -> Figures:
    """Energy and cycles of one group, by the formulas of this module. O(ops of the group)."""
    ops = [graph.ops[i] for i in bits(group)]
    macs = sum(op.macs for op in ops) + repeated_macs
    energy = cycles = None
    if not _missing("energy", machine):
        dram, sram, mac = (_fj(getattr(machine, what)) for what in ENERGIES)
        passed = dram_bytes + sum(sram_bytes(graph, op, machine) for op in ops)
        repeated = ceil(sram * _fetched_bytes_per_mac(machine) * repeated_macs)
        energy = Energy(dram * dram_bytes, sram * passed + repeated, mac * macs)
    if not _missing("latency", machine):
        cycles = tariff("latency", machine).cycles(macs, dram_bytes)
    return Figures(energy, cycles)


class Prices:
    """The objective of one problem: ranks of groups, which searches compare and add, and scores of plans.

    The rank of a plan is the sum of the ranks of its groups, and ``score`` turns it into bytes,
    femtojoules or cycles. Of plans with the same score the one of less rank is better. Under
    ``dram`` rank and score are the bytes.
    """

    def __init__(self, graph: Graph, machine: Machine, objective: Objective = "dram") -> None:
        self.tariff = tariff(objective, machine)
        self.objective: Objective = objective
        self.unit = UNITS[objective]
        self.macs = tuple(op.macs for op in graph.ops)
        self.fixed = 0
        if objective == "energy":
            parts = [figures(graph, machine, 1 << i, 0, 0).energy for i in range(len(graph))]
            self.fixed = sum(part.fj for part in parts if part is not None)
        self._macs_of: dict[Group, int] = {}

    def rank(self, group: Group, dram_bytes: int, repeated_macs: int = 0) -> int:
        """Of a group that moves so many bytes; a lower bound of it where both figures are."""
        macs = self.macs_of(group) if self.tariff.per_cycle else 0
        return self.tariff.rank(macs, dram_bytes, repeated_macs)

    def score(self, rank: int) -> int:
        """Of a plan of this rank, or a bound of every score from a bound of every rank."""
        return (rank >> _TIE_BITS) if self.tariff.per_cycle else rank + self.fixed

    def macs_of(self, group: Group) -> int:
        """MACs of the ops of a group, each once; remembered."""
        known = self._macs_of.get(group)
        if known is None:
            known = self._macs_of[group] = sum(self.macs[i] for i in bits(group))
        return known
