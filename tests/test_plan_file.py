"""Plan files: what is written is read back, and anything else is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fusecut as fc
from fusecut.cli import main
from fusecut.errors import FusecutError, PlanError
from fusecut.plan_file import groups_of, load_plan, read_object, to_json, write_text


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    arguments = ["solve", "zoo:squeezenet1_1", "--buffer", "96KiB", "--batch", "2", "--prefetch-rows", "1"]
    assert main([*arguments, "-o", str(path), "-q"]) == 0
    return path


def changed(plan: Path, folder: Path, **fields: Any) -> Path:
    path = folder / "changed.json"
    path.write_text(json.dumps({**json.loads(plan.read_text()), **fields}))
    return path


def test_a_plan_survives_the_round_trip(plan: Path) -> None:
    assert to_json(load_plan(plan)) == plan.read_text()


def test_reading_back_honours_batch_and_switches(plan: Path) -> None:
    solution = load_plan(plan)
    assert solution.partition is not None
    assert {t.batch for t in solution.partition.graph.tensors} == {2}
    assert dict(solution.provenance.options) == {"batch": 2, "prefetch_rows": 1}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model_sha256": "0" * 64}, "has changed since it was solved"),
        ({"schema_version": 99}, "schema version 99"),
        ({"dram_bytes": 1}, "the groups do not cost what the file says"),
        ({"machine": None}, 'changed.json: "machine" is None: expected an object; write one'),
        ({"machine": {"buffer_bytes": 0}}, "changed.json: .*holds nothing"),
        ({"bound_bytes": "9"}, "changed.json: \"bound_bytes\" is '9': expected a whole number of 0 or more"),
        ({"bound_bytes": True}, '"bound_bytes" is True: expected a whole number'),
        ({"floor_dram_bytes": -1}, '"floor_dram_bytes" is -1: expected a whole number of 0 or more'),
        ({"layerwise_dram_bytes": [1]}, '"layerwise_dram_bytes" is .*: expected a whole number of 0 or more, or null'),
        ({"seconds": float("nan")}, '"seconds" is nan: expected a number'),
        ({"evaluations": 10**400}, r'"evaluations" is 1000*\.\.\.: expected'),
        ({"search": 4}, '"search" is 4: expected a text'),
        ({"notes": ["a", 1]}, '"notes" is .*: expected a list of texts'),
        ({"options": {"batch": [2]}}, '"options" is .*: expected an object of texts and whole numbers'),
        ({"status": "fine"}, "\"status\" is 'fine': expected one of optimal, feasible, budget, infeasible"),
        ({"bound_bytes": 10**12}, "changed.json: its bound is above what its plan moves"),
        ({"bound_bytes": 1}, "changed.json: it is called optimal, and its bound is below what its plan moves"),
        ({"objective": "speed"}, "changed.json: unknown objective 'speed'"),
        ({"scheme": "a" * 3000}, r"changed.json: unknown scheme 'a{40,60}\.\.\.\. Known: brr"),
        ({"groups": 7}, "expected a list of groups of op names"),
        ({"model": "nowhere.onnx"}, "nowhere.onnx"),
        ({"options": {"prefetch_rows": -1}}, "prefetch_rows is -1"),
    ],
)
def test_a_plan_that_does_not_hold_is_refused(plan: Path, tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(FusecutError, match=says):
        load_plan(changed(plan, tmp_path, **fields))


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", "{", "[" * 100_000, '"groups"', "\x00"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PlanError, match="is not a plan"):
        read_object(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_plan_that_an_editor_or_a_shell_saved_in_its_own_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"groups": [["décon"]]}', encoding=encoding)
    assert read_object(path) == {"groups": [["décon"]]}


@pytest.mark.parametrize("groups", [[["a", 1]], [[]], [None], [{"ops": "abc"}], ["abc"]])
def test_groups_must_be_lists_of_names(groups: list[Any]) -> None:
    with pytest.raises(PlanError, match="group 0 is not a list of op names"):
        groups_of("plan.json", {"groups": groups})


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(FusecutError, match="cannot write"):
        write_text(target, "text")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_writing_replaces_the_old_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    target.write_text("old and much longer than the new one")
    write_text(target, "new")
    assert target.read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_solution_made_in_python_has_no_model_to_read_back(tmp_path: Path) -> None:
    solution = fc.solve(fc.zoo("alexnet"), "256KiB")
    path = tmp_path / "plan.json"
    write_text(path, to_json(solution))
    with pytest.raises(FusecutError):
        load_plan(path)
