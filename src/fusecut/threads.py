"""How many threads torch uses; torch itself is loaded only where this is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: graphs of tens of nodes take many times longer on two, and sums could differ.

    Also a decorator: ``@one_thread()``.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
