"""Machines and objectives on the command line, in plan files and in print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusecut import machines
from fusecut.cli import main
from fusecut.errors import FusecutError
from fusecut.plan_file import load_plan, to_json

NET = "zoo:mobilenet_v3_small"
LINES = ("--scheme", "lbdf")  # which scheme is of no matter here, and this one is proved fast


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    code, out, _ = run(capsys, "solve", NET, *LINES, *arguments, "--format", "json")
    assert code == 0
    found: dict[str, object] = json.loads(out)
    return found


def test_a_machine_brings_its_buffer_and_widths(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--machine", "eyeriss")
    assert found["machine"] == machines.load("eyeriss").to_dict()


def test_what_is_asked_for_goes_before_what_the_machine_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--machine", "eyeriss", "--buffer", "64KiB", "--weight-bits", "4")["machine"]
    assert isinstance(found, dict)
    assert (found["buffer_bytes"], found["weight_bits"], found["activation_bits"]) == (65536, 4, 16)


def test_a_machine_file_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('buffer = "80KB"\nmacs_per_cycle = 64\ndram_bytes_per_cycle = 1.5\n')
    found = plan(capsys, "--machine", str(path), "--objective", "latency")
    assert (found["objective"], found["score_unit"], found["score"]) == ("latency", "cycles", found["cycles"])
    assert found["energy_pj"] is None


@pytest.mark.parametrize("objective", ["dram", "energy", "latency"])
def test_a_plan_of_any_objective_survives_the_round_trip(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, objective: str
) -> None:
    path = tmp_path / "plan.json"
    code, _, _ = run(capsys, "solve", NET, *LINES, "--machine", "ethos_u65", "--objective", objective, "-o", str(path))
    assert code == 0
    assert to_json(load_plan(path)) == path.read_text()


def test_the_gap_is_of_the_score_and_bound_bytes_stay_a_bound_of_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--machine", "ethos_u65", "--buffer", "32KiB")
    fewest, found = plan(capsys, *arguments), plan(capsys, *arguments, "--objective", "energy")
    assert (found["status"], found["gap"], found["score"]) == ("optimal", 0.0, found["bound"])
    assert isinstance(found["bound_bytes"], int) and isinstance(fewest["dram_bytes"], int)
    assert found["bound_bytes"] <= fewest["dram_bytes"]
    assert found["bound_bytes"] == found["floor_dram_bytes"]


def test_energy_and_cycles_of_the_groups_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--machine", "mcu_256k", "--objective", "energy")
    groups, parts = found["groups"], found["energy_parts_pj"]
    assert isinstance(groups, list) and isinstance(parts, dict)
    assert sum(group["cycles"] for group in groups) == found["cycles"]
    assert sum(round(1000 * group["energy_pj"]) for group in groups) == found["score"]
    assert sum(round(1000 * part) for part in parts.values()) == found["score"]


def test_without_rates_energy_and_cycles_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--buffer", "64KiB")
    assert (found["energy_pj"], found["energy_parts_pj"], found["cycles"]) == (None, None, None)
    assert (found["objective"], found["score"], found["bound"]) == ("dram", found["dram_bytes"], found["bound_bytes"])


@pytest.mark.parametrize(
    ("objective", "proof"), [("energy", "no plan takes less energy"), ("latency", "no plan takes fewer cycles")]
)
def test_solve_prints_energy_cycles_and_what_was_proved(
    capsys: pytest.CaptureFixture[str], objective: str, proof: str
) -> None:
    _, out, _ = run(capsys, "solve", NET, *LINES, "--machine", "ethos_u65", "--objective", objective)
    assert f"optimal: {proof}" in out and "machine ethos_u65" in out
    assert " pJ   DRAM " in out and " cycles   compute or transfer" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--machine", "eyris"), "unknown machine 'eyris': did you mean 'eyeriss'? Known: array32_128k"),
        (("--machine", "nowhere.toml"), "cannot read machine file nowhere.toml"),
        (("--buffer", "1MiB", "--objective", "speed"), "unknown objective 'speed'"),
        (("--buffer", "1MiB", "--objective", "energy"), "objective energy needs pj_per_dram_byte, pj_per_sram_byte"),
        (("--objective", "energy"), "required: --buffer SIZE or --machine NAME"),
        (("--machine", "eyeriss", "--weight-bits", "7"), "weight_bits is 7"),
    ],
)
def test_bad_machines_and_objectives_are_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    code, out, err = run(capsys, "solve", NET, *arguments)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1


def test_the_list_of_machines_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "machines")
    assert code == 0 and all(name in out for name in machines.names())


@pytest.mark.parametrize("name", machines.names())
def test_a_machine_is_shown_with_every_value_and_source(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = run(capsys, "machines", name)
    assert code == 0
    for key, source in machines.describe(name).sources:
        assert f"{key} " in out and source in " ".join(out.split())


@pytest.mark.parametrize("objective", [7, "speed", ["dram"], None])
def test_a_plan_file_with_a_made_up_objective_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, objective: object
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan(capsys, "--buffer", "64KiB"), "objective": objective}))
    with pytest.raises(FusecutError):
        load_plan(path)


def test_a_plan_file_from_before_objectives_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = plan(capsys, "--buffer", "64KiB")
    for key in ("objective", "score", "bound", "score_unit", "energy_pj", "energy_parts_pj", "cycles"):
        del found[key]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(found))
    assert load_plan(path).bound == found["bound_bytes"]
