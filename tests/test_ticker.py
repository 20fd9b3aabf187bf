"""The line of progress: only where somebody looks, once in a while, and gone at the end."""

from __future__ import annotations

import io
from typing import Any

import pytest

from fusecut import ticker
from fusecut.jit import compiled
from fusecut.ticker import Ticker


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(text: str) -> str:
    """What is left on the line after everything was written: a carriage return goes back to its start."""
    line: list[str] = []
    for part in text.split("\r"):
        line[: len(part)] = part
    return "".join(line).rstrip()


def looked_at(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Stderr as a terminal that is written to at once. No fixture: pytest captures anew for the call."""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(ticker, "EVERY_SECONDS", 0.0)
    return screen


def test_a_shorter_line_leaves_nothing_of_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looked_at(monkeypatch)
    with Ticker(quiet=False) as line:
        tick = line.of(str)
        assert tick is not None
        tick("a long state of things")
        tick("short")
        assert shown(terminal.getvalue()) == "0 s  short".rjust(len("    0 s  short"))


def test_nothing_is_left_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looked_at(monkeypatch)
    with Ticker(quiet=False) as line:
        tick = line.of(str)
        assert tick is not None
        tick("something")
    assert "something" in terminal.getvalue() and shown(terminal.getvalue()) == ""


@pytest.mark.parametrize(("columns", "width"), [("200", 79), ("80", 79), ("40", 39)])
def test_no_line_is_wider_than_a_narrow_terminal(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    terminal = looked_at(monkeypatch)
    with Ticker(quiet=False) as line:
        tick = line.of(str)
        assert tick is not None
        tick("x" * 200)
        assert len(shown(terminal.getvalue())) == width


def test_the_first_second_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looked_at(monkeypatch)
    monkeypatch.setattr(ticker, "EVERY_SECONDS", 3600.0)
    with Ticker(quiet=False) as line:
        tick = line.of(str)
        assert tick is not None
        tick("something")
    assert terminal.getvalue() == ""


def test_a_quiet_line_and_one_that_is_no_terminal_are_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ticker(quiet=True).of(str) is None
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert Ticker(quiet=False).of(str) is None


def test_the_line_says_that_loops_are_being_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first search of a machine waits for the compiler, and is not asked for its state meanwhile."""
    monkeypatch.setenv("COLUMNS", "80")
    pytest.importorskip("numba")
    terminal = looked_at(monkeypatch)

    @compiled
    def twice(number: Any) -> Any:
        return number + number

    with Ticker(quiet=False):
        assert twice(2) == 4
        assert shown(terminal.getvalue()).endswith("compiling the inner loops of the search, once on this machine")
    written = terminal.getvalue()
    assert shown(written) == "" and twice(2.5) == 5 and terminal.getvalue() == written
