"""The fewest DRAM bytes in one buffer as something else changes: bits of weights or activations, resolution.

>>> import fusecut as fc
>>> from fusecut.series import Case, series
>>> net = fc.zoo("squeezenet1_1")
>>> cases = [Case(bits, net, fc.Machine.of("128KiB", weight_bits=bits)) for bits in (4, 8)]
>>> found = series("weight bits", cases, scheme="lbdf")
>>> [sample.proved for sample in found.samples]
[True, True]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fusecut.cost import CostModel
from fusecut.ir import Graph
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.solution import Solution
from fusecut.solve import Progress, solve

INTERRUPTED: Final = "interrupted"


class Case(NamedTuple):
    """A network and a machine to solve, and the value that this case is of."""

    value: int
    graph: Graph
    machine: Machine


@dataclass(frozen=True)
class Sample:
    """The best plan found at one value; without one, ``refused`` says why."""

    value: int
    solution: Solution = field(repr=False)

    @property
    def dram_bytes(self) -> int | None:
        """Bytes of the best plan; None where nothing runs."""
        return None if self.solution.partition is None else self.solution.cost.dram_bytes

    @property
    def bound_bytes(self) -> int:
        """No plan moves fewer."""
        return self.solution.bound_bytes

    @property
    def proved(self) -> bool:
        """Whether no plan moves fewer bytes than this one."""
        return self.dram_bytes == self.bound_bytes

    @property
    def refused(self) -> str:
        """Why nothing runs; empty where something does."""
        if self.solution.partition is not None:
            return ""
        if not self.solution.refusals:
            return "no plan found within the time"
        name, why = self.solution.refusals[0]
        return f"op {name!r} {why}"


@dataclass(frozen=True)
class Series:
    """Samples by value, each solved for itself. ``ended`` says why there are fewer than asked for, if so."""

    over: str
    scheme: str
    machine: Machine
    samples: tuple[Sample, ...]
    ended: str

    @property
    def proved(self) -> bool:
        """Whether every sample that has a plan is proved to be the best."""
        return all(sample.proved for sample in self.samples if sample.dram_bytes is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data in the layout of docs/curve.md."""
        return {
            "over": self.over,
            "scheme": self.scheme,
            "machine": self.machine.to_dict(),
            "ended": self.ended,
            "proved": self.proved,
            "samples": [
                {
                    "value": sample.value,
                    "dram_bytes": sample.dram_bytes,
                    "bound_bytes": sample.bound_bytes,
                    "proved": sample.proved,
                    "floor_dram_bytes": sample.solution.floor_bytes,
                    "layerwise_dram_bytes": sample.solution.layerwise_bytes,
                    "refused": sample.refused,
                    "plan": [] if sample.solution.partition is None else sample.solution.partition.names(),
                }
                for sample in self.samples
            ],
        }


def series(
    over: str,
    cases: Iterable[Case],
    *,
    scheme: str = "mixed",
    model: Callable[[], CostModel] | None = None,
    max_seconds: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Series:
    """Solve every case exactly; ``over`` says what their values are.

    Args:
        over: ``"weight bits"``, ``"resolution"``, or any other words.
        cases: by value, at least one. Their machines differ in what changes only.
        scheme: a name of :data:`fusecut.models.SCHEMES`; or give what makes a cost ``model``.
        max_seconds: for each case; past it the case has the best plan and the bound found so far.

    An interrupt (Ctrl-C) ends the series with the cases that were finished.

    Complexity: one solve for each case.
    """
    samples: list[Sample] = []
    ended, machine, name = "", None, scheme
    for case in cases:
        machine = case.machine if machine is None else machine
        made = scheme_model(scheme) if model is None else model()
        name = scheme if model is None else made.name
        found = solve(
            case.graph,
            machine=case.machine,
            model=made,
            max_seconds=max_seconds,
            on_progress=on_progress,
        )
        if found.interrupted:
            ended = f"{INTERRUPTED} at {case.value}"
            break
        samples.append(Sample(case.value, found))
    return Series(over, name, machine or Machine(1), tuple(samples), ended)
