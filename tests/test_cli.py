"""The command line as a user meets it: exit codes, one clear line for bad input, clean JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from fusecut.cli import main
from fusecut.ir import Group
from fusecut.problem import Problem
from fusecut.search import Exact
from fusecut.zoo import path

ZOO = path("resnet18").parent
SOLVE = ("solve", "zoo:squeezenet1_1", "--buffer", "128KiB")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a refused command; nothing on stdout."""
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("fusecut: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


def test_solve_prints_the_plan_and_the_certificate(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *SOLVE)
    assert code == 0
    assert "optimal: no plan moves fewer bytes" in out and "without fusion" in out and "floor" in out


def test_a_plan_is_readable_at_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusecut.cli.terminal.screen", lambda: (80, False))
    _, out, _ = run(capsys, *SOLVE)
    table = out.split("\n\n")[1]
    assert max(len(line) for line in out.splitlines()) <= 80
    assert table.splitlines()[2].split()[-1].replace(",", "").isdecimal()


@pytest.mark.parametrize("arguments", [["explain"], ["simulate", "--fast"], ["zoo"], ["machines"], ["compare"]])
def test_every_command_keeps_to_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.setattr("fusecut.cli.terminal.screen", lambda: (80, False))
    path = tmp_path / "plan.json"
    run(capsys, "solve", "zoo:resnet18", "--buffer", "128KiB", "--scheme", "lbdf", "-o", str(path))
    command, *options = arguments
    subject = {"zoo": [], "machines": [], "compare": [*SOLVE[1:], "--scheme", "lbdf"]}.get(command, [str(path)])
    code, out, _ = run(capsys, command, *subject, *options)
    assert code == 0 and max(map(len, out.splitlines())) <= 80


def test_json_is_exactly_one_object_with_the_published_keys(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *SOLVE, "--format", "json")
    plan = json.loads(out)
    assert code == 0 and err == ""
    keys = """schema_version fusecut_version model model_sha256 machine granularity scheme search splitter seed status
        dram_bytes dram_read_bytes dram_write_bytes weight_bytes fusible_dram_bytes unfusible_ops layerwise_dram_bytes
        floor_dram_bytes bound_bytes gap max_buffer_bytes plans_proposed evaluations seconds groups"""
    assert set(keys.split()) <= set(plan)
    group_keys = "index ops scheme buffer_bytes dram_read_bytes dram_write_bytes weight_bytes schedule"
    assert all(set(group_keys.split()) <= set(group) for group in plan["groups"])


def test_json_totals_are_the_sums_of_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads(run(capsys, *SOLVE, "--format", "json")[1])
    for key in ("dram_read_bytes", "dram_write_bytes", "weight_bytes"):
        assert plan[key] == sum(group[key] for group in plan["groups"])
    assert plan["dram_bytes"] == plan["dram_read_bytes"] + plan["dram_write_bytes"]
    assert plan["max_buffer_bytes"] == max(group["buffer_bytes"] for group in plan["groups"]) <= 131072
    assert plan["status"] == "optimal" and plan["gap"] == 0 and plan["bound_bytes"] == plan["dram_bytes"]


def test_every_node_of_the_file_is_in_exactly_one_group(capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    from fusecut.zoo import path

    plan = json.loads(run(capsys, *SOLVE, "--format", "json")[1])
    named = [op for group in plan["groups"] for op in group["ops"]]
    nodes = {node.name for node in onnx.load(path("squeezenet1_1"), load_external_data=False).graph.node}
    assert len(named) == len(set(named))
    assert set(named) <= nodes and len(nodes - set(named)) <= 2  # the flattening reshape is an alias


def test_scheme_lbdf_reports_the_metric_of_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads(run(capsys, *SOLVE[:-1], "64KiB", "--scheme", "lbdf", "--format", "json")[1])
    alone = [group for group in plan["groups"] if group["scheme"] == "layerwise"]
    assert alone and all(len(group["schedule"]["order"]) == 1 for group in alone)
    assert plan["unfusible_ops"] == [group["schedule"]["order"][0] for group in alone]
    rest = plan["dram_bytes"] - sum(g["dram_read_bytes"] + g["dram_write_bytes"] for g in alone)
    assert plan["fusible_dram_bytes"] == rest


def test_the_same_input_gives_the_same_plan_in_any_process(tmp_path: Path) -> None:
    plans = []
    for seed in ("0", "1", "4242"):
        path = tmp_path / f"{seed}.json"
        command = [sys.executable, "-m", "fusecut", *SOLVE, "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
        plans.append({**json.loads(path.read_text()), "seconds": 0})
    assert plans[0] == plans[1] == plans[2]


def test_fail_above_exits_1_only_over_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *SOLVE, "--fail-above", "1KB", "--quiet")
    assert code == 1 and re.search(r"^fusecut: over the limit: the plan moves [\d,]+ B, .* --fail-above 1,000 B$", err)
    assert run(capsys, *SOLVE, "--fail-above", "1GB")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("solve", "nowhere.onnx", "--buffer", "1MiB"), "nowhere.onnx: no such file"),
        (("solve", "zoo:resnet81", "--buffer", "1MiB"), "did you mean 'resnet18'"),
        (("solve", "zoo:resnet18", "--buffer", "256 KBs"), "'256 KBs' is not a size in bytes"),
        (("solve", "zoo:resnet18", "--buffer", "0"), "a buffer of 0 bytes holds nothing"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--scheme", "lbfd"), "did you mean 'lbdf'"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--search", "exakt"), "did you mean 'exact'"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--granularity", "node"), "unknown granularity 'node'"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--weight-bits", "7"), "weight_bits is 7"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--input-shape", "input:3"), "write NAME=1x3x224x224"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--line-granularity", "line"), "unknown granularity 'line'"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--max-seconds", "soon"), "'soon' is not a number of seconds"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--seed", "-1"), "not a whole number of 0 or more"),
        (("solve", "zoo:resnet18"), "the following arguments are required: --buffer"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "-o", "no/such/folder/p.json"), "cannot write"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--fail-above", "lots"), "'lots' is not a size"),
        (("solve", "zoo:resnet18", "--buffer", "100"), "infeasible in a buffer of 100 B: op 'node_Conv_291' needs"),
        (("explain", "nowhere.json"), "cannot read plan nowhere.json"),
        (("slove",), "unknown command 'slove': did you mean 'solve'? Known: bench, compare,"),
        (("bench", "everything"), "unknown benchmark 'everything'. Known: searchers"),
        (("zoo", "--format", "xml"), "unknown --format 'xml'. Known: json, text"),
        (("solve", "resnet81", "--buffer", "1MiB"), "resnet81: no such file; did you mean zoo:resnet18?"),
        (("solve", str(ZOO / "resnet81.onnx"), "--buffer", "1MiB"), "resnet18.onnx?"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "-o", "."), "cannot write .: it is a folder"),
        (("solve", "zoo:resnet18", "--bufer", "1MiB"), "--bufer 1MiB (did you mean '--buffer'?); see fusecut solve"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--report", "x.pdf"), "a report is an HTML page"),
        (("solve", "zoo:resnet18", "--buffer", "1MiB", "--splitter", "pg"), "--search exact splits no groups"),
        (("solve", "zoo:resnet18", "--buffer", "1"), "a buffer of 106 B holds its smallest tile"),
        (("curve", "zoo:resnet18", "--over", "resolution", "--buffer", "1MiB", "--to", "2MiB"), "takes one buffer"),
        (("pareto", "zoo:resnet18", "--buffer", "1MiB", "--to", "2MiB"), "give one or the other"),
        (("explain", str(ZOO / "resnet18.onnx")), "is not a plan: it is not text; write one with solve -o"),
        ((), "the following arguments are required: COMMAND"),
    ],
)
def test_bad_input_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str) -> None:
    assert says in refusal(capsys, *arguments)


def test_a_refused_solve_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refusal(capsys, "solve", "zoo:resnet18", "--buffer", "100", "-o", str(tmp_path / "plan.json"))
    assert list(tmp_path.iterdir()) == []


def test_an_infeasible_buffer_says_so_in_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "solve", "zoo:resnet18", "--buffer", "100", "--format", "json")
    plan = json.loads(out)
    assert code == 2 and plan["status"] == "infeasible" and plan["groups"] == []
    assert plan["refusals"][0]["op"] == "node_Conv_291"


def test_explain_takes_every_group_of_a_written_plan_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "plan.json")
    run(capsys, *SOLVE, "-o", path)
    code, out, _ = run(capsys, "explain", path)
    groups = len(json.loads(Path(path).read_text())["groups"])
    assert code == 0 and out.count("What crosses to DRAM") == groups
    assert "DRAM traffic = bytes read + bytes written" in out


def test_explain_refuses_a_group_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "plan.json")
    run(capsys, *SOLVE, "-o", path)
    assert "there is no group 99" in refusal(capsys, "explain", path, "--group", "99")


def test_compare_prices_a_plan_made_elsewhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import fusecut as fc

    names = fc.Partition.singletons(fc.zoo("squeezenet1_1")).names()
    plan = tmp_path / "theirs.json"
    plan.write_text(json.dumps({"groups": names}))
    code, out, _ = run(capsys, "compare", *SOLVE[1:], "--plan", str(plan), "--format", "json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows[str(plan)]["dram_bytes"] == rows["without fusion"]["dram_bytes"]
    assert rows["fusecut (optimal)"]["over_best"] == 0


def test_compare_names_a_missing_plan_once(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, "compare", *SOLVE[1:], "--plan", "no/such.json")
    assert message == "fusecut: cannot read plan no/such.json: No such file or directory\n"


def test_compare_names_the_file_and_op_of_a_wrong_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = tmp_path / "theirs.json"
    plan.write_text('{"groups": [["conv_of_another_network"]]}')
    message = refusal(capsys, "compare", *SOLVE[1:], "--plan", str(plan))
    assert str(plan) in message and "'conv_of_another_network'" in message


@pytest.mark.parametrize("mode", ["--fast", "--full"])
def test_simulate_agrees_with_the_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: str) -> None:
    path = str(tmp_path / "plan.json")
    run(capsys, *SOLVE, "-o", path)
    code, out, _ = run(capsys, "simulate", path, mode)
    assert code == 0 and "model and execution agree on all" in out


def test_simulate_exits_1_when_the_execution_differs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusecut.simulate.report import Simulation

    path = str(tmp_path / "plan.json")
    run(capsys, *SOLVE, "-o", path)
    monkeypatch.setattr(Simulation, "agrees", property(lambda self: False))
    assert run(capsys, "simulate", path, "--fast")[0] == 1


def test_simulate_writes_a_trace_of_events(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, trace = str(tmp_path / "plan.json"), tmp_path / "trace.json"
    run(capsys, *SOLVE, "-o", path)
    assert run(capsys, "simulate", path, "--fast", "--trace", str(trace))[0] == 0
    assert json.loads(trace.read_text())


def test_zoo_lists_every_network(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "zoo", "--format", "json")
    assert code == 0
    assert {"mobilenet_v2", "nasnetalarge", "vit_tiny_patch16_224"} <= {row["name"] for row in json.loads(out)}


def test_help_of_every_command_shows_an_option_or_argument(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("solve", "explain", "compare", "zoo"):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert "-h, --help" in capsys.readouterr().out


def test_importing_and_solving_loads_no_heavy_package() -> None:
    code = (
        "import sys, fusecut as fc;"
        "heavy = {'torch', 'dask', 'ray', 'matplotlib', 'scipy', 'numba', 'highspy', 'onnxruntime'};"
        "assert 'onnx' not in sys.modules;"
        "fc.solve(fc.zoo('alexnet'), '256KiB'); assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        SOLVE,
        ("compare", "zoo:squeezenet1_1", "--buffer", "128KiB"),
        ("curve", "zoo:squeezenet1_1", "--from", "64KiB", "--to", "128KiB"),
        ("curve", "zoo:squeezenet1_1", "--over", "resolution", "--buffer", "128KiB"),
        ("pareto", "zoo:squeezenet1_1", "--buffer", "64KiB"),
        ("bench", "searchers", "--networks", "zoo:squeezenet1_1", "--buffers", "128KiB"),
    ],
    ids=lambda arguments: "-".join(a for a in arguments if a.isalpha()),
)
def test_an_interrupt_before_the_first_plan_ends_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def interrupted(self: Problem, group: Group) -> None:
        if group & (group - 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(Problem, "plan", interrupted)
    monkeypatch.setattr(Exact, "propose", lambda *_: interrupted(_, 3))
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (130, "")
    assert "interrupted" in err and err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_locale_without_lines_gets_dashes(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "fusecut", "machines"]
    done = subprocess.run(command, capture_output=True, encoding=encoding, env=environment, check=True)
    assert "-----" in done.stdout and "?" not in done.stdout and not done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m fusecut zoo | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602 (a pipe is the point)
    assert done.stderr == ""


def test_output_that_cannot_be_written_is_an_error_of_one_line() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no device that is always full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fusecut", "zoo"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "fusecut: cannot write to standard output: No space left on device\n")


def test_a_closed_output_is_no_error() -> None:
    command = f"{sys.executable} -m fusecut zoo >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602 (the shell closes it)
    assert done.stderr == ""


def test_a_network_whose_name_the_locale_cannot_spell_is_refused(tmp_path: Path) -> None:
    """A plan made elsewhere may name its network in any letters."""
    plan = tmp_path / "plan.json"
    assert main(["solve", "zoo:squeezenet1_1", "--buffer", "256KiB", "-q", "-o", str(plan)]) == 0
    plan.write_text(plan.read_text().replace("zoo:squeezenet1_1", "n\u00e9t.onnx"), encoding="utf-8")
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "fusecut", "explain", str(plan)]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("fusecut: ") and done.stderr.count("\n") == 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a network and a plan of it."""
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes((ZOO / "squeezenet1_1.onnx").read_bytes())
    arguments = ["solve", "net.onnx", "--buffer", "128KiB", "--scheme", "lbdf", "-q", "-o", "plan.json"]
    assert main(arguments) == 0
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        "solve net.onnx --buffer 128KiB -o net.onnx",
        "solve net.onnx --buffer 128KiB -o ./net.onnx",
        "simulate plan.json --trace plan.json",
        "export plan.json --stream plan.json",
        "bench searchers --networks zoo:alexnet net.onnx -o net.onnx",
        "predict net.onnx --task dram@256KiB -o net.onnx",
        "rank . --task dram@256KiB -o net.onnx",
    ],
)
def test_no_command_writes_over_what_it_reads(capsys: pytest.CaptureFixture[str], folder: Path, arguments: str) -> None:
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "this command reads it; give the result another name" in refusal(capsys, *arguments.split())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_results_have_two_places(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    capsys.readouterr()
    message = refusal(capsys, "export", "plan.json", "--onnx", "x", "--stream", "./x")
    assert message == "fusecut: cannot write x twice: give each result a name of its own\n"


@pytest.mark.parametrize(
    "arguments",
    ["solve {} --buffer 1KiB", "explain {}", "solve zoo:alexnet --buffer 1MiB -o {}", "rank {} --task dram@256KiB"],
)
def test_a_name_that_no_file_can_have_is_refused(capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    assert "File name too long" in refusal(capsys, *arguments.format("a" * 300).split())


def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fusecut.commands.solve", starved)
    assert "not enough memory" in refusal(capsys, *SOLVE)


def test_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    model = onnx.load("net.onnx", load_external_data=False)
    for node, name in zip(model.graph.node, ("\x1b[2Jone\n", "two\x07", "\u202ethree", "\x9b31mfour"), strict=False):
        node.name = name
    Path("evil.onnx").write_bytes(model.SerializeToString())
    capsys.readouterr()
    arguments = (
        "solve",
        "evil.onnx",
        "--buffer",
        "128KiB",
        "--scheme",
        "lbdf",
        "--granularity",
        "op",
        "--explain",
        "-q",
    )
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "") and all(line.isprintable() for line in out.splitlines())
    assert "\\x1b[2Jone\\n" in out and "two\\x07" in out and "\\u202ethree" in out
    message = refusal(capsys, "explain", "\x1b[31m\nno.json")
    assert message.rstrip("\n").isprintable() and "\\x1b[31m\\nno.json" in message
