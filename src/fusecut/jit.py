"""Loops over arrays that numba compiles where it is installed (the extra ``lp``).

The functions are plain Python over numpy arrays: without numba the interpreter runs them as they are, with the same
result. What is ``kept`` lies beside its source, or in the user's cache folder, so that only the first run waits for
the compiler. Numba looks at the source of the function itself and no further: so what a kept function calls is not
kept, and it has a default argument, the :func:`fingerprint` of all sources, which is a part of its signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast
from zlib import crc32

F = TypeVar("F", bound=Callable[..., Any])

_watchers: list[Callable[[], None]] = []
_listening: list[object] = []


@contextmanager
def watched(watcher: Callable[[], None]) -> Iterator[None]:
    """``watcher`` is called whenever the compiler begins with a function that is not kept: seconds may pass."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def compiled(function: F) -> F:
    """The function compiled when a kept one first calls it, or as it is without numba. Imports numba."""
    return _jit(function, cache=False) if find_spec("numba") is not None else function


def kept(function: F) -> F:
    """The same, compiled once for all processes, where there is a folder to keep it in."""
    if find_spec("numba") is None:
        return function
    try:
        return _jit(function, cache=True)
    except RuntimeError:  # no such folder
        return _jit(function, cache=False)


def fingerprint(beside: Path, *names: str) -> int:
    """A checksum of files in the same folder."""
    return crc32(b"".join(beside.with_name(name).read_bytes() for name in names))


def _jit(function: F, cache: bool) -> F:
    from numba import njit

    if not _listening:
        _listening.append(_listen())
    return cast(F, njit(cache=cache)(function))


def _listen() -> object:
    """Hand numba's news on."""
    from numba.core import event

    class News(event.Listener):
        def on_start(self, _event: event.Event) -> None:
            for watcher in _watchers:
                watcher()

        def on_end(self, _event: event.Event) -> None:
            pass

    news = News()
    cast(Any, event.register)("numba:compile", news)
    return news
