"""Machines as data: those that are shipped, files of one's own, and files that are no machine."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import fusecut as fc
from fusecut import machines
from fusecut.errors import FusecutError, MachineError, UnknownNameError
from fusecut.objective import UNITS, check
from fusecut.units import parse_bytes

every_machine = pytest.mark.parametrize("name", machines.names())


def test_the_machines_of_the_papers_and_two_products_are_shipped() -> None:
    arrays = {"array32_128k", "array32_256k", "array32_512k"}
    assert set(machines.names()) >= arrays | {"eyeriss", "shidiannao", "ethos_u65", "mcu_256k"}


@every_machine
def test_every_shipped_value_has_a_source_and_every_source_a_value(name: str) -> None:
    known = machines.describe(name)
    values = {"buffer", *known.machine.to_dict()} - {"buffer_bytes", "name"}
    assert {key for key, text in known.sources if len(text) > 10} == values
    assert known.machine.name == name and known.summary


@every_machine
def test_the_source_of_a_buffer_says_what_its_kilobytes_are(name: str) -> None:
    source = dict(machines.describe(name).sources)["buffer"]
    assert "1024" in source or "1000" in source


@every_machine
def test_every_shipped_machine_serves_every_objective(name: str) -> None:
    for objective in UNITS:
        check(objective, machines.load(name))


@pytest.mark.parametrize(("name", "pj_per_element"), [("128k", 6), ("256k", 9), ("512k", 12)])
def test_the_array_has_the_published_energies_of_16_bit_elements(name: str, pj_per_element: int) -> None:
    machine = machines.load(f"array32_{name}")
    assert machine.buffer_bytes == parse_bytes(f"{name}ib")
    assert machine.pj_per_sram_byte is not None and 2 * machine.pj_per_sram_byte == pj_per_element
    assert (machine.pj_per_dram_byte, machine.macs_per_cycle) == (100, 32 * 32)


def test_eyeriss_spends_200_and_6_times_a_mac_on_16_bits_of_dram_and_buffer() -> None:
    machine = machines.load("eyeriss")
    assert (machine.pj_per_dram_byte, machine.pj_per_sram_byte, machine.macs_per_cycle) == (100, 3, 12 * 14)
    assert machine.dram_bytes_per_cycle == Fraction(64 * 60, 8 * 200)


def test_an_unknown_machine_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown machine 'eyris': did you mean 'eyeriss'\? Known: array32_"):
        machines.load("eyris")


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_of_ones_own_is_read_exactly(tmp_path: Path) -> None:
    path = written(tmp_path, 'buffer = "64KB"\nweight_bits = 4\npj_per_mac = 0.1\ndram_bytes_per_cycle = 2.4\n')
    machine = machines.load(path)
    assert machine == fc.Machine(
        64_000, weight_bits=4, name="mine", pj_per_mac=Fraction(1, 10), dram_bytes_per_cycle=Fraction(12, 5)
    )
    assert machines.load(str(path)) == machine


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked as UTF-8"])
def test_only_the_buffer_is_needed(tmp_path: Path, mark: bytes) -> None:
    assert machines.load(written(tmp_path, mark + b"buffer = 4096")) == fc.Machine(4096, name="mine")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it needs buffer"),
        ("buffer = 1.5", "it needs buffer"),
        ("buffer = true", "it needs buffer"),
        ("buffer = 2000-01-01", "it needs buffer"),
        ("buffer = -5", "negative"),
        ("buffer = 0", "holds nothing"),
        ('buffer = "64 KiBs"', "is not a size in bytes"),
        ("buffer = 99999999999999999999999999", "must be a whole number"),
        ("buffer = " + "9" * 5000, "is not TOML"),
        ("buffer = 1\nbuffer = 2", "is not TOML"),
        ("buffer", "is not TOML"),
        ("buffer = " + "[" * 30_000, "is not TOML"),
        ('[[["', "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        ("#" * 70_000, "is larger than 65,536 B"),
        ("buffer = 1\nclock = 3", "unknown field 'clock'"),
        ("buffer = 1\nweight_bits = 7", "weight_bits is 7"),
        ("buffer = 1\nweight_bits = 8.0", "weight_bits is 8.0"),
        ('buffer = 1\nweight_bits = "8"', "weight_bits is 8: it must be a whole number"),
        ("buffer = 1\nmacs_per_cycle = 0", "macs_per_cycle is 0: it must be a number above 0"),
        ("buffer = 1\nmacs_per_cycle = -3.5", "must be a number above 0"),
        ("buffer = 1\nmacs_per_cycle = nan", "macs_per_cycle is NaN"),
        ("buffer = 1\nmacs_per_cycle = inf", "macs_per_cycle is Infinity"),
        ("buffer = 1\nmacs_per_cycle = 1e999999999", "at most 10^9"),
        ("buffer = 1\nmacs_per_cycle = 1e-999999999", "at most 10^9"),
        ("buffer = 1\npj_per_mac = 0.00001", "at most 3 decimals"),
        ("buffer = 1\npj_per_mac = []", "pj_per_mac is []"),
        ("buffer = 1\nname = 5", "name is 5"),
        ('buffer = 1\nname = "\\u001b[2J"', "printable"),
        ("buffer = 1\nsources = 5", "sources must be a table of texts"),
        ("buffer = 1\n[sources]\nbuffer = 5", "sources must be a table of texts"),
        ('buffer = 1\n[sources]\nclock = "?"', "unknown source of 'clock'"),
    ],
)
def test_a_file_that_is_no_machine_is_refused_in_one_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(MachineError) as caught:
        machines.load(path)
    said = str(caught.value)
    assert says in said and str(path) in said
    assert said.isprintable() and len(said.replace(str(path), "")) < 400


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FusecutError, match=r"^cannot read machine file .*none\.toml: No such file"):
        machines.load(tmp_path / "none.toml")


def test_a_folder_is_no_machine(tmp_path: Path) -> None:
    (tmp_path / "dir.toml").mkdir()
    with pytest.raises(FusecutError, match=r"^cannot read machine file"):
        machines.load(tmp_path / "dir.toml")
