"""The tables of transfer: what is hidden stays hidden, rows are kept, and more samples help."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors")

from fusecut.cli import main
from fusecut.errors import UnknownNameError
from fusecut.predict.basis import Basis, describe_archs
from fusecut.predict.features import NAMES, quantities
from fusecut.predict.spaces import fbnet, space
from fusecut.predict.spaces.families import member
from fusecut.reproduce import aiop
from fusecut.train.predictor import Latencies
from fusecut.train.solved import Label

RNG = np.random.default_rng(0)
ARCHS = tuple(fbnet.sample(RNG) for _ in range(60))
NETWORKS = describe_archs(space("fbnet"), ARCHS)
DEVICES = ("1080ti_1", "eyeriss", "gold_6226", "titanx_1")
LATENCIES = Latencies("fbnet", ARCHS, DEVICES, np.array([5 + NETWORKS.extra @ RNG.random(108) for _ in DEVICES]))
PLAIN = Basis.of("fbnet", NETWORKS)
SPACE = aiop.Measured(LATENCIES, NETWORKS, PLAIN.knowing(NETWORKS, dict(zip(DEVICES, LATENCIES.values, strict=True))))


def by_task(experiment: str) -> dict[str, aiop.Target]:
    return {t.task: t for t in aiop.device_targets([SPACE], experiment)}


def test_an_unseen_device_is_not_among_those_known() -> None:
    assert all(task not in target.basis.known for task, target in by_task("device").items())


def test_with_its_kind_all_of_a_kind_are_hidden() -> None:
    assert by_task("group")["1080ti_1"].basis.known == ("eyeriss", "gold_6226")


def test_samples_are_never_asked_for() -> None:
    target = by_task("device")["eyeriss"]
    seen, asked = aiop.split(target, 20, 3)
    assert len(seen) == 20 and not set(seen) & set(asked) and len(seen) + len(asked) == 60


def labels() -> list[Label]:
    """Half of the unfused bytes under lbdf, a third under mixed."""
    names = [(family, seed) for family in ("mobilenet_v2", "resnet", "unet") for seed in range(6)]
    sizes = {name: int(quantities(member(*name))[NAMES.index("unfused")]) for name in names}
    tasks = (("lbdf@64KiB", 2), ("lbdf@256KiB", 2), ("dram@256KiB", 3))
    return [Label(*name, task, size // part) for name, size in sizes.items() for task, part in tasks]


def test_another_head_is_asked_of_what_only_knows_classifiers() -> None:
    (target,) = aiop.solved_targets(labels(), experiments=("head",))
    assert (target.space, len(target.values)) == ("classifiers to unet", 6)
    np.testing.assert_allclose(target.zero_shot, target.values, rtol=1e-3)


def test_another_scheme_is_asked_of_the_same_networks() -> None:
    there, back = aiop.solved_targets(labels(), experiments=("scheme",))
    assert (there.task, back.task, len(there.values)) == ("dram@256KiB", "lbdf@256KiB", 18)
    np.testing.assert_allclose(there.zero_shot / there.values, 1.5, rtol=1e-3)


def test_another_buffer_is_asked_of_all_families() -> None:
    (target,) = aiop.solved_targets(labels(), experiments=("buffer",))
    assert (target.task, len(target.values)) == ("lbdf@256KiB", 18)


def test_more_samples_lessen_the_error() -> None:
    rows = list(aiop.rows([by_task("device")["eyeriss"]], 3, samples=(10, 30), methods=("blocks",)))
    assert rows[1].mae < rows[0].mae


def test_rows_that_are_known_are_not_computed_again() -> None:
    target = by_task("device")["eyeriss"]
    (row,) = aiop.rows([target], 1, samples=(0,), methods=("flops",))
    changed = aiop.Row(**{**row.__dict__, "mae": 7.0})
    assert list(aiop.rows([target], 1, [changed], samples=(0,), methods=("flops",))) == [changed]


def test_rows_come_back_from_their_file(tmp_path: Path) -> None:
    (row,) = aiop.rows([by_task("device")["eyeriss"]], 1, samples=(0,), methods=("flops",))
    aiop.append_row(tmp_path / "rows.jsonl", row)
    assert aiop.read_rows(tmp_path / "rows.jsonl") == [row]


@pytest.mark.parametrize("text", ["garbage\n", "[1]\n", '{"experiment": 1}\n', "\x00\n"])
def test_a_file_of_other_rows_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(text)
    assert main(f"reproduce aiop --experiments buffer --methods ridge --rows {rows}".split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "does not hold rows of fusecut reproduce" in err


@pytest.mark.parametrize("place", ["no/such/rows.jsonl", "."])
def test_a_place_where_no_rows_can_be_kept_is_refused(capsys: pytest.CaptureFixture[str], place: str) -> None:
    assert main(f"reproduce aiop --experiments buffer --methods ridge --rows {place}".split()) == 2
    assert capsys.readouterr().err.startswith(f"fusecut: cannot write {place}: ")


def test_unknown_methods_and_experiments_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="blocks"):
        list(aiop.rows([], 1, methods=("magic",)))
    with pytest.raises(UnknownNameError, match="family"):
        aiop.targets(["magic"], None, True, print)


def test_graph_networks_without_torch_are_refused_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    assert main(["reproduce", "aiop", "--experiments", "family", "--methods", "gnn"]) == 2
    assert "pip install 'fusecut[gnn]'" in capsys.readouterr().err


def test_the_command_prints_and_keeps_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    assert main(f"reproduce aiop --experiments buffer --methods ridge --rows {rows}".split()) == 0
    assert "all families" in capsys.readouterr().out
    assert [r.samples for r in aiop.read_rows(rows)] == [0, 10, 20, 50]
