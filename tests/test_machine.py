"""Machines that can exist, and the messages about those that cannot."""

from __future__ import annotations

import pytest

from fusecut.errors import MachineError, UnitError
from fusecut.machine import WIDTHS, Machine


def test_the_defaults_are_int8_with_32_bit_sums() -> None:
    machine = Machine(1024)
    assert (machine.activation_bits, machine.weight_bits, machine.accumulator_bits) == (8, 8, 32)


def test_a_machine_is_made_from_a_size_as_people_write_it() -> None:
    assert Machine.of("256KiB", weight_bits=4) == Machine(262_144, weight_bits=4)


def test_a_size_that_is_no_size_is_a_unit_error() -> None:
    with pytest.raises(UnitError):
        Machine.of("256 KiBs")


@pytest.mark.parametrize("size", [0, -1])
def test_a_buffer_that_holds_nothing_is_refused(size: int) -> None:
    with pytest.raises(MachineError) as caught:
        Machine(size)
    assert str(caught.value) == f"a buffer of {size} bytes holds nothing: give at least 1 byte, e.g. 256KiB"


@pytest.mark.parametrize("field", ["activation_bits", "weight_bits", "accumulator_bits"])
@pytest.mark.parametrize("bits", [0, 3, 12, 128])
def test_a_width_no_machine_has_is_refused(field: str, bits: int) -> None:
    with pytest.raises(MachineError) as caught:
        Machine.of(1024, **{field: bits})
    assert str(caught.value) == f"{field} is {bits}: it must be one of 1, 2, 4, 8, 16, 32, 64"


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_listed_width_is_accepted(bits: int) -> None:
    assert Machine(1, bits, bits, bits).activation_bits == bits


def test_a_machine_as_plain_data_makes_the_same_machine() -> None:
    machine = Machine(4096, 16, 4, 64, "npu")
    assert Machine(**machine.to_dict()) == machine  # type: ignore[arg-type]
