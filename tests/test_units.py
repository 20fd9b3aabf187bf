"""Byte sizes: what is accepted, what is refused, and how sizes are printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecut.errors import UnitError
from fusecut.units import format_bytes, format_kib, parse_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("262144", 262_144),
        ("0", 0),
        ("7B", 7),
        ("256KiB", 262_144),
        ("256kib", 262_144),
        ("  256 KiB ", 262_144),
        ("256KB", 256_000),
        ("1.5MiB", 1_572_864),
        ("1.5 MB", 1_500_000),
        ("0.5KiB", 512),
        ("0.125KiB", 128),
        ("1.001KB", 1001),
        ("2GiB", 2_147_483_648),
        ("2GB", 2_000_000_000),
        (4096, 4096),
        (0, 0),
    ],
)
def test_sizes_as_people_write_them(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "KiB", "256 KiBs", "256 KiBit", "1,5MiB", "-3", "+3", "1e3", "0x10", "256K"])
def test_text_that_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_bytes(text)
    expected = f"{text!r} is not a size in bytes; write 262144, 256KiB (1024s), 256KB (1000s) or 1.5MiB"
    assert str(caught.value) == expected


@pytest.mark.parametrize("text", ["0.5", "1.3KiB", "0.0001KB", "1.5B"])
def test_a_fraction_of_a_byte_is_refused(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_bytes(text)
    assert str(caught.value).startswith(f"{text!r} is not a whole number of bytes; write 262144")


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(UnitError, match=r"^-5 is not a size in bytes: it is negative; write 262144"):
        parse_bytes(-5)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (1, "1 B"), (1023, "1,023 B"), (1024, "1 KiB"), (1025, "1,025 B"), (2**30, "1,048,576 KiB")],
)
def test_formatted_sizes_are_exact(count: int, expected: str) -> None:
    assert format_bytes(count) == expected


@given(st.integers(0, 10**14))
def test_what_is_printed_can_be_read_back(count: int) -> None:
    assert parse_bytes(format_bytes(count).replace(",", "")) == count


@pytest.mark.parametrize(("count", "expected"), [(1536, "1.5 KiB"), (0, "0.0 KiB"), (10**7, "9,765.6 KiB")])
def test_table_sizes_have_one_decimal(count: int, expected: str) -> None:
    assert format_kib(count) == expected
