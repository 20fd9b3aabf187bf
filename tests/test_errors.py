"""The tree of errors, and the one error that writes its own message."""

from __future__ import annotations

import inspect

import pytest

from fusecut import errors
from fusecut.errors import FusecutError, UnknownNameError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: str(c.__name__))
def test_one_except_clause_catches_everything(error: type[Exception]) -> None:
    assert issubclass(error, FusecutError)


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: str(c.__name__))
def test_the_drawn_tree_names_every_error(error: type[Exception]) -> None:
    assert f" {error.__name__} " in f" {errors.__doc__} "


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("UnitError", ValueError),
        ("GraphError", ValueError),
        ("PartitionError", ValueError),
        ("MachineError", ValueError),
        ("UnknownNameError", LookupError),
    ],
)
def test_errors_are_also_the_builtin_a_caller_expects(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), builtin)


def test_a_near_miss_gets_a_suggestion_and_the_sorted_names() -> None:
    error = UnknownNameError("scheme", "lbfd", ["mixed", "lbdf", "layerwise"])
    assert str(error) == "unknown scheme 'lbfd': did you mean 'lbdf'? Known: layerwise, lbdf, mixed"


def test_a_wild_guess_gets_the_sorted_names_only() -> None:
    error = UnknownNameError("search", "qqq", iter(["random", "exact"]))
    assert str(error) == "unknown search 'qqq'. Known: exact, random"
