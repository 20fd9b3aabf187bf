"""Label files that users bring: architectures and one value for each, in .npz, .csv or .parquet.

Columns (arrays) ``arch`` and ``value``; where those names are missing, a file of exactly one text and
one number column will do. Nothing is unpickled. Rows without a usable value, rows that are no network
of the space, and duplicates (their median is kept) are counted and told, not fatal.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fusecut.errors import FusecutError, ModelError

Floats = NDArray[np.float64]

LARGEST_BYTES: Final = 256 * 2**20
LARGEST_ROWS: Final = 1_000_000
LARGEST_VALUE: Final = 1e100
_LINE: Final = np.zeros(0)
_EXPECTED: Final = "expected columns arch (text) and value (numbers) in a .npz, .csv or .parquet file"


@dataclass(frozen=True)
class Labels:
    """Networks and their values; what was left out of the file, for a person to read in ``notes``."""

    archs: tuple[str, ...]
    values: Floats
    notes: tuple[str, ...] = ()


def read(path: Path, check: Callable[[str], object]) -> Labels:
    """Read labels and keep what can be learnt from.

    Args:
        check: raises ModelError on a string that is no network of the space.

    Raises:
        FusecutError: the file cannot be read, has no such columns, or no usable row.
    """
    archs, values = read_columns(path)
    if values is None:
        raise FusecutError(f"{path} has no values: {_EXPECTED}")
    usable = np.abs(values) <= LARGEST_VALUE
    refused = {arch: reason for arch in dict.fromkeys(archs) if (reason := _refusal(arch, check))}
    groups: dict[str, list[float]] = {}
    for arch, value, good in zip(archs, values, usable, strict=True):
        if good and arch not in refused:
            groups.setdefault(arch, []).append(float(value))
    unknown = sum(arch in refused for arch in archs)
    repeated = sum(len(g) - 1 for g in groups.values())
    if not groups:
        reason = next(iter(refused.values()), "no row has a usable value")
        raise FusecutError(f"{path}: none of {len(archs):,} rows can be used; {reason}")
    notes = []
    if not usable.all():
        notes.append(f"{int((~usable).sum()):,} rows without a usable value left out")
    if unknown:
        notes.append(f"{unknown:,} rows are no network of the space, the first: {next(iter(refused.values()))}")
    if repeated:
        notes.append(f"{repeated:,} repeated rows: the median of each network is kept")
    return Labels(tuple(groups), np.array([float(np.median(g)) for g in groups.values()]), tuple(notes))


def _refusal(arch: str, check: Callable[[str], object]) -> str:
    try:
        check(arch)
    except ModelError as error:
        return str(error)
    return ""


def read_columns(path: Path) -> tuple[list[str], Floats | None]:
    """Architectures and values of a file; no values where it has none (a .txt is one architecture a line).

    Raises:
        FusecutError: the file cannot be read, or has no such columns.
    """
    readers: Mapping[str, Callable[[Path], dict[str, Any]]] = {
        ".npz": _npz,
        ".csv": _csv,
        ".parquet": _parquet,
        ".txt": _txt,
    }
    if path.suffix not in readers:
        raise FusecutError(f"{path}: a file of {path.suffix or 'no'} type cannot be read; {_EXPECTED}")
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise FusecutError(f"{path} is larger than {LARGEST_BYTES:,} B: too large for labels")
        columns = readers[path.suffix](path)
    except OSError as error:
        raise FusecutError(f"cannot read {path}: {error.strerror or error}; {_EXPECTED}") from None
    except (ValueError, KeyError, csv.Error, EOFError) as error:
        raise FusecutError(f"{path} cannot be read ({str(error).splitlines()[0][:120]}); {_EXPECTED}") from None
    archs, values = _chosen(path, columns)
    if len(archs) > LARGEST_ROWS or (values is not None and len(values) != len(archs)):
        raise FusecutError(f"{path}: arch and value differ in length, or have over {LARGEST_ROWS:,} rows")
    return archs, values


def _chosen(path: Path, columns: dict[str, Any]) -> tuple[list[str], Floats | None]:
    texts = [name for name, column in columns.items() if _is_text(column)]
    arch = "arch" if "arch" in columns else texts[0] if len(texts) == 1 else None
    rest = [name for name in columns if name != arch]
    value = "value" if "value" in columns else rest[0] if len(rest) == 1 else None
    if arch is None or (value is None and rest):
        raise FusecutError(f"{path} has columns {', '.join(sorted(columns)) or 'none'}; {_EXPECTED}")
    archs = [a.decode("utf-8", "replace") if isinstance(a, bytes) else str(a).strip() for a in columns[arch]]
    return archs, None if value is None else _numbers(columns[value])


def _is_text(column: Sequence[Any]) -> bool:
    """Whether most of a column cannot be read as numbers."""
    return len(column) > 0 and float(np.isnan(_numbers(column)).mean()) > 0.5


def _numbers(column: Sequence[Any]) -> Floats:
    """What can be read as a number; NaN where it cannot."""
    return np.array([_number(v) for v in column])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _npz(path: Path) -> dict[str, Any]:
    import zipfile

    if path.stat().st_size and not zipfile.is_zipfile(path):
        raise ValueError("not an .npz file")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            columns = {name: _array(file, name) for name in file.files}
    except zipfile.BadZipFile:
        raise ValueError("not an .npz file") from None
    flat = {name: c[:, 0] if c.ndim == 2 and c.shape[1] == 1 else c for name, c in columns.items()}
    wide = next(
        (f"{name} has shape {flat[name].shape}" for name in ("arch", "value") if flat.get(name, _LINE).ndim != 1), ""
    )
    if wide:
        raise ValueError(f"{wide}, not one entry a network")
    return {name: column.tolist() for name, column in flat.items() if column.ndim == 1}


def _array(file: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    try:
        return file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ValueError(
            f"{name} holds Python objects, which are never unpickled: save it as text or numbers"
        ) from None


def _csv(path: Path) -> dict[str, Any]:
    """With a header of names; quotes where a value has commas, as usual."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise ValueError("the file is empty")
    ragged = next((row for row in rows if len(row) != len(rows[0])), None)
    if ragged is not None:
        raise ValueError(f"a row has {len(ragged)} fields where the first has {len(rows[0])}")
    return {name.strip(): [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def _txt(path: Path) -> dict[str, Any]:
    return {"arch": [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]}


def _parquet(path: Path) -> dict[str, Any]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise FusecutError(
            f"{path}: reading .parquet needs pyarrow; pip install pyarrow, or give .npz or .csv"
        ) from None
    try:
        table = parquet.read_table(path)
    except ArrowException as error:
        raise ValueError(str(error)) from None
    return {name: table.column(name).to_pylist() for name in table.column_names}
