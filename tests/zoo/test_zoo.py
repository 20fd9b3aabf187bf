"""The shipped networks and their index."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fusecut.errors import UnknownNameError
from fusecut.zoo import ZooEntry, measured
from fusecut.zoo import index as zoo_index
from fusecut.zoo import load as load_network
from fusecut.zoo import names as network_names
from fusecut.zoo import path as network_file


def test_there_are_twenty_six_networks() -> None:
    assert len(network_names()) == 26


def test_names_are_sorted() -> None:
    assert list(network_names()) == sorted(network_names())


def test_the_index_lists_every_network() -> None:
    assert [entry.name for entry in zoo_index()] == list(network_names())


@pytest.mark.parametrize("entry", zoo_index(), ids=lambda e: str(e.name))
def test_the_index_says_what_the_file_says(entry: ZooEntry) -> None:
    assert entry == measured(entry.name)


def test_an_unknown_name_suggests_a_near_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        load_network("resnet_18")


def test_options_reach_the_loader() -> None:
    graph = load_network("fsrcnn", batch=2, input_shapes={"input": (2, 1, 64, 48)}, granularity="op")
    assert graph.tensors[graph.inputs[0]].shape == (2, 1, 64, 48)
    assert len(graph) == 15


def test_no_file_holds_weights() -> None:
    assert sum(network_file(name).stat().st_size for name in network_names()) < 2_000_000


@pytest.mark.parametrize("module", ["fusecut.zoo", "fusecut.frontend.onnx"])
def test_importing_does_not_import_onnx(module: str) -> None:
    check = f"import sys, {module}; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
