"""Machines that can exist, and the messages about those that cannot."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from fusecut.errors import FusecutError, MachineError, UnitError
from fusecut.machine import RATES, REUSES, SPEEDS, WIDTHS, Machine


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


# Speeds and energies -----------------------------------------------------------------------------

RATE_FIELDS = {
    "macs_per_cycle": Fraction(577, 1000),
    "dram_bytes_per_cycle": Fraction(15, 4),
    "macs_per_activation": 32,
    "macs_per_weight": Fraction(1, 1_000_000),
    "pj_per_dram_byte": Fraction(325, 2),
    "pj_per_sram_byte": 0,
    "pj_per_mac": Fraction(3, 10),
}


def test_rates_survive_plain_data_and_json_exactly() -> None:
    machine = Machine(4096, **RATE_FIELDS)  # type: ignore[arg-type]
    assert Machine.from_dict(json.loads(json.dumps(machine.to_dict()))) == machine


def test_plain_data_leaves_out_what_is_not_known() -> None:
    assert set(Machine(4096).to_dict()) == {
        "buffer_bytes", "activation_bits", "weight_bits", "accumulator_bits", "name",
    }  # fmt: skip


@pytest.mark.parametrize("field", RATES)
@pytest.mark.parametrize("value", [-1, Fraction(-1, 2), 10**9 + 1, 10**400, Fraction(1, 3), Fraction(1, 10**7)])
def test_a_rate_out_of_range_is_refused(field: str, value: int | Fraction) -> None:
    with pytest.raises(MachineError, match=f"^{field} is .*: it must be a number .* with at most [36] decimals$"):
        Machine(1024, **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [*SPEEDS, *REUSES])
def test_a_rate_that_divides_is_not_zero(field: str) -> None:
    with pytest.raises(MachineError, match=f"^{field} is 0: it must be a number above 0"):
        Machine(1024, **{field: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.3, float("nan"), float("inf"), True, "2", []])
def test_a_float_is_no_exact_rate(value: object) -> None:
    with pytest.raises(MachineError, match=r"^pj_per_mac is .*: give an int or a Fraction, so that sums are exact$"):
        Machine(1024, pj_per_mac=value)  # type: ignore[arg-type]


def test_energies_are_whole_femtojoules() -> None:
    with pytest.raises(MachineError, match=r"^pj_per_mac is 1/10000: .* at most 3 decimals"):
        Machine(1024, pj_per_mac=Fraction(1, 10_000))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "a machine needs buffer_bytes"),
        ({"buffer_bytes": "4096"}, "buffer_bytes is 4096: it must be a whole number"),
        ({"buffer_bytes": True}, "buffer_bytes is True: it must be a whole number"),
        ({"buffer_bytes": 10**5000}, "buffer_bytes is a number of more than 18 digits: it must be a whole number"),
        ({"buffer_bytes": 1, "weight_bits": 8.0}, "weight_bits is 8.0: it must be a whole number"),
        ({"buffer_bytes": 1, "name": "a\nb"}, "name is a b: it must be 1 to 100 printable characters"),
        ({"buffer_bytes": 1, "name": 7}, "name is 7: it must be"),
        ({"buffer_bytes": 1, "pj_per_mac": 0.5}, "pj_per_mac is 0.5: it must be a whole number or a decimal"),
        ({"buffer_bytes": 1, "pj_per_mac": "nan"}, "pj_per_mac is nan: it must be a whole number or a decimal"),
        ({"buffer_bytes": 1, "pj_per_mac": "1e9"}, "pj_per_mac is 1e9: it must be a whole number or a decimal"),
        ({"buffer_bytes": 1, "pj_per_mac": "9" * 10_000}, "it must be a whole number or a decimal"),
        ({"buffer_bytes": 1, "pj_per_mac": 10**5000}, "pj_per_mac is a number of more than 18 digits"),
        ({"buffer_bytes": 1, "pj_per_mac": None}, "pj_per_mac is None: it must be a whole number or a decimal"),
        ({"buffer_bytes": 1, "clock": 7}, "unknown machine field 'clock'"),
    ],
)
def test_plain_data_that_is_no_machine_is_refused_in_one_line(data: dict[str, object], says: str) -> None:
    with pytest.raises(FusecutError) as caught:
        Machine.from_dict(data)
    assert says in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300
