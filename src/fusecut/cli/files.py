"""What a command writes is none of what it reads."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from fusecut.errors import FusecutError

_WRITTEN: Final = ("output", "report", "trace", "onnx", "subgraphs", "stream", "figure")
"""Arguments that name what is written; any other one that names a file names what is read."""


def check_apart(args: argparse.Namespace) -> None:
    """Refuse arguments by which a command would write over its own input, or two results into one place.

    Raises:
        FusecutError: the place that is named twice.
    """
    values = vars(args)
    written = [values[name] for name in _WRITTEN if isinstance(values.get(name), Path)]
    others = [value for name, value in values.items() if name not in _WRITTEN]
    spread = [part for value in others for part in (value if isinstance(value, list) else [value])]
    keep_apart(written, [part for part in spread if isinstance(part, str | Path)])
    for place, path in enumerate(written):
        if any(_same(path, other) for other in written[:place]):
            raise FusecutError(f"cannot write {path} twice: give each result a name of its own")


def keep_apart(written: Sequence[Path], read: Iterable[str | Path]) -> None:
    """Refuse to write over files that are read. O(files)."""
    files = {Path(path).resolve() for path in read if Path(path).is_file()} if written else set()
    for path in written:
        if path.resolve() in files:
            raise FusecutError(f"cannot write {path}: this command reads it; give the result another name")


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
