"""The line of progress under a long command: on stderr, on a terminal only, gone when the work is done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from shutil import get_terminal_size
from time import perf_counter
from typing import Final, TypeVar

from fusecut.jit import watched

T = TypeVar("T")

EVERY_SECONDS: Final = 1.0


class Ticker:
    """A line that rewrites itself once a second, from the first second on; leaving the context wipes it away.

    With ``quiet``, or where stderr is no terminal, nothing is ever written.
    """

    def __init__(self, quiet: bool) -> None:
        self.on = not quiet and sys.stderr.isatty()
        self._width = 0
        self._started = self._shown = perf_counter()
        self._open = ExitStack()

    def __enter__(self) -> Ticker:
        if self.on:
            self._open.enter_context(watched(self._compiling))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        if self._width:
            self._write("")

    def of(self, render: Callable[[T], str]) -> Callable[[T], None] | None:
        """A callback that shows what ``render`` makes of what it is given; None where nobody looks."""
        if not self.on:
            return None

        def tick(state: T) -> None:
            self._show(lambda: render(state))

        return tick

    def _compiling(self) -> None:
        """The compiler works on the loops of a search, function by function; no search goes on meanwhile."""
        self._show(lambda: "compiling the inner loops of the search, once on this machine")

    def _show(self, text: Callable[[], str]) -> None:
        now = perf_counter()
        if now - self._shown >= EVERY_SECONDS:
            self._shown = now
            self._write(f"{now - self._started:5.0f} s  {text()}")

    def _write(self, line: str) -> None:
        """The line over the one before; at most 79 columns, and less than the terminal has, so that it never wraps."""
        line = line[: max(1, min(80, get_terminal_size().columns) - 1)]
        print(f"\r{line:<{self._width}}\r{line}", end="", file=sys.stderr, flush=True)
        self._width = len(line)
