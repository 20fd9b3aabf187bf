"""Ctrl-C while the command is still loading: one line and 130, as later on, and no traceback.

The package loads before any line of the command runs, which takes a few tenths of a second. Where it is loaded for
anything else than the command nothing happens here.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def guard() -> None:
    """Until :func:`release`, an interrupt ends the process at once."""
    if _is_command(sys.argv, sys.orig_argv) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _quit)


def release() -> None:
    """From here on an interrupt is an exception again."""
    if signal.getsignal(signal.SIGINT) is _quit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command(arguments: list[str], original: list[str]) -> bool:
    """Run as ``fusecut``, or as ``python -m fusecut``, whose first argument is -m as long as the package loads."""
    if arguments[:1] == ["-m"]:
        return "-m" in original and original[original.index("-m") + 1 :][:1] == ["fusecut"]
    name = arguments[0].replace("\\", "/").rpartition("/")[2] if arguments else ""
    return name.removesuffix(".exe") == "fusecut"


def _quit(_signal: int, _frame: FrameType | None) -> None:
    os.write(2, b"fusecut: interrupted\n")
    os._exit(INTERRUPTED)
