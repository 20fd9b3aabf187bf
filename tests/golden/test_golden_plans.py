"""Plans of well-known networks, kept byte by byte: a refactoring must leave them as they are.

After a change that is meant to move them, look at the difference and write them anew::

    PYTHONPATH=src python tests/golden/test_golden_plans.py
"""

from __future__ import annotations

import datetime
import json
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fusecut.ir import Graph, Group, bits
from fusecut.machine import Machine
from fusecut.models import scheme_model
from fusecut.partition import Partition
from fusecut.problem import Problem
from fusecut.solve import solve
from fusecut.zoo import load

FILE = Path(__file__).with_name("plans.json")
NETWORKS = (
    "efficientnet_b0",
    "fsrcnn",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "unet",
    "vgg16",
)
BUFFERS = (64, 256, 1024)
SCHEMES = ("lbdf", "mixed")
QUICK = ("fsrcnn", "mobilenet_v2", "resnet18", "squeezenet1_1", "unet", "vgg16")
"""Networks that are proved under ``mixed`` in about a second, whatever the buffer."""
README = (
    "Best plans of networks of the zoo, batch 1, int8 with 32-bit biases, buffers in KiB. dram_bytes and "
    "bound_bytes are of the whole network; where they are equal the plan is proved optimal, and of the equally "
    "good plans it has the fewest groups. groups are op numbers in the order of the folded graph: '0-2 3 4,6' is "
    "three groups. Written by tests/golden/test_golden_plans.py; figures move only when a model, a fold or a "
    "tie-break changes, and the change says why."
)


@cache
def network(name: str) -> Graph:
    return load(name)


def text_of(group: Group) -> str:
    """Op numbers, runs of them shortened.

    >>> text_of(0b1011101)
    '0,2-4,6'
    """
    parts: list[list[int]] = []
    for index in bits(group):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def group_of(text: str) -> Group:
    """The inverse of :func:`text_of`."""
    group = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        group |= (1 << int(last or first) + 1) - (1 << int(first))
    return group


def entry(name: str, kib: int, scheme: str) -> dict[str, Any]:
    solution = solve(network(name), f"{kib}KiB", scheme=scheme)
    assert solution.partition is not None
    return {
        "network": name,
        "buffer_kib": kib,
        "scheme": scheme,
        "status": solution.status.name,
        "dram_bytes": solution.cost.dram_bytes,
        "bound_bytes": solution.bound,
        "max_buffer_bytes": solution.cost.buffer_bytes,
        "layerwise_bytes": solution.layerwise_bytes,
        "groups": " ".join(text_of(group) for group in solution.partition.groups),
    }


def cases() -> list[tuple[str, int, str]]:
    every = product(NETWORKS, BUFFERS, SCHEMES)
    return [(name, kib, scheme) for name, kib, scheme in every if scheme == "lbdf" or name in QUICK]


def write() -> None:
    """Write ``plans.json`` anew, with today's date."""
    rows = ",\n".join(f"  {json.dumps(entry(*case))}" for case in cases())
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    head = f'{{\n "readme": {json.dumps(README)},\n "date": "{today}",\n "plans": [\n'
    FILE.write_text(f"{head}{rows}\n ]\n}}\n", encoding="utf-8")


@cache
def golden() -> dict[tuple[str, int, str], dict[str, Any]]:
    rows = json.loads(FILE.read_text(encoding="utf-8"))["plans"]
    return {(row["network"], row["buffer_kib"], row["scheme"]): row for row in rows}


def test_the_file_says_what_it_is_and_when_it_was_written() -> None:
    content = json.loads(FILE.read_text(encoding="utf-8"))
    assert content["readme"] == README
    assert datetime.date.fromisoformat(content["date"]).year >= 2026


def test_the_file_holds_every_case() -> None:
    assert list(golden()) == cases()


@pytest.mark.parametrize(("name", "kib", "scheme"), cases())
def test_plans_are_as_they_were(name: str, kib: int, scheme: str) -> None:
    assert entry(name, kib, scheme) == golden()[name, kib, scheme]


@pytest.mark.parametrize(("name", "kib", "scheme"), cases())
def test_a_kept_plan_is_a_plan_that_moves_what_is_written(name: str, kib: int, scheme: str) -> None:
    row = golden()[name, kib, scheme]
    problem = Problem(network(name), Machine.of(f"{kib}KiB"), scheme_model(scheme))
    plan = Partition(problem.graph, [group_of(text) for text in row["groups"].split()])
    assert getattr(problem.cost(plan), "dram_bytes", None) == row["dram_bytes"]


@pytest.mark.parametrize(("name", "kib", "scheme"), cases())
def test_a_kept_plan_is_proved_optimal(name: str, kib: int, scheme: str) -> None:
    row = golden()[name, kib, scheme]
    assert (row["status"], row["dram_bytes"]) == ("optimal", row["bound_bytes"])


@pytest.mark.parametrize(("name", "scheme"), sorted({(name, scheme) for name, _, scheme in cases()}))
def test_a_larger_buffer_never_moves_more(name: str, scheme: str) -> None:
    moved = [golden()[name, kib, scheme]["dram_bytes"] for kib in BUFFERS]
    assert moved == sorted(moved, reverse=True)


@pytest.mark.parametrize(("name", "kib"), list(product(QUICK, BUFFERS)))
def test_choosing_among_schemes_never_moves_more_than_one_of_them(name: str, kib: int) -> None:
    rows = [golden()[name, kib, scheme] for scheme in ("mixed", "lbdf")]
    assert rows[0]["dram_bytes"] <= min(rows[1]["dram_bytes"], rows[1]["layerwise_bytes"])


if __name__ == "__main__":
    write()
