"""Searchers: they propose plans, the driver judges them.

``SEARCHERS`` are the names of the command line; in Python pass an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fusecut.errors import UnknownNameError
from fusecut.search.annealing import Annealing
from fusecut.search.believing import Believing
from fusecut.search.exact import Exact
from fusecut.search.greedy import Greedy
from fusecut.search.lazy_exact import LazyExact
from fusecut.search.local import LocalSearch
from fusecut.search.nsga2 import NSGA2
from fusecut.search.online import Online
from fusecut.search.protocol import NO_PLAN, Proposal, Searcher
from fusecut.search.random import RandomSearch

__all__ = [
    "NO_PLAN",
    "NSGA2",
    "SEARCHERS",
    "Annealing",
    "Believing",
    "Exact",
    "Greedy",
    "LazyExact",
    "LocalSearch",
    "Online",
    "Proposal",
    "RandomSearch",
    "Searcher",
    "searcher",
]

SEARCHERS: Final[dict[str, Callable[[], Searcher]]] = {
    "exact": Exact,
    "lazy_exact": LazyExact,
    "random": RandomSearch,
    "local": LocalSearch,
    "nsga2": NSGA2,
    "annealing": Annealing,
    "greedy": Greedy,
    "online": Online,
    "believing": Believing,
}


def searcher(name: str) -> Searcher:
    """A searcher with its default settings.

    Raises:
        UnknownNameError: lists the known searchers.
    """
    if name not in SEARCHERS:
        raise UnknownNameError("search", name, SEARCHERS)
    return SEARCHERS[name]()
