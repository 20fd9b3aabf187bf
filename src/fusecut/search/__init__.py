"""Searchers: they propose plans, the driver judges them.

``SEARCHERS`` are the names of the command line; in Python pass an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fusecut.errors import UnknownNameError
from fusecut.search.exact import Exact
from fusecut.search.protocol import NO_PLAN_BYTES, Proposal, Searcher

__all__ = ["NO_PLAN_BYTES", "SEARCHERS", "Exact", "Proposal", "Searcher", "searcher"]

SEARCHERS: Final[dict[str, Callable[[], Searcher]]] = {"exact": Exact}


def searcher(name: str) -> Searcher:
    """A searcher with its default settings.

    Raises:
        UnknownNameError: lists the known searchers.
    """
    if name not in SEARCHERS:
        raise UnknownNameError("search", name, SEARCHERS)
    return SEARCHERS[name]()
