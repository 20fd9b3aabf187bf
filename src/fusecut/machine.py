"""The accelerator, as far as a fusion plan can feel it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

from fusecut.errors import MachineError, UnknownNameError
from fusecut.units import parse_bytes

WIDTHS: Final = (1, 2, 4, 8, 16, 32, 64)

Rate: TypeAlias = int | Fraction
"""An exact rational; never a float, so that scores are the same everywhere."""

SPEEDS: Final = ("macs_per_cycle", "dram_bytes_per_cycle")
REUSES: Final = ("macs_per_activation", "macs_per_weight")
ENERGIES: Final = ("pj_per_dram_byte", "pj_per_sram_byte", "pj_per_mac")
RATES: Final = (*SPEEDS, *REUSES, *ENERGIES)
LARGEST_RATE: Final = 10**9
_FINEST: Final = {**dict.fromkeys((*SPEEDS, *REUSES), 6), **dict.fromkeys(ENERGIES, 3)}
"""Digits after the point: energies are whole femtojoules."""


@dataclass(frozen=True)
class Machine:
    """One on-chip buffer, the widths of what it holds, and, where known, speeds and energies.

    A group fits when its bytes are at most ``buffer_bytes``. Biases, partial sums and the
    accumulators of reductions have ``accumulator_bits``.

    The rest is optional and matters to the objectives ``latency`` and ``energy`` only
    (:mod:`fusecut.objective`): MACs and DRAM bytes in a cycle, picojoules for a byte of DRAM, for a
    byte of the buffer, and for a MAC with its registers. ``macs_per_activation`` and
    ``macs_per_weight`` say how many MACs of the array one element serves that was fetched from the
    buffer; without them the array fetches nothing beyond reading every operand once.

    Raises:
        MachineError: no buffer; a width that is not one of 1, 2, 4, 8, 16, 32, 64 bits; a rate that is
            no exact number of at most 10^9 and 6 digits after the point (3 for energies), negative,
            or 0 where it divides.

    >>> Machine.of("256KiB").buffer_bytes
    262144
    """

    buffer_bytes: int
    activation_bits: int = 8
    weight_bits: int = 8
    accumulator_bits: int = 32
    name: str = "custom"
    macs_per_cycle: Rate | None = None
    dram_bytes_per_cycle: Rate | None = None
    macs_per_activation: Rate | None = None
    macs_per_weight: Rate | None = None
    pj_per_dram_byte: Rate | None = None
    pj_per_sram_byte: Rate | None = None
    pj_per_mac: Rate | None = None

    def __post_init__(self) -> None:
        if self.buffer_bytes < 1:
            raise MachineError(
                f"a buffer of {self.buffer_bytes} bytes holds nothing: give at least 1 byte, e.g. 256KiB"
            )
        for what in ("activation_bits", "weight_bits", "accumulator_bits"):
            if getattr(self, what) not in WIDTHS:
                raise MachineError(f"{what} is {getattr(self, what)}: it must be one of {', '.join(map(str, WIDTHS))}")
        for what in RATES:
            _check_rate(what, getattr(self, what))

    @classmethod
    def of(
        cls, buffer: str | int, activation_bits: int = 8, weight_bits: int = 8, accumulator_bits: int = 32
    ) -> Machine:
        """A machine from a size as people write it: ``Machine.of("256KiB", weight_bits=4)``."""
        return cls(parse_bytes(buffer), activation_bits, weight_bits, accumulator_bits)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Machine:
        """A machine from plain data, such as :meth:`to_dict` makes; nothing about it is trusted.

        Raises:
            MachineError: a field that no machine has, of the wrong type, or of a value it cannot have.

        >>> Machine.from_dict({"buffer_bytes": 4096, "dram_bytes_per_cycle": "2.4"}).dram_bytes_per_cycle
        Fraction(12, 5)
        """
        known = {field.name: field.type for field in fields(cls)}
        for key in data:
            if key not in known:
                raise UnknownNameError("machine field", str(key), known)
        if "buffer_bytes" not in data:
            raise MachineError("a machine needs buffer_bytes, a whole number of bytes")
        return cls(**{key: _field(key, value) for key, value in data.items()})

    def to_dict(self) -> dict[str, int | str]:
        """Plain data without what is not known; rates that are no whole numbers as decimal text."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: rate_text(v) if isinstance(v, Fraction) else v for key, v in values.items() if v is not None}


def rate_text(rate: Rate) -> int | str:
    """A rate as an integer, or as decimal text: exact, as a rate has at most 6 digits after the point.

    >>> rate_text(Fraction(12, 5)), rate_text(Fraction(8, 4))
    ('2.4', 2)
    """
    if rate.denominator == 1:
        return rate.numerator
    return format(Decimal(rate.numerator) / rate.denominator, "f")


def parse_rate(what: str, value: object) -> Rate:
    """A rate from a whole number, a decimal, or decimal text.

    Raises:
        MachineError: none of these, or out of the range of :class:`Machine`.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= 32 and value.isascii() and value.replace(".", "", 1).isdigit():
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise MachineError(f'{what} is {_short(value)}: it must be a whole number or a decimal, such as 16 or "2.4"')
    # The exponent is looked at first: 1e-999999999 as a fraction would fill the memory.
    digits = _FINEST[what]
    if not value.is_finite() or value.copy_abs() > LARGEST_RATE or value != round(value, digits):
        raise MachineError(_rate_message(what, str(value)))
    return Fraction(round(value, digits))


def _field(key: str, value: object) -> Any:
    """One field of a machine from untrusted data, of the right type."""
    if key in RATES:
        return parse_rate(key, value)
    if key == "name":
        if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 100:
            return value
        raise MachineError(f"name is {_short(value)}: it must be 1 to 100 printable characters")
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 2**62:
        raise MachineError(f"{key} is {_short(value)}: it must be a whole number")
    return value


def _check_rate(what: str, rate: object) -> None:
    if rate is None:
        return
    if isinstance(rate, bool) or not isinstance(rate, int | Fraction):
        raise MachineError(f"{what} is {_short(rate)}: give an int or a Fraction, so that sums are exact")
    least_is_fine = rate >= 0 if what in ENERGIES else rate > 0
    if not least_is_fine or rate > LARGEST_RATE or 10 ** _FINEST[what] % rate.denominator:
        raise MachineError(_rate_message(what, _short(rate)))


def _rate_message(what: str, value: str) -> str:
    sign = "of 0 or more" if what in ENERGIES else "above 0"
    return f"{what} is {value}: it must be a number {sign}, at most 10^9, with at most {_FINEST[what]} decimals"


def _short(value: object) -> str:
    """A foreign value on one short line; huge integers are not written out."""
    if isinstance(value, int) and abs(value) > 2**62:
        return "a number of more than 18 digits"
    text = "".join(c if c.isprintable() else " " for c in str(value)[:61])
    return text if len(text) <= 60 else f"{text[:60]}..."
