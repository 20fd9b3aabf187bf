"""Data sets: every label is what the cost model says, and a file is a file."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fusecut.cost import Infeasible
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.machine import Machine
from fusecut.train.dataset import BUFFERS, Samples, collected, read, scheme_alone, to_npz
from fusecut.train.networks import FAMILIES, TEACHERS, UNSEEN, chosen, family_of
from fusecut.zoo import load, names

SAMPLES = collected("lbdf", ("alexnet", "mobilenet_v1"), 24, seed=1)


@pytest.mark.parametrize("scheme", ["lbdf", "brr"])
def test_every_label_is_what_the_cost_model_says_when_asked_for_that_buffer(scheme: str) -> None:
    samples = SAMPLES if scheme == "lbdf" else collected(scheme, ("alexnet", "mobilenet_v1"), 8, seed=1)
    for k, name in enumerate(samples.networks):
        graph, model = load(name).with_bits(8, 8, 32), scheme_alone(scheme)
        for row in np.flatnonzero(samples.network_of == k).tolist():
            said = [isinstance(model.plan(graph, samples.masks[row], Machine(b)), Infeasible) for b in samples.buffers]
            assert samples.infeasible[row].tolist() == said


def test_groups_are_distinct_connected_and_convex() -> None:
    for k, name in enumerate(SAMPLES.networks):
        graph = load(name)
        groups = [SAMPLES.masks[row] for row in np.flatnonzero(SAMPLES.network_of == k).tolist()]
        assert len(set(groups)) == len(groups) > 10
        assert all(graph.is_connected(group) and graph.is_convex(group) for group in groups)


def test_buffers_ascend_from_at_most_64_kib_to_2_mib() -> None:
    for buffers in BUFFERS.values():
        assert buffers[0] <= 65_536 and buffers[-1] == 2_097_152
        assert all(a < b for a, b in pairwise(buffers))


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert to_npz(collected("lbdf", ("alexnet", "mobilenet_v1"), 24, seed=1)) == to_npz(SAMPLES)


def test_another_seed_gives_other_groups() -> None:
    assert collected("lbdf", ("mobilenet_v1",), 24, seed=2).masks != SAMPLES.of(["mobilenet_v1"]).masks


def test_a_file_gives_the_same_samples_back(tmp_path: Path) -> None:
    path = tmp_path / "groups.npz"
    path.write_bytes(to_npz(SAMPLES))
    again = read(path)
    assert (again.scheme, again.seed, again.networks) == (SAMPLES.scheme, SAMPLES.seed, SAMPLES.networks)
    assert (again.buffers, again.masks) == (SAMPLES.buffers, SAMPLES.masks)
    assert again.network_of.tolist() == SAMPLES.network_of.tolist()
    assert again.infeasible.tolist() == SAMPLES.infeasible.tolist()


def test_of_keeps_the_groups_of_the_networks_named() -> None:
    part = SAMPLES.of(["alexnet"])
    assert len(part) == int((SAMPLES.network_of == 0).sum()) and set(part.network_of.tolist()) == {0}


@pytest.mark.parametrize("scheme", ["lbfd", "mixed"])
def test_a_scheme_without_a_network_is_refused(scheme: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown scheme of a validity network .* Known: brr, lbdf"):
        collected(scheme, ("alexnet",), 10, seed=0)


def interrupted_after(count: int) -> Callable[[str], None]:
    told: list[str] = []

    def report(line: str) -> None:
        told.append(line)
        if len(told) == count:
            raise KeyboardInterrupt

    return report


def test_an_interrupted_collection_keeps_the_networks_done_so_far() -> None:
    kept = collected("lbdf", ("alexnet", "mobilenet_v1"), 24, seed=1, on_progress=interrupted_after(1))
    assert kept.networks == ("alexnet",) and kept.masks == SAMPLES.of(["alexnet"]).masks


def test_no_networks_are_no_data_set() -> None:
    with pytest.raises(FusecutError, match="no groups were collected"):
        collected("lbdf", (), 10, seed=0)


def written(tmp_path: Path, **changed: object) -> Path:
    """A file like that of SAMPLES, with some arrays changed or, where None, left out."""
    path = tmp_path / "groups.npz"
    path.write_bytes(to_npz(SAMPLES))
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays.files} | changed
    kept = {name: np.asarray(value) for name, value in content.items() if value is not None}
    np.savez(path, allow_pickle=True, **kept)
    return path


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FusecutError, match="has format 'fusecut groups 0'; this fusecut reads 'fusecut groups 1'"):
        read(written(tmp_path, format="fusecut groups 0"))


@pytest.mark.parametrize("name", ["format", "scheme", "networks", "ops", "first_op", "infeasible"])
def test_a_missing_part_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FusecutError, match=r"is not a data set of groups .*; make one: fusecut train dataset"):
        read(written(tmp_path, **{name: None}))


def test_labels_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FusecutError, match="its parts are not of one length"):
        read(written(tmp_path, infeasible=SAMPLES.infeasible[:-1]))


def test_a_network_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FusecutError, match="networks it does not have"):
        read(written(tmp_path, network_of=SAMPLES.network_of + 1))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FusecutError, match="is not a data set of groups"):
        read(written(tmp_path, networks=np.array([{"a": 1}], dtype=object)))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "groups.npz"
    path.write_text("no archive")
    with pytest.raises(FusecutError, match="is not a data set of groups"):
        read(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FusecutError, match=r"cannot read data set .*none\.npz"):
        read(tmp_path / "none.npz")


def test_every_family_is_of_the_zoo_and_no_teacher_is_kept_aside() -> None:
    assert set(TEACHERS) <= set(names()) and set(UNSEEN) <= set(names())
    assert not set(TEACHERS) & set(UNSEEN)
    assert all(name in FAMILIES[family_of(name)] for name in TEACHERS)


def test_families_and_networks_can_be_named_and_left_out() -> None:
    assert chosen((), ()) == TEACHERS
    assert chosen(("squeezenet", "vgg16"), ("squeezenet1_0",)) == ("squeezenet1_1", "vgg16")


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown network or family 'resnet19': did you mean 'resnet18'"):
        chosen(("resnet19",), ())


def test_leaving_everything_out_is_refused() -> None:
    with pytest.raises(FusecutError, match="no network is left to learn from"):
        chosen(("vgg16",), ("classic",))


def test_samples_count_groups() -> None:
    assert isinstance(SAMPLES, Samples) and len(SAMPLES) == len(SAMPLES.masks)
