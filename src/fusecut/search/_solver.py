"""Linear programs, solved by HiGHS (Huangfu & Hall, Math. Prog. Comp. 2018), the extra ``lp``.

One thread, no presolve, no randomness: the same program gives the same answer with the same version of HiGHS.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Column = Sequence[tuple[int, float]]
"""A column or a row of a program: places and coefficients."""


def solver_is_here() -> bool:
    """Whether the extra ``lp`` is installed: highspy solves programs, numba compiles the search for columns."""
    return all(find_spec(name) is not None for name in ("highspy", "numba"))


class Optimum(NamedTuple):
    """The least value, the solution, and what every row is worth."""

    value: float
    columns: NDArray[np.float64]
    rows: list[float]


class Program:
    """minimise cost * x, x >= 0, one row after the other; goes on from the last optimum when it has changed."""

    def __init__(self) -> None:
        self._highs = _highs()
        self._highs.setOptionValue("presolve", "off")
        self._highs.setOptionValue("solver", "simplex")
        self._endless: float = self._highs.inf

    def add_rows(self, rows: Sequence[Column], least: float | None, most: float | None) -> None:
        """Rows that hold between two values, None for no bound, with the columns there are."""
        low = -self._endless if least is None else least
        high = self._endless if most is None else most
        begins, places, values = _lists(rows)
        many = len(rows)
        self._highs.addRows(many, np.full(many, low), np.full(many, high), len(places), begins, places, values)

    def add_columns(self, costs: Sequence[int], columns: Sequence[Column]) -> None:
        """Columns with their places in the rows there are."""
        begins, places, values = _lists(columns)
        many = len(columns)
        low, high = np.zeros(many), np.full(many, self._endless)
        self._highs.addCols(many, np.array(costs, float), low, high, len(places), begins, places, values)

    def price(self, column: int, cost: int) -> None:
        """Change what a column costs."""
        self._highs.changeColCost(column, float(cost))

    def forbid(self, column: int) -> None:
        """Hold a column at zero from now on."""
        self._highs.changeColBounds(column, 0.0, 0.0)

    def solve(self) -> Optimum:
        """The optimum; there must be one. Where the last basis leads nowhere it is forgotten."""
        self._highs.run()
        if self._highs.getModelStatus() != _optimal():
            self._highs.clearSolver()
            self._highs.run()
        status = self._highs.getModelStatus()
        if status != _optimal():
            raise AssertionError(f"the program has an optimum, but: {self._highs.modelStatusToString(status)}")
        solution = self._highs.getSolution()
        value = float(self._highs.getInfo().objective_function_value)
        return Optimum(value, np.array(solution.col_value), list(solution.row_dual))


def _highs() -> Any:
    from highspy import Highs

    highs: Any = Highs()  # type: ignore[no-untyped-call]
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    return highs


def _optimal() -> Any:
    from highspy import HighsModelStatus

    return HighsModelStatus.kOptimal


def _lists(each: Sequence[Column]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Where each begins, all places, all values."""
    begins = np.cumsum([0, *map(len, each)])[:-1].astype(np.int32)
    places = np.array([place for column in each for place, _ in column], np.int32)
    return begins, places, np.array([value for column in each for _, value in column], float)
