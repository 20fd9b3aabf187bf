"""Machines as data: TOML files, shipped with the package or written by you.

A file has the fields of :class:`fusecut.machine.Machine`, ``buffer`` as people write it
(``"256KiB"`` is 1024s, ``"256KB"`` 1000s), a ``summary``, and a table ``[sources]`` that says where
each value is from. docs/machines.md has an example and says what the figures mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from fusecut.errors import FusecutError, MachineError, UnknownNameError
from fusecut.machine import RATES, Machine
from fusecut.units import parse_bytes

_HERE: Final = Path(__file__).parent
_LARGEST_FILE_BYTES: Final = 2**16
_WIDTHS: Final = ("activation_bits", "weight_bits", "accumulator_bits")
VALUES: Final = ("buffer", *_WIDTHS, *RATES)
"""What a file may say of a machine; only ``buffer`` must be there."""

_ABOUT: Final = ("name", "summary", "sources")


@dataclass(frozen=True)
class Description:
    """A machine, one line about it, and the source of each value by name."""

    machine: Machine
    summary: str
    sources: tuple[tuple[str, str], ...]


@cache
def names() -> tuple[str, ...]:
    """The machines that are shipped, sorted."""
    return tuple(sorted(file.stem for file in _HERE.glob("*.toml")))


def load(name: str | Path) -> Machine:
    """The machine of a name, or of a file: whatever ends in ``.toml`` is a file.

    Raises:
        UnknownNameError: no machine of that name; lists the known ones. Or a field no machine has.
        MachineError: the file cannot be read, or says something no machine can be.

    >>> load("eyeriss").buffer_bytes
    110592
    """
    return describe(name).machine


def describe(name: str | Path) -> Description:
    """As :func:`load`, with what the file says about the machine."""
    if str(name).endswith(".toml"):
        return _read(Path(name))
    if name not in names():
        raise UnknownNameError("machine", str(name), names())
    return _read(_HERE / f"{name}.toml")


def _read(path: Path) -> Description:
    data = _parsed(path)
    try:
        return _description(path, data)
    except FusecutError as error:
        raise MachineError(f"machine file {path}: {error}") from None


def _parsed(path: Path) -> dict[str, Any]:
    """The file as plain data; decimals stay exact."""
    import tomllib

    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise MachineError(f"cannot read machine file {path}: {error.strerror}") from None
    if len(text) > _LARGEST_FILE_BYTES:
        raise MachineError(f"machine file {path} is larger than {_LARGEST_FILE_BYTES:,} B: not a machine")
    try:
        return tomllib.loads(text.decode("utf-8-sig"), parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        reason = "".join(c if c.isprintable() else " " for c in str(error))[:120]
        raise MachineError(f"machine file {path} is not TOML: {reason}") from None


def _description(path: Path, data: dict[str, Any]) -> Description:
    for key in data:
        if key not in (*VALUES, *_ABOUT):
            raise UnknownNameError("field", key[:60], (*VALUES, *_ABOUT))
    buffer = data.get("buffer")
    if isinstance(buffer, bool) or not isinstance(buffer, int | str):
        raise MachineError('it needs buffer, a size such as "256KiB"')
    fields: dict[str, object] = {key: data[key] for key in (*_WIDTHS, *RATES) if key in data}
    name = data.get("name", path.stem)
    machine = Machine.from_dict({"buffer_bytes": parse_bytes(buffer), "name": name, **fields})
    sources = data.get("sources", {})
    if not isinstance(sources, dict) or not all(isinstance(text, str) for text in sources.values()):
        raise MachineError("sources must be a table of texts, one for each value")
    for key in sources:
        if key not in VALUES:
            raise UnknownNameError("source of", key[:60], VALUES)
    return Description(machine, str(data.get("summary", "")), tuple(sorted(sources.items())))
