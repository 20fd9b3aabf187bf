"""Rows of long runs in a file, one JSON object a line, that an interrupted run goes on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from fusecut.errors import FusecutError, first_line

LARGEST_ROWS_BYTES: Final = 64 * 2**20

RowT = TypeVar("RowT")


def read(path: Path | None, parsed: Callable[[Any], RowT]) -> list[RowT]:
    """Rows written before; none where there is no file yet. A last line that was cut off is left out.

    ``parsed`` makes a row of what a line holds; where it raises ValueError, TypeError or KeyError, the file is refused.

    Raises:
        FusecutError: the file is larger than 64 MiB, or not of such rows.
    """
    if path is None or not path.exists():
        return []
    try:
        if path.stat().st_size > LARGEST_ROWS_BYTES:
            raise FusecutError(f"{path} is larger than {LARGEST_ROWS_BYTES:,} B: not rows of fusecut reproduce")
        text = path.read_text(encoding="utf-8")
        return [parsed(json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines() if line.strip()]
    except OSError as error:
        raise FusecutError(f"cannot read rows from {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        why = first_line(error)
        raise FusecutError(f"{path} does not hold rows of fusecut reproduce ({why}): name another file") from None


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Keep a row as soon as it is there, after cutting off a last line that was not finished.

    Raises:
        FusecutError: the file cannot be written.
    """
    try:
        _mend(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
    except OSError as error:
        raise FusecutError(f"cannot write rows to {path}: {error.strerror}") from None


def _mend(path: Path) -> None:
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
