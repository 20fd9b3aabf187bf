"""The line of progress under a long command: on stderr, on a terminal only, gone when the work is done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Final, TypeVar

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

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            self._write("")

    def of(self, render: Callable[[T], str]) -> Callable[[T], None] | None:
        """A callback that shows what ``render`` makes of what it is given; None where nobody looks."""
        if not self.on:
            return None

        def tick(state: T) -> None:
            now = perf_counter()
            if now - self._shown >= EVERY_SECONDS:
                self._shown = now
                self._write(f"{now - self._started:5.0f} s  {render(state)}")

        return tick

    def _write(self, line: str) -> None:
        """The line over the one before; 79 columns, so that no terminal wraps it."""
        line = line[:79]
        print(f"\r{line:<{self._width}}\r{line}", end="", file=sys.stderr, flush=True)
        self._width = len(line)
