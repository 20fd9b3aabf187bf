"""What each table and figure of arXiv 2501.00636 runs, and how much of it at which effort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Final

from fusecut.errors import FusecutError
from fusecut.reproduce.get.published import LARGE, SMALL
from fusecut.reproduce.get.runs import UNLEARNED, Case

CONTROLS: Final = ("random", "random_edges", "attribution", "cost_guided")
ALL: Final = (
    "random", "gnne", "pg", "rg", "occlusion", "surrogate",
    "random_edges", "not_occlusion", "attribution", "cost_guided",
)  # fmt: skip
LITERAL: Final = tuple(f"{name}_literal" for name in ("gnne", "pg", "rg", "occlusion", "random_edges"))


@dataclass(frozen=True)
class Table:
    """A grid of the paper. Buffers are read as KiB; the paper writes KB."""

    title: str
    scheme: str
    buffer: str
    networks: tuple[str, ...]
    searchers: tuple[str, ...]
    plans: int
    methods: tuple[str, ...] = ALL

    def has(self, case: Case) -> bool:
        """Whether a case belongs here, whatever its plans."""
        same = (case.scheme, case.buffer) == (self.scheme, self.buffer)
        return same and case.network in self.networks and case.searcher in self.searchers

    def cases(self, effort: Effort) -> list[Case]:
        """The cells, cheapest searcher first."""
        networks = self.networks[: effort.networks]
        return [
            Case(network, self.scheme, self.buffer, search, effort.plans_of(search, self.plans))
            for search, network in product(self.searchers, networks)
        ]


TABLES: Final = {
    "table2": Table("LBDF, 256 KiB", "lbdf", "256KiB", LARGE, ("local", "nsga2", "random"), 5_000),
    "table3": Table("BRR, 128 KiB", "brr", "128KiB", SMALL, ("local", "random"), 2_000),
    "table4": Table("LBDF, 128 KiB", "lbdf", "128KiB", SMALL, ("local", "random"), 2_000),
    "table5": Table(
        "LBDF, MobileNetV2, 128 KiB: rectify rate and time",
        "lbdf",
        "128KiB",
        ("mobilenet_v2",),
        ("local", "random"),
        2_000,
        (*ALL, *LITERAL),
    ),
}

FIGURE5: Final = (
    Case("squeezenet1_0", "brr", "128KiB", "local", 4_000),
    Case("mobilenet_v2", "lbdf", "128KiB", "local", 4_000),
    Case("vgg16", "lbdf", "128KiB", "random", 4_000),
)


@dataclass(frozen=True)
class Effort:
    """How much is run: seeds, networks of each table, the share of the paper's plans, at most so many
    plans of random search, and for slow methods fewer seeds."""

    seeds: int
    networks: int | None = None
    share: float = 1.0
    most_random: int | None = None
    slow_seeds: int | None = None
    plans: int | None = None

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.plans == 0:
            raise FusecutError("--seeds and --plans must be at least 1")

    def plans_of(self, search: str, published: int) -> int:
        if self.plans is not None:
            return self.plans
        planned = max(20, round(self.share * published))
        return planned if search != "random" or self.most_random is None else min(planned, self.most_random)

    def limits(self) -> Callable[[Case, str], int]:
        """Seeds of a method in a case: the slow explainers, and random search with any of them, get fewer."""

        def seeds(case: Case, method: str) -> int:
            slow = method.removesuffix("_literal") in SLOW
            return self.seeds if self.slow_seeds is None or not slow else min(self.seeds, self.slow_seeds)

        return seeds


SLOW: Final = frozenset({"gnne"})
"""Explainers that learn a mask for each group anew."""

QUICK: Final = Effort(seeds=2, networks=1, share=0.02)
USUAL: Final = Effort(seeds=3, share=0.2, most_random=200, slow_seeds=1)
FULL: Final = Effort(seeds=10)


def needs_gnn(method: str) -> bool:
    """Whether a method needs the extra gnn."""
    return method.removesuffix("_literal") not in UNLEARNED
