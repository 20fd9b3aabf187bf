"""Byte sizes as people write them. Inside fusecut every size is an integer number of bytes."""

from __future__ import annotations

import re
from operator import index
from typing import Final, SupportsIndex

from fusecut.errors import UnitError, shown

_FACTORS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_SIZE: Final = re.compile(r"\s*(\d{1,15})(?:\.(\d{1,9}))?\s*([a-zA-Z]{0,3})\s*")
_EXAMPLES: Final = "write 262144, 256KiB (1024s), 256KB (1000s) or 1.5MiB"


def parse_bytes(text: str | SupportsIndex) -> int:
    """Read a byte size. ``KiB/MiB/GiB`` are powers of 1024, ``KB/MB/GB`` powers of 1000.

    A fraction is accepted when it names a whole number of bytes. So is a whole number of any library, such as numpy's.

    Raises:
        UnitError: not a size, negative, or not a whole number of bytes.

    >>> parse_bytes("256KiB"), parse_bytes("256 KB"), parse_bytes("1.5MiB"), parse_bytes(4096)
    (262144, 256000, 1572864, 4096)
    """
    if not isinstance(text, str):
        return _count(text)
    match = _SIZE.fullmatch(text)
    if match is None or match[3].lower() not in _FACTORS:
        raise UnitError(f"{text!r} is not a size in bytes; {_EXAMPLES}")
    factor = _FACTORS[match[3].lower()]
    fraction = match[2] or ""
    scaled, rest = divmod(int(match[1] + fraction) * factor, int(10 ** len(fraction)))
    if rest:
        raise UnitError(f"{text!r} is not a whole number of bytes; {_EXAMPLES}")
    return scaled


def _count(number: SupportsIndex) -> int:
    try:
        count = index(number)
    except TypeError:
        count = -1
    if count < 0 or isinstance(number, bool):
        negative = ": it is negative" if isinstance(number, int) and number < 0 else ""
        raise UnitError(f"{shown(number)} is not a size in bytes{negative}; {_EXAMPLES}")
    return count


def format_bytes(count: int) -> str:
    """An exact, readable size: KiB when it is a whole number of them, else bytes with separators.

    >>> format_bytes(262144), format_bytes(143361)
    ('256 KiB', '143,361 B')
    """
    if count and count % 1024 == 0:
        return f"{count // 1024:,} KiB"
    return f"{count:,} B"


def format_kib(count: int) -> str:
    """KiB to one decimal, for tables where columns must line up; never used for arithmetic.

    >>> format_kib(1536)
    '1.5 KiB'
    """
    return f"{count / 1024:,.1f} KiB"
