"""What can go wrong, as one small tree.

::

    FusecutError            anything fusecut refuses; its text is one line for a person
    ├── UnitError           "256 KiBs": a size that is not a size
    ├── ModelError          a network file that cannot be read as a network
    ├── GraphError          ops and tensors that do not form a DAG
    ├── PartitionError      groups that are not a valid plan of their graph
    ├── MachineError        a machine that cannot exist
    ├── CostModelError      a cost model of somebody else's that fails, or answers nonsense
    ├── PlanError           a plan file that does not match its network
    ├── WeightsError        a file of trained weights that is damaged, or of another scheme or version
    ├── SimulationError     a schedule that cannot be executed as granted; names group, op and row
    └── UnknownNameError    a name that is not in a table; lists the known ones

An *infeasible* group is not an error: it is a value, :class:`fusecut.cost.Infeasible`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final


class FusecutError(Exception):
    """Base of every error a user can cause; ``str()`` of it is one line that says what to do."""


class UnitError(FusecutError, ValueError):
    """A byte size that cannot be read."""


class ModelError(FusecutError):
    """A network file that is missing, damaged, or says something fusecut cannot represent."""


class GraphError(FusecutError, ValueError):
    """Ops and tensors that do not form a topologically ordered DAG."""


class PartitionError(FusecutError, ValueError):
    """Groups that overlap, leave ops out, are not connected or not convex, or form a cycle."""


class MachineError(FusecutError, ValueError):
    """A machine with no buffer, or with widths it cannot have."""


class CostModelError(FusecutError):
    """A function or command that was asked for the cost of a group and gave no usable answer."""


class PlanError(FusecutError):
    """A plan file that cannot be read or does not belong to its network."""


class WeightsError(FusecutError):
    """A file of trained weights that cannot be read, or that answers another question than the one asked."""


class SimulationError(FusecutError):
    """A schedule that cannot be executed as granted, or data that is not where an op reads it."""


class UnknownNameError(FusecutError, LookupError):
    """A name that is not in its table.

    >>> raise UnknownNameError("scheme", "lbfd", ["lbdf", "layerwise"])
    Traceback (most recent call last):
      ...
    fusecut.errors.UnknownNameError: unknown scheme 'lbfd': did you mean 'lbdf'? Known: layerwise, lbdf
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(f"unknown {what} {shown(name)}{meant(str(name), names) or '.'} Known: {', '.join(names)}")


def meant(name: str, known: Iterable[str]) -> str:
    """What comes behind a mistyped name: the closest known one, or nothing if none is close.

    >>> meant("lbfd", ["lbdf", "layerwise"])
    ": did you mean 'lbdf'?"
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """What of somebody else's error fits into ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def shown(value: object) -> str:
    """Something somebody wrote, as Python writes it, cut off where it is no use to read on.

    >>> shown("a" * 1000) == "'" + "a" * 60 + "..."
    True
    """
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


_LONGEST_SHOWN: Final = 64


def instead_of(what: str, found: object) -> str:
    """What was expected, and what came: a value of Python's own in full, of anything else the type.

    >>> instead_of("a network", "zoo:alexnet"), instead_of("a path", {"a": 1})
    ("expected a network, found 'zoo:alexnet'", 'expected a path, found dict')
    """
    plain = found is None or isinstance(found, str | int | float | type)
    return f"expected {what}, found {shown(found) if plain else type(found).__name__}"


def check_seed(seed: object) -> None:
    """Raises FusecutError unless the seed is a whole number of 0 or more."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed.__index__() < 0:
        raise FusecutError(f"seed is {shown(seed)}: expected a whole number of 0 or more")
