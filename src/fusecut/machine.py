"""The accelerator, as far as a fusion plan can feel it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from fusecut.errors import MachineError
from fusecut.units import parse_bytes

WIDTHS: Final = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Machine:
    """One on-chip buffer and the widths of what it holds.

    A group fits when its bytes are at most ``buffer_bytes``. Biases, partial sums and the
    accumulators of reductions have ``accumulator_bits``.

    Raises:
        MachineError: no buffer, or a width that is not one of 1, 2, 4, 8, 16, 32, 64 bits.

    >>> Machine.of("256KiB").buffer_bytes
    262144
    """

    buffer_bytes: int
    activation_bits: int = 8
    weight_bits: int = 8
    accumulator_bits: int = 32
    name: str = "custom"

    def __post_init__(self) -> None:
        if self.buffer_bytes < 1:
            raise MachineError(
                f"a buffer of {self.buffer_bytes} bytes holds nothing: give at least 1 byte, e.g. 256KiB"
            )
        for what in ("activation_bits", "weight_bits", "accumulator_bits"):
            if getattr(self, what) not in WIDTHS:
                raise MachineError(f"{what} is {getattr(self, what)}: it must be one of {', '.join(map(str, WIDTHS))}")

    @classmethod
    def of(
        cls, buffer: str | int, activation_bits: int = 8, weight_bits: int = 8, accumulator_bits: int = 32
    ) -> Machine:
        """A machine from a size as people write it: ``Machine.of("256KiB", weight_bits=4)``."""
        return cls(parse_bytes(buffer), activation_bits, weight_bits, accumulator_bits)

    def to_dict(self) -> dict[str, int | str]:
        return asdict(self)
