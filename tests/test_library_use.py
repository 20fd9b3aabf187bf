"""What a newcomer hands the library by mistake is refused in a sentence that says what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import fusecut as fc
from fusecut.errors import FusecutError, PartitionError
from fusecut.search import Exact, RandomSearch
from fusecut.units import parse_bytes
from fusecut.zoo import path

NET: Any = fc.zoo("squeezenet1_1")
MACHINE: Any = fc.Machine.of("128KiB")
FILE = path("squeezenet1_1")
load: Any = fc.load
problem_of: Any = fc.Problem
partition_of: Any = fc.Partition
simulate: Any = fc.simulate


def lbdf() -> Any:
    return fc.models.scheme_model("lbdf")


def solved(net: Any = NET, buffer: Any = "128KiB", **options: Any) -> fc.Solution:
    return fc.solve(net, buffer, **{"scheme": "lbdf", **options})


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "a name for a network": (lambda: solved("zoo:alexnet"), "expected a network, from fusecut.load or fusecut.zoo"),
    "a float for a size": (lambda: solved(buffer=1.5e5), "150000.0 is not a size in bytes"),
    "a truth for a size": (lambda: solved(buffer=True), "True is not a size in bytes"),
    "no scheme": (lambda: solved(scheme=None), "unknown scheme None"),
    "a searcher's name": (lambda: solved(search="local"), "expected a searcher, such as fusecut.search.Exact()"),
    "a searcher's class": (lambda: solved(search=Exact), "expected a searcher, such as fusecut.search.Exact()"),
    "a splitter's name": (lambda: solved(splitter="random"), "expected a splitter, such as fusecut.split.Random()"),
    "a negative seed": (lambda: solved(search=RandomSearch(), seed=-1), "seed is -1: expected a whole number"),
    "a seed that is no number": (lambda: solved(search=RandomSearch(), seed=1.5), "seed is 1.5: expected a whole"),
    "a scheme for a model": (lambda: problem_of(NET, MACHINE, "lbdf"), "expected a cost model, such as"),
    "a size for a machine": (lambda: problem_of(NET, "1MiB", lbdf()), "expected a machine, such as"),
    "lists for groups": (
        lambda: partition_of(NET, [[0, 1]]),
        "expected a number whose bits are ops, found list; Partition.of_names takes names",
    ),
    "no file": (lambda: load(None), "expected a path, or zoo:NAME, found None"),
    "a model for a file": (lambda: load(onnx.ModelProto()), "found ModelProto"),
    "a batch that is text": (lambda: load(FILE, batch="2"), "batch of '2'"),
    "a batch that is broken": (lambda: load(FILE, batch=1.5), "batch of 1.5"),
    "a shape that is text": (lambda: load(FILE, input_shapes={"input": "1x3x9x9"}), "whole numbers"),
    "a shape of floats": (lambda: load(FILE, input_shapes={"input": (1, 3, 96.5, 96)}), "whole numbers"),
    "inputs of another kind": (lambda: simulate(solved(), inputs="zeros"), "unknown inputs 'zeros'"),
    "a mode that is none": (lambda: simulate(solved(), mode="quick"), "unknown mode 'quick'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told(name: str) -> None:
    mistake, says = MISTAKES[name]
    with pytest.raises(FusecutError) as caught:
        mistake()
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_whole_numbers_of_any_library_will_do() -> None:
    assert parse_bytes(np.int64(4096)) == 4096 and type(parse_bytes(np.uint8(7))) is int
    shape = tuple(np.array([1, 3, 96, 96]))
    graph = load(FILE, batch=np.int64(2), input_shapes={"input": shape})
    assert graph.tensors[graph.inputs[0]].dims == (2, 3, 96, 96)


def test_a_plan_of_another_network_has_no_price_here() -> None:
    problem, other = fc.Problem(NET, MACHINE, lbdf()), fc.zoo("alexnet")
    with pytest.raises(PartitionError, match="the plan is of 'alexnet', the problem of 'squeezenet1_1'"):
        problem.cost(fc.Partition.singletons(other))
    assert problem.cost(fc.Partition.singletons(NET)) == problem.cost(fc.Partition.singletons(problem.graph))
