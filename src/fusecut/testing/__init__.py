"""For our tests and for yours: networks by hand and at random, brute force, and contracts.

A contract is a suite: subclass it, say what you made, and pytest runs it on your cost model, your
searcher or your splitter.
"""

from fusecut.builder import Net
from fusecut.testing.cost_contract import CostModelContract
from fusecut.testing.nets import all_partitions, brute_force, random_graph
from fusecut.testing.search_contracts import SearcherContract, SplitterContract, random_problem

__all__ = [
    "CostModelContract",
    "Net",
    "SearcherContract",
    "SplitterContract",
    "all_partitions",
    "brute_force",
    "random_graph",
    "random_problem",
]
