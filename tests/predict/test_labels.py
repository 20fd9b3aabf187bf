"""Label files of users: what can be read is kept, what cannot is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusecut.errors import FusecutError
from fusecut.predict.spaces import fbnet, ofa_mbv3
from fusecut.train.labels import read, read_columns

A, B = (" ".join([op] * 22) for op in ("k3_e1", "k5_e6"))


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_npz_gives_its_networks(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", arch=np.array([A, B]), value=np.array([1.0, 2.0], dtype=np.float32))
    found = read(tmp_path / "x.npz", fbnet.choices)
    assert (found.archs, found.values.tolist(), found.notes) == ((A, B), [1.0, 2.0], ())


def test_a_csv_keeps_json_with_commas(tmp_path: Path) -> None:
    arch = ofa_mbv3.sample(np.random.default_rng(0))
    quoted = arch.replace('"', '""')
    found = read(csv_file(tmp_path, f'arch,value\n"{quoted}",3\n'), ofa_mbv3.choices)
    assert found.archs == (arch,)


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_a_mark_of_the_encoding_is_no_part_of_the_first_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"archs.{suffix}"
    path.write_text(f"arch\n{A}\n" if suffix == "csv" else f"{A}\n", encoding="utf-8-sig")
    assert read_columns(path)[0] == [A]


def test_a_parquet_gives_its_networks(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"arch": [A, B], "value": [1.5, None]}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet", fbnet.choices).values.tolist() == [1.5]


@pytest.mark.parametrize("missing", ["", "nan", "N/A", "inf", "1e200"])
def test_rows_without_a_value_are_left_out_and_told(tmp_path: Path, missing: str) -> None:
    found = read(csv_file(tmp_path, f"arch,value\n{A},{missing}\n{B},2\n"), fbnet.choices)
    assert (found.archs, found.notes) == ((B,), ("1 rows without a usable value left out",))


def test_rows_of_no_network_are_left_out_and_told(tmp_path: Path) -> None:
    found = read(csv_file(tmp_path, f"arch,value\nk9,1\n{B},2\n"), fbnet.choices)
    assert found.archs == (B,)
    assert "1 rows are no network of the space, the first: 'k9' is no FBNet" in found.notes[0]


def test_repeated_networks_keep_their_median(tmp_path: Path) -> None:
    found = read(csv_file(tmp_path, f"arch,value\n{A},1\n{A},2\n{A},90\n"), fbnet.choices)
    assert (found.values.tolist(), found.notes[0][:15]) == ([2.0], "2 repeated rows")


def test_columns_of_other_names_are_found_where_there_is_one_of_each(tmp_path: Path) -> None:
    assert read(csv_file(tmp_path, f"network,latency\n{A},1\n"), fbnet.choices).archs == (A,)


def test_a_text_file_is_an_architecture_a_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(f"{A}\n\n{B}\n", encoding="utf-8")
    assert read_columns(tmp_path / "x.txt") == ([A, B], None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("arch,value\n", "none of 0 rows"),
        ("arch,value\nk9,1\n", "none of 1 rows can be used"),
        (f"arch,value,more\n{A},1\n", "fields"),
        (f"x,y,z\n{A},1,2\n", "columns x, y, z"),
        (f"arch\n{A}\n", "no values"),
    ],
)
def test_a_file_that_cannot_be_learnt_from_says_why(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FusecutError, match=words):
        read(csv_file(tmp_path, text), fbnet.choices)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", arch=np.array([A, B], dtype=object), value=np.array([1.0, 2.0]))
    with pytest.raises(FusecutError, match="arch holds Python objects, which are never unpickled"):
        read(tmp_path / "x.npz", fbnet.choices)


def test_values_of_one_column_are_read_as_a_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", arch=np.array([A, B]), value=np.array([[1.0], [2.0]]))
    assert read(tmp_path / "x.npz", fbnet.choices).values.tolist() == [1.0, 2.0]


def test_values_of_several_columns_are_refused_with_their_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", arch=np.array([A, B]), value=np.ones((2, 3)))
    with pytest.raises(FusecutError, match=r"value has shape \(2, 3\), not one entry a network"):
        read(tmp_path / "x.npz", fbnet.choices)


@pytest.mark.parametrize("name", ["x.npz", "x.csv", "x.pkl", "x"])
def test_a_file_that_is_not_there_or_not_of_a_known_type_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FusecutError, match="expected columns arch"):
        read_columns(tmp_path / name)


@pytest.mark.parametrize("content", [b"PK\x03\x04 and nothing more", b"arch,value", b"\x93NUMPY"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(FusecutError, match="cannot be read"):
        read_columns(tmp_path / "x.npz")
