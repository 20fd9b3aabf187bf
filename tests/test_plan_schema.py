"""The published schema describes every plan that is written, and refuses what is no plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fusecut as fc
from fusecut.plan_file import to_json

jsonschema = pytest.importorskip("jsonschema")

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[1] / "docs" / "plan.schema.json").read_text())


def plan_of(network: str, buffer: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_json(fc.solve(fc.zoo(network), buffer, **options)))
    return found


@pytest.mark.parametrize(
    ("network", "buffer", "options"),
    [
        ("mobilenet_v3_small", "96KiB", {}),
        ("resnet18", "128KiB", {"scheme": "lbdf"}),
        ("resnet18", "256KiB", {}),
        ("squeezenet1_1", "96KiB", {"search": fc.search.LocalSearch(), "max_plans": 5}),
    ],
)
def test_every_plan_written_is_valid(network: str, buffer: str, options: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(plan_of(network, buffer, **options), SCHEMA)


def test_every_key_of_a_plan_is_described() -> None:
    plan = plan_of("squeezenet1_1", "96KiB")
    group = SCHEMA["$defs"]["group"]["properties"]
    assert plan.keys() <= SCHEMA["properties"].keys()
    for found in plan["groups"]:
        assert found.keys() <= group.keys()
        schedule = group["schedule"]["properties"]
        assert found["schedule"].keys() <= schedule.keys()
        assert all(
            h.keys() <= schedule["rows_held"]["items"]["properties"].keys() for h in found["schedule"]["rows_held"]
        )


def test_a_group_in_bands_says_what_lies_where() -> None:
    groups = [g for g in plan_of("resnet18", "256KiB")["groups"] if g["scheme"] == "brr"]
    assert groups
    for group in groups:
        bands = group["schedule"]["bands"]
        assert sorted(op for stage in bands["stages"] for op in stage) == sorted(group["schedule"]["order"])
        assert max(p["offset"] + p["bytes"] for p in bands["places"]) == group["buffer_bytes"]
        assert (
            bands.keys()
            == SCHEMA["$defs"]["group"]["properties"]["schedule"]["properties"]["bands"]["properties"].keys()
        )


@pytest.mark.parametrize(
    "change",
    [{"status": "perfect"}, {"dram_bytes": 1.5}, {"gap": -1}, {"groups": [["a"]]}, {"machine": {}}, {"seed": None}],
)
def test_what_is_no_plan_is_refused(change: dict[str, Any]) -> None:
    plan = plan_of("squeezenet1_1", "96KiB") | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plan, SCHEMA)
