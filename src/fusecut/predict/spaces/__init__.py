"""Search spaces: families of networks written as short strings, and how to read them.

A *space* reads an architecture string into a graph and, beside it, into a choice vector: a fixed
number of 0/1 (or scaled) values, one for each place of the space and each op that may stand there.
The vector is what a look-up table of layer latencies would be multiplied with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusecut.errors import UnknownNameError
from fusecut.ir import Graph
from fusecut.predict.spaces import fbnet, nasbench201, ofa_mbv3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """A family of networks: ``graph`` and ``choices`` read a string, ``sample`` draws one.

    Both readers raise ModelError on a string that is none of the space.
    """

    name: str
    graph: Callable[[str], Graph]
    choices: Callable[[str], Floats]
    sample: Callable[[np.random.Generator], str]


SPACES: Final[dict[str, Space]] = {
    module.NAME: Space(module.NAME, module.graph, module.choices, module.sample)
    for module in (fbnet, nasbench201, ofa_mbv3)
}
"""The spaces by the names of the command line."""


def space(name: str) -> Space:
    """The space of that name.

    Raises:
        UnknownNameError: there is none; lists those there are.
    """
    if name not in SPACES:
        raise UnknownNameError("search space", name, SPACES)
    return SPACES[name]
