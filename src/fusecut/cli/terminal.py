"""What a command says: text on stdout, a number to the shell."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import get_terminal_size
from typing import Final, TextIO

from fusecut.errors import FusecutError
from fusecut.text import printable

OK: Final = 0
NO: Final = 1
BAD_INPUT: Final = 2


_PLAIN: Final = str.maketrans({"─": "-", "…": "~", "±": "+", "└": "`", "├": "|"})


def plain(error: UnicodeError) -> tuple[str, int]:
    """What is printed where the locale has no such character: one of ASCII that looks like it, or a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "replace").decode("ascii"), error.end


def print_anything() -> None:
    """Let no character of a table or of a name end the command, whatever the locale, nor a stream that is closed."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    codecs.register_error("fusecut.plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="fusecut.plain")


def _nowhere() -> TextIO:
    """In place of a stream that was closed before the process began; open as long as that runs."""
    return Path(os.devnull).open("w")


_COLOURS: Final = re.compile(r"(\x1b\[[\d;]*m)")


def emit(text: str) -> None:
    """Print, and have it out before anything else happens; of what steers a terminal only lines, and colours on one.

    Raises:
        FusecutError: standard output takes no more, because a disk is full, say.
    """
    try:
        print("\n".join(_shown(line, sys.stdout.isatty()) for line in text.rstrip("\n").split("\n")))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise FusecutError(f"cannot write to standard output: {error.strerror}") from None


def _shown(line: str, coloured: bool) -> str:
    parts = _COLOURS.split(line) if coloured else [line]
    return "".join(part if index % 2 else printable(part) for index, part in enumerate(parts))


def discard_output() -> None:
    """What is still waiting to be printed goes nowhere, so that it does not fail once more when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def emit_as(form: str, *, json: Callable[[], str], text: Callable[[int, bool], str]) -> None:
    """Print what ``--format`` asks for: one JSON value, or text as wide as the screen."""
    emit(json() if form == "json" else text(*screen()))


def verdict(objection: str) -> int:
    """The exit code of an answer: OK without an objection; else NO, and the objection on stderr."""
    if objection:
        print(f"fusecut: {objection}", file=sys.stderr)
    return NO if objection else OK


def screen(otherwise: int = 100) -> tuple[int, bool]:
    """Width to print at (``otherwise`` where there is no terminal), and whether to use colour: only on a terminal."""
    terminal = sys.stdout.isatty()
    return (max(60, get_terminal_size().columns) if terminal else otherwise), terminal and "NO_COLOR" not in os.environ
